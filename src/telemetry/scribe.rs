//! One worker's hand in what is told of each request: whether anybody wants it, and where it goes.

use std::{rc::Rc, sync::Arc};

use http::StatusCode;
use tokio::time::Instant;

use super::{access::AccessLog, journey::Journey};

/// Tells of the requests of one worker.
#[derive(Debug)]
pub struct Scribe {
    log: Arc<AccessLog>,
    worker: usize,
}

impl Scribe {
    /// Of this worker's.
    #[must_use]
    pub fn new(log: Arc<AccessLog>, worker: usize) -> Rc<Self> {
        Rc::new(Self { log, worker })
    }

    /// Whether anybody wants to know of a request.
    #[inline]
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.log.is_on()
    }

    /// Tells of a request that has ended.
    pub fn tell(&self, journey: &Journey, status: StatusCode, ended: Instant) {
        let took = ended.saturating_duration_since(journey.began);
        self.log.add(self.worker, journey, status.as_u16(), took);
    }
}
