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
                    // An IPv4 address in IPv6's clothes is reached all the same.
                    let reached = ip.ip().to_canonical();
                    if deny.iter().any(|net| net.contains(&reached)) {
                        last = io::Error::other(AddressError::Denied(reached));
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
    Ok(Connection { io, input: BytesMut::new(), timer: Timer::default() })
}

fn refused(address: &Address, source: io::Error) -> DialError {
    let address = address.clone();
    match source.downcast::<AddressError>() {
        Ok(source) => DialError::Address { address, source },
        Err(source) => DialError::Connect { address, source },
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_name_that_resolves_into_a_denied_network_is_not_dialed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let deny: Vec<IpNet> = vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
        for name in ["localhost", "127.0.0.1", "::ffff:127.0.0.1"] {
            let address = Address::Name(name.into(), port);
            let dialed = dial(&address, Duration::from_secs(5), &deny).await;
            let denied = matches!(&dialed, Err(DialError::Address { source: AddressError::Denied(_), .. }));
            assert!(denied, "{name}: {dialed:?}");
            assert!(dial(&Address::Name("127.0.0.1".into(), port), Duration::from_secs(5), &[]).await.is_ok());
        }
    }
}
