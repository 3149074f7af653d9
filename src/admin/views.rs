//! What is in force, as JSON: topology, routes, configuration.

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

use axum::{Json, extract};
use serde::Serialize;
use serde_json::Value;
use tokio::time::Instant;

use super::Admin;
use crate::{
    config::policy_shown,
    model::{
        instance::{Health, Instance},
        topology::Rejected,
        value,
    },
    route::{Route, Target},
    telemetry::{events, window::Counts},
    upstream::{
        breaker::State,
        cluster::{Cluster, Member},
    },
};

/// All services and instances.
#[derive(Debug, Serialize)]
pub struct Topology {
    /// The highest index of Consul's in it.
    index: u64,
    /// Since Consul last answered; `null` without Consul, and before it ever has.
    age_seconds: Option<f64>,
    source: &'static str,
    services: BTreeMap<String, Served>,
}

/// One service, and what clients got of it.
#[derive(Debug, Serialize)]
struct Served {
    /// Requests answered, by all of its routes.
    requests: u64,
    /// Those among them that were answered with a status of 5xx.
    errors: u64,
    /// Whether any route leads there.
    routed: bool,
    #[serde(flatten)]
    service: Service,
}

/// One service.
#[derive(Debug, Serialize)]
pub struct Service {
    /// Those that may be picked, and those that may not.
    pub instances: Vec<Shown>,
}

/// One instance, of use or not.
#[derive(Debug, Serialize)]
pub struct Shown {
    id: String,
    #[serde(flatten)]
    told: Told,
    usable: bool,
    /// Why it is not usable, or not as it would be otherwise.
    reason: Option<String>,
}

/// What is told of an instance that a connection could be made to; of others nothing.
#[derive(Debug, Default, Serialize)]
struct Told {
    node: Option<String>,
    address: Option<String>,
    health: Option<Health>,
    weight: Option<u32>,
    tags: Vec<String>,
    meta: BTreeMap<String, String>,
    datacenter: Option<String>,
    circuit: Option<&'static str>,
    in_flight: u64,
    /// Tries that have ended, without those whose client left.
    requests: u64,
    failures: u64,
    latency_seconds: Option<f64>,
    since: Option<Since>,
}

/// A moment, as it is written.
#[derive(Debug, Serialize)]
struct Since(#[serde(serialize_with = "events::rfc3339")] SystemTime);

/// `/api/topology`
pub async fn topology(extract::State(admin): extract::State<Arc<Admin>>) -> Json<Topology> {
    let world = admin.reader.load();
    let answered = admin.metrics.answered();
    let routed = world.routes.services();
    let services = world.clusters.iter().map(|(name, cluster)| {
        let Counts { requests, failures: errors } = answered.get(name.as_str()).copied().unwrap_or_default();
        (name.to_string(), Served { requests, errors, routed: routed.contains(name), service: service(cluster) })
    });
    Json(Topology {
        index: world.index,
        age_seconds: admin.metrics.topology_age().map(|age| age.as_secs_f64()),
        source: world.source.as_str(),
        services: services.collect(),
    })
}

/// One service as it is now.
#[must_use]
pub fn service(cluster: &Cluster) -> Service {
    let members = cluster.members.iter().flat_map(|member| member.instances.iter().map(move |i| (member, i)));
    let shown = members.map(|(member, instance)| instance_of(cluster, member, instance));
    Service { instances: shown.chain(cluster.rejected.iter().map(rejected)).collect() }
}

fn instance_of(cluster: &Cluster, member: &Member, instance: &Instance) -> Shown {
    let endpoint = &member.endpoint;
    let circuit = endpoint.circuit().state();
    let (requests, failures) = endpoint.cells().tries();
    // Who shares an address with a usable one is usable with it.
    let refused = if member.weight > 0 { refused(circuit) } else { unusable(cluster, member, instance) };
    let refused = refused.or_else(|| {
        let (rank, datacenter) = cluster.in_use()?;
        (member.rank > rank).then(|| format!("datacenter `{datacenter}` is preferred, and has somebody to pick"))
    });
    Shown {
        id: instance.id.to_string(),
        usable: refused.is_none(),
        reason: refused.or_else(|| reserve(cluster, member, instance)),
        told: Told {
            node: Some(instance.node.clone()).filter(|node| !node.is_empty()),
            address: Some(instance.address.to_string()),
            health: Some(instance.health),
            weight: Some(instance.weight),
            tags: instance.tags.clone(),
            meta: instance.meta.clone(),
            datacenter: Some(instance.datacenter.clone()),
            circuit: Some(circuit.as_str()),
            in_flight: endpoint.cells().in_flight(),
            requests,
            failures,
            latency_seconds: endpoint.cells().latency().map(|latency| latency.as_secs_f64()),
            since: Some(Since(endpoint.since)),
        },
    }
}

fn refused(circuit: State) -> Option<String> {
    match circuit {
        State::Closed => None,
        State::HalfOpen => Some("its circuit is half-open: a request is under way that decides".into()),
        State::Open(until) => {
            let left = until.saturating_duration_since(Instant::now());
            // Once that is over, the next request is for this instance.
            (!left.is_zero()).then(|| format!("its circuit is open; in {:.1} s a request decides", left.as_secs_f64()))
        }
    }
}

/// What is to be said of one that is usable.
fn reserve(cluster: &Cluster, member: &Member, instance: &Instance) -> Option<String> {
    if member.panics {
        return Some(format!("it is {}, and used for there is no other (`panic`)", instance.health.as_str()));
    }
    let grown = member.came? + cluster.policy.slow_start;
    let left = grown.saturating_duration_since(Instant::now());
    (!left.is_zero()).then(|| format!("slow start: it has all of its weight in {:.1} s", left.as_secs_f64()))
}

fn unusable(cluster: &Cluster, member: &Member, instance: &Instance) -> Option<String> {
    if member.endpoint.is_draining() {
        return Some("draining: an operator has taken it out".into());
    }
    let accept = &cluster.policy.accept;
    if !accept.contains(&instance.health) {
        let accepted = accept.iter().map(|health| health.as_str()).collect::<Vec<_>>().join(", ");
        return Some(format!("it is {}, and `accept` has {accepted}", instance.health.as_str()));
    }
    (instance.weight == 0).then(|| format!("its weight is 0 while it is {}", instance.health.as_str()))
}

fn rejected(rejected: &Rejected) -> Shown {
    Shown {
        id: rejected.id.to_string(),
        told: Told { datacenter: Some(rejected.datacenter.clone()), ..Told::default() },
        usable: false,
        reason: Some(rejected.why.to_string()),
    }
}

/// One route.
#[derive(Debug, Serialize)]
pub struct RouteShown {
    name: String,
    /// Where it comes from: `configuration`, or the `tags` of a service.
    source: &'static str,
    hosts: Vec<String>,
    path: String,
    methods: Vec<String>,
    headers: BTreeMap<String, String>,
    service: String,
    rewrite: Option<String>,
    /// What of the service's rules the route may say otherwise; left out: it says nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry: Option<Value>,
}

/// `/api/routes`
pub async fn routes(extract::State(admin): extract::State<Arc<Admin>>) -> Json<Vec<RouteShown>> {
    Json(admin.reader.load().routes.routes().iter().map(|route| shown(route)).collect())
}

/// One route as it is written.
#[must_use]
pub fn shown(route: &Route) -> RouteShown {
    let Target::Service(service) = &route.target;
    let header = |(name, value): &(http::HeaderName, http::HeaderValue)| (name.to_string(), value::shown(value));
    let rules = route.policy.as_deref().map(policy_shown);
    let rule = |key| rules.as_ref()?.get(key).cloned();
    RouteShown {
        name: route.name.to_string(),
        source: source(route),
        hosts: route.hosts.iter().map(ToString::to_string).collect(),
        path: route.path.to_string(),
        methods: route.methods.iter().map(ToString::to_string).collect(),
        headers: route.headers.iter().map(header).collect(),
        service: service.to_string(),
        rewrite: route.rewrite.as_ref().map(ToString::to_string),
        timeout: rule("timeout"),
        retry: rule("retry"),
    }
}

/// Where a route comes from.
#[must_use]
pub fn source(route: &Route) -> &'static str {
    if route.exposed { "tags" } else { "configuration" }
}

/// `/api/config`
pub async fn config(extract::State(admin): extract::State<Arc<Admin>>) -> Json<Value> {
    Json(admin.reader.load().config.shown())
}
