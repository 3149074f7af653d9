//! Addresses that no instance may have, whatever Consul or DNS say: denied networks, and the gateway's own listeners.

use std::net::SocketAddr;

use ipnet::IpNet;

use super::instance::{Address, AddressError, Instance};

/// Where nothing may be sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Barred {
    /// `[consul] deny`.
    pub networks: Vec<IpNet>,
    /// The gateway's own listeners: its admin side is not for clients, and a request to itself would go round and round.
    pub own: Vec<SocketAddr>,
}

impl Barred {
    /// Whether this may be dialed.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, to: SocketAddr) -> Result<(), AddressError> {
        // An IPv4 address in IPv6's clothes is reached all the same.
        let ip = to.ip().to_canonical();
        if self.networks.iter().any(|network| network.contains(&ip) || network.contains(&to.ip())) {
            return Err(AddressError::Denied(to.ip()));
        }
        let is_own = |own: &SocketAddr| {
            let listens = own.ip().to_canonical();
            own.port() == to.port() && (listens == ip || (listens.is_unspecified() && ip.is_loopback()))
        };
        if self.own.iter().any(is_own) { Err(AddressError::Own(to)) } else { Ok(()) }
    }

    /// The instances that may be dialed, and why the others may not. What a name means is known only when it is dialed.
    #[must_use]
    pub fn sort(&self, mut instances: Vec<Instance>) -> (Vec<Instance>, Vec<(Instance, AddressError)>) {
        let mut causes = Vec::new();
        let is_barred = |instance: &mut Instance| match &instance.address {
            Address::Ip(ip) => self.check(*ip).map_err(|why| causes.push(why)).is_err(),
            Address::Name(..) => false,
        };
        let barred: Vec<_> = instances.extract_if(.., is_barred).collect();
        (instances, barred.into_iter().zip(causes).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn denied_networks_and_our_own_listeners_are_barred() {
        let addresses = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let barred = Barred {
            networks: vec!["169.254.0.0/16".parse().unwrap()],
            own: addresses(&["127.0.0.1:9901", "0.0.0.0:8000", "[::]:8443", "10.0.0.1:9902"]),
        };
        for (to, fit) in [
            ("169.254.169.254:80", false),
            ("[::ffff:169.254.169.254]:80", false),
            ("127.0.0.1:9901", false),
            ("[::ffff:127.0.0.1]:9901", false),
            ("127.0.0.1:9900", true),
            ("10.0.0.7:9901", true),
            ("127.0.0.1:8000", false),
            ("[::1]:8000", false),
            ("10.0.0.7:8000", true),
            ("127.0.0.1:8443", false),
            ("10.0.0.1:9902", false),
        ] {
            assert_eq!(barred.check(to.parse().unwrap()).is_ok(), fit, "{to}");
        }
    }
}
