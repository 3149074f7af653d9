//! One registered address of a service, as discovery last told it: plain data, replaced whole.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::name::InstanceId;

/// One registered address of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// What Consul calls it, on its node; for a fixed instance its address.
    pub id: InstanceId,
    /// The node it is registered on; empty for a fixed one, and where an older file does not say.
    pub node: String,
    /// Where it listens.
    pub address: Address,
    /// The worst of its checks and its node's.
    pub health: Health,
    /// Its share of the traffic in its present health, 1 or more.
    pub weight: u32,
    /// The tags it was registered with.
    pub tags: Vec<String>,
    /// The metadata it was registered with.
    pub meta: BTreeMap<String, String>,
    /// The datacenter it is in; empty for a fixed one.
    pub datacenter: String,
    /// Consul's `CreateIndex` of the registration; 0 for a fixed one.
    pub create_index: u64,
}

/// Where an instance listens: an address, or a name that is resolved when dialing.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Address {
    /// An IP address and port.
    Ip(SocketAddr),
    /// A host name and port.
    Name(Arc<str>, u16),
}

impl Address {
    /// Reads `host` and `port` as Consul tells them. IPv6 may be bare or in brackets.
    ///
    /// # Errors
    /// Why no connection could ever be made to it.
    pub fn new(host: &str, port: u32) -> Result<Self, AddressError> {
        let port = u16::try_from(port).ok().filter(|&p| p != 0).ok_or(AddressError::Port(port))?;
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        if let Ok(ip) = bare.parse::<IpAddr>() {
            if ip.is_unspecified() || ip.is_multicast() {
                return Err(AddressError::Nowhere(ip));
            }
            return Ok(Self::Ip(SocketAddr::new(ip, port)));
        }
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
        if host.is_empty() || host.len() > 253 || !host.bytes().all(plain) {
            return Err(AddressError::Host(host.chars().take(64).collect()));
        }
        Ok(Self::Name(host.to_ascii_lowercase().into(), port))
    }
}

/// Why an address is of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not between 1 and 65535.
    #[error("port `{0}` is not between 1 and 65535")]
    Port(u32),
    /// Neither an IP address nor a host name.
    #[error("`{0}` is neither an IP address nor a host name")]
    Host(String),
    /// An address that nobody can be reached at.
    #[error("`{0}` is not an address that one instance listens on")]
    Nowhere(IpAddr),
    /// A listener of the gateway's own.
    #[error("`{0}` is the gateway's own")]
    Own(SocketAddr),
    /// In a network of `[consul] deny`.
    #[error("`{0}` is in a denied network")]
    Denied(IpAddr),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip) => ip.fmt(f),
            Self::Name(host, port) => write!(f, "{host}:{port}"),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What Consul says of an instance, its node included; the worst check decides.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// Every check passes, or there is none.
    #[default]
    Passing,
    /// A check warns.
    Warning,
    /// A check fails.
    Critical,
    /// Taken out by `consul maint`, the service or its node.
    Maintenance,
}

impl Health {
    /// The word for it in Consul, the configuration and the admin API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passing => "passing",
            Self::Warning => "warning",
            Self::Critical => "critical",
            Self::Maintenance => "maintenance",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_consul_tells_it() {
        let cases = [
            ("10.0.0.7", 8002, Ok("10.0.0.7:8002")),
            ("::1", 80, Ok("[::1]:80")),
            ("[2001:db8::1]", 80, Ok("[2001:db8::1]:80")),
            ("Web-1.internal", 80, Ok("web-1.internal:80")),
            ("my_host", 65535, Ok("my_host:65535")),
        ];
        for (host, port, want) in cases {
            assert_eq!(Address::new(host, port).map(|a| a.to_string()), want.map(str::to_owned), "{host} {port}");
        }
    }

    #[test]
    fn an_address_nobody_listens_on_is_refused() {
        let cases = [
            ("10.0.0.7", 0),
            ("10.0.0.7", 65536),
            ("", 80),
            ("0.0.0.0", 80),
            ("::", 80),
            ("224.0.0.1", 80),
            ("a b", 80),
            ("http://x", 80),
            ("x/y", 80),
            ("x@y", 80),
        ];
        for (host, port) in cases {
            assert!(Address::new(host, port).is_err(), "{host} {port}");
        }
    }
}
