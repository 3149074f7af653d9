//! Sources that tell the instances of services: each sends whole lists, and no failure of one empties a list.

mod consul;
pub mod datacenters;
pub mod dns;
pub mod fixed;
pub mod health;
mod hunt;
pub mod plan;
pub mod saved;
mod shared;
mod sharing;
pub mod tags;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub use crate::consul::wire::Unreadable;
use crate::model::{
    lookup::Lookup,
    name::{Datacenter, ServiceName},
    topology::Update,
};

/// What is to be watched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Services that the configuration names.
    pub services: BTreeMap<ServiceName, Query>,
    /// Where those of them are looked for that name datacenters. All others are in the one that is asked by default.
    pub datacenters: BTreeMap<ServiceName, Vec<Datacenter>>,
    /// Services that DNS is asked for.
    pub lookups: BTreeMap<ServiceName, Lookup>,
    /// Who is asked; none: the system's name servers.
    pub name_servers: Vec<SocketAddr>,
    /// Names of all tables, whatever their source: no other service may go by one.
    pub taken: BTreeSet<ServiceName>,
    /// The tag by which services expose themselves.
    pub expose_tag: Option<String>,
    /// Networks that no instance may be in.
    pub deny: Vec<IpNet>,
    /// The most blocking queries that are held at once.
    pub max_watches: usize,
    /// So many of them are others', about something else.
    pub others: usize,
}

impl Wanted {
    /// All datacenters that services name.
    #[must_use]
    pub fn named(&self) -> BTreeSet<Datacenter> {
        self.datacenters.values().flatten().cloned().collect()
    }

    /// Whether a service is looked for in this datacenter; `None` is the one that is asked by default.
    fn is_in(&self, service: &ServiceName, here: Option<&Datacenter>) -> bool {
        match (self.datacenters.get(service), here) {
            (Some(all), Some(here)) => all.contains(here),
            (named, here) => named.is_none() && here.is_none(),
        }
    }
}

/// What is asked of Consul about one service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Query {
    /// The name in Consul.
    pub consul: String,
    /// Only instances that carry it.
    pub tag: Option<String>,
}

/// What a source tells.
#[derive(Debug)]
pub enum Change {
    /// One service's full list.
    Instances {
        /// The list.
        update: Update,
        /// Consul's index of it.
        index: u64,
    },
    /// Which services expose themselves.
    Exposed {
        /// Names in Consul and ours.
        services: BTreeMap<String, ServiceName>,
        /// Names in Consul that cannot be exposed, for a table of that name means another service.
        clashes: BTreeSet<String>,
        /// Consul's index of it.
        index: u64,
    },
    /// Entries of a service's list that cannot be understood; told when they change.
    Unreadable {
        /// Whose they are.
        service: ServiceName,
        /// The entries.
        entries: Vec<Unreadable>,
    },
    /// Something cannot be read any more, or now for another reason. What it told before stays in force.
    Failed {
        /// What cannot be read.
        part: Part,
        /// In which datacenter; `None`: in the one that is asked by default.
        datacenter: Option<Datacenter>,
        /// Why.
        error: crate::consul::Error,
    },
    /// The agent answers again, and there is a leader.
    Returned {
        /// Of this datacenter; `None`: of the one that is asked by default.
        datacenter: Option<Datacenter>,
    },
    /// DNS has no answer for a service, or now for another reason. What it told before stays in force.
    Unresolved {
        /// The service.
        service: ServiceName,
        /// Why.
        why: String,
    },
    /// DNS answers for it again.
    Resolved {
        /// The service.
        service: ServiceName,
    },
}

/// What failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// The agent or its way to the datacenter, and so everything.
    Agent,
    /// Which services there are.
    Catalog,
    /// All checks, of services that have no blocking query of their own.
    Checks,
    /// The lists of all services that have no blocking query of their own.
    Shared,
    /// The list of one service.
    Service(ServiceName),
}
