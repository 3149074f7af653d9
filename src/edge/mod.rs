//! Talks to clients: accepts connections, reads requests and writes answers. Knows no route and no service.

mod atomic;
pub mod certs;
pub mod crowd;
#[cfg(test)]
mod crowd_tests;
mod downstream;
mod flood;
#[cfg(test)]
mod hpack_peers;
pub mod http1;
mod http2;
pub mod listener;
mod pace;
pub mod proxy_protocol;
mod received;
mod request;
pub mod sockets;
mod stream;
mod streams;
mod tls;
mod tunnel;

use std::{cell::Cell, pin::Pin};

use tokio::sync::Notify;

/// What all connections of one worker share: whether they should come to an end.
#[derive(Debug, Default)]
pub struct Phase {
    leaving: Cell<bool>,
    left: Notify,
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
        self.left.notify_waiters();
    }

    /// Waits until answers should tell clients to go elsewhere.
    pub async fn left(&self) {
        let left = self.left.notified();
        if !self.leaving.get() {
            left.await;
        }
    }
}

/// A future in memory of its own, written where it lies: of one that is made before there is a place for it, all is moved
/// there, and that of a request is 4 KiB.
fn placed<F: Future>(make: impl FnOnce() -> F) -> Pin<Box<F>> {
    let place = Box::new_uninit();
    Box::into_pin(Box::write(place, make()))
}
