//! What would become of a request: the steps of `handle`, told and not done.

use std::task::{Context, Poll, Waker};

use bytes::BytesMut;
use http::{Method, header};
use tokio::time::Instant;

use super::{Refusal, entry, forward, headers, health, reply, trail::Trail};
use crate::{
    body::Body,
    http1::{framing::Length, head::Limits, request::RequestReader},
    model::{
        fields::Fields,
        message::{Request, Response},
        value::Value,
    },
    route::{Considered, Found, Target},
    state::Snapshot,
    upstream::{cluster::Cluster, policy::Policy},
};

/// What would become of a request.
#[derive(Debug)]
pub struct Explanation<'w> {
    /// The host that it is for, as its client wrote it.
    pub host: String,
    /// Its path in its one form; `None`: it has none.
    pub path: Option<String>,
    /// Every route, and whether it serves it.
    pub considered: Vec<Considered<'w>>,
    /// The answer that the gateway itself would give; `None`: an instance gives it.
    pub answer: Option<Given>,
    /// Whom it would be sent to.
    pub upstream: Option<Upstream<'w>>,
}

/// An answer that the gateway itself would give.
#[derive(Debug)]
pub struct Given {
    /// Its status.
    pub status: u16,
    /// What it says.
    pub detail: String,
    /// `Allow`, where the status is 405.
    pub allow: Option<String>,
}

/// Whom a request would be sent to, and as what.
#[derive(Debug)]
pub struct Upstream<'w> {
    /// The service.
    pub cluster: &'w Cluster,
    /// Its rules, or what the route makes of them.
    pub policy: &'w Policy,
    /// The `Host` that it sees.
    pub host: String,
    /// Path and query that it sees.
    pub target: String,
}

/// What would become of the request that this is the head of, written as HTTP/1.1 has it.
#[must_use]
pub fn explain<'w>(world: &'w Snapshot, head: &str) -> Explanation<'w> {
    let mut explanation =
        Explanation { host: String::new(), path: None, considered: Vec::new(), answer: None, upstream: None };
    let http = &world.config.http;
    // Without the request's fields: a client that speaks gRPC is told the same, but in other words.
    let trail = Trail::begin(&mut Fields::new(), None);
    let mut reader = RequestReader::new(Limits { max_head: http.max_header_size, ..Limits::default() });
    let read = reader.read(&mut BytesMut::from(head)).map_err(Refusal::Head);
    let entered = read.and_then(|read| {
        let Some(head) = read else { return Err(Refusal::TimedOut) };
        headers::host(&head.fields).clone_into(&mut explanation.host);
        let target = entry::admit(&head)?;
        Ok((head, target))
    });
    let (head, target) = match entered {
        Ok(entered) => entered,
        Err(refusal) => {
            explanation.answer = Some(given(reply::refused(&refusal, &trail)));
            return explanation;
        }
    };
    let (method, version, fields, length) = (head.method, head.version, head.fields, head.length);
    let mut request = Request { method, target, version, fields, body: Body::empty() };
    headers::strip_connection(&mut request.fields);
    let path = request.target.path().to_owned();
    explanation.path = Some(path.clone());
    if request.method == Method::OPTIONS && (headers::is_last_hop(&mut request.fields) || path == "*") {
        explanation.answer = Some(given(reply::last_hop(&trail)));
        return explanation;
    }
    if let Some(answer) = health::answer(world, &request, &trail) {
        explanation.answer = Some(Given { detail: "the report on all services".into(), ..given(answer) });
        return explanation;
    }
    let (method, fields) = (&request.method, &request.fields);
    explanation.considered = world.routes.explain(method, &explanation.host, &path, fields);
    let (route, captures) = match world.routes.find(method, &explanation.host, &path, fields) {
        Found::Route(route, captures) => (route, captures),
        nothing => {
            let answer = match nothing {
                Found::MethodNotAllowed(methods) => reply::method_not_allowed(&methods, &trail),
                _ if !world.ready => reply::not_ready(&trail),
                _ => reply::no_route(&trail),
            };
            explanation.answer = Some(given(answer));
            return explanation;
        }
    };
    let most = route.max_body.or(http.max_body_size).unwrap_or(0);
    if let Length::Exact(length) = length
        && most != 0
        && length > most
    {
        explanation.answer = Some(given(reply::too_large(most, &trail)));
        return explanation;
    }
    let Target::Service(service) = &route.target;
    let rewritten = route.rewrite.as_ref().map(|rewrite| rewrite.fill(&captures));
    match world.clusters.get(service) {
        None => explanation.answer = Some(given(reply::no_instance(service, &trail))),
        Some(cluster) => {
            let now = Instant::now();
            if !cluster.is_usable(now) {
                explanation.answer = Some(given(reply::failed(&cluster.nobody(now), service, &trail)));
            }
            let host = cluster.host.as_ref().and_then(|host| host.to_str().ok());
            explanation.upstream = Some(Upstream {
                cluster,
                policy: route.policy.as_ref().unwrap_or(&cluster.policy),
                host: host.unwrap_or(&explanation.host).to_owned(),
                target: forward::target(request.target.clone(), rewritten).as_str().to_owned(),
            });
        }
    }
    explanation
}

/// The answer in short. Ours come in one piece.
fn given(mut response: Response<Body>) -> Given {
    let mut nobody = Context::from_waker(Waker::noop());
    let piece = match response.body.poll_piece(&mut nobody) {
        Poll::Ready(Some(Ok(piece))) => piece.into_data().unwrap_or_default(),
        _ => bytes::Bytes::new(),
    };
    let document: serde_json::Value = serde_json::from_slice(&piece).unwrap_or_default();
    let allow = response.fields.get(header::ALLOW).and_then(Value::to_str);
    Given {
        status: response.status.as_u16(),
        detail: document["detail"].as_str().unwrap_or("the gateway's own answer").to_owned(),
        allow: allow.map(ToOwned::to_owned),
    }
}
