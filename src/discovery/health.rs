//! From what Consul says of an instance to what lictor makes of it: health, weight, address. Pure.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::{
    consul::wire::{Check, Entry, Instances},
    model::{
        instance::{Address, AddressError, Health, Instance},
        name::{Datacenter, ServiceName},
        topology::{Rejected, Update},
    },
};

/// The list of a service, out of the answer of this datacenter; `None`: of the one that is asked by default.
pub fn update(service: &ServiceName, of: Option<&Datacenter>, answer: &Instances, deny: &[IpNet]) -> Update {
    let (service, datacenter) = (service.clone(), of.cloned());
    let mut update = Update { service, datacenter, instances: Vec::new(), rejected: Vec::new() };
    for entry in &answer.entries {
        let id = entry.service.id.as_str().into();
        // Whoever was asked for it has it, whatever it says of itself.
        let datacenter = of.map_or_else(|| entry.node.datacenter.clone(), ToString::to_string);
        match address(entry).and_then(|address| permit(address, deny)) {
            Ok(address) => update.instances.push(instance(entry, address, datacenter)),
            Err(why) => update.rejected.push(Rejected { id, datacenter, why }),
        }
    }
    update
}

/// Lets an address pass that is in no denied network. What a name means is known only when it is dialed.
pub fn permit(address: Address, deny: &[IpNet]) -> Result<Address, AddressError> {
    if let Address::Ip(socket) = &address {
        // An IPv4 address may come in the clothes of IPv6.
        let (told, meant) = (socket.ip(), socket.ip().to_canonical());
        let denies = |ip: &IpAddr| deny.iter().any(|net| net.contains(ip));
        if denies(&told) || denies(&meant) {
            return Err(AddressError::Denied(told));
        }
    }
    Ok(address)
}

fn instance(entry: &Entry, address: Address, datacenter: String) -> Instance {
    let service = &entry.service;
    let health = health(entry);
    Instance {
        id: service.id.as_str().into(),
        node: entry.node.name.clone(),
        address,
        health,
        weight: weight(entry, health),
        tags: service.tags.clone(),
        meta: service.meta.clone(),
        datacenter,
        create_index: service.create_index,
    }
}

fn address(entry: &Entry) -> Result<Address, AddressError> {
    let (own, node) = (entry.service.address.trim(), entry.node.address.trim());
    // What is below zero is no port, as zero is none.
    let port = u32::try_from(entry.service.port.max(0)).unwrap_or(u32::MAX);
    Address::new(if own.is_empty() { node } else { own }, port)
}

/// The worst of the instance's checks and its node's.
fn health(entry: &Entry) -> Health {
    let of = |check: &&Check| check.service.is_empty() || check.service == entry.service.id;
    entry.checks.iter().filter(of).map(|check| judge(check, &entry.service.id)).max().unwrap_or_default()
}

fn judge(check: &Check, id: &str) -> Health {
    let own = check.id.strip_prefix("_service_maintenance:") == Some(id);
    match check.status.as_str() {
        "passing" => Health::Passing,
        "warning" => Health::Warning,
        "maintenance" => Health::Maintenance,
        // Maintenance is a critical check of a name of its own.
        _ if own || check.id == "_node_maintenance" => Health::Maintenance,
        _ => Health::Critical,
    }
}

/// Consul's weight for this health. One that may be asked has 1 at least, but for a warning one: there 0 is a way to
/// say that it is not to be asked.
fn weight(entry: &Entry, health: Health) -> u32 {
    let weights = entry.service.weights;
    let told = |weight: Option<i64>| weight.filter(|w| *w >= 0).map_or(1, |w| u32::try_from(w).unwrap_or(MAX).min(MAX));
    match health {
        Health::Warning => told(weights.warning),
        Health::Passing | Health::Critical | Health::Maintenance => told(weights.passing).max(1),
    }
}

/// Consul's own limit.
const MAX: u32 = 65535;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consul::wire::{self, Read as _};

    fn told(service: &str, checks: &str) -> Instances {
        let body = format!(
            r#"[{{"Node": {{"Node": "n", "Address": "10.0.0.1", "Datacenter": "dc1"}},
                "Service": {{"ID": "i"{service}}}, "Checks": [{checks}]}}]"#
        );
        wire::Health.read(body.as_bytes()).unwrap()
    }

    fn one(service: &str, checks: &str) -> Instance {
        let update = update(&"web".into(), None, &told(&format!(r#", "Port": 80{service}"#), checks), &[]);
        assert_eq!(update.rejected, []);
        update.instances[0].clone()
    }

    type Case<'c> = (&'c [(&'c str, &'c str, &'c str)], Health);

    #[test]
    fn the_worst_check_of_an_instance_and_its_node_decides() {
        let check = |(id, service, status): &(&str, &str, &str)| {
            format!(r#"{{"CheckID": "{id}", "ServiceID": "{service}", "Status": "{status}"}}"#)
        };
        let cases: [Case<'_>; 13] = [
            (&[], Health::Passing),
            (&[("serfHealth", "", "passing")], Health::Passing),
            (&[("serfHealth", "", "passing"), ("c", "i", "warning")], Health::Warning),
            (&[("serfHealth", "", "warning"), ("c", "i", "passing")], Health::Warning),
            (&[("serfHealth", "", "critical"), ("c", "i", "passing")], Health::Critical),
            (&[("a", "i", "critical"), ("b", "i", "warning")], Health::Critical),
            (&[("c", "other", "critical")], Health::Passing),
            (&[("_node_maintenance", "", "critical")], Health::Maintenance),
            (&[("_service_maintenance:i", "i", "critical")], Health::Maintenance),
            (&[("_service_maintenance:i", "i", "critical"), ("c", "i", "critical")], Health::Maintenance),
            (&[("_service_maintenance:other", "other", "critical")], Health::Passing),
            (&[("c", "i", "maintenance")], Health::Maintenance),
            (&[("c", "i", "a state of the future")], Health::Critical),
        ];
        for (checks, want) in cases {
            let checks = checks.iter().map(check).collect::<Vec<_>>().join(",");
            assert_eq!(one("", &checks).health, want, "{checks}");
        }
    }

    #[test]
    fn the_weight_is_the_one_of_the_present_health() {
        let weights = r#", "Weights": {"Passing": 10, "Warning": 2}"#;
        let cases = [
            (weights, "passing", 10),
            (weights, "warning", 2),
            (weights, "critical", 10),
            ("", "passing", 1),
            ("", "warning", 1),
            (r#", "Weights": {"Passing": 0, "Warning": 0}"#, "passing", 1),
            (r#", "Weights": {"Passing": 0, "Warning": 0}"#, "warning", 0),
            (r#", "Weights": {"Passing": -3, "Warning": -3}"#, "passing", 1),
            (r#", "Weights": {"Passing": -3, "Warning": -3}"#, "warning", 1),
            (r#", "Weights": {"Passing": "x"}"#, "passing", 1),
            (r#", "Weights": {"Passing": 9999999999}"#, "passing", 65535),
        ];
        for (weights, status, want) in cases {
            let check = format!(r#"{{"CheckID": "c", "ServiceID": "i", "Status": "{status}"}}"#);
            assert_eq!(one(weights, &check).weight, want, "{weights} {status}");
        }
    }

    #[test]
    fn an_address_is_the_instances_else_its_nodes() {
        let deny: [IpNet; 2] = ["169.254.0.0/16".parse().unwrap(), "fe80::/10".parse().unwrap()];
        let cases = [
            (r#""Address": "10.0.0.7", "Port": 80"#, Ok("10.0.0.7:80")),
            (r#""Address": "", "Port": 80"#, Ok("10.0.0.1:80")),
            (r#""Address": " ", "Port": 80"#, Ok("10.0.0.1:80")),
            (r#""Port": 65535"#, Ok("10.0.0.1:65535")),
            (r#""Address": "::1", "Port": 80"#, Ok("[::1]:80")),
            (r#""Address": "[2001:db8::1]", "Port": 80"#, Ok("[2001:db8::1]:80")),
            (r#""Address": "web.internal", "Port": 80"#, Ok("web.internal:80")),
            (r#""Address": "::ffff:10.0.0.7", "Port": 80"#, Ok("[::ffff:10.0.0.7]:80")),
            (r#""Port": 0"#, Err(AddressError::Port(0))),
            (r#""Port": -1"#, Err(AddressError::Port(0))),
            (r#""Port": 65536"#, Err(AddressError::Port(65536))),
            (r#""Port": 99999999999"#, Err(AddressError::Port(u32::MAX))),
            (r#""Address": "0.0.0.0", "Port": 80"#, Err(AddressError::Nowhere("0.0.0.0".parse().unwrap()))),
            (r#""Address": "a b", "Port": 80"#, Err(AddressError::Host("a b".into()))),
            (
                r#""Address": "169.254.169.254", "Port": 80"#,
                Err(AddressError::Denied("169.254.169.254".parse().unwrap())),
            ),
            (r#""Address": "fe80::1", "Port": 80"#, Err(AddressError::Denied("fe80::1".parse().unwrap()))),
            (
                r#""Address": "::ffff:169.254.169.254", "Port": 80"#,
                Err(AddressError::Denied("::ffff:169.254.169.254".parse().unwrap())),
            ),
        ];
        for (service, want) in cases {
            let update = update(&"web".into(), None, &told(&format!(", {service}"), ""), &deny);
            let got = match (&update.instances[..], &update.rejected[..]) {
                ([instance], []) => Ok(instance.address.to_string()),
                ([], [rejected]) => Err(rejected.why.clone()),
                other => panic!("{service}: {other:?}"),
            };
            assert_eq!(got, want.map(str::to_owned), "{service}");
        }
    }
}
