//! What the system is told of the sockets that listen and of those that they accept.

use std::{io, net::SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

use crate::wire::socket::acknowledge;

/// Connections that the system may hold for a listener until it accepts them.
const BACKLOG: i32 = 4096;

/// One socket for each of `workers` that all listen at `address`: the system spreads connections over them. With `tls`, who
/// accepts has more to hear before it can answer.
///
/// # Errors
/// The address is in use, or not ours.
pub fn bind(address: SocketAddr, workers: usize, tls: bool) -> io::Result<Vec<std::net::TcpListener>> {
    // Sockets that share a port share it with any other program of this user: ask without sharing first.
    let probe = socket(address, false)?;
    let address = probe.local_addr()?.as_socket().unwrap_or(address);
    drop(probe);
    (0..workers.max(1))
        .map(|_| {
            let socket = socket(address, true)?;
            socket.listen(BACKLOG)?;
            if !tls {
                // A request is acknowledged with its answer, which is a packet less.
                acknowledge(&socket, false);
            }
            Ok(socket.into())
        })
        .collect()
}

fn socket(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)?;
    // Small writes leave at once. Linux hands it down to the connections, which need not be told one by one.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// From now on the system answers no request for a new connection at this listener. Who asks does so again a second
/// later, and is refused when the listener is closed by then: for that, unlike for a reset, clients try elsewhere.
#[cfg(target_os = "linux")]
pub(super) fn turn_away(listener: &TcpListener) -> io::Result<()> {
    use socket2::SockFilter;
    const FLAGS: u32 = 13; // where in the header of TCP they are (RFC 9293 §3.1)
    const SYN: u32 = 2;
    // Load that byte; where SYN is set, go on with the next line, else with the one after it.
    let filter = [
        SockFilter::new(0x30, 0, 0, FLAGS),
        SockFilter::new(0x45, 0, 1, SYN),
        SockFilter::new(0x06, 0, 0, 0),
        SockFilter::new(0x06, 0, 0, u32::MAX),
    ];
    socket2::SockRef::from(listener).attach_filter(&filter)
}

/// Other systems have no way to do so.
#[cfg(not(target_os = "linux"))]
pub(super) fn turn_away(_: &TcpListener) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use rustix::net::sockopt::tcp_quickack;
    use tokio::net::TcpStream;

    use super::*;

    async fn accepted(tls: bool) -> (TcpStream, TcpStream) {
        let bound = bind("127.0.0.1:0".parse().unwrap(), 2, tls).unwrap();
        let address = bound[0].local_addr().unwrap();
        let listeners: Vec<_> = bound.into_iter().map(|one| TcpListener::from_std(one).unwrap()).collect();
        let client = TcpStream::connect(address).await.unwrap();
        let (accepted, _) = tokio::select! {
            accepted = listeners[0].accept() => accepted.unwrap(),
            accepted = listeners[1].accept() => accepted.unwrap(),
        };
        (accepted, client)
    }

    #[tokio::test]
    async fn connections_send_small_writes_at_once_without_being_told() {
        let (accepted, client) = accepted(false).await;
        assert!(accepted.nodelay().unwrap());
        assert!(!client.nodelay().unwrap(), "which is not how it is of itself");
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn requests_are_acknowledged_with_their_answers_and_handshakes_at_once() {
        assert!(!tcp_quickack(accepted(false).await.0).unwrap());
        assert!(tcp_quickack(accepted(true).await.0).unwrap(), "which is how it is of itself");
    }
}
