//! Clusters for the tests of policies: members that nobody listens at, seeds that are always the same.

use std::{cell::RefCell, net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{Ask, Balance};
use crate::{
    model::{
        instance::{Address, Health, Instance},
        random::Draws,
    },
    telemetry::{cells::Outcome, events::Events, metrics::Metrics},
    upstream::{
        circuit::Circuit,
        cluster::{Cluster, Member, Rules},
        endpoint::{Endpoint, EndpointKey, Transport},
        permit::Permit,
        policy::Policy,
        pool::Link,
        service::Service,
    },
};

/// Members of these weights at `10.0.0.1` and on.
pub fn members(weights: &[u32]) -> Vec<Arc<Member>> {
    let metrics = Metrics::new(2);
    let at = |n: u32| (std::net::Ipv4Addr::from(0x0a00_0000 + n), 80).into();
    (1_u32..).zip(weights).map(|(n, &weight)| member(&metrics, at(n), weight).into()).collect()
}

/// A member of this weight.
pub fn member(metrics: &Arc<Metrics>, at: SocketAddr, weight: u32) -> Member {
    let address = Address::Ip(at);
    let name = address.to_string();
    let key = EndpointKey {
        service: "s".into(),
        id: name.as_str().into(),
        address: address.clone(),
        transport: Transport::default(),
    };
    let instance = Instance {
        id: name.as_str().into(),
        node: String::new(),
        address,
        health: Health::Passing,
        weight,
        tags: Vec::new(),
        meta: std::collections::BTreeMap::new(),
        datacenter: String::new(),
        create_index: 0,
    };
    let endpoint =
        Arc::new(Endpoint::new(key, metrics.instance("s", &name), Circuit::new(metrics.circuit("s", &name)).into()));
    Member::new([instance].into(), endpoint, &[Health::Passing])
}

/// A cluster, and the requests that ask it.
pub struct Stage {
    cluster: Cluster,
    balance: Balance,
    now: Instant,
    draws: RefCell<Draws>,
}

impl Stage {
    /// A cluster of members with these weights.
    pub fn new(balance: Balance, weights: &[u32]) -> Self {
        let policy = Policy { balance, ..Policy::default() };
        let cluster = cluster(policy, members(weights), 0);
        Self { cluster, balance, now: Instant::now(), draws: Draws::seeded(1).into() }
    }

    /// A cluster of members that are in datacenters of these ranks.
    pub fn in_datacenters(balance: Balance, ranks: &[u32]) -> Self {
        let mut stage = Self::new(balance, &vec![1; ranks.len()]);
        let mut members = stage.cluster.members.to_vec();
        for (member, &rank) in members.iter_mut().zip(ranks) {
            Arc::make_mut(member).rank = rank;
        }
        stage.cluster = cluster(Policy { balance, ..Policy::default() }, members, 3);
        stage
    }

    /// Makes a member new: it came `since` ago and takes `whole` to grow.
    pub fn grow(&mut self, member: usize, whole: Duration, since: Duration) {
        let mut members = self.cluster.members.to_vec();
        Arc::make_mut(&mut members[member]).came = Some(self.now);
        let policy = Policy { balance: self.balance, slow_start: whole, ..Policy::default() };
        self.cluster = cluster(policy, members, 0);
        self.now += since;
    }

    /// The member for one request that was not tried at these.
    pub fn pick(&self, tried: &[u64]) -> Option<usize> {
        self.ask(None, tried)
    }

    /// The member for a request with this key.
    pub fn pick_key(&self, key: u64) -> Option<usize> {
        self.ask(Some(key), &[])
    }

    fn ask(&self, key: Option<u64>, tried: &[u64]) -> Option<usize> {
        let draw = self.draws.borrow_mut().next();
        let now = self.now.max(Instant::now());
        self.cluster.live().cells.carry(0); // this request
        let picked = self.cluster.pick(&Ask { worker: 0, now, draw, key, tried });
        self.cluster.live().cells.leave(0);
        let picked = picked?;
        self.cluster.members.iter().position(|member| member.endpoint.serial == picked.endpoint.serial)
    }

    /// How many of so many requests each member gets, one after the other.
    pub fn counts(&self, count: u32) -> Vec<u32> {
        let mut counts = vec![0_u32; self.cluster.members.len()];
        for _ in 0..count {
            if let Some(member) = self.pick(&[]) {
                counts[member] += 1;
            }
        }
        counts
    }

    /// The part of so many requests that each member gets, one after the other, to a hundredth.
    pub fn shares(&self, count: u32) -> Vec<f64> {
        self.counts(count).into_iter().map(|n| (f64::from(n) / f64::from(count) * 100.0).round() / 100.0).collect()
    }

    /// How many of so many requests that do not end each member gets.
    pub fn crowd(&self, count: usize) -> Vec<u32> {
        let mut under_way = vec![0_u32; self.cluster.members.len()];
        let mut permits = Vec::new();
        for _ in 0..count {
            let member = self.pick(&[]).unwrap();
            under_way[member] += 1;
            permits.push(self.admit(member, 0));
        }
        under_way
    }

    /// A request on its way to a member.
    pub fn admit(&self, member: usize, worker: usize) -> Permit {
        let endpoint = self.cluster.members[member].endpoint.clone();
        let link = Rc::new(Link::new(endpoint, self.cluster.live().clone()));
        let permit = link.admit(&self.cluster.policy.clone().into(), worker, Instant::now());
        let mut permit = permit.unwrap();
        permit.carry();
        permit
    }

    /// A request to a member that ends so after so long, by the paused clock.
    pub async fn answer(&self, member: usize, took: Duration, outcome: Outcome) {
        let permit = self.admit(member, 0);
        tokio::time::advance(took).await;
        permit.report(outcome);
    }

    /// Takes a member out.
    pub fn drain(&self, member: usize) {
        self.cluster.members[member].endpoint.set_draining(true);
    }

    /// Puts it back.
    pub fn restore(&self, member: usize) {
        self.cluster.members[member].endpoint.set_draining(false);
    }

    /// Where a member is.
    pub fn address(&self, member: usize) -> String {
        self.cluster.members[member].endpoint.key.address.to_string()
    }

    /// The serial of a member's endpoint.
    pub fn serial(&self, member: usize) -> u64 {
        self.cluster.members[member].endpoint.serial
    }
}

fn cluster(policy: Policy, members: Vec<Arc<Member>>, datacenters: u32) -> Cluster {
    let rules = Rules {
        service: "s".into(),
        policy: policy.into(),
        host: None,
        barred: Arc::default(),
        transport: Transport::default(),
        tls: None,
        datacenters: (0..datacenters).map(|n| format!("dc{n}").into()).collect(),
    };
    let live = Service::new("s".into(), &Metrics::new(2), &Events::new());
    Cluster::new(rules, members, Vec::new(), live.into())
}
