//! Sends one request to a service: picks an instance, admits, sends, judges; again, or done.

use std::{rc::Rc, time::Duration};

use http::{HeaderMap, HeaderValue, Method, Response};
use tokio::time::Instant;

use super::{
    Local,
    cluster::{Cluster, Member},
    exchange::{Exchange, ExchangeError},
    pool::{Connection, DialError, dial},
};
use crate::{
    body::Body,
    http1::encode::{Connection as Persistence, Framing, write_request_head},
    telemetry::cells::Outcome,
    wire::{Mode, Sender},
};

/// A request as upstream shall see it.
#[derive(Debug)]
pub struct Outbound {
    /// The method.
    pub method: Method,
    /// Path and query.
    pub target: String,
    /// The `Host` field.
    pub host: HeaderValue,
    /// All other fields, without those of the framing.
    pub headers: HeaderMap,
    /// The body.
    pub body: Body,
}

/// Why a service gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No instance that may be picked.
    #[error("no instance of `{0}` can be used")]
    NoInstance(crate::model::name::ServiceName),
    /// No connection to any instance that was tried.
    #[error("no connection")]
    Dial(#[source] DialError),
    /// A connection, but no answer on it.
    #[error("no answer")]
    Exchange(#[source] ExchangeError),
}

/// Instances that are tried when connections to them fail.
const TRIES: usize = 3;

/// A kept connection may have been closed by the other side in this very moment. Where a request must not be sent
/// twice, only one that was used a moment ago is trusted.
const FRESH: Duration = Duration::from_secs(2);

/// Gets the answer of one instance of the service. Another instance is tried where nothing was sent.
///
/// # Errors
/// [`CallError`] of the last try.
pub async fn call(cluster: &Cluster, local: &Rc<Local>, request: Outbound) -> Result<Response<Body>, CallError> {
    let mut request = request;
    let mut tried = Vec::new();
    let mut fresh_only = false;
    let mut failed = None;
    while tried.len() < TRIES {
        let Some(member) = cluster.pick(&tried) else { break };
        loop {
            match attempt(cluster, member, local, &mut request, fresh_only).await {
                Ok(response) => return Ok(response),
                Err(AttemptError::Dial(e)) => {
                    failed = Some(CallError::Dial(e));
                    tried.push(member.endpoint.serial);
                    break;
                }
                // The instance closed an idle connection as the request was on its way: it saw nothing of it.
                Err(AttemptError::Stale) if !fresh_only => fresh_only = true,
                Err(AttemptError::Stale) => {
                    return Err(CallError::Exchange(ExchangeError::Closed { untouched: true, source: None }));
                }
                Err(AttemptError::Exchange(e)) => return Err(CallError::Exchange(e)),
            }
        }
    }
    Err(failed.unwrap_or_else(|| CallError::NoInstance(cluster.service.clone())))
}

enum AttemptError {
    Dial(DialError),
    /// A kept connection turned out to be closed; the request is whole and may be sent again.
    Stale,
    Exchange(ExchangeError),
}

async fn attempt(
    cluster: &Cluster,
    member: &Member,
    local: &Rc<Local>,
    request: &mut Outbound,
    fresh_only: bool,
) -> Result<Response<Body>, AttemptError> {
    let permit = member.endpoint.admit(cluster.live(), local.worker);
    let started = permit.started();
    let repeatable = request.body.is_empty() && request.method.is_idempotent();
    let connection = match connection(cluster, member, local, repeatable, fresh_only, started).await {
        Ok(connection) => connection,
        Err(e) => {
            let timed_out = matches!(e, DialError::TimedOut { .. });
            permit.report(if timed_out { Outcome::Timeout } else { Outcome::ConnectError });
            return Err(AttemptError::Dial(e));
        }
    };
    let reused = connection.reused;
    let mut exchange = Exchange {
        connection,
        sender: sender(request),
        method: request.method.clone(),
        policy: cluster.policy.clone(),
    };
    match exchange.head(started).await {
        Ok(head) => {
            let body = exchange.body(&head, permit, local);
            let mut response = Response::new(body);
            *response.status_mut() = head.status;
            *response.headers_mut() = head.headers;
            Ok(response)
        }
        Err(ExchangeError::Closed { untouched: true, .. }) if reused && repeatable => {
            permit.report(Outcome::Cancelled);
            Err(AttemptError::Stale)
        }
        Err(e) => {
            permit.report(match e {
                ExchangeError::Body(_) => Outcome::Cancelled,
                ExchangeError::ReadTimeout(_) | ExchangeError::TotalTimeout(_) => Outcome::Timeout,
                ExchangeError::Closed { .. } | ExchangeError::Malformed(_) | ExchangeError::Switched => Outcome::Failure,
            });
            Err(AttemptError::Exchange(e))
        }
    }
}

async fn connection(
    cluster: &Cluster,
    member: &Member,
    local: &Rc<Local>,
    repeatable: bool,
    fresh_only: bool,
    now: Instant,
) -> Result<Connection, DialError> {
    if !fresh_only && let Some(kept) = local.pool.take(&member.endpoint, now, (!repeatable).then_some(FRESH)) {
        return Ok(kept);
    }
    dial(&member.endpoint.key.address, cluster.policy.timeout.connect, &cluster.deny).await
}

/// Writes the head and takes the body. A body-less request can be written again: there is nothing to take.
fn sender(request: &mut Outbound) -> Sender {
    let body = std::mem::take(&mut request.body);
    let (framing, mode) = match body.length() {
        Some(0) if bodyless(&request.method) => (Framing::None, Mode::Nothing),
        Some(length) => (Framing::Length(length), Mode::Length(length)),
        None => (Framing::Chunked, Mode::Chunks),
    };
    let mut head = Vec::new();
    let Outbound { method, target, host, headers, .. } = request;
    write_request_head(&mut head, method, target, host, headers, framing, Persistence::Implied);
    Sender::new(head, body, mode)
}

/// Methods whose requests need not say that they have no body (RFC 9110 §8.6).
fn bodyless(method: &Method) -> bool {
    !matches!(*method, Method::POST | Method::PUT | Method::PATCH)
}

