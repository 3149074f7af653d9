//! What discovery has to watch for a configuration.

use crate::{
    config::{Config, Origin, Service},
    discovery::{Query, Wanted},
    model::name::{Datacenter, ServiceName},
};

/// The lists that a service has, in order of preference: the only one, or those of its datacenters.
pub fn lists(config: &Config, service: &ServiceName) -> Vec<Option<Datacenter>> {
    let datacenters = config.services.get(service).map(Service::datacenters).unwrap_or_default();
    if datacenters.is_empty() { vec![None] } else { datacenters.iter().cloned().map(Some).collect() }
}

/// What discovery has to watch for a configuration.
#[must_use]
pub fn wanted(config: &Config) -> Wanted {
    let query = |service: &Service| match &service.origin {
        Origin::Consul { name, tag, .. } => Some(Query { consul: name.clone(), tag: tag.clone() }),
        Origin::Fixed(_) | Origin::Dns(_) => None,
    };
    let lookup = |service: &Service| match &service.origin {
        Origin::Dns(lookup) => Some(lookup.clone()),
        Origin::Consul { .. } | Origin::Fixed(_) => None,
    };
    let services = config.services.iter().filter_map(|(name, service)| Some((name.clone(), query(service)?)));
    let named = config.services.iter().filter(|(_, service)| !service.datacenters().is_empty());
    Wanted {
        services: services.collect(),
        datacenters: named.map(|(name, service)| (name.clone(), service.datacenters().to_vec())).collect(),
        lookups: config.services.iter().filter_map(|(name, s)| Some((name.clone(), lookup(s)?))).collect(),
        name_servers: config.dns.servers.clone(),
        expose_tag: config.expose.as_ref().map(|expose| expose.tag.clone()),
        taken: config.services.keys().cloned().collect(),
        deny: config.deny.clone(),
        others: config.consul.as_ref().map_or(0, |consul| usize::from(consul.config.is_some())),
        max_watches: config.consul.as_ref().map_or(0, |consul| consul.max_watches),
    }
}
