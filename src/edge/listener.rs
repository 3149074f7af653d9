//! Accepts connections on one worker and owns them until they end. No HTTP here.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    future::poll_fn,
    io,
    net::SocketAddr,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::Poll,
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::AbortHandle,
    time::sleep,
};

use super::{certs::Certificates, http1::Server, proxy_protocol, tls};
use crate::{proxy::Client, telemetry::cells::Gauge, wire::Io};

/// Connections that the system may hold for a listener until it accepts them.
const BACKLOG: i32 = 4096;
/// How long a listener waits where nothing tells it when it can go on: out of descriptors, at the limit.
const PAUSE: Duration = Duration::from_millis(20);

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
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Client connections in the whole program, over all workers and listeners.
#[derive(Debug, Default)]
pub struct Crowd(AtomicUsize);

/// A connection, as its owner sees it.
struct Open {
    /// No request is under way.
    idle: Rc<Cell<bool>>,
    task: AbortHandle,
}

/// What a listener's connections are counted in, and what secures them.
#[derive(Clone)]
pub struct Entrance {
    /// Counts them.
    pub gauge: Arc<Gauge>,
    /// `None`: nothing does.
    pub tls: Option<Arc<Certificates>>,
}

/// The connections of one worker.
pub struct Connections {
    server: Server,
    crowd: Arc<Crowd>,
    worker: usize,
    open: RefCell<HashMap<u64, Open>>,
    next: Cell<u64>,
    emptied: Notify,
}

impl Connections {
    /// None yet.
    #[must_use]
    pub fn new(server: Server, crowd: Arc<Crowd>, worker: usize) -> Rc<Self> {
        Rc::new(Self { server, crowd, worker, open: RefCell::default(), next: Cell::new(0), emptied: Notify::new() })
    }

    /// Accepts until the future is dropped.
    pub async fn accept(self: &Rc<Self>, listener: &TcpListener, entrance: &Entrance) {
        loop {
            let limit = self.server.proxy.world().config.http.max_connections;
            if self.crowd.0.load(Relaxed) >= limit {
                sleep(PAUSE).await;
                continue;
            }
            match listener.accept().await {
                Ok((stream, peer)) => self.begin(stream, peer, entrance),
                Err(e) if is_of_one_connection(&e) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connections");
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// Takes those that the system has accepted already: closing the socket would reset them.
    pub async fn accept_rest(self: &Rc<Self>, listener: TcpListener, entrance: &Entrance) {
        poll_fn(|cx| {
            while let Poll::Ready(Ok((stream, peer))) = listener.poll_accept(cx) {
                self.begin(stream, peer, entrance);
            }
            Poll::Ready(())
        })
        .await;
        // What they have sent is read meanwhile: whoever waits for an answer is not idle when the idle ones are ended.
        sleep(PAUSE).await;
    }

    fn begin(self: &Rc<Self>, mut stream: TcpStream, peer: SocketAddr, entrance: &Entrance) {
        let id = self.next.get();
        self.next.set(id + 1);
        let idle = Rc::new(Cell::new(true));
        let place = Place::take(self.clone(), entrance.gauge.clone(), id);
        let task = tokio::task::spawn_local({
            let (idle, certificates) = (idle.clone(), entrance.tls.clone());
            async move {
                let place = place;
                let Some(peer) = place.of.arrive(&mut stream, peer, certificates.is_some()).await else { return };
                let server = &place.of.server;
                if let Some(certificates) = certificates {
                    let client = Client::new(peer, "https");
                    // In a box: connections without TLS need not have room for it.
                    Box::pin(tls::serve(server, &certificates, stream, client, &idle)).await;
                } else if let Ok(io) = Io::new(stream) {
                    server.serve(io, Client::new(peer, "http"), &idle).await;
                }
            }
        });
        self.open.borrow_mut().insert(id, Open { idle, task: task.abort_handle() });
    }

    /// For whom a peer connects, where it has to say so; `None`: it does not.
    async fn arrive(&self, stream: &mut TcpStream, peer: SocketAddr, secure: bool) -> Option<SocketAddr> {
        let world = self.server.proxy.world();
        let config = world.config.clone();
        let of_https = || config.https.as_ref().is_some_and(|https| https.proxy_protocol);
        if !(if secure { of_https() } else { config.http.proxy_protocol }) {
            return Some(peer);
        }
        drop(world); // who has not said anything yet holds no snapshot
        let rules = &config.http;
        let arrived = proxy_protocol::arrive(stream, peer, &rules.trusted_proxies, rules.header_timeout).await;
        arrived.inspect_err(|error| tracing::debug!(%peer, %error, "a connection is not served")).ok()
    }

    /// Ends the connections on which no request is under way; the others end with their answers.
    pub fn leave(&self) {
        self.server.phase.leave();
        for open in self.open.borrow().values() {
            if open.idle.get() {
                open.task.abort();
            }
        }
    }

    /// Ends all at once.
    pub fn end(&self) {
        for open in self.open.borrow().values() {
            open.task.abort();
        }
    }

    /// Waits until there are none.
    pub async fn gone(&self) {
        while !self.open.borrow().is_empty() {
            self.emptied.notified().await;
        }
    }
}

/// Errors that speak of the connection that was to be accepted, not of the listener.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// A connection's place among the others, given back however it ends.
struct Place {
    of: Rc<Connections>,
    gauge: Arc<Gauge>,
    id: u64,
}

impl Place {
    fn take(of: Rc<Connections>, gauge: Arc<Gauge>, id: u64) -> Self {
        of.crowd.0.fetch_add(1, Relaxed);
        gauge.up(of.worker);
        Self { of, gauge, id }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.of.crowd.0.fetch_sub(1, Relaxed);
        self.gauge.down(self.of.worker);
        let mut open = self.of.open.borrow_mut();
        open.remove(&self.id);
        if open.is_empty() {
            self.of.emptied.notify_one();
        }
    }
}
