//! What lives of a service beside its members: the round-robin cursor and what is counted of it.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use crate::telemetry::cells::ServiceCells;

/// The live side of a service.
#[derive(Debug)]
pub struct Service {
    /// Requests under way and their durations.
    pub cells: Arc<ServiceCells>,
    cursor: Cursor,
}

/// The one counter that all workers write: on a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Cursor(AtomicU64);

impl Service {
    /// A service whose turn begins with its first member.
    #[must_use]
    pub fn new(cells: Arc<ServiceCells>) -> Self {
        Self { cells, cursor: Cursor::default() }
    }

    /// The number of this turn; the next caller, on whichever worker, gets the next one.
    #[must_use]
    pub fn turn(&self) -> u64 {
        self.cursor.0.fetch_add(1, Relaxed)
    }
}
