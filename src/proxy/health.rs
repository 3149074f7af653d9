//! `GET /health` on the public listener: how the services are that a route leads to. Answered from the snapshot, it sends
//! nothing upstream.

use std::collections::BTreeMap;

use http::{Method, StatusCode};
use serde::Serialize;
use tokio::time::Instant;

use super::{reply, trail::Trail};
use crate::{
    body::Body,
    model::message::{Request, Response},
    state::Snapshot,
    upstream::cluster::Cluster,
};

#[derive(Serialize)]
struct Report<'a> {
    gateway: &'static str,
    services: BTreeMap<&'a str, &'static str>,
}

const HEALTHY: &str = "healthy";

/// The report, where the request asks for it.
pub fn answer(world: &Snapshot, request: &Request<Body>, trail: &Trail) -> Option<Response<Body>> {
    let asked = world.config.http.health.as_deref() == Some(request.target.path());
    if !asked {
        return None;
    }
    if !matches!(request.method, Method::GET | Method::HEAD) {
        return Some(reply::method_not_allowed(&[Method::GET, Method::HEAD], trail));
    }
    let now = Instant::now();
    // Of others no client can have anything.
    let routed = world.routes.services();
    let routed = world.clusters.iter().filter(|(name, _)| routed.contains(name));
    let services: BTreeMap<_, _> = routed.map(|(name, cluster)| (name.as_str(), state(cluster, now))).collect();
    let healthy = services.values().all(|&s| s == HEALTHY);
    let status = if healthy && world.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Some(reply::json(status, "application/json", &Report { gateway: HEALTHY, services }, trail))
}

fn state(cluster: &Cluster, now: Instant) -> &'static str {
    if cluster.is_usable(now) {
        HEALTHY
    } else if cluster.members.is_empty() {
        "unreachable"
    } else {
        "unhealthy"
    }
}
