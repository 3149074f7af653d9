//! A service's members, its policy and the order of their turns: a rule, built anew when any of it changes.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use super::{
    balance::{Ask, Balance, Balancer, View},
    breaker::State,
    call::CallError,
    circuit::Circuit,
    endpoint::{Endpoint, Transport},
    policy::Policy,
    service::{Seats, Service},
    tls::Tls,
};
use crate::{
    model::{
        barred::Barred,
        fields::Fields,
        instance::{Health, Instance},
        name::{Datacenter, ServiceName},
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
    /// Its datacenters in order of preference; empty: it is not in several.
    pub datacenters: Arc<[Datacenter]>,
    /// By address. Those that a change leaves as they are go over to the next snapshot as they are.
    pub members: Arc<[Arc<Member>]>,
    /// Instances of no use, for the admin side to tell.
    pub rejected: Vec<Rejected>,
    live: Arc<Service>,
    /// Of all members; of none, where there are tiers.
    balancer: Balancer,
    /// The members by datacenter, where there is an order of these.
    tiers: Vec<Tier>,
    /// Until when members are new.
    grown: Option<Instant>,
}

/// The members in one datacenter.
#[derive(Debug)]
struct Tier {
    members: Vec<Arc<Member>>,
    balancer: Balancer,
}

impl Tier {
    /// The policy's choice here. It is asked only where it has one: a turn that ends with nobody would be missing elsewhere.
    fn pick(&self, view: &View<'_>) -> Option<&Member> {
        let view = View { members: &self.members, ..*view };
        let has_somebody = (0..self.members.len()).any(|member| view.is_usable(member));
        let member = if has_somebody { self.balancer.pick(&view) } else { None };
        member.map(|member| &*self.members[member])
    }
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
    /// Its datacenters in order of preference.
    pub datacenters: Arc<[Datacenter]>,
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
    /// It is used though no health of its instances is accepted, for there is no other.
    pub panics: bool,
    /// The place of its datacenter in the order of preference; of several, the first.
    pub rank: u32,
    /// When it came to be of use beside others that were; `None`: it was there as soon as any.
    pub came: Option<Instant>,
    /// The endpoint's, at hand: picks look at few things of many members, so the fewer steps the better.
    circuit: Arc<Circuit>,
    loads: Loads,
}

impl Member {
    /// A member is usable when any instance at its address is, and nobody has taken it out; the heaviest of these
    /// gives the weight.
    #[must_use]
    pub fn new(instances: Arc<[Instance]>, endpoint: Arc<Endpoint>, accept: &[Health]) -> Self {
        let heaviest = instances.iter().filter(|i| accept.contains(&i.health)).map(|i| i.weight).max();
        let weight = heaviest.filter(|_| !endpoint.is_draining()).unwrap_or(0);
        let (circuit, loads) = (endpoint.circuit().clone(), endpoint.cells().loads().clone());
        Self { instances, endpoint, weight, panics: false, rank: 0, came: None, circuit, loads }
    }

    /// Makes it usable whatever Consul says of its health, unless somebody took it out, since there is no other.
    pub fn panic(&mut self) {
        let there = |i: &&Instance| i.health != Health::Maintenance && !self.endpoint.is_draining();
        self.weight = self.instances.iter().filter(there).map(|i| i.weight).max().unwrap_or(0);
        self.panics = self.weight > 0;
    }

    /// Whether a cluster of the same rules has use for this very member, told of these instances.
    #[must_use]
    pub fn stays(&self, instances: &Arc<[Instance]>) -> bool {
        self.weight > 0 && !self.panics && Arc::ptr_eq(&self.instances, instances) && !self.circuit.is_draining()
    }

    /// What is under way to it, and how long it lets wait.
    #[inline]
    #[must_use]
    pub fn loads(&self) -> &Loads {
        &self.loads
    }

    /// Whether it may be asked.
    #[inline]
    #[must_use]
    pub fn circuit(&self) -> &Circuit {
        &self.circuit
    }

    /// Whether requests may be sent to it as the policy has it.
    #[inline]
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.weight > 0 && self.circuit.is_closed() && !self.circuit.is_draining()
    }
}

impl Cluster {
    /// Makes the policy ready for the members, and says who they are to those that share their circuits.
    #[must_use]
    pub fn new<M>(rules: Rules, members: Vec<M>, rejected: Vec<Rejected>, live: Arc<Service>) -> Self
    where
        M: Into<Arc<Member>>,
    {
        let members: Arc<[Arc<Member>]> = members.into_iter().map(Into::into).collect();
        let Rules { service, policy, host, barred, transport, tls, datacenters } = rules;
        let tiers = if datacenters.len() > 1 { tiers(&members, policy.balance) } else { Vec::new() };
        let balancer = Balancer::new(policy.balance, if tiers.is_empty() { &members } else { &[] });
        let came = || members.iter().filter(|member| member.weight > 0).filter_map(|member| member.came);
        let last = if policy.slow_start.is_zero() { None } else { came().max() };
        let grown = last.map(|came| came + policy.slow_start);
        live.enlist(Seats { members: members.clone(), datacenters: datacenters.clone() });
        Self {
            service,
            policy,
            host,
            barred,
            transport,
            tls,
            datacenters,
            members,
            rejected,
            live,
            balancer,
            tiers,
            grown,
        }
    }

    /// The live side of the service.
    #[must_use]
    pub fn live(&self) -> &Arc<Service> {
        &self.live
    }

    /// True when a request could be sent somewhere.
    #[must_use]
    pub fn is_usable(&self, now: Instant) -> bool {
        self.members.iter().any(|m| {
            let circuit = m.circuit();
            m.weight > 0 && (circuit.is_closed() || circuit.is_due(now))
        })
    }

    /// The datacenter that requests go to, where the service has several: the first with somebody to pick.
    #[must_use]
    pub fn in_use(&self) -> Option<(u32, &Datacenter)> {
        let tier = self.tiers.iter().find(|tier| tier.members.iter().any(|member| member.is_usable()))?;
        let rank = tier.members[0].rank;
        Some((rank, self.datacenters.get(rank as usize)?))
    }

    /// Why none may be picked.
    #[must_use]
    pub fn nobody(&self, now: Instant) -> CallError {
        let service = self.service.clone();
        self.until_probe(now).map_or(CallError::NoInstance(service.clone()), |wait| CallError::Open(service, wait))
    }

    /// Where all circuits of members that could be picked refuse: how long until the first lets a request through.
    /// One that has let one through already may close any moment.
    fn until_probe(&self, now: Instant) -> Option<Duration> {
        let usable = self.members.iter().filter(|m| m.weight > 0 && !m.circuit.is_draining());
        let wait = |member: &Arc<Member>| match member.circuit.state() {
            State::Open(until) => until.saturating_duration_since(now),
            State::HalfOpen | State::Closed => Duration::ZERO,
        };
        usable.map(wait).min()
    }

    /// What `consistent_hash` goes by in a request from `address` for `path`; nothing where the policy is another.
    #[must_use]
    pub fn key(&self, address: IpAddr, path: &str, fields: &Fields) -> Option<u64> {
        if self.policy.balance == Balance::ConsistentHash { self.policy.hash.of(address, path, fields) } else { None }
    }

    /// The member for a request: one whose circuit waits for a request to decide, else the policy's choice, where there
    /// are several datacenters in the first of them where it has one.
    #[inline]
    #[must_use]
    pub fn pick(&self, ask: &Ask<'_>) -> Option<&Member> {
        // A request that has failed already is no probe while there are others: its tries are few.
        let is_first = ask.tried.is_empty();
        if is_first
            && self.live.is_probe_due(ask.now)
            && let Some(member) = self.due(ask)
        {
            return Some(member);
        }
        let slow_start = self.grown.filter(|&grown| ask.now < grown).map(|_| self.policy.slow_start);
        let view = View { ask, members: &self.members, live: &self.live, slow_start };
        let picked = match self.balancer.pick(&view) {
            Some(member) => Some(&*self.members[member]),
            None => self.tiers.iter().find_map(|tier| tier.pick(&view)),
        };
        if picked.is_some() || is_first || !self.live.is_probe_due(ask.now) { picked } else { self.due(ask) }
    }

    #[cold]
    fn due(&self, ask: &Ask<'_>) -> Option<&Member> {
        let is_due = |Member { endpoint, circuit, weight, .. }: &&Member| {
            *weight > 0 && !circuit.is_draining() && circuit.is_due(ask.now) && !ask.tried.contains(&endpoint.serial)
        };
        let first = |members: &'_ [Arc<Member>]| members.iter().position(|member| is_due(&&**member));
        if self.tiers.is_empty() {
            return first(&self.members).map(|member| &*self.members[member]);
        }
        for tier in &self.tiers {
            if let Some(member) = first(&tier.members) {
                return Some(&tier.members[member]);
            }
            // Those behind are tried when they are of use.
            if tier.members.iter().any(|member| member.is_usable()) {
                return None;
            }
        }
        None
    }
}

/// The members of each datacenter, in the order of preference.
fn tiers(members: &[Arc<Member>], balance: Balance) -> Vec<Tier> {
    let mut ranks: BTreeMap<u32, Vec<Arc<Member>>> = BTreeMap::new();
    for member in members {
        ranks.entry(member.rank).or_default().push(member.clone());
    }
    let tier = |members: Vec<_>| Tier { balancer: Balancer::new(balance, &members), members };
    ranks.into_values().map(tier).collect()
}
