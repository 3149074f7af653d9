//! A service's members, its policy and the order of their turns: a rule, built anew when any of it changes.

use std::{collections::HashMap, sync::Arc};

use super::{
    balance::RoundRobin,
    endpoint::{Endpoint, Transport},
    policy::Policy,
    service::Service,
    tls::Tls,
};
use crate::model::{
    barred::Barred,
    instance::{Health, Instance},
    name::ServiceName,
    topology::Rejected,
};

/// All clusters of one snapshot, by service.
pub type Clusters = HashMap<ServiceName, Arc<Cluster>>;

/// One service as requests see it.
#[derive(Debug)]
pub struct Cluster {
    /// Whose members these are.
    pub service: ServiceName,
    /// The service's rules.
    pub policy: Arc<Policy>,
    /// The `Host` that upstream sees; `None`: the client's own.
    pub host: Option<http::HeaderValue>,
    /// Where nothing may be sent, whatever a name resolves to.
    pub barred: Arc<Barred>,
    /// What is spoken to the members.
    pub transport: Transport,
    /// Their side of TLS, where that is spoken.
    pub tls: Option<Arc<Tls>>,
    /// By address.
    pub members: Vec<Member>,
    /// Instances of no use, for the admin side to tell.
    pub rejected: Vec<Rejected>,
    live: Arc<Service>,
    order: RoundRobin,
}

/// What configuration says of a service.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Its name.
    pub service: ServiceName,
    /// Its policy.
    pub policy: Arc<Policy>,
    /// The `Host` that upstream sees.
    pub host: Option<http::HeaderValue>,
    /// Where nothing may be sent.
    pub barred: Arc<Barred>,
    /// What is spoken to its members.
    pub transport: Transport,
    /// TLS to them, where that is spoken.
    pub tls: Option<Arc<Tls>>,
}

/// One address of a service, with all instances that are registered at it, and its live side.
#[derive(Clone, Debug)]
pub struct Member {
    /// Registered at this address; never empty.
    pub instances: Vec<Instance>,
    /// The live side.
    pub endpoint: Arc<Endpoint>,
    /// Its share; 0: not to be picked.
    pub weight: u32,
}

impl Member {
    /// A member is usable when any instance at its address is; the heaviest of these gives the weight.
    #[must_use]
    pub fn new(instances: Vec<Instance>, endpoint: Arc<Endpoint>, accept: &[Health]) -> Self {
        let usable = instances.iter().filter(|i| accept.contains(&i.health));
        let weight = usable.map(|i| i.weight).max().unwrap_or(0);
        Self { instances, endpoint, weight }
    }
}

impl Cluster {
    /// Puts the members in order of turns.
    #[must_use]
    pub fn new(rules: Rules, members: Vec<Member>, rejected: Vec<Rejected>, live: Arc<Service>) -> Self {
        let weights: Vec<u32> = members.iter().map(|m| m.weight).collect();
        let order = RoundRobin::new(&weights);
        let Rules { service, policy, host, barred, transport, tls } = rules;
        Self { service, policy, host, barred, transport, tls, members, rejected, live, order }
    }

    /// The live side of the service.
    #[must_use]
    pub fn live(&self) -> &Arc<Service> {
        &self.live
    }

    /// True when a request could be sent somewhere.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.members.iter().any(|m| m.weight > 0)
    }

    /// The member whose turn it is, but none of `tried`.
    #[must_use]
    pub fn pick(&self, tried: &[u64]) -> Option<&Member> {
        let usable = |i: usize| !tried.contains(&self.members[i].endpoint.serial);
        self.order.pick(self.live.turn(), usable).map(|i| &self.members[i])
    }
}
