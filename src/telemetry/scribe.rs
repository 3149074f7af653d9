//! One worker's hand in what is told of each request: whether anybody wants it, and where it goes.

use std::{rc::Rc, sync::Arc};

use super::{
    access::{AccessLog, Format},
    journey::{Ending, Journey},
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

    /// Tells of a request that has ended.
    pub fn tell(&self, journey: Rc<Journey>, ending: Ending) {
        self.log.add(self.worker, &journey, ending);
        if let Some(tracer) = self.tracer().filter(|_| journey.traced.is_some()) {
            // Whoever took part in it has let go of it by now.
            if let Some(Journey { traced: Some(traced), sent, .. }) = Rc::into_inner(journey) {
                tracer.take(Box::new(Told::new(traced, ending, sent.get())));
            }
        }
    }
}
