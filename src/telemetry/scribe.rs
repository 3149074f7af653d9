//! One worker's hand in what is told of each request: whether anybody wants it, and where it goes.

use std::{rc::Rc, sync::Arc, time::Duration};

use http::StatusCode;
use tokio::time::Instant;

use super::{
    access::{AccessLog, Format},
    journey::Journey,
    otlp::{Told, Tracer},
};

/// Tells of the requests of one worker.
#[derive(Debug)]
pub struct Scribe {
    log: Arc<AccessLog>,
    tracer: Option<Arc<Tracer>>,
    worker: usize,
}

impl Scribe {
    /// Of this worker's.
    #[must_use]
    pub fn new(log: Arc<AccessLog>, tracer: Option<Arc<Tracer>>, worker: usize) -> Rc<Self> {
        Rc::new(Self { log, tracer, worker })
    }

    /// Who decides which traces are recorded; `None`: none are.
    #[inline]
    #[must_use]
    pub fn tracer(&self) -> Option<&Tracer> {
        self.tracer.as_deref()
    }

    /// How the line of a request that comes now is to be written; `None`: not at all.
    #[inline]
    #[must_use]
    pub fn format(&self) -> Option<Format> {
        self.log.format()
    }

    /// Tells of a request that has ended, after so long.
    pub fn tell(&self, journey: Rc<Journey>, status: StatusCode, ended: Instant, took: Duration) {
        self.log.add(self.worker, &journey, status.as_u16(), ended, took);
        if let Some(tracer) = self.tracer().filter(|_| journey.traced.is_some()) {
            // Whoever took part in it has let go of it by now.
            if let Some(mut journey) = Rc::into_inner(journey) {
                journey.line = None; // its memory is this thread's
                tracer.take(Box::new(Told::new(journey, status, ended)));
            }
        }
    }
}
