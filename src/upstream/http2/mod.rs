//! HTTP/2 towards instances (RFC 9113): one request and its answer on one stream, driven by the task that wants the
//! answer; only the frames of a connection have a task of their own (`sessions`).

mod answer;
mod bounds;
mod head;
mod sessions;

use std::{
    rc::Rc,
    task::{Context, Poll, ready},
};

use http::{Method, StatusCode, header::CONTENT_LENGTH};
use tokio::time::Instant;

use self::{
    answer::{Answer, GRPC_STATUS, call_outcome},
    sessions::Place,
};
use super::{
    Local,
    aside::Aside,
    call::{AttemptError, Outbound, dial_limit, unanswered, undialed},
    cluster::{Cluster, Member},
    deadline::Deadline,
    dial::DialError,
    exchange::{ExchangeError, INTERIM},
    permit::Permit,
    policy::Timeouts,
    progress::{Progress, Upload},
    tries::Tries,
};
use crate::{
    body::{Body, BodyError},
    http2::{Ended, Reason},
    model::{fields::Fields, instance::Address, message::Response},
    telemetry::cells::Outcome,
    wire::{
        Timer,
        http2::{Outflow, Stream as Wire},
    },
};

pub use sessions::Sessions;

/// Kept connections that may say goodbye, one after the other, to a request that they have not begun: as many as there
/// are to one instance.
const GOODBYES: usize = sessions::CONNECTIONS;

/// One try over HTTP/2.
pub(super) async fn attempt(
    cluster: &Cluster,
    member: &Member,
    local: &Rc<Local>,
    request: &mut Outbound,
    whole: Option<Instant>,
    tries: &Tries<'_>,
    mut permit: Permit,
) -> Result<Response<Body>, AttemptError> {
    if whole.is_some() {
        permit.asked(permit.started());
    }
    let mut goodbyes = 0;
    loop {
        let broken = match once(cluster, member, local, request, whole, tries).await {
            Ok((stream, head)) => return Ok(stream.answer(head, permit)),
            Err(broken) => broken,
        };
        let (outcome, error) = match broken {
            Broken::Left(_) if goodbyes < GOODBYES => {
                goodbyes += 1;
                continue;
            }
            Broken::Left(e) | Broken::Refused(e) => (Outcome::Cancelled, AttemptError::Refused(e)),
            Broken::Dismissed(e) => (Outcome::Failure, AttemptError::Refused(e)),
            Broken::Stale(e) => (Outcome::Cancelled, AttemptError::Stale(e)),
            Broken::Dial(e) => (undialed(&e), AttemptError::Dial(e)),
            Broken::Lost(e) => (unanswered(&e), AttemptError::Lost(e)),
            Broken::Exchange(e) => (unanswered(&e), AttemptError::Exchange(e)),
        };
        permit.report(outcome);
        return Err(error);
    }
}

/// Sends the request on one connection and waits for the head of its answer.
async fn once(
    cluster: &Cluster,
    member: &Member,
    local: &Rc<Local>,
    request: &mut Outbound,
    whole: Option<Instant>,
    tries: &Tries<'_>,
) -> Result<(Stream, Head), Broken> {
    let (timeouts, repeatable) = (&tries.policy().timeout, tries.repeats());
    let limit = dial_limit(timeouts, whole);
    let overdue = request.deadline.filter(|deadline| deadline.at < Instant::now() + limit);
    let limit = overdue.map_or(limit, |deadline| deadline.at.saturating_duration_since(Instant::now()));
    let place = Sessions::place(local, cluster, &member.endpoint, limit).await;
    let (place, kept) = place.map_err(|e| match (&e, overdue) {
        (DialError::TimedOut { .. }, Some(deadline)) => Broken::Exchange(ExchangeError::Deadline(deadline.limit)),
        _ => Broken::Dial(e),
    })?;
    let started = Instant::now();
    let waits = waits(cluster, timeouts);
    let opened = Stream::open(place, request, cluster, &member.endpoint.key.address, started, waits);
    // Nothing was sent.
    let mut stream = opened.map_err(|e| Broken::Refused(failed(e)))?;
    let error = match stream.head(started, whole).await {
        Ok(head) => return Ok((stream, head)),
        Err(Unheard::Stream(e)) => e,
        Err(Unheard::Exchange(e)) => return Err(Broken::Exchange(e)),
    };
    // The other side says that it did nothing (RFC 9113 §8.7), …
    let left = matches!(error, Ended::Goodbye(_));
    let refused = matches!(error, Ended::Reset(Reason::REFUSED_STREAM));
    // … or the connection broke, and the request may be repeated.
    let broke = error.is_io() && repeatable;
    let whole = stream.upload.untouched().or_else(|| tries.kept_body()).map(|body| request.body = body).is_some();
    let error = failed(error);
    Err(match () {
        () if left && whole && kept => Broken::Left(error),
        () if left && whole => Broken::Dismissed(error),
        () if refused && whole => Broken::Refused(error),
        // One that was there before may have been dead for long: that says nothing against the instance.
        () if broke && kept => Broken::Stale(error),
        () if broke => Broken::Lost(error),
        () => Broken::Exchange(error),
    })
}

/// Why a connection gave no answer.
enum Broken {
    /// There is none.
    Dial(DialError),
    /// A kept connection was about to end, and did nothing; the request is whole.
    Left(ExchangeError),
    /// A new connection said goodbye, and did nothing; the request is whole.
    Dismissed(ExchangeError),
    /// Nothing was done for another reason; the request is whole.
    Refused(ExchangeError),
    /// A kept connection broke; the request may be repeated.
    Stale(ExchangeError),
    /// A new connection broke; the request may be repeated.
    Lost(ExchangeError),
    /// All else.
    Exchange(ExchangeError),
}

/// How long to wait for what. gRPC streams may be silent for long on purpose, before their head and after.
fn waits(cluster: &Cluster, timeouts: &Timeouts) -> Timeouts {
    if cluster.transport.protocol.is_grpc() {
        Timeouts { total: timeouts.idle, read: timeouts.idle, ..*timeouts }
    } else {
        *timeouts
    }
}

/// A request on its way, waiting for the head of its answer.
struct Stream {
    wire: Rc<Wire>,
    upload: Outflow,
    waits: Timeouts,
    timer: Timer,
    is_grpc: bool,
    /// Until when the client waits, by its own word.
    deadline: Option<Deadline>,
    /// What the client hears beside the answer.
    aside: Rc<Aside>,
    place: Place,
    /// When the request last moved, once its answer has come.
    uploaded: Instant,
}

/// The head of an answer.
struct Head {
    status: StatusCode,
    fields: Fields,
}

/// Why there is no head.
enum Unheard {
    Stream(Ended),
    Exchange(ExchangeError),
}

impl Stream {
    /// Sends the head of the request; takes its body only if that goes well.
    fn open(
        place: Place,
        request: &mut Outbound,
        cluster: &Cluster,
        address: &Address,
        uploaded: Instant,
        waits: Timeouts,
    ) -> Result<Self, Ended> {
        let (deadline, aside) = (request.deadline, request.aside.clone());
        let (bare, protocol) = (request.body.is_empty(), cluster.transport.protocol);
        let opened = Wire::open(place.link(), bare, request.method == Method::HEAD, |out| {
            head::write(out, request, protocol, address, uploaded);
        });
        let wire = Rc::new(opened?);
        let upload = Outflow::new(wire.clone(), std::mem::take(&mut request.body), bare);
        let timer = Timer::default();
        Ok(Self { wire, upload, waits, timer, is_grpc: protocol.is_grpc(), deadline, aside, place, uploaded })
    }

    /// Waits for the head of the answer, sending the body meanwhile.
    async fn head(&mut self, started: Instant, whole: Option<Instant>) -> Result<Head, Unheard> {
        let mut progress = Progress::new(started, whole);
        let mut interim = 0;
        let head = std::future::poll_fn(|cx| {
            if let Poll::Ready(Err(e)) = self.upload.poll(cx) {
                return Poll::Ready(Err(Unheard::Exchange(ExchangeError::Body(e))));
            }
            if let Poll::Ready(head) = self.poll_head(&mut interim, cx) {
                return Poll::Ready(head);
            }
            progress.note(self.upload.sent(), u64::from(interim));
            let upload = Upload::of(self.upload.is_done(), self.upload.is_held());
            let mut due = progress.deadline(upload, &self.waits);
            if due.is_none() && self.is_grpc {
                // Nobody else sees to it that a stream of messages is not silent for ever.
                due = Some((progress.uploaded + self.waits.total, ExchangeError::Body(BodyError::TooSlow)));
            }
            if let Some(Deadline { at, limit }) = self.deadline
                && due.as_ref().is_none_or(|(until, _)| at < *until)
            {
                due = Some((at, ExchangeError::Deadline(limit)));
            }
            let Some((until, error)) = due else { return Poll::Pending };
            self.timer.poll(cx, until).map(|()| Err(Unheard::Exchange(error)))
        })
        .await;
        self.uploaded = progress.uploaded;
        head
    }

    /// The head of the answer, and before it what the instance tells meanwhile.
    fn poll_head(&mut self, interim: &mut u32, cx: &mut Context<'_>) -> Poll<Result<Head, Unheard>> {
        let malformed = |e| Unheard::Exchange(ExchangeError::Malformed(e));
        while let Some(told) = self.wire.interim() {
            *interim += 1;
            if told.status == StatusCode::SWITCHING_PROTOCOLS {
                return Poll::Ready(Err(Unheard::Exchange(ExchangeError::Switched)));
            }
            if *interim > INTERIM {
                return Poll::Ready(Err(Unheard::Exchange(ExchangeError::Interim)));
            }
            self.aside.tell(told.status, bounds::fields(told).map_err(malformed)?);
        }
        let head = ready!(self.wire.poll_head(cx)).map_err(Unheard::Stream)?;
        bounds::check(head.status).map_err(malformed)?;
        Poll::Ready(Ok(Head { status: head.status, fields: bounds::fields(head).map_err(malformed)? }))
    }

    /// The answer with this head. Its body reports to the permit when it ends.
    fn answer(self, Head { status, fields }: Head, mut permit: Permit) -> Response<Body> {
        permit.asked(self.uploaded);
        permit.heard(status);
        if let Some(status) = fields.get(GRPC_STATUS) {
            permit.heard_grpc(status);
        }
        let said = if self.is_grpc { call_outcome(fields.get(GRPC_STATUS), self.deadline) } else { None };
        let outcome = match permit.policy().breaker.judge(status) {
            // What its trailers do not say later counts as said badly.
            Outcome::Success if self.is_grpc => said.unwrap_or(Outcome::Failure),
            judged => judged,
        };
        if self.wire.is_taken() {
            permit.report(outcome);
            return Response { status, stands_for: None, fields, body: Body::empty() };
        }
        permit.answered();
        // What a call of gRPC comes to is said at its end, but what it answers before shows enough.
        match outcome {
            Outcome::Success if !self.is_grpc => permit.proven(),
            _ if self.is_grpc => {}
            // Whatever becomes of the rest, and whoever waits for it.
            failed => permit.settle(failed),
        }
        let length = fields.get(CONTENT_LENGTH).and_then(|length| length.to_str()?.parse().ok());
        let body = Body::duplex(Answer {
            wire: self.wire,
            upload: self.upload,
            permit: Some(permit),
            outcome,
            is_grpc: self.is_grpc,
            left: length,
            deadline: self.deadline,
            patience: self.waits.of_body(&fields),
            timer: self.timer,
            waiting: None,
            lent: 0,
            place: Some(self.place),
        });
        Response { status, stands_for: None, fields, body }
    }
}

fn failed(error: Ended) -> ExchangeError {
    if error.is_remote() {
        ExchangeError::Closed { untouched: true, source: Some(error.into_io()) }
    } else {
        ExchangeError::Http2(error)
    }
}
