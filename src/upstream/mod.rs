//! From "a request for service S" to "a response or why not". Knows no routes, no clients and no configuration files.
//! `call` is where to begin to read: pick, admit, send, judge, again or done.

use std::cell::RefCell;

pub mod aside;
mod atomic;
pub mod balance;
pub mod breaker;
#[cfg(test)]
mod breaker_tests;
pub mod call;
pub mod circuit;
#[cfg(test)]
mod circuit_tests;
pub mod cluster;
pub mod deadline;
pub mod dial;
pub mod endpoint;
mod exchange;
mod http2;
pub mod permit;
pub mod policy;
pub mod pool;
mod progress;
mod replay;
pub mod retry;
pub mod service;
pub mod tls;
mod tries;

pub use exchange::ExchangeError;

use crate::model::random::Draws;

/// What one worker has of its own towards upstream.
#[derive(Debug)]
pub struct Local {
    /// Which worker this is, counted from 0.
    pub worker: usize,
    /// Its idle connections.
    pub pool: pool::Pool,
    /// Its HTTP/2 connections.
    http2: http2::Sessions,
    draws: RefCell<Draws>,
}

impl Local {
    /// A worker without connections.
    #[must_use]
    pub fn new(worker: usize) -> Self {
        Self { worker, pool: pool::Pool::default(), http2: http2::Sessions::default(), draws: RefCell::default() }
    }

    /// A number by chance.
    #[must_use]
    pub fn draw(&self) -> u64 {
        self.draws.borrow_mut().next()
    }

    /// Closes what nobody should use any more.
    pub fn tidy(&self, now: tokio::time::Instant) {
        self.pool.tidy(now);
        self.http2.tidy(now);
    }

    /// Closes idle connections to instances that left, at once.
    pub fn forget_unlisted(&self) {
        self.pool.forget_unlisted();
        self.http2.forget_unlisted();
    }
}
