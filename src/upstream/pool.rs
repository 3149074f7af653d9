//! A worker's idle connections to instances, kept for the next request. New ones are made by `dial`.

use std::{
    cell::RefCell,
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::BytesMut;
use tokio::time::Instant;

use super::{endpoint::Endpoint, policy::PoolRules};
use crate::wire::{Io, Timer};

/// One connection to an instance.
#[derive(Debug)]
pub struct Connection {
    /// The socket.
    pub io: Io,
    /// What was read of an answer and not yet used.
    pub input: BytesMut,
    /// For all waits on this connection.
    pub timer: Timer,
}

/// A worker's idle connections, by the serial of their endpoint.
#[derive(Debug, Default)]
pub struct Pool(RefCell<HashMap<u64, Shelf, foldhash::fast::RandomState>>);

#[derive(Debug)]
struct Shelf {
    endpoint: Arc<Endpoint>,
    idle_timeout: Duration,
    /// Oldest first.
    idle: VecDeque<(Connection, Instant)>,
}

impl Pool {
    /// An idle connection to `endpoint` that shows no sign of an end; the one used last, for it is the likeliest to
    /// live. With `fresh`, only one that has been idle for less than that.
    pub fn take(&self, endpoint: &Endpoint, now: Instant, fresh: Option<Duration>) -> Option<Connection> {
        let mut kept = self.0.borrow_mut();
        let here = kept.get_mut(&endpoint.serial)?;
        let limit = fresh.unwrap_or(here.idle_timeout).min(here.idle_timeout);
        while let Some((connection, _)) = here.idle.pop_back_if(|(_, since)| now.duration_since(*since) < limit) {
            let quiet = if fresh.is_some() { connection.io.is_surely_quiet() } else { connection.io.is_quiet() };
            if quiet {
                return Some(connection);
            }
        }
        None
    }

    /// Keeps a connection whose answer has ended, as far as the rules let it.
    pub fn keep(&self, endpoint: &Arc<Endpoint>, mut connection: Connection, rules: &PoolRules) {
        if rules.max_idle == 0 || !endpoint.is_listed() || !connection.input.is_empty() {
            return;
        }
        // An idle connection holds no memory but its own.
        connection.input = BytesMut::new();
        let mut kept = self.0.borrow_mut();
        let here = kept.entry(endpoint.serial).or_insert_with(|| Shelf {
            endpoint: endpoint.clone(),
            idle_timeout: rules.idle_timeout,
            idle: VecDeque::new(),
        });
        here.idle_timeout = rules.idle_timeout;
        if here.idle.len() >= rules.max_idle {
            here.idle.pop_front();
        }
        here.idle.push_back((connection, Instant::now()));
    }

    /// Closes what nobody should use any more: connections to instances that left, too old ones, and those that the
    /// other side has ended.
    pub fn tidy(&self, now: Instant) {
        self.0.borrow_mut().retain(|_, shelf| {
            shelf.idle.retain(|(connection, since)| {
                shelf.endpoint.is_listed()
                    && now.duration_since(*since) < shelf.idle_timeout
                    && connection.io.is_quiet()
            });
            !shelf.idle.is_empty()
        });
    }

    /// Closes idle connections to instances that left, at once.
    pub fn forget_unlisted(&self) {
        self.0.borrow_mut().retain(|_, shelf| shelf.endpoint.is_listed());
    }
}
