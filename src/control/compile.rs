//! From what is configured and what is told to what requests see: clusters and routes. Pure but for the rosters, out
//! of which what lives is adopted.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use crate::{
    config::{self, Config},
    discovery::tags::Exposure,
    model::{
        barred::Barred,
        instance::Instance,
        name::{RouteName, ServiceName},
        pattern::{HostPattern, PathPattern, Segment},
        protocol::Protocol,
        template::Template,
        topology::Members,
    },
    roster::Roster,
    route::{Route, Target},
    telemetry::metrics::Metrics,
    upstream::{
        cluster::{Cluster, Member, Rules},
        endpoint::{Endpoint, EndpointKey, Transport},
        service::Service,
        tls::Tls,
    },
};

/// The live objects of all snapshots, by what identifies them.
#[derive(Default)]
pub struct Rosters {
    endpoints: Roster<EndpointKey, Endpoint>,
    services: Roster<ServiceName, Service>,
}

impl Rosters {
    /// Lets go of the names of what is gone.
    pub fn forget_dead(&mut self) {
        self.endpoints.forget_dead();
        self.services.forget_dead();
    }
}

/// Where no instance may be.
pub fn barred(config: &Config) -> Barred {
    let https = config.https.iter().flat_map(|https| &https.listen);
    let own = config.http.listen.iter().chain(https).chain(&config.admin.listen).chain(&config.metrics.listen);
    let networks = config.consul.as_ref().map(|consul| consul.deny.clone()).unwrap_or_default();
    Barred { networks, own: own.copied().collect() }
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
    }
}

/// Builds a service's cluster: endpoints that `before` had, or that still live, are adopted.
pub fn cluster(
    rules: Rules,
    told: &Members,
    before: Option<&Cluster>,
    rosters: &mut Rosters,
    metrics: &Metrics,
) -> Cluster {
    let service = rules.service.clone();
    let live = rosters.services.adopt(service.clone(), || Service::new(metrics.service(service.as_str())));
    let accept = &rules.policy.accept;
    let members = by_address(&told.instances).map(|instances| {
        let first = &instances[0];
        let key = EndpointKey {
            service: service.clone(),
            id: first.id.clone(),
            address: first.address.clone(),
            transport: rules.transport.clone(),
        };
        let endpoint = rosters
            .endpoints
            .adopt(key.clone(), || Endpoint::new(key, metrics.instance(service.as_str(), &first.address.to_string())));
        Member::new(instances.to_vec(), endpoint, accept)
    });
    let members: Vec<Member> = members.collect();
    relist(before, &members);
    Cluster::new(rules, members, told.rejected.clone(), live)
}

/// Tells endpoints whether they are members: idle connections to those that are not are closed.
fn relist(before: Option<&Cluster>, members: &[Member]) {
    for gone in before.into_iter().flat_map(|cluster| &cluster.members) {
        gone.endpoint.set_listed(false);
    }
    for member in members {
        member.endpoint.set_listed(true);
    }
}

/// Says that a service is gone as a whole.
pub fn dissolve(cluster: &Cluster) {
    relist(Some(cluster), &[]);
}

/// Instances at one address are one member. They come sorted by address, then id.
fn by_address(instances: &[Instance]) -> impl Iterator<Item = &[Instance]> {
    instances.chunk_by(|a, b| a.address == b.address)
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
            exposed: true,
        }));
    }
    (all, conflicts)
}

/// The number of a service's instances in each state, as `lictor_instances` has them.
pub fn census(cluster: &Cluster) -> [(&'static str, usize); 3] {
    let available = cluster.members.iter().filter(|member| member.weight > 0).count();
    let unhealthy = cluster.members.len() - available;
    [("available", available), ("unhealthy", unhealthy), ("rejected", cluster.rejected.len())]
}
