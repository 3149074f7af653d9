//! A worker's links to instances, with the idle connections that are kept for the next request. New ones are made by
//! `dial`.

use std::{
    cell::RefCell,
    collections::{HashMap, VecDeque},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use bytes::BytesMut;
use tokio::time::Instant;

use super::{endpoint::Endpoint, policy::PoolRules, service::Service};
use crate::wire::{Io, Timer, spare};

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

/// What one worker has of its own towards an endpoint: its hold on it, and idle connections. Requests share it without
/// touching what other workers touch.
#[derive(Debug)]
pub struct Link {
    /// The endpoint.
    pub endpoint: Arc<Endpoint>,
    /// The service that its requests are counted to.
    pub service: Arc<Service>,
    idle: RefCell<Idle>,
}

#[derive(Debug, Default)]
struct Idle {
    timeout: Duration,
    /// Oldest first.
    connections: VecDeque<(Connection, Instant)>,
}

impl Link {
    /// One without connections.
    #[must_use]
    pub fn new(endpoint: Arc<Endpoint>, service: Arc<Service>) -> Self {
        Self { endpoint, service, idle: RefCell::default() }
    }

    /// An idle connection that shows no sign of an end; the one used last, for it is the likeliest to live. With
    /// `fresh`, only one that has been idle for less than that.
    pub fn take(&self, now: Instant, fresh: Option<Duration>) -> Option<Connection> {
        let Idle { timeout, connections } = &mut *self.idle.borrow_mut();
        let limit = fresh.unwrap_or(*timeout).min(*timeout);
        while let Some((connection, _)) = connections.pop_back_if(|(_, since)| now.duration_since(*since) < limit) {
            let quiet = if fresh.is_some() { connection.io.is_surely_quiet() } else { connection.io.is_quiet() };
            if quiet {
                return Some(connection);
            }
        }
        None
    }

    /// Keeps a connection whose answer has ended now, as far as the rules let it.
    pub fn keep(&self, mut connection: Connection, rules: &PoolRules, now: Instant) {
        if rules.max_idle == 0 || !self.endpoint.is_listed() || !connection.input.is_empty() {
            return;
        }
        // An idle connection holds no memory but its own.
        spare::give_back(&mut connection.input);
        let Idle { timeout, connections } = &mut *self.idle.borrow_mut();
        *timeout = rules.idle_timeout;
        if connections.len() >= rules.max_idle {
            connections.pop_front();
        }
        connections.push_back((connection, now));
    }

    /// Closes what nobody should use any more; true where something is left, or under way.
    fn tidy(self: &Rc<Self>, now: Instant) -> bool {
        let listed = self.forget_unlisted();
        let Idle { timeout, connections } = &mut *self.idle.borrow_mut();
        connections.retain(|(connection, since)| now.duration_since(*since) < *timeout && connection.io.is_quiet());
        listed && (!connections.is_empty() || Rc::strong_count(self) > 1)
    }

    /// Closes its idle connections where the endpoint has left, for a request under way may hold the link for long;
    /// true where it has not.
    fn forget_unlisted(&self) -> bool {
        let listed = self.endpoint.is_listed();
        if !listed {
            self.idle.borrow_mut().connections.clear();
        }
        listed
    }
}

/// A worker's links, by the serial of their endpoint.
#[derive(Debug, Default)]
pub struct Pool(RefCell<HashMap<u64, Rc<Link>, foldhash::fast::RandomState>>);

impl Pool {
    /// The link to an endpoint, whose requests count to this service.
    #[inline]
    #[must_use]
    pub fn link(&self, endpoint: &Arc<Endpoint>, service: &Arc<Service>) -> Rc<Link> {
        let mut links = self.0.borrow_mut();
        match links.get(&endpoint.serial) {
            Some(link) if Arc::ptr_eq(&link.service, service) => link.clone(),
            _ => {
                let link = Rc::new(Link::new(endpoint.clone(), service.clone()));
                // One that has left keeps nothing, and nobody would forget it.
                if endpoint.is_listed() {
                    links.insert(endpoint.serial, link.clone());
                }
                link
            }
        }
    }

    /// Closes what nobody should use any more: connections to instances that left, too old ones, and those that the
    /// other side has ended.
    pub fn tidy(&self, now: Instant) {
        self.0.borrow_mut().retain(|_, link| link.tidy(now));
    }

    /// Closes idle connections to instances that left, at once.
    pub fn forget_unlisted(&self) {
        self.0.borrow_mut().retain(|_, link| link.forget_unlisted());
    }
}
