//! Makes new connections to instances: a socket, and TLS around it where the service wants it.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::BytesMut;
use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};

use super::{pool::Connection, tls::Tls};
use crate::{
    model::{
        barred::Barred,
        instance::{Address, AddressError},
    },
    wire::{Io, Timer},
};

/// Why there is no connection. Several requests may have waited for one: each gets its copy.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DialError {
    /// It was refused, or could not be reached.
    #[error("cannot connect to `{address}`")]
    Connect {
        /// Where to.
        address: Address,
        /// What the system says.
        #[source]
        source: Arc<io::Error>,
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
    /// It was reached, but is not who it should be, or speaks no TLS or no HTTP/2.
    #[error("no secure connection to `{address}`")]
    Tls {
        /// Where to.
        address: Address,
        /// What the handshake says.
        #[source]
        source: Arc<io::Error>,
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

/// Opens a new connection, TLS included. A name is resolved now, and its addresses are tried in turn, except those that
/// are barred.
///
/// # Errors
/// [`DialError`], after `limit` at the latest.
pub async fn dial(
    address: &Address,
    limit: Duration,
    barred: &Barred,
    tls: Option<&Tls>,
) -> Result<Connection, DialError> {
    let dialed = async {
        let stream = connect(address, barred).await.map_err(|source| refused(address, source))?;
        // Small writes leave at once.
        stream.set_nodelay(true).map_err(|source| refused(address, source))?;
        let io = match tls {
            None => Io::new(stream),
            Some(tls) => {
                let shaken = tls.shake(stream, address).await;
                let shaken = shaken.map_err(|e| DialError::Tls { address: address.clone(), source: Arc::new(e) })?;
                Io::tls(shaken.into())
            }
        };
        Ok(Connection { io, input: BytesMut::new(), timer: Timer::default() })
    };
    match timeout(limit, dialed).await {
        Ok(dialed) => dialed,
        Err(_) => Err(DialError::TimedOut { address: address.clone(), limit }),
    }
}

async fn connect(address: &Address, barred: &Barred) -> io::Result<TcpStream> {
    match address {
        Address::Ip(ip) => first_of(std::iter::once(*ip), barred).await,
        Address::Name(host, port) => first_of(lookup_host((&**host, *port)).await?, barred).await,
    }
}

/// The first that can be reached.
async fn first_of(addresses: impl Iterator<Item = SocketAddr>, barred: &Barred) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for ip in addresses {
        if let Err(why) = barred.check(ip) {
            last = io::Error::other(why);
            continue;
        }
        match TcpStream::connect(ip).await {
            Ok(connection) => return Ok(connection),
            Err(e) => last = e,
        }
    }
    Err(last)
}

fn refused(address: &Address, source: io::Error) -> DialError {
    let address = address.clone();
    match source.downcast::<AddressError>() {
        Ok(source) => DialError::Address { address, source },
        Err(source) => DialError::Connect { address, source: Arc::new(source) },
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
        let networks = vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
        let barred = Barred { networks, own: Vec::new() };
        for name in ["localhost", "127.0.0.1", "::ffff:127.0.0.1"] {
            let address = Address::Name(name.into(), port);
            let dialed = dial(&address, Duration::from_secs(5), &barred, None).await;
            let denied = matches!(&dialed, Err(DialError::Address { source: AddressError::Denied(_), .. }));
            assert!(denied, "{name}: {dialed:?}");
            assert!(
                dial(&Address::Name("127.0.0.1".into(), port), Duration::from_secs(5), &Barred::default(), None)
                    .await
                    .is_ok()
            );
        }
    }
}
