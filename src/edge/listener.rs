//! Accepts connections on one worker and owns them until they end. No HTTP here.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    io,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::Interest,
    net::{TcpListener, TcpStream},
    sync::{
        Notify,
        mpsc::{UnboundedReceiver, UnboundedSender},
    },
    task::AbortHandle,
    time::sleep,
};

use super::{
    certs::Certificates,
    crowd::{Crowd, Seat},
    http1::Server,
    placed, proxy_protocol,
    sockets::turn_away,
    tls,
};
use crate::{
    proxy::Client,
    telemetry::cells::Gauge,
    wire::{
        Io,
        socket::{acknowledge, expect},
    },
};

/// How long a listener waits where nothing tells it when it can go on: out of descriptors, at the limit.
const PAUSE: Duration = Duration::from_millis(20);
/// Connections beyond the limit that may be told so at once; further ones wait until they are accepted.
const TURNED_AWAY: usize = 256;
/// What clients whose connection is being made have to say the last word of it, before the listener closes.
const HANDSHAKE: Duration = Duration::from_millis(100);

/// A connection, as its owner sees it.
struct Open {
    /// No request is under way.
    idle: Rc<Cell<bool>>,
    /// None was when that was looked at last.
    was_idle: bool,
    task: AbortHandle,
}

/// A connection on its way to the worker that has fewer than the one that accepted it.
pub struct Passed {
    stream: std::net::TcpStream,
    peer: SocketAddr,
    entrance: Entrance,
    seat: Seat,
}

/// The ways to all workers, by their number.
pub type Ways = Rc<[UnboundedSender<Passed>]>;

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
    open: RefCell<HashMap<u64, Open, foldhash::fast::RandomState>>,
    next: Cell<u64>,
    /// Of these, those that are told that there is no room.
    turned_away: Cell<usize>,
    emptied: Notify,
}

impl Connections {
    /// None yet.
    #[must_use]
    pub fn new(server: Server, crowd: Arc<Crowd>, worker: usize) -> Rc<Self> {
        Rc::new(Self {
            server,
            crowd,
            worker,
            open: RefCell::default(),
            next: Cell::new(0),
            turned_away: Cell::new(0),
            emptied: Notify::new(),
        })
    }

    /// Accepts until the future is dropped. Serves what it accepts, or passes it on to a worker that has less to serve.
    pub async fn accept(self: &Rc<Self>, listener: &TcpListener, entrance: &Entrance, ways: &Ways) {
        loop {
            let limit = self.server.proxy.world().config.http.max_connections;
            if self.crowd.total() >= limit && self.turned_away.get() >= TURNED_AWAY {
                sleep(PAUSE).await;
                continue;
            }
            match listener.accept().await {
                // Others may have come while this one was awaited.
                Ok((stream, peer)) if self.crowd.total() >= limit => {
                    self.begin(stream, peer, entrance, None);
                }
                Ok((stream, peer)) => self.place(stream, peer, entrance, ways),
                Err(e) if is_of_one_connection(&e) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connections");
                    sleep(PAUSE).await;
                }
            }
        }
    }

    fn place(self: &Rc<Self>, stream: TcpStream, peer: SocketAddr, entrance: &Entrance, ways: &Ways) {
        let seat = self.crowd.seat(self.worker);
        if seat.worker() == self.worker {
            return self.begin(stream, peer, entrance, Some(seat));
        }
        let way = &ways[seat.worker()];
        // Only what the event loop does not know here can be known to another one.
        let Ok(stream) = stream.into_std() else { return };
        let passed = Passed { stream, peer, entrance: entrance.clone(), seat };
        if let Err(unheard) = way.send(passed) {
            self.resume(unheard.0); // that worker has ended before its time
        }
    }

    /// Serves what others pass on, until none of them can any more.
    pub async fn take(self: &Rc<Self>, mut passed: UnboundedReceiver<Passed>) {
        while let Some(passed) = passed.recv().await {
            self.resume(passed);
        }
    }

    fn resume(self: &Rc<Self>, passed: Passed) {
        let Passed { stream, peer, entrance, seat } = passed;
        match TcpStream::from_std(stream) {
            Ok(stream) => self.begin(stream, peer, &entrance, Some(seat)),
            Err(error) => tracing::warn!(%error, "a connection is not served"),
        }
    }

    /// Ends a listener so that no client is left with a connection that nobody has: those that the system has made
    /// already would be reset with it.
    pub async fn accept_rest(self: &Rc<Self>, listener: TcpListener, entrance: &Entrance) {
        if turn_away(&listener).is_ok() {
            sleep(HANDSHAKE).await;
        }
        let Ok(listener) = listener.into_std() else { return };
        // Asked of the system, not of the event loop, which may not have heard of the last ones.
        loop {
            let accepted = match listener.accept() {
                Ok((stream, peer)) => stream.set_nonblocking(true).map(|()| (stream, peer)),
                Err(e) if is_of_one_connection(&e) => continue,
                Err(_) => return,
            };
            if let Ok((stream, peer)) = accepted {
                let seat = self.crowd.seat_at(self.worker);
                self.resume(Passed { stream, peer, entrance: entrance.clone(), seat });
            }
        }
    }

    /// Serves a connection, or, where there are as many as may be, says so on it.
    fn begin(self: &Rc<Self>, mut stream: TcpStream, peer: SocketAddr, entrance: &Entrance, seat: Option<Seat>) {
        // Of a connection that it has just accepted, tokio takes for granted that something has come, but most requests come a moment
        // after, and to look in vain is a call into the system.
        expect(&stream, Interest::READABLE);
        let one_too_many = seat.is_none();
        let id = self.next.get();
        self.next.set(id + 1);
        let idle = Rc::new(Cell::new(true));
        let place = Place::take(self.clone(), entrance.gauge.clone(), id, seat);
        let task = tokio::task::spawn_local({
            let (idle, certificates) = (idle.clone(), entrance.tls.clone());
            async move {
                let place = place;
                let Some(peer) = place.of.arrive(&mut stream, peer, certificates.is_some()).await else { return };
                let server = &place.of.server;
                if one_too_many {
                    // A handshake costs more than the word that there is no room.
                    if certificates.is_none() {
                        Box::pin(server.turn_away(Io::new(stream), &Client::new(peer, "http"))).await;
                    }
                } else if let Some(certificates) = certificates {
                    let client = Client::new(peer, "https");
                    // In a box: connections without TLS need not have room for it.
                    Box::pin(tls::serve(server, &certificates, stream, client, &idle)).await;
                } else {
                    // What tokio moves about as a task begins and ends is small then.
                    placed(|| server.serve(Io::new(stream), Client::new(peer, "http"), &idle, true)).await;
                }
            }
        });
        self.open.borrow_mut().insert(id, Open { idle, was_idle: false, task: task.abort_handle() });
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
        // It has to be followed by more before there is anything to say.
        acknowledge(&*stream, true);
        let rules = &config.http;
        // In a box: others need not have room for it.
        let arrived =
            Box::pin(proxy_protocol::arrive(stream, peer, &rules.trusted_proxies, rules.header_timeout)).await;
        arrived.inspect_err(|error| tracing::debug!(%peer, %error, "a connection is not served")).ok()
    }

    /// From now on answers end their connections.
    pub fn leave(&self) {
        self.server.phase.leave();
    }

    /// Ends the connections on which no request is under way, and none was when this was called last: whoever uses one
    /// often has been told meanwhile to use another, and nobody's request meets the end of a connection.
    pub fn end_idle(&self) {
        for open in self.open.borrow_mut().values_mut() {
            let is_idle = open.idle.get();
            if is_idle && open.was_idle {
                open.task.abort();
            }
            open.was_idle = is_idle;
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
    /// `None`: it is turned away.
    seat: Option<Seat>,
}

impl Place {
    fn take(of: Rc<Connections>, gauge: Arc<Gauge>, id: u64, seat: Option<Seat>) -> Self {
        gauge.up(of.worker);
        of.turned_away.set(of.turned_away.get() + usize::from(seat.is_none()));
        Self { of, gauge, id, seat }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.gauge.down(self.of.worker);
        let turned_away = &self.of.turned_away;
        turned_away.set(turned_away.get() - usize::from(self.seat.is_none()));
        let mut open = self.of.open.borrow_mut();
        open.remove(&self.id);
        if open.is_empty() {
            self.of.emptied.notify_one();
        }
    }
}
