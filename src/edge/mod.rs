//! Talks to clients: accepts connections, reads requests and writes answers. Knows no route and no service.

mod downstream;
pub mod http1;
pub mod listener;
mod tunnel;

use std::cell::Cell;

/// What all connections of one worker share: whether they should come to an end.
#[derive(Debug, Default)]
pub struct Phase {
    leaving: Cell<bool>,
}

impl Phase {
    /// True when answers should tell clients to go elsewhere with their next request.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        self.leaving.get()
    }

    /// From now on, answers end their connections.
    pub fn leave(&self) {
        self.leaving.set(true);
    }
}
