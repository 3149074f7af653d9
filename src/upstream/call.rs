//! Sends one request to a service: picks an instance, admits, sends, judges; again, or done.

use std::{rc::Rc, time::Duration};

use http::{HeaderValue, Method, header, uri::PathAndQuery};
use tokio::time::Instant;

use super::{
    Local,
    aside::Aside,
    balance::Ask,
    cluster::{Cluster, Member},
    deadline::Deadline,
    dial::{DialError, dial},
    exchange::{Exchange, ExchangeError},
    http2,
    permit::Permit,
    policy::{Policy, Timeouts},
    pool::Connection,
    tries::Tries,
};
use crate::{
    body::Body,
    http1::encode::{Block, Connection as Persistence, Framing, request_room, write_request_head},
    model::{Held, fields::Fields, message::Response},
    telemetry::cells::Outcome,
    wire::{Mode, Sender, spare},
};

/// A request as upstream shall see it.
#[derive(Debug)]
pub struct Outbound {
    /// The method.
    pub method: Method,
    /// Path and query.
    pub target: Path,
    /// The `Host` field.
    pub host: HeaderValue,
    /// All other fields, without those of the framing.
    pub fields: Fields,
    /// Those that the gateway adds to them.
    pub ours: Rc<Block>,
    /// The body.
    pub body: Body,
    /// What passes beside it.
    pub aside: Rc<Aside>,
    /// Until when its client waits, where it speaks gRPC and says so.
    pub deadline: Option<Deadline>,
    /// What decides who gets it, where it is sent by a key: see [`Cluster::key`].
    pub key: Option<u64>,
}

/// The path and query that upstream gets.
#[derive(Debug)]
pub enum Path {
    /// Those of the request.
    AsItCame(PathAndQuery),
    /// Others.
    Rewritten(String),
}

impl Path {
    /// As they go on the wire.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::AsItCame(target) => target.as_str(),
            Self::Rewritten(text) => text,
        }
    }
}

/// Why a service gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No instance that may be picked.
    #[error("no instance of `{0}` can be used")]
    NoInstance(crate::model::name::ServiceName),
    /// There are some, but their circuits are open. The first lets a request through after that time.
    #[error("all circuits of `{0}` are open for {1:?}")]
    Open(crate::model::name::ServiceName, Duration),
    /// As many requests are under way to it as may be.
    #[error("too many requests are under way to `{0}`")]
    Crowded(crate::model::name::ServiceName),
    /// No connection to any instance that was tried.
    #[error("no connection")]
    Dial(#[source] DialError),
    /// A connection, but no answer on it.
    #[error("no answer")]
    Exchange(#[source] ExchangeError),
}

/// A kept connection may have been closed by the other side in this very moment. Where a request must not be sent
/// twice, only one that was used a moment ago is trusted.
const FRESH: Duration = Duration::from_secs(2);

/// Gets the answer of one instance of the service. What fails is tried again, at another instance while there is one,
/// as far as the rules for that and the total timeout let it. `policy` is the service's, or what a route makes of it; `now`
/// is when the request came.
///
/// # Errors
/// [`CallError`] of the last try.
pub async fn call(
    cluster: &Cluster,
    policy: &Held<Policy>,
    local: &Rc<Local>,
    request: &mut Outbound,
    mut now: Instant,
) -> Result<Response<Body>, CallError> {
    let mut entry = cluster.live().enter(local.worker, policy.max_in_flight);
    if entry.is_none() {
        return Err(CallError::Crowded(cluster.service.clone()));
    }
    let total = policy.timeout.total;
    let mut whole = request.body.is_empty().then_some(now);
    let mut retry = Tries::new(cluster, policy, local, request, now);
    let mut tried = Vec::new();
    let mut last = Err(None);
    loop {
        let ask = Ask { worker: local.worker, now, draw: local.draw(), key: request.key, tried: &tried };
        let Some(member) = cluster.pick(&ask).or_else(|| again(cluster, &ask)) else {
            return last.map_err(|failed| failed.map_or_else(|| cluster.nobody(now), CallError::from));
        };
        if !tried.is_empty() && !member.endpoint.is_listed() {
            tried.push(member.endpoint.serial); // it has left since the request came
            continue;
        }
        let link = local.pool.link(&member.endpoint, cluster.live());
        let Some(permit) = link.admit(policy, local.worker, now) else {
            continue; // its circuit has changed since it was picked
        };
        let permit = permit.told(request);
        let next = match attempt(cluster, member, local, request, whole, &retry, permit).await {
            Ok(answer) if !retry.is_bad(&answer) => return Ok(answer),
            Ok(answer) => Ok(answer),
            Err(e) => Err(Some(e)),
        };
        // An answer that still comes counts the request itself.
        let counts = next.as_ref().is_ok_and(|answer| answer.body.is_duplex());
        entry = if counts { None } else { entry.or_else(|| Some(cluster.live().carry(local.worker))) };
        last = next;
        tried.push(member.endpoint.serial);
        now = Instant::now();
        whole = whole.or_else(|| retry.whole());
        let (left, error) = left(whole, total, request.deadline, now);
        if left.is_zero() && !matches!(last, Ok(_) | Err(Some(AttemptError::Exchange(_)))) {
            return Err(CallError::Exchange(error));
        }
        let failed = last.as_ref().err().and_then(Option::as_ref);
        match retry.again(failed, request, now, left) {
            Some(Duration::ZERO) => {}
            Some(pause) => {
                tokio::time::sleep(pause).await;
                now = Instant::now();
            }
            None => return last.map_err(|failed| failed.map_or_else(|| cluster.nobody(now), CallError::from)),
        }
    }
}

/// How long the tries of a request may go on, and what it means when that is over.
fn left(
    whole: Option<Instant>,
    total: Duration,
    deadline: Option<Deadline>,
    now: Instant,
) -> (Duration, ExchangeError) {
    let left = whole.map_or(total, |since| (since + total).saturating_duration_since(now));
    match deadline.map(|deadline| (deadline.at.saturating_duration_since(now), deadline.limit)) {
        Some((earlier, limit)) if earlier < left => (earlier, ExchangeError::Deadline(limit)),
        _ => (left, ExchangeError::TotalTimeout(total)),
    }
}

/// Where all have been tried: one that was not the last, else that.
fn again<'c>(cluster: &'c Cluster, ask: &Ask<'_>) -> Option<&'c Member> {
    let last = ask.tried.last()?;
    let other = cluster.pick(&Ask { tried: &[*last], ..*ask });
    other.or_else(|| cluster.pick(&Ask { tried: &[], ..*ask })).filter(|member| member.endpoint.is_listed())
}

/// Why one try gave no answer.
pub(super) enum AttemptError {
    /// Nothing was sent.
    Dial(DialError),
    /// The instance says that it did nothing of it, and nothing of the body was taken or it can be had again.
    Refused(ExchangeError),
    /// A kept connection turned out to be closed; the request may be repeated.
    Stale(ExchangeError),
    /// The instance broke off before the head of its answer; the request may be repeated.
    Lost(ExchangeError),
    Exchange(ExchangeError),
}

impl From<AttemptError> for CallError {
    fn from(error: AttemptError) -> Self {
        match error {
            AttemptError::Dial(e) => Self::Dial(e),
            AttemptError::Refused(e) | AttemptError::Stale(e) | AttemptError::Lost(e) | AttemptError::Exchange(e) => {
                Self::Exchange(e)
            }
        }
    }
}

async fn attempt(
    cluster: &Cluster,
    member: &Member,
    local: &Rc<Local>,
    request: &mut Outbound,
    whole: Option<Instant>,
    tries: &Tries<'_>,
    mut permit: Permit,
) -> Result<Response<Body>, AttemptError> {
    if cluster.transport.protocol.is_http2() {
        return http2::attempt(cluster, member, local, request, whole, tries, permit).await;
    }
    let started = permit.started();
    let repeatable = tries.repeats();
    // Of a body without a length, nobody knows whether it can be kept whole.
    let fresh = (!repeatable || request.body.length().is_none()).then_some(FRESH);
    let found = if tries.trusts_kept() { permit.link().take(started, fresh) } else { None };
    let reused = found.is_some();
    let dialed = match found {
        Some(connection) => Ok((connection, started)),
        None => dialed(cluster, member, dial_limit(&tries.policy().timeout, whole)).await,
    };
    let (connection, started) = match dialed {
        Ok(connected) => connected,
        Err(e) => {
            permit.report(undialed(&e));
            return Err(AttemptError::Dial(e));
        }
    };
    if whole.is_some() {
        permit.asked(started);
    }
    let mut exchange = Exchange {
        connection,
        sender: sender(request, member),
        method: request.method.clone(),
        aside: request.aside.clone(),
        uploaded: started,
    };
    match exchange.head(started, whole, &tries.policy().timeout).await {
        Ok(head) => {
            let body = exchange.body(&head, permit).map_err(AttemptError::Exchange)?;
            Ok(Response { status: head.status, stands_for: None, fields: head.fields, body })
        }
        // The instance closed an idle connection as the request was on its way: it saw nothing of it.
        Err(e @ ExchangeError::Closed { untouched: true, .. }) if reused && repeatable => {
            permit.report(Outcome::Cancelled);
            Err(AttemptError::Stale(e))
        }
        Err(e @ ExchangeError::Closed { .. }) if repeatable => {
            permit.report(unanswered(&e));
            Err(AttemptError::Lost(e))
        }
        Err(e) => {
            permit.report(unanswered(&e));
            Err(AttemptError::Exchange(e))
        }
    }
}

/// How a try counts that got no connection.
pub(super) fn undialed(error: &DialError) -> Outcome {
    if matches!(error, DialError::TimedOut { .. }) { Outcome::Timeout } else { Outcome::ConnectError }
}

/// How a try counts that got a connection and no answer on it.
pub(super) fn unanswered(error: &ExchangeError) -> Outcome {
    match error {
        // How long a client waits says nothing of the instance.
        ExchangeError::Body(_) | ExchangeError::Deadline(_) => Outcome::Cancelled,
        ExchangeError::ReadTimeout(_) | ExchangeError::TotalTimeout(_) => Outcome::Timeout,
        ExchangeError::Closed { .. }
        | ExchangeError::Malformed(_)
        | ExchangeError::Http2(_)
        | ExchangeError::MalformedBody(_)
        | ExchangeError::Switched
        | ExchangeError::Interim => Outcome::Failure,
    }
}

/// How long a new connection may take.
pub(super) fn dial_limit(timeouts: &Timeouts, whole: Option<Instant>) -> Duration {
    let left = whole.map_or(timeouts.total, |since| timeouts.total.saturating_sub(since.elapsed()));
    timeouts.connect.min(left)
}

/// A new connection, and when it was there.
async fn dialed(cluster: &Cluster, member: &Member, limit: Duration) -> Result<(Connection, Instant), DialError> {
    let address = &member.endpoint.key.address;
    let connection = Box::pin(dial(address, limit, &cluster.barred, cluster.tls.as_deref())).await?;
    Ok((connection, Instant::now()))
}

/// Writes the head and takes the body. A body-less request can be written again: there is nothing to take.
fn sender(request: &mut Outbound, member: &Member) -> Sender {
    let body = std::mem::take(&mut request.body);
    let (framing, mode) = match body.length() {
        Some(0) if bodyless(&request.method) => (Framing::None, Mode::Nothing),
        Some(length) => (Framing::Length(length), Mode::Length(length)),
        None => (Framing::Chunked, Mode::Chunks),
    };
    let Outbound { method, target, host: named, fields, ours, aside, .. } = request;
    // HTTP/1.0 may leave it out; many refuse an empty one in HTTP/1.1.
    let address = named.is_empty().then(|| HeaderValue::try_from(member.endpoint.key.address.to_string()).ok());
    let host = address.flatten();
    let host = host.as_ref().unwrap_or(named);
    let room = request_room(target.as_str(), host, (fields, ours)) + Sender::room(&body);
    let mut head = spare::text(room);
    let persistence = match aside.upgrade() {
        Some(protocol) => {
            fields.insert(header::UPGRADE, protocol);
            Persistence::Upgrade
        }
        None if fields.contains_key(header::TE) => Persistence::Te,
        None => Persistence::Implied,
    };
    write_request_head(&mut head, method, target.as_str(), host, (fields, ours), framing, persistence);
    Sender::new(head, body, mode)
}

/// Methods whose requests need not say that they have no body (RFC 9110 §8.6).
pub(super) fn bodyless(method: &Method) -> bool {
    !matches!(*method, Method::POST | Method::PUT | Method::PATCH)
}

#[cfg(test)]
mod tests;
