//! What is counted for an instance's circuit: its state, and how its tries of the last minute went.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use super::window::{Counts, WindowCells};

/// One circuit's state for `/metrics`, and the recent tries of its instance.
#[derive(Debug)]
pub struct CircuitCells {
    state: AtomicU64,
    tries: WindowCells,
}

impl CircuitCells {
    pub(super) fn new(workers: usize) -> Self {
        Self { state: AtomicU64::new(0), tries: WindowCells::new(workers) }
    }

    /// Shows a state: 0 closed, 1 half-open, 2 open.
    pub fn show(&self, state: u64) {
        self.state.store(state, Relaxed);
    }

    pub(super) fn shown(&self) -> u64 {
        self.state.load(Relaxed)
    }

    /// Counts a try that ended so long after the circuit came to be.
    #[inline]
    pub fn count(&self, worker: usize, at: Duration, failed: bool) {
        self.tries.count(worker, at, Counts { requests: 1, failures: failed.into() });
    }

    /// The tries within the last `window` before `at`, but of those the ones after `since` alone.
    pub fn recent(&self, at: Duration, window: Duration, since: Duration) -> Counts {
        self.tries.recent(at, window, since)
    }
}
