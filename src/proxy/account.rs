//! What one request counts for: opened when it came, settled after the last byte of its answer, or its abort.

use std::rc::Rc;

use http::{HeaderValue, Method, StatusCode, header};
use tokio::time::Instant;

use super::{
    Answer, date, reply,
    trail::{Trail, X_REQUEST_ID},
};
use crate::{
    body::Body,
    model::{Held, field::Usual, message::Response},
    telemetry::{
        cells::RouteCells,
        journey::{Ending, Journey},
        scribe::Scribe,
    },
    upstream::aside::Aside,
};

/// Counts its request when dropped.
#[derive(Debug)]
pub struct Account {
    cells: Held<RouteCells>,
    worker: usize,
    method: Method,
    started: Instant,
    status: Option<StatusCode>,
    request_id: Option<HeaderValue>,
    ended: Option<Instant>,
    /// What is told of it, where somebody wants to know.
    story: Option<Story>,
}

/// What is told of a request, and by whom.
#[derive(Debug)]
pub struct Story {
    /// Who tells.
    pub scribe: Rc<Scribe>,
    /// What.
    pub journey: Rc<Journey>,
    /// What passes beside the request: how much of its body came.
    pub aside: Rc<Aside>,
}

/// What a request counts as whose client went away before there was an answer: nginx's code for it.
pub(super) fn client_left() -> StatusCode {
    StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST)
}

static SET_DATE: Usual = Usual::of("date");

impl Account {
    /// A request that came at `started`.
    #[must_use]
    pub fn open(
        cells: Held<RouteCells>,
        worker: usize,
        method: Method,
        started: Instant,
        story: Option<Story>,
    ) -> Self {
        Self { cells, worker, method, started, status: None, request_id: None, ended: None, story }
    }

    /// The answer is decided; what remains is to write it.
    #[must_use]
    pub fn close(mut self, mut response: Response<Body>) -> Answer {
        self.status = Some(response.stands_for.unwrap_or(response.status));
        self.request_id = response.fields.get_owned(X_REQUEST_ID);
        // Source: RFC 9110 §6.6.1, also for answers of others that have none.
        if !response.fields.contains_key(header::DATE) {
            response.fields.append(&SET_DATE, date::now());
        }
        Answer { response, account: self }
    }

    /// The last byte is written, or never will be; gives the time.
    pub fn end(mut self) -> Instant {
        *self.ended.insert(Instant::now())
    }

    /// So many bytes more of the answer's body were sent.
    pub fn sent(&self, bytes: u64) {
        if let Some(Story { journey, .. }) = &self.story {
            journey.sent.set(journey.sent.get() + bytes);
        }
    }

    /// The body broke off before a byte of the answer was written: what to write instead.
    #[must_use]
    pub fn instead(&mut self) -> Response<Body> {
        let request_id = self.request_id.take().unwrap_or(HeaderValue::from_static("-"));
        let response = reply::broken(&Trail::of(request_id));
        self.status = Some(response.status);
        response
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let status = self.status.unwrap_or_else(client_left);
        let ended = self.ended.unwrap_or_else(Instant::now);
        let took = ended.saturating_duration_since(self.started);
        self.cells.count(self.worker, &self.method, status, took);
        if let Some(Story { scribe, journey, aside }) = self.story.take() {
            let received = aside.received();
            aside.forget(); // a connection that waits for its next request holds nothing of this one
            scribe.tell(journey, Ending { status, at: ended, took, received });
        }
    }
}
