//! The body of an answer as it comes down a stream, and what the answer says of how the request went.

use std::{
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Frame, SizeHint};
use tokio::time::Instant;

use super::{bounds, sessions::Place};
use crate::{
    body::{BodyError, Duplex},
    http1,
    http2::{Ended, Reason},
    model::value::Value,
    telemetry::cells::Outcome,
    upstream::{deadline::Deadline, permit::Permit},
    wire::{
        Timer,
        http2::{Outflow, Stream},
    },
};

/// The body of an answer. Dropped before its end, it cancels the stream.
pub struct Answer {
    /// What comes.
    pub wire: Rc<Stream>,
    /// The rest of the request, where the answer came early.
    pub upload: Outflow,
    /// Counted until the end.
    pub permit: Option<Permit>,
    /// How the head says that the request went.
    pub outcome: Outcome,
    /// Whether trailers say more of that.
    pub is_grpc: bool,
    /// Bytes to come, where that is known.
    pub left: Option<u64>,
    /// Until when the client waits, by its own word.
    pub deadline: Option<Deadline>,
    /// How long to wait for bytes.
    pub patience: Duration,
    /// For these waits.
    pub timer: Timer,
    /// Since when nothing came.
    pub waiting: Option<Instant>,
    /// Bytes that were handed on: the other side may send as many when somebody asks for more.
    pub lent: usize,
    /// The stream's place among others.
    pub place: Option<Place>,
}

/// How the call with this status went, by gRPC's own word: <https://grpc.github.io/grpc/core/md_doc_statuscodes.html>. `None`: not said.
pub fn grpc_outcome(status: Option<Value<'_>>) -> Option<Outcome> {
    let status = status?.to_str().unwrap_or_default();
    // UNKNOWN, DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE, DATA_LOSS: all others are about the request.
    Some(if matches!(status, "2" | "4" | "13" | "14" | "15") { Outcome::Failure } else { Outcome::Success })
}

/// The same, of a call whose client waits until `deadline`: that its time was over says nothing of the instance.
pub fn call_outcome(status: Option<Value<'_>>, deadline: Option<Deadline>) -> Option<Outcome> {
    let is_over = |deadline: Deadline| deadline.at.saturating_duration_since(Instant::now()) <= deadline.limit / 4;
    if deadline.is_some_and(is_over) && status.is_some_and(|status| status == "4") {
        return Some(Outcome::Cancelled);
    }
    grpc_outcome(status)
}

const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// The field of gRPC's own status.
pub const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

impl Answer {
    fn end(&mut self, outcome: Outcome) {
        self.place = None;
        if let Some(permit) = self.permit.take() {
            permit.report(outcome);
        }
    }

    fn poll_upload(&mut self, cx: &mut Context<'_>) {
        // A request that broke off is told by the stream, which the other side then resets.
        if let Poll::Ready(Err(_)) = self.upload.poll(cx) {
            self.upload.reset(Reason::CANCEL);
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Frame<Bytes>>, BodyError>> {
        self.poll_upload(cx);
        let lent = std::mem::take(&mut self.lent);
        if lent > 0 {
            self.wire.release(lent);
        }
        match self.wire.poll_data(cx) {
            Poll::Ready(Some(Ok(data))) => {
                self.waiting = None;
                if self.is_grpc {
                    self.permit.iter_mut().for_each(Permit::proven);
                }
                self.lent = data.len();
                self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
                Poll::Ready(Ok(Some(Frame::data(data))))
            }
            Poll::Ready(Some(Err(e))) => Poll::Ready(Err(cut_short(e))),
            Poll::Ready(None) => Poll::Ready(match self.wire.trailers() {
                Some((trailers, is_cut)) => self.trailers(trailers, is_cut),
                None => Ok(None),
            }),
            Poll::Pending => self.poll_patience(cx),
        }
    }

    fn trailers(&mut self, mut trailers: HeaderMap, is_cut: bool) -> Result<Option<Frame<Bytes>>, BodyError> {
        bounds::trailers(&mut trailers, is_cut)
            .map_err(|e| BodyError::Malformed(http1::body::BodyError::Trailers(e)))?;
        if self.is_grpc {
            let status = trailers.get(GRPC_STATUS).map(Value::from);
            if let (Some(permit), Some(status)) = (&self.permit, status) {
                permit.heard_grpc(status);
            }
            self.outcome = call_outcome(status, self.deadline).unwrap_or(Outcome::Failure);
        }
        Ok((!trailers.is_empty()).then(|| Frame::trailers(trailers)))
    }

    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Frame<Bytes>>, BodyError>> {
        if let Some(place) = &self.place {
            place.link().acknowledge();
        }
        let since = *self.waiting.get_or_insert_with(Instant::now);
        if let Some(deadline) = self.deadline.filter(|deadline| deadline.at < since + self.patience) {
            ready!(self.timer.poll(cx, deadline.at));
            // How long a client waits says nothing of the instance.
            self.outcome = Outcome::Cancelled;
            let trailers = overdue();
            if let (Some(permit), Some(status)) = (&self.permit, trailers.get(GRPC_STATUS)) {
                permit.heard_grpc(status.into());
            }
            return Poll::Ready(Ok(Some(Frame::trailers(trailers))));
        }
        self.timer.poll(cx, since + self.patience).map(|()| Err(BodyError::TooSlow))
    }
}

/// How a call ends whose time is over.
fn overdue() -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert(GRPC_STATUS, HeaderValue::from_static("4")); // DEADLINE_EXCEEDED
    trailers.insert(GRPC_MESSAGE, HeaderValue::from_static("no more of the answer within `grpc-timeout`"));
    trailers
}

fn cut_short(error: Ended) -> BodyError {
    BodyError::CutShort(Some(error.into_io()))
}

impl Duplex for Answer {
    fn poll_request(mut self: Pin<&mut Self>, cx: &mut Context<'_>) {
        self.poll_upload(cx);
    }
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if this.place.is_none() {
            return Poll::Ready(None);
        }
        Poll::Ready(match ready!(this.poll_next(cx)) {
            Ok(Some(frame)) => {
                // The place is free with the last byte, not when somebody asks for more.
                if frame.is_trailers() || this.wire.is_taken() {
                    this.end(this.outcome);
                }
                Some(Ok(frame))
            }
            Ok(None) => {
                this.end(this.outcome);
                None
            }
            Err(e) => {
                this.end(if matches!(e, BodyError::TooSlow) { Outcome::Timeout } else { Outcome::Failure });
                Some(Err(e))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.place.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_ends_with_its_clients_time_says_nothing_of_the_instance() {
        let limit = Duration::from_secs(100);
        let left = |share: u32| Some(Deadline { at: Instant::now() + limit / 100 * share, limit });
        for (status, deadline, want) in [
            ("4", left(0), Some(Outcome::Cancelled)),
            ("4", left(20), Some(Outcome::Cancelled)),
            ("4", left(90), Some(Outcome::Failure)),
            ("4", None, Some(Outcome::Failure)),
            ("14", left(0), Some(Outcome::Failure)),
            ("0", left(0), Some(Outcome::Success)),
        ] {
            let told = Value::of(status.as_bytes());
            assert_eq!(call_outcome(told, deadline), want, "{status} {deadline:?}");
        }
        assert_eq!(call_outcome(None, left(0)), None);
    }
}
