//! How many instances of each service may be picked, as of the moment when somebody asks: the time of an open circuit ends by
//! itself, and nothing tells of it. Only services that have such a circuit are looked at.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use prometheus::IntGaugeVec;
use tokio::time::Instant;

use crate::model::name::ServiceName;

/// How a service's instances stand that its health and its operators let in.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// Their circuit is closed.
    pub closed: usize,
    /// Their circuit waits for a request under way to decide.
    pub half_open: usize,
    /// Their circuit is open until then; from then on a request may be sent to them.
    pub open: Vec<Instant>,
}

/// Of all services.
#[derive(Debug)]
pub struct Standings {
    /// Those with an open circuit.
    open: Mutex<HashMap<ServiceName, Standing>>,
    gauges: IntGaugeVec,
}

impl Standings {
    pub(super) fn new(gauges: IntGaugeVec) -> Self {
        Self { open: Mutex::default(), gauges }
    }

    pub(super) fn set(&self, service: &ServiceName, standing: Standing) {
        // Shown under the lock, so that an older one never comes after.
        let mut open = self.open();
        self.show(service, &standing, Instant::now());
        if standing.open.is_empty() {
            open.remove(service);
        } else {
            open.insert(service.clone(), standing);
        }
    }

    /// Shows those whose time is over since.
    pub(super) fn refresh(&self) {
        let now = Instant::now();
        for (service, standing) in &*self.open() {
            self.show(service, standing, now);
        }
    }

    fn show(&self, service: &ServiceName, standing: &Standing, now: Instant) {
        let due = standing.open.iter().filter(|until| **until <= now).count();
        let ejected = standing.half_open + standing.open.len() - due;
        for (state, n) in [("available", standing.closed + due), ("ejected", ejected)] {
            let gauge = self.gauges.with_label_values(&[service.as_str(), state]);
            gauge.set(i64::try_from(n).unwrap_or(i64::MAX));
        }
    }

    fn open(&self) -> MutexGuard<'_, HashMap<ServiceName, Standing>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
