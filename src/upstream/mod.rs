//! From "a request for service S" to "a response or why not". Knows no routes, no clients and no configuration files.
//! `call` is where to begin to read: pick, admit, send, judge, again or done.

pub mod aside;
mod balance;
pub mod call;
pub mod cluster;
pub mod endpoint;
mod exchange;
pub mod policy;
pub mod pool;
pub mod service;

pub use exchange::ExchangeError;

/// What one worker has of its own towards upstream.
#[derive(Debug)]
pub struct Local {
    /// Which worker this is, counted from 0.
    pub worker: usize,
    /// Its idle connections.
    pub pool: pool::Pool,
}

impl Local {
    /// A worker without connections.
    #[must_use]
    pub fn new(worker: usize) -> Self {
        Self { worker, pool: pool::Pool::default() }
    }
}
