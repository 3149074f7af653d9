//! A worker's connections to instances: idle ones kept for the next request, new ones dialed.

use std::{
    cell::RefCell,
    collections::{HashMap, VecDeque},
    io,
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use bytes::BytesMut;
use ipnet::IpNet;
use tokio::{
    net::{TcpStream, lookup_host},
    time::{Instant, timeout},
};

use super::{endpoint::Endpoint, policy::PoolRules};
use crate::{
    model::instance::{Address, AddressError},
    wire::{Io, Timer},
};

/// One connection to an instance.
#[derive(Debug)]
pub struct Connection {
    /// The socket.
    pub io: Io,
    /// What was read of an answer and not yet used.
    pub input: BytesMut,
    /// For all waits on this connection.
    pub timer: Timer,
    /// Whether a request was answered on it before.
    pub reused: bool,
}

/// A worker's idle connections, by the serial of their endpoint.
#[derive(Debug, Default)]
pub struct Pool(RefCell<HashMap<u64, Shelf>>);

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
        let mut shelves = self.0.borrow_mut();
        let shelf = shelves.get_mut(&endpoint.serial)?;
        let limit = fresh.unwrap_or(shelf.idle_timeout).min(shelf.idle_timeout);
        while let Some((connection, _)) = shelf.idle.pop_back_if(|(_, since)| now.duration_since(*since) < limit) {
            if connection.io.is_quiet() {
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
        connection.reused = true;
        let mut shelves = self.0.borrow_mut();
        let shelf = shelves.entry(endpoint.serial).or_insert_with(|| Shelf {
            endpoint: endpoint.clone(),
            idle_timeout: rules.idle_timeout,
            idle: VecDeque::new(),
        });
        shelf.idle_timeout = rules.idle_timeout;
        if shelf.idle.len() >= rules.max_idle {
            shelf.idle.pop_front();
        }
        shelf.idle.push_back((connection, Instant::now()));
    }

    /// Closes what nobody should use any more: connections to instances that left, too old ones, and those that the
    /// other side has ended.
    pub fn tidy(&self, now: Instant) {
        self.0.borrow_mut().retain(|_, shelf| {
            shelf.idle.retain(|(connection, since)| {
                shelf.endpoint.is_listed() && now.duration_since(*since) < shelf.idle_timeout && connection.io.is_quiet()
            });
            !shelf.idle.is_empty()
        });
    }

    /// Closes idle connections to instances that left, at once.
    pub fn forget_unlisted(&self) {
        self.0.borrow_mut().retain(|_, shelf| shelf.endpoint.is_listed());
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// It was refused, or could not be reached.
    #[error("cannot connect to `{address}`")]
    Connect {
        /// Where to.
        address: Address,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The name has no address that may be used.
    #[error("cannot use `{address}`")]
    Address {
        /// The name.
        address: Address,
        /// What is wrong with what it resolves to.
        #[source]
        source: AddressError,
    },
    /// It took too long.
    #[error("no connection to `{address}` within {limit:?}")]
    TimedOut {
        /// Where to.
        address: Address,
        /// The limit.
        limit: Duration,
    },
}

/// Opens a new connection. A name is resolved now, and its addresses are tried in turn, except those in `deny`.
///
/// # Errors
/// [`DialError`], after `limit` at the latest.
pub async fn dial(address: &Address, limit: Duration, deny: &[IpNet]) -> Result<Connection, DialError> {
    let connect = async {
        match address {
            Address::Ip(ip) => connect(*ip).await,
            Address::Name(host, port) => {
                let mut last = io::Error::from(io::ErrorKind::NotFound);
                for ip in lookup_host((&**host, *port)).await? {
                    if let Some(denied) = deny.iter().any(|net| net.contains(&ip.ip())).then_some(ip.ip()) {
                        last = io::Error::other(AddressError::Denied(denied));
                        continue;
                    }
                    match connect(ip).await {
                        Ok(connection) => return Ok(connection),
                        Err(e) => last = e,
                    }
                }
                Err(last)
            }
        }
    };
    match timeout(limit, connect).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(source)) => Err(refused(address, source)),
        Err(_) => Err(DialError::TimedOut { address: address.clone(), limit }),
    }
}

async fn connect(to: SocketAddr) -> io::Result<Connection> {
    let io = Io::new(TcpStream::connect(to).await?)?;
    Ok(Connection { io, input: BytesMut::new(), timer: Timer::default(), reused: false })
}

fn refused(address: &Address, source: io::Error) -> DialError {
    let address = address.clone();
    match source.downcast::<AddressError>() {
        Ok(source) => DialError::Address { address, source },
        Err(source) => DialError::Connect { address, source },
    }
}
