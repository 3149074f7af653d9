//! What the system is told of the sockets that listen and of those that they accept.

use std::{io, net::SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    io::Interest,
    net::{TcpListener, TcpStream},
};

/// Connections that the system may hold for a listener until it accepts them.
const BACKLOG: i32 = 4096;

/// One socket for each of `workers` that all listen at `address`: the system spreads connections over them.
///
/// # Errors
/// The address is in use, or not ours.
pub fn bind(address: SocketAddr, workers: usize) -> io::Result<Vec<std::net::TcpListener>> {
    // Sockets that share a port share it with any other program of this user: ask without sharing first.
    let probe = socket(address, false)?;
    let address = probe.local_addr()?.as_socket().unwrap_or(address);
    drop(probe);
    (0..workers.max(1))
        .map(|_| {
            let socket = socket(address, true)?;
            socket.listen(BACKLOG)?;
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

/// Has the first read wait for the event loop's word. Of a connection that it has just accepted, tokio takes for granted that something
/// has come, but most requests come a moment after, and to look in vain is a call into the system.
pub(super) fn expect_nothing(stream: &TcpStream) {
    let _ = stream.try_io(Interest::READABLE, || io::Result::<()>::Err(io::ErrorKind::WouldBlock.into()));
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
    use std::mem::MaybeUninit;

    use super::*;

    #[tokio::test]
    async fn connections_send_small_writes_at_once_without_being_told() {
        let bound = bind("127.0.0.1:0".parse().unwrap(), 2).unwrap();
        let address = bound[0].local_addr().unwrap();
        let listeners: Vec<_> = bound.into_iter().map(|one| TcpListener::from_std(one).unwrap()).collect();
        let client = TcpStream::connect(address).await.unwrap();
        let (accepted, _) = tokio::select! {
            accepted = listeners[0].accept() => accepted.unwrap(),
            accepted = listeners[1].accept() => accepted.unwrap(),
        };
        assert!(accepted.nodelay().unwrap());
        assert!(!client.nodelay().unwrap(), "which is not how it is of itself");
    }

    #[tokio::test]
    async fn what_has_come_is_looked_for_when_the_event_loop_says_so() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        client.try_write(b"early").unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        // The system has it by now: it needs no event loop to pass it on over loopback.
        let has_come = |stream: &TcpStream| socket2::SockRef::from(stream).peek(&mut [MaybeUninit::uninit()]).is_ok();
        assert!(has_come(&accepted));
        expect_nothing(&accepted);
        let looked = accepted.try_read(&mut [0; 8]);
        assert!(
            looked.is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock),
            "no call into the system before its word"
        );
        accepted.readable().await.unwrap();
        assert_eq!(accepted.try_read(&mut [0; 8]).unwrap(), 5, "what came before is told too");
    }
}
