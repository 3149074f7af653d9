//! A service's members, its policy and the order of their turns: a rule, built anew when any of it changes.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use http::HeaderMap;
use tokio::time::Instant;

use super::{
    balance::{Ask, Balance, Balancer, View},
    endpoint::{Endpoint, Transport},
    policy::Policy,
    service::Service,
    tls::Tls,
};
use crate::{
    model::{
        barred::Barred,
        instance::{Health, Instance},
        name::ServiceName,
        topology::Rejected,
    },
    telemetry::instance::Loads,
};

/// All clusters of one snapshot, by service.
pub type Clusters = HashMap<ServiceName, Arc<Cluster>, foldhash::fast::RandomState>;

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
    /// By address. Those that a change leaves as they are go over to the next snapshot as they are.
    pub members: Vec<Arc<Member>>,
    /// Instances of no use, for the admin side to tell.
    pub rejected: Vec<Rejected>,
    live: Arc<Service>,
    balancer: Balancer,
    /// Until when members are new.
    grown: Option<Instant>,
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
    pub instances: Arc<[Instance]>,
    /// The live side.
    pub endpoint: Arc<Endpoint>,
    /// Its share; 0: not to be picked.
    pub weight: u32,
    /// When it came to be of use beside others that were; `None`: it was there as soon as any.
    pub came: Option<Instant>,
    /// The endpoint's, at hand: picks look at few things of many members, so the fewer steps the better.
    loads: Loads,
}

impl Member {
    /// A member is usable when any instance at its address is, and nobody has taken it out; the heaviest of these
    /// gives the weight.
    #[must_use]
    pub fn new(instances: Arc<[Instance]>, endpoint: Arc<Endpoint>, accept: &[Health]) -> Self {
        let usable = instances.iter().filter(|i| accept.contains(&i.health) && !endpoint.is_draining());
        let weight = usable.map(|i| i.weight).max().unwrap_or(0);
        let loads = endpoint.cells().loads().clone();
        Self { instances, endpoint, weight, came: None, loads }
    }

    /// Whether a cluster of the same rules has use for this very member, told of these instances.
    #[must_use]
    pub fn stays(&self, instances: &Arc<[Instance]>) -> bool {
        self.weight > 0 && Arc::ptr_eq(&self.instances, instances) && !self.endpoint.is_draining()
    }

    /// What is under way to it, and how long it lets wait.
    #[inline]
    #[must_use]
    pub fn loads(&self) -> &Loads {
        &self.loads
    }
}

impl Cluster {
    /// Makes the policy ready for the members.
    #[must_use]
    pub fn new<M>(rules: Rules, members: Vec<M>, rejected: Vec<Rejected>, live: Arc<Service>) -> Self
    where
        M: Into<Arc<Member>>,
    {
        let members: Vec<Arc<Member>> = members.into_iter().map(Into::into).collect();
        let Rules { service, policy, host, barred, transport, tls } = rules;
        let balancer = Balancer::new(policy.balance, &members);
        let usable = members.iter().filter(|member| member.weight > 0);
        let last = usable.filter_map(|member| member.came).max().filter(|_| !policy.slow_start.is_zero());
        let grown = last.map(|came| came + policy.slow_start);
        Self { service, policy, host, barred, transport, tls, members, rejected, live, balancer, grown }
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

    /// What `consistent_hash` goes by in a request from `address` for `path`; nothing where the policy is another.
    #[must_use]
    pub fn key(&self, address: IpAddr, path: &str, headers: &HeaderMap) -> Option<u64> {
        if self.policy.balance == Balance::ConsistentHash { self.policy.hash.of(address, path, headers) } else { None }
    }

    /// The member for a request.
    #[inline]
    #[must_use]
    pub fn pick(&self, ask: &Ask<'_>) -> Option<&Member> {
        let slow_start = self.grown.filter(|&grown| ask.now < grown).map(|_| self.policy.slow_start);
        let view = View { ask, members: &self.members, live: &self.live, slow_start };
        self.balancer.pick(&view).map(|member| &*self.members[member])
    }
}
