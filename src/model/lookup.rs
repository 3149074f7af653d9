//! What is asked of DNS for the instances of a service.

use std::{fmt, str::FromStr, sync::Arc};

use super::instance::Address;

/// What is asked of DNS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// The name of SRV records: each is an instance, with its port and weight.
    Srv(Arc<str>),
    /// A host, each of whose addresses is an instance at this port.
    Host(Arc<str>, u16),
}

impl FromStr for Lookup {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| {
            format!(
                "expected the name of SRV records such as `_users._tcp.service.consul`, or `HOST:PORT`; got `{text}`{why}"
            )
        };
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse().map_err(|_| wrong(""))?)),
            None => (text, None),
        };
        match (Address::new(host, port.unwrap_or(1)), port) {
            (Ok(Address::Name(host, _)), None) => Ok(Self::Srv(host)),
            (Ok(Address::Name(host, port)), Some(_)) => Ok(Self::Host(host, port)),
            (Ok(Address::Ip(_)), _) => Err(wrong(": that is an address, for which there is `instances`")),
            (Err(why), _) => Err(wrong(&format!(": {why}"))),
        }
    }
}

impl fmt::Display for Lookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Srv(name) => f.write_str(name),
            Self::Host(host, port) => write!(f, "{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_alone_is_that_of_srv_records_and_one_with_a_port_a_host() {
        for (text, want) in [
            ("_users._tcp.service.consul", Lookup::Srv("_users._tcp.service.consul".into())),
            ("Users.service.consul.", Lookup::Srv("users.service.consul.".into())),
            ("users.internal:8002", Lookup::Host("users.internal".into(), 8002)),
            ("users:80", Lookup::Host("users".into(), 80)),
        ] {
            assert_eq!(text.parse(), Ok(want), "{text}");
        }
        for text in ["", ":80", "a b", "users:", "users:0", "users:65536", "10.0.0.7:80", "[::1]:80", "http://users"] {
            let refused = text.parse::<Lookup>().unwrap_err();
            assert!(refused.contains("expected the name of SRV records"), "{text}: {refused}");
        }
    }
}
