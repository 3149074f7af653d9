//! From what Consul says of an instance to what lictor makes of it: health, weight, address. Pure.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::{
    consul::wire::{Check, Entry, Instances},
    model::{
        instance::{Address, AddressError, Health, Instance},
        name::ServiceName,
        topology::{Rejected, Update},
    },
};

/// The list of a service, out of an answer.
pub fn update(service: &ServiceName, answer: &Instances, deny: &[IpNet]) -> Update {
    let mut update = Update { service: service.clone(), instances: Vec::new(), rejected: Vec::new() };
    for entry in &answer.entries {
        let id = entry.service.id.as_str().into();
        match address(entry).and_then(|address| permit(address, deny)) {
            Ok(address) => update.instances.push(instance(entry, address)),
            Err(why) => update.rejected.push(Rejected { id, why }),
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

fn instance(entry: &Entry, address: Address) -> Instance {
    let service = &entry.service;
    let health = health(entry);
    Instance {
        id: service.id.as_str().into(),
        address,
        health,
        weight: weight(entry, health),
        tags: service.tags.clone(),
        meta: service.meta.clone(),
        datacenter: entry.node.datacenter.clone(),
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
