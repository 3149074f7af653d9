//! Host patterns, and the form in which hosts are compared.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
    sync::Arc,
};

/// `api.example.com`, `*.example.com` (one or more labels before it), `[::1]`; in any case.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct HostPattern {
    name: Arc<str>,
    scope: Scope,
}

/// Which hosts a host pattern takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// The host of the name.
    Exact,
    /// All hosts below the name, not the name itself.
    Under,
}

impl HostPattern {
    /// The host, or what follows `*.`, in the form that [`HostKey`] gives.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the name itself is meant, or all below it.
    #[must_use]
    pub fn scope(&self) -> Scope {
        self.scope
    }
}

impl FromStr for HostPattern {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        let (bare, scope) = text.strip_prefix("*.").map_or((text, Scope::Exact), |rest| (rest, Scope::Under));
        let literal = bare.starts_with('[');
        let wrong = || HostError::Host(text.into());
        let ported = if literal { bare.contains("]:") } else { bare.matches(':').count() == 1 };
        if ported {
            return Err(HostError::Port(text.into()));
        }
        if literal != bare.ends_with(']') || (!literal && bare.contains(':')) {
            return Err(wrong());
        }
        let mut key = HostKey::default();
        let name = key.read(bare).ok_or_else(wrong)?;
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        let label = |label: &str| !label.is_empty() && label.len() < 64 && label.bytes().all(plain);
        let address = literal || name.parse::<IpAddr>().is_ok();
        let valid = if address { scope == Scope::Exact } else { name.split('.').all(label) };
        if !valid {
            return Err(wrong());
        }
        Ok(Self { name: name.into(), scope })
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let star = if self.scope == Scope::Under { "*." } else { "" };
        write!(f, "{star}{}", self.name)
    }
}

impl fmt::Debug for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// Room for the form in which hosts are compared: lower case, no port, no dot at the end, IPv6 as
/// the standard library prints it, in brackets. On the stack, for every request has a host.
pub struct HostKey([u8; MAX_HOST]);

impl Default for HostKey {
    fn default() -> Self {
        Self([0; MAX_HOST])
    }
}

impl HostKey {
    /// The form of a `Host` as it came; `None` if no pattern could match it.
    pub fn read(&mut self, host: &str) -> Option<&str> {
        let length = if let Some(literal) = host.strip_prefix('[') {
            let ip: Ipv6Addr = literal.split_once(']')?.0.parse().ok()?;
            let mut free = self.0.as_mut_slice();
            std::io::Write::write_fmt(&mut free, format_args!("[{ip}]")).ok()?;
            MAX_HOST - free.len()
        } else {
            let name = host.split(':').next()?;
            let name = name.strip_suffix('.').unwrap_or(name);
            let place = self.0.get_mut(..name.len()).filter(|place| !place.is_empty())?;
            place.copy_from_slice(name.as_bytes());
            place.make_ascii_lowercase();
            name.len()
        };
        std::str::from_utf8(self.0.get(..length)?).ok()
    }
}

/// The longest name that DNS has.
const MAX_HOST: usize = 253;

/// Why a text is no host pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// A host with a port.
    #[error("expected a host without its port, which is never compared; got `{0}`")]
    Port(String),
    /// No host.
    #[error("expected a host such as `api.example.com`, `*.example.com` or `[::1]`; got `{0}`")]
    Host(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_pattern_is_kept_in_its_one_form() {
        let cases = [
            ("API.Example.com", "api.example.com"),
            ("api.example.com.", "api.example.com"),
            ("*.Example.com", "*.example.com"),
            ("localhost", "localhost"),
            ("my_host-1", "my_host-1"),
            ("10.0.0.1", "10.0.0.1"),
            ("[::1]", "[::1]"),
            ("[0:0:0:0:0:0:0:1]", "[::1]"),
            ("[2001:DB8::A]", "[2001:db8::a]"),
        ];
        for (text, want) in cases {
            assert_eq!(text.parse::<HostPattern>().unwrap().to_string(), want, "{text}");
        }
    }

    #[test]
    fn a_host_pattern_that_cannot_be_is_refused() {
        let long = "a".repeat(64);
        let texts = [
            "",
            ".",
            "*",
            "*.",
            "*a.b",
            "a.*.b",
            "*.*.a",
            "a..b",
            ".a",
            "a b",
            "a/b",
            "a@b",
            "é.de",
            "[::1",
            "[]",
            "[x]",
            "*.[::1]",
            "*.10.0.0.1",
            "a:80",
            "[::1]:80",
            "::1",
            &long,
        ];
        for text in texts {
            assert!(text.parse::<HostPattern>().is_err(), "{text}");
        }
        for (text, port) in [("a:80", true), ("[::1]:80", true), ("[::1", false), ("2001:db8::1", false)] {
            assert_eq!(matches!(text.parse::<HostPattern>(), Err(HostError::Port(_))), port, "{text}");
        }
    }

    #[test]
    fn a_host_is_compared_without_case_port_and_last_dot() {
        let long = "a".repeat(MAX_HOST + 1);
        let cases = [
            ("Api.Example.COM:8000", Some("api.example.com")),
            ("api.example.com.", Some("api.example.com")),
            ("api.example.com.:80", Some("api.example.com")),
            ("[::1]:8000", Some("[::1]")),
            ("[0:0::0:1]", Some("[::1]")),
            ("10.0.0.1:80", Some("10.0.0.1")),
            ("", None),
            (":80", None),
            ("[::1", None),
            ("[nonsense]", None),
            (&long, None),
            (&long[1..], Some(&long[1..])),
        ];
        for (host, want) in cases {
            assert_eq!(HostKey::default().read(host), want, "{host}");
        }
    }
}
