//! Whom a request is for: the Host field or the authority of an absolute target, checked.
//!
//! RFC 3986's `host [":" port]`, less what no client sends and what others read differently: percent-encoding, commas, future
//! address forms. An empty host is an error too, for every URI that a gateway serves has one (RFC 9110 §4.2.1).

use std::net::Ipv6Addr;

use thiserror::Error;

use super::among;

/// What is wrong with a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum HostError {
    /// Nothing before the port.
    #[error("the host is empty")]
    Empty,
    /// `user@host` hides where a request goes.
    #[error("the host has user information before it")]
    UserInfo,
    /// A byte that neither a name nor an IPv4 address has, or a bracketed text that is no IPv6 address.
    #[error("the host is neither a name nor an address")]
    Name,
    /// Not digits, zero, or above 65535.
    #[error("the port of the host is not a port")]
    Port,
}

/// Checks a host with or without a port that came otherwise than in a head of this version.
///
/// # Errors
/// It is none, or has user information before it.
pub fn validate(text: &[u8]) -> Result<(), HostError> {
    check(text).map(|_| ())
}

/// Checks a host with or without a port, and says whether there is one. Source: RFC 3986 §3.2, RFC 9110 §7.2.
pub(super) fn check(text: &[u8]) -> Result<bool, HostError> {
    let name_end = if text.first() == Some(&b'[') {
        let end = text.iter().position(|&b| b == b']').ok_or(HostError::Name)? + 1;
        let address = std::str::from_utf8(&text[1..end - 1]).map_err(|_| HostError::Name)?;
        address.parse::<Ipv6Addr>().map_err(|_| HostError::Name)?;
        end
    } else {
        text.iter().position(|&b| !IS_NAME[usize::from(b)]).unwrap_or(text.len())
    };
    let port = match &text[name_end..] {
        [] => None,
        [b':', port @ ..] => Some(port),
        _ if text.contains(&b'@') => return Err(HostError::UserInfo),
        _ => return Err(HostError::Name),
    };
    if name_end == 0 {
        return Err(HostError::Empty);
    }
    match port {
        // RFC 3986 lets the digits be missing.
        None | Some([]) => Ok(false),
        Some(port) if text.contains(&b'@') && !port.iter().all(u8::is_ascii_digit) => Err(HostError::UserInfo),
        Some(port) if is_port(port) => Ok(true),
        Some(_) => Err(HostError::Port),
    }
}

/// The bytes of a name.
const IS_NAME: [bool; 256] = among(b"-._~!$&'()*+;=");

fn is_port(digits: &[u8]) -> bool {
    let mut port = 0u32;
    for &digit in digits {
        if !digit.is_ascii_digit() || port > 65_535 {
            return false;
        }
        port = port * 10 + u32::from(digit - b'0');
    }
    (1..=65_535).contains(&port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_may_have_a_port() {
        for (text, has_port) in [
            ("api.example.com", false),
            ("API.Example.com:8000", true),
            ("localhost:", false),
            ("10.0.0.7:65535", true),
            ("[::1]", false),
            ("[2001:DB8::1]:443", true),
            ("a_b", false),
            ("a:0080", true),
        ] {
            assert_eq!(check(text.as_bytes()), Ok(has_port), "{text}");
        }
    }

    #[test]
    fn every_rule_for_a_host_has_its_error() {
        for (text, error) in [
            ("", HostError::Empty),
            (":80", HostError::Empty),
            ("user@a", HostError::UserInfo),
            ("user:secret@a", HostError::UserInfo),
            ("user:1@a:80", HostError::UserInfo),
            ("@a", HostError::UserInfo),
            ("a/b", HostError::Name),
            ("a b", HostError::Name),
            ("a\0", HostError::Name),
            ("a,b", HostError::Name),
            ("a?b", HostError::Name),
            ("a#b", HostError::Name),
            ("a\\b", HostError::Name),
            ("a%2eb", HostError::Name),
            ("ä", HostError::Name),
            ("::1", HostError::Empty),
            ("[::1", HostError::Name),
            ("[::1]a", HostError::Name),
            ("[fe80::1%eth0]", HostError::Name),
            ("[127.0.0.1]", HostError::Name),
            ("[]", HostError::Name),
            ("a:b", HostError::Port),
            ("a:80:80", HostError::Port),
            ("a:+80", HostError::Port),
            ("a: 80", HostError::Port),
            ("a:0", HostError::Port),
            ("a:65536", HostError::Port),
            ("a:99999999999999999999", HostError::Port),
        ] {
            assert_eq!(check(text.as_bytes()).unwrap_err(), error, "{text:?}");
        }
    }
}
