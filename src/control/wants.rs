//! What discovery has to watch for a configuration.

use crate::{
    config::{Config, Origin, Service},
    discovery::{Query, Wanted},
};

/// What discovery has to watch for a configuration.
#[must_use]
pub fn wanted(config: &Config) -> Wanted {
    let query = |service: &Service| match &service.origin {
        Origin::Consul { name, tag } => Some(Query { consul: name.clone(), tag: tag.clone() }),
        Origin::Fixed(_) | Origin::Dns(_) => None,
    };
    let lookup = |service: &Service| match &service.origin {
        Origin::Dns(lookup) => Some(lookup.clone()),
        Origin::Consul { .. } | Origin::Fixed(_) => None,
    };
    let services = config.services.iter().filter_map(|(name, service)| Some((name.clone(), query(service)?)));
    Wanted {
        services: services.collect(),
        lookups: config.services.iter().filter_map(|(name, s)| Some((name.clone(), lookup(s)?))).collect(),
        name_servers: config.dns.servers.clone(),
        expose_tag: config.expose.as_ref().map(|expose| expose.tag.clone()),
        taken: config.services.keys().cloned().collect(),
        deny: config.consul.as_ref().map(|consul| consul.deny.clone()).unwrap_or_default(),
        others: config.consul.as_ref().map_or(0, |consul| usize::from(consul.config.is_some())),
        max_watches: config.consul.as_ref().map_or(0, |consul| consul.max_watches),
    }
}
