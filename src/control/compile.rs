//! From what is configured and what is told to what requests see: clusters and routes. Pure but for the rosters, out
//! of which what lives is adopted.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use tokio::time::Instant;

use super::drained::Drained;
use crate::{
    config::{self, Config},
    discovery::tags::Exposure,
    model::{
        barred::Barred,
        instance::Instance,
        name::{Datacenter, RouteName, ServiceName},
        pattern::{HostPattern, PathPattern, Segment},
        protocol::Protocol,
        template::Template,
        topology::Members,
    },
    roster::Roster,
    route::{Route, Target},
    telemetry::{events::Events, metrics::Metrics},
    upstream::{
        circuit::Circuit,
        cluster::{Cluster, Member, Rules},
        endpoint::{Endpoint, EndpointKey, Transport},
        service::{Seats, Service},
        tls::Tls,
    },
};

/// The live objects of all snapshots, by what identifies them.
#[derive(Default)]
pub struct Rosters {
    endpoints: Roster<EndpointKey, Endpoint>,
    services: Roster<ServiceName, Service>,
    /// Whom operators have taken out.
    pub drained: Drained,
}

/// Where no instance may be.
pub fn barred(config: &Config) -> Barred {
    let https = config.https.iter().flat_map(|https| &https.listen);
    let own = config.http.listen.iter().chain(https).chain(&config.admin.listen).chain(&config.metrics.listen);
    Barred { networks: config.deny.clone(), own: own.copied().collect() }
}

/// What configuration says of a service, whether it has a table or is exposed without one. `claimed` is what its own
/// tags say that it speaks. The TLS that `before` had stays in use where it is just what is wanted.
pub fn rules(config: &Config, service: &ServiceName, claimed: Option<Protocol>, before: Option<&Cluster>) -> Rules {
    let table = config.services.get(service);
    let protocol = table.and_then(|t| t.protocol).or(claimed).unwrap_or_default();
    let trust = protocol.is_tls().then(|| table.map(config::Service::trust).unwrap_or_default());
    let tls = trust.as_ref().map(|trust| {
        let kept = before.and_then(|cluster| cluster.tls.clone()).filter(|tls| tls.is_for(protocol, trust));
        kept.unwrap_or_else(|| Tls::new(protocol, trust.clone()).into())
    });
    Rules {
        service: service.clone(),
        policy: Arc::new(table.map_or(&config.defaults, |t| &t.policy).clone()),
        host: table.and_then(|t| t.host.as_deref()).and_then(|host| host.parse().ok()),
        barred: Arc::new(barred(config)),
        transport: Transport { protocol, trust: trust.map(Arc::new) },
        tls,
        datacenters: table.map(config::Service::datacenters).unwrap_or_default().into(),
    }
}

/// Builds a service's cluster as of `now`: endpoints that `before` had, or that still live, are adopted.
pub fn cluster(
    rules: Rules,
    told: &Members,
    before: Option<&Cluster>,
    rosters: &mut Rosters,
    (metrics, events): (&Arc<Metrics>, &Arc<Events>),
    now: Instant,
) -> Cluster {
    let service = rules.service.clone();
    let live = rosters.services.adopt(service.clone(), || Service::new(service.clone(), metrics, events));
    let out = rosters.drained.follow(&service, told, before.map(|b| &*b.members).unwrap_or_default());
    let accept = &rules.policy.accept;
    let alike = before.is_some_and(|b| {
        b.transport == rules.transport && b.policy.accept == *accept && b.datacenters == rules.datacenters
    });
    let mut former = Former { rest: before.map(|b| &*b.members).unwrap_or_default(), gone: Vec::new() };
    // By the places of datacenters: who is alone in one is not new there.
    let mut established = vec![false; rules.datacenters.len() + 1];
    let mut members = Vec::with_capacity(told.places.len());
    let mut others = Vec::new();
    for instances in &told.places {
        let first = &instances[0];
        let former_member = former.at(instances);
        // Nearly all of many, so nothing but this is looked at.
        if let Some(same) = former_member.filter(|former| alike && former.stays(instances)) {
            established[same.rank as usize] = true;
            members.push(same.clone());
            continue;
        }
        let same = former_member.filter(|former| {
            let EndpointKey { id, transport, .. } = &former.endpoint.key;
            *id == first.id && *transport == rules.transport
        });
        let make = || {
            let key = EndpointKey {
                service: service.clone(),
                id: first.id.clone(),
                address: first.address.clone(),
                transport: rules.transport.clone(),
            };
            let endpoint = rosters.endpoints.adopt(key.clone(), || {
                let address = first.address.to_string();
                let cells = metrics.instance(service.as_str(), &address);
                // What was seen of an instance is of it, not of one way of speaking to it.
                let known =
                    |former: &&Arc<Member>| former.instances.iter().any(|i| instances.iter().any(|j| i.id == j.id));
                let circuit = former_member.filter(known).map(|former| former.endpoint.circuit().clone());
                let circuit =
                    circuit.unwrap_or_else(|| Circuit::new(metrics.circuit(service.as_str(), &address)).into());
                Endpoint::new(key, cells, circuit)
            });
            former.gone.extend(former_member.map(|former| &*former.endpoint));
            endpoint.set_listed(true);
            endpoint
        };
        let endpoint = same.map_or_else(make, |former| former.endpoint.clone());
        // Whoever shares the address of one that was taken out is out with it, which ends with that one's registration.
        let is_out = out.iter().any(|one| instances.iter().any(|instance| one.is(instance)));
        if endpoint.is_draining() != is_out {
            endpoint.set_draining(is_out);
        }
        let mut member = Member::new(instances.clone(), endpoint, accept);
        member.rank = rank(instances, &rules.datacenters);
        let useful = former_member.filter(|former| former.weight > 0);
        established[member.rank as usize] |= useful.is_some() && member.weight > 0;
        member.came = useful.map_or(Some(now), |former| former.came);
        others.push(members.len());
        members.push(Arc::new(member));
    }
    if rules.policy.panic && members.iter().all(|member| member.weight == 0) {
        for member in &mut members {
            Arc::make_mut(member).panic();
        }
    }
    // Where all are new, none is. Those that stay as they are were there before.
    for at in others {
        let member: &mut Arc<Member> = &mut members[at];
        if !established[member.rank as usize] {
            Arc::make_mut(member).came = None;
        }
    }
    unlist(former.gone.into_iter().chain(former.rest.iter().map(|member| &*member.endpoint)));
    Cluster::new(rules, members, told.rejected.clone(), live)
}

/// The place of the first of their datacenters in the order of preference. What is in none of them comes last.
fn rank(instances: &[Instance], datacenters: &[Datacenter]) -> u32 {
    let place =
        |instance: &Instance| datacenters.iter().position(|datacenter| datacenter.as_str() == instance.datacenter);
    let first = instances.iter().filter_map(place).min().unwrap_or(datacenters.len());
    u32::try_from(first).unwrap_or(u32::MAX)
}

/// The members of the cluster before, to be asked for in the order of their addresses.
struct Former<'m> {
    rest: &'m [Arc<Member>],
    /// The endpoints of those that nobody has asked for.
    gone: Vec<&'m Endpoint>,
}

impl<'m> Former<'m> {
    /// The one at the address of these.
    fn at(&mut self, instances: &Arc<[Instance]>) -> Option<&'m Arc<Member>> {
        while let Some((member, rest)) = self.rest.split_first() {
            let same = Arc::ptr_eq(&member.instances, instances);
            match if same { Ordering::Equal } else { member.endpoint.key.address.cmp(&instances[0].address) } {
                Ordering::Less => self.gone.push(&member.endpoint),
                Ordering::Equal => {
                    self.rest = rest;
                    return Some(member);
                }
                Ordering::Greater => return None,
            }
            self.rest = rest;
        }
        None
    }
}

/// Tells endpoints that they are no members any more: idle connections to them are closed.
fn unlist<'e>(gone: impl Iterator<Item = &'e Endpoint>) {
    for endpoint in gone {
        endpoint.set_listed(false);
    }
}

/// Says that a service is gone as a whole.
pub fn dissolve(cluster: &Cluster) {
    unlist(cluster.members.iter().map(|member| &*member.endpoint));
    cluster.live().enlist(Seats::default());
}

/// A service's own claim to a route, ready to be matched.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    /// Whose it is.
    pub service: ServiceName,
    /// Consul's lowest `CreateIndex` among its members: the oldest claim to a path has it.
    pub create_index: u64,
    host: Option<HostPattern>,
    path: PathPattern,
    rewrite: Option<Template>,
}

impl Claim {
    /// Reads what a service's tags, or the rule for all of them, ask for.
    ///
    /// # Errors
    /// What cannot be honoured, in words.
    pub fn new(service: ServiceName, exposure: &Exposure, instances: &[Instance]) -> Result<Self, String> {
        let path: PathPattern = exposure.path.parse().map_err(|e| format!("path `{}`: {e}", exposure.path))?;
        let rewrite = exposure
            .rewrite
            .as_ref()
            .map(|rewrite| Template::parse(rewrite, &path).map_err(|e| format!("rewrite `{rewrite}`: {e}")));
        let host = exposure.host.as_ref().map(|host| host.parse().map_err(|e| format!("host `{host}`: {e}")));
        let create_index = instances.iter().map(|i| i.create_index).min().unwrap_or(u64::MAX);
        Ok(Self { service, create_index, host: host.transpose()?, path, rewrite: rewrite.transpose()? })
    }
}

/// One exposed service that does not get the path it claims, because another has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// Who does not get it.
    pub service: ServiceName,
    /// Who has it.
    pub winner: ServiceName,
    /// What both claim.
    pub path: String,
}

/// All routes: those of the configuration, and those that services claim by their tags.
pub fn routes(
    config: &Config,
    claims: &BTreeMap<ServiceName, Claim>,
    metrics: &Metrics,
) -> (Vec<Arc<Route>>, Vec<Conflict>) {
    let configured = config.routes.iter().map(|r| Route {
        cells: metrics.route(r.service.as_str(), r.name.as_str()),
        name: r.name.clone(),
        hosts: r.hosts.clone(),
        path: r.path.clone(),
        methods: r.methods.clone(),
        headers: r.headers.clone(),
        target: Target::Service(r.service.clone()),
        rewrite: r.rewrite.clone(),
        policy: config.services.get(&r.service).and_then(|service| r.policy(&service.policy)).map(Arc::new),
        max_body: r.max_body,
        exposed: false,
    });
    let mut all: Vec<_> = configured.map(Arc::new).collect();

    let mut oldest_first: Vec<_> = claims.values().collect();
    oldest_first.sort_by_key(|claim| (claim.create_index, &claim.service));
    let mut taken: HashMap<(String, Vec<Segment>), &ServiceName> = HashMap::new();
    let mut conflicts = Vec::new();
    for claim in oldest_first {
        let host = claim.host.as_ref().map(ToString::to_string).unwrap_or_default();
        let claimed = (host, claim.path.shape());
        if let Some(&winner) = taken.get(&claimed) {
            let path = claim.path.to_string();
            conflicts.push(Conflict { service: claim.service.clone(), winner: winner.clone(), path });
            continue;
        }
        taken.insert(claimed, &claim.service);
        let name = RouteName::from(format!("consul:{}", claim.service));
        all.push(Arc::new(Route {
            cells: metrics.route(claim.service.as_str(), name.as_str()),
            name,
            hosts: claim.host.iter().cloned().collect(),
            path: claim.path.clone(),
            methods: Vec::new(),
            headers: Vec::new(),
            target: Target::Service(claim.service.clone()),
            rewrite: claim.rewrite.clone(),
            policy: None,
            max_body: None,
            exposed: true,
        }));
    }
    (all, conflicts)
}

/// The number of a service's instances in the states of `lictor_instances` that only a new list changes; of the others
/// the service itself keeps count, as circuits open and close.
pub fn census(cluster: &Cluster) -> [(&'static str, usize); 3] {
    let usable = cluster.members.iter().filter(|member| member.weight > 0).count();
    // Whoever is taken out has no weight: the others need not be asked.
    let draining = cluster.members.iter().filter(|member| member.weight == 0 && member.endpoint.is_draining()).count();
    let unhealthy = cluster.members.len().saturating_sub(usable + draining);
    [("draining", draining), ("unhealthy", unhealthy), ("rejected", cluster.rejected.len())]
}

#[cfg(test)]
mod tests;
