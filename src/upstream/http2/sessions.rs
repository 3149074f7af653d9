//! A worker's HTTP/2 connections to instances: each carries many requests at once, so there are few.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    future::poll_fn,
    io,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{
    FutureExt,
    future::{LocalBoxFuture, Shared, WeakShared},
};
use h2::{
    Ping, PingPong,
    client::{Builder, Connection, SendRequest},
};
use tokio::{
    sync::{Notify, oneshot},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::{
    upstream::{
        Local,
        cluster::Cluster,
        dial::{DialError, dial},
        endpoint::Endpoint,
        policy::PoolRules,
    },
    wire::{Driven, Frames, Gathered, Outlet, Rewound, gathered},
};

/// Streams at once on one connection, however many the other side takes.
const STREAMS: usize = 256;
/// Connections to one instance; a further one is opened when all streams of the others are taken.
pub const CONNECTIONS: usize = 4;
/// What an instance may send ahead on one stream …
const STREAM_WINDOW: u32 = 64 * 1024;
/// … and on all of them: so much that streams which nobody reads stop no other.
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * 256;
/// What of a request waits for the other side to take it.
const SEND_BUFFER: usize = 64 * 1024;
/// What is taken of the fields of one head, or of trailers, by RFC 9113's measure (§6.5.2). Far above what is passed on
/// (`bounds`): of trailers beyond it the library loses a part without a word.
const MAX_FIELDS: u32 = 256 * 1024;
/// What they may take as they come, which is never half of what they hold where a single one could be lost: letters
/// take five bits at least.
const MAX_LIST: usize = 128 * 1024;
/// How often a connection with streams is asked whether it lives, and how long it may take to say so.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_WAIT: Duration = Duration::from_secs(10);
/// What a connection has to say goodbye.
const GOODBYE: Duration = Duration::from_secs(1);

/// A worker's HTTP/2 connections, by the serial of their endpoint.
#[derive(Debug, Default)]
pub struct Sessions {
    lanes: RefCell<HashMap<u64, Lane>>,
    drivers: RefCell<JoinSet<()>>,
}

/// The connections to one endpoint.
#[derive(Debug)]
struct Lane {
    endpoint: Arc<Endpoint>,
    rules: PoolRules,
    sessions: Vec<Rc<Session>>,
    dialing: Option<WeakShared<Dialing>>,
    /// Told when a stream ends.
    freed: Rc<Notify>,
}

/// A new connection that several requests wait for; it is given up when none does any more.
type Dialing = LocalBoxFuture<'static, Result<Rc<Session>, DialError>>;

/// One connection. Ends when neither its lane nor a stream holds it.
#[derive(Debug)]
struct Session {
    sender: SendRequest<Bytes>,
    load: Rc<Load>,
    freed: Rc<Notify>,
    /// Dropped with the session: the driver hears of it.
    _held: oneshot::Sender<()>,
}

/// What session and driver know of each other.
#[derive(Debug)]
struct Load {
    streams: Cell<usize>,
    idle_since: Cell<Instant>,
    ended: Cell<bool>,
    outlet: Outlet,
}

/// A stream's place on a connection, given back when dropped.
#[derive(Debug)]
pub struct Place {
    /// Opens the stream.
    pub sender: SendRequest<Bytes>,
    session: Rc<Session>,
}

enum Found {
    Place(Place),
    Dialing(Shared<Dialing>),
    Full(Rc<Notify>),
}

impl Sessions {
    /// A place on a connection to the endpoint, and whether the connection was there before. Of many requests that
    /// need a new connection, one makes it.
    ///
    /// # Errors
    /// [`DialError`], after `limit` at the latest.
    pub async fn place(
        local: &Rc<Local>,
        cluster: &Cluster,
        endpoint: &Arc<Endpoint>,
        limit: Duration,
    ) -> Result<(Place, bool), DialError> {
        let found = async {
            let mut reused = true;
            loop {
                match Self::find(local, cluster, endpoint, limit) {
                    Found::Place(place) => return Ok((place, reused)),
                    Found::Dialing(dialing) => {
                        reused = false;
                        let session = dialing.await?;
                        if let Some(place) = session.place() {
                            return Ok((place, reused));
                        }
                        // Others may have been first; but one that ends as it begins is no connection.
                        if !session.is_open() {
                            let source = Arc::new(io::ErrorKind::ConnectionAborted.into());
                            return Err(DialError::Connect { address: endpoint.key.address.clone(), source });
                        }
                    }
                    Found::Full(freed) => freed.notified().await,
                }
            }
        };
        let late = |_| Err(DialError::TimedOut { address: endpoint.key.address.clone(), limit });
        timeout(limit, found).await.unwrap_or_else(late)
    }

    fn find(local: &Rc<Local>, cluster: &Cluster, endpoint: &Arc<Endpoint>, limit: Duration) -> Found {
        let mut lanes = local.http2.lanes.borrow_mut();
        let lane = lanes.entry(endpoint.serial).or_insert_with(|| Lane {
            endpoint: endpoint.clone(),
            rules: cluster.policy.pool,
            sessions: Vec::new(),
            dialing: None,
            freed: Rc::default(),
        });
        lane.rules = cluster.policy.pool;
        if let Some(place) = lane.sessions.iter().find_map(Session::place) {
            return Found::Place(place);
        }
        // One that takes no new streams ends with those that it has.
        lane.sessions.retain(|session| session.is_open());
        if let Some(dialing) = lane.dialing.as_ref().and_then(WeakShared::upgrade) {
            return Found::Dialing(dialing);
        }
        if lane.sessions.len() >= CONNECTIONS {
            return Found::Full(lane.freed.clone());
        }
        // Others wait for it too: what one of them has no time for is not to end it for all.
        let limit = limit.max(cluster.policy.timeout.connect);
        let dialing = open(local.clone(), cluster, endpoint.clone(), limit, lane.freed.clone()).shared();
        lane.dialing = dialing.downgrade();
        Found::Dialing(dialing)
    }

    /// Closes what nobody should use any more: connections to instances that left, those idle for too long, and those
    /// that the other side has ended. What streams are under way on them end in peace.
    pub fn tidy(&self, now: Instant) {
        self.lanes.borrow_mut().retain(|_, lane| {
            let rules = lane.rules;
            lane.sessions.retain(|session| {
                let idle = session.load.streams.get() == 0;
                let old = now.duration_since(session.load.idle_since.get()) >= rules.idle_timeout;
                session.is_open() && !(idle && (old || rules.max_idle == 0))
            });
            let dialing = lane.dialing.as_ref().is_some_and(|dialing| dialing.upgrade().is_some());
            lane.endpoint.is_listed() && (dialing || !lane.sessions.is_empty())
        });
        while self.drivers.borrow_mut().try_join_next().is_some() {}
    }

    /// Closes connections to instances that left, as soon as nothing is under way on them.
    pub fn forget_unlisted(&self) {
        self.lanes.borrow_mut().retain(|_, lane| lane.endpoint.is_listed());
    }
}

impl Session {
    fn is_open(&self) -> bool {
        !self.load.ended.get() && !matches!(self.poll_ready().1, Poll::Ready(Err(_)))
    }

    /// A way to open one stream. An error: the other side takes no more of them.
    fn poll_ready(&self) -> (SendRequest<Bytes>, Poll<Result<(), h2::Error>>) {
        let mut sender = self.sender.clone();
        let ready = sender.poll_ready(&mut Context::from_waker(Waker::noop()));
        (sender, ready)
    }

    fn place(self: &Rc<Self>) -> Option<Place> {
        let (sender, Poll::Ready(Ok(()))) = self.poll_ready() else { return None };
        let streams = self.load.streams.get();
        if self.load.ended.get() || streams >= sender.current_max_send_streams().min(STREAMS) {
            return None;
        }
        self.load.streams.set(streams + 1);
        Some(Place { sender, session: self.clone() })
    }
}

impl Place {
    /// Has what came on the connection be acknowledged at once: there are instances that send the rest of an answer only then.
    pub fn acknowledge(&self) {
        self.session.load.outlet.acknowledge();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let load = &self.session.load;
        load.streams.set(load.streams.get() - 1);
        load.idle_since.set(Instant::now());
        self.session.freed.notify_one();
    }
}

/// Makes a connection and puts it in its lane.
fn open(local: Rc<Local>, cluster: &Cluster, endpoint: Arc<Endpoint>, limit: Duration, freed: Rc<Notify>) -> Dialing {
    let (barred, tls) = (cluster.barred.clone(), cluster.tls.clone());
    async move {
        let dialed = match dial(&endpoint.key.address, limit, &barred, tls.as_deref()).await {
            Ok(connection) => shake(connection.io.rewound(Bytes::new()), &endpoint, &local, freed).await,
            Err(e) => Err(e),
        };
        if let Some(lane) = local.http2.lanes.borrow_mut().get_mut(&endpoint.serial) {
            lane.dialing = None;
            if let Ok(session) = &dialed
                && endpoint.is_listed()
            {
                lane.sessions.push(session.clone());
            }
        }
        dialed
    }
    .boxed_local()
}

async fn shake(
    stream: Rewound,
    endpoint: &Endpoint,
    local: &Local,
    freed: Rc<Notify>,
) -> Result<Rc<Session>, DialError> {
    let mut rules = Builder::new();
    rules
        .enable_push(false)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(MAX_FIELDS)
        .max_send_buffer_size(SEND_BUFFER)
        .initial_max_send_streams(0);
    let failed = |e: io::Error| DialError::Connect { address: endpoint.key.address.clone(), source: Arc::new(e) };
    let (stream, outlet) = gathered(stream);
    let stream = stream.bounded(Frames::of_server(MAX_LIST));
    let (sender, codec) = rules.handshake(stream).await.map_err(into_io).map_err(failed)?;
    let mut connection = Driven { codec, outlet };
    // Its settings are the first that a server says (RFC 9113 §3.4). Until then nobody knows whether it speaks HTTP/2
    // at all, nor how many streams it takes.
    poll_fn(|cx| match Pin::new(&mut connection).poll(cx) {
        Poll::Ready(Err(e)) => Poll::Ready(Err(e)),
        Poll::Ready(Ok(ended)) => {
            Poll::Ready(Err(ended.map_or_else(into_io, |()| io::ErrorKind::UnexpectedEof.into())))
        }
        Poll::Pending if connection.codec.max_concurrent_send_streams() > 0 => Poll::Ready(Ok(())),
        Poll::Pending => Poll::Pending,
    })
    .await
    .map_err(failed)?;
    let (idle_since, outlet) = (Cell::new(Instant::now()), connection.outlet.clone());
    let load = Rc::new(Load { streams: Cell::new(0), idle_since, ended: Cell::new(false), outlet });
    let (held, released) = oneshot::channel();
    let pings = connection.codec.ping_pong();
    local.http2.drivers.borrow_mut().spawn_local(drive(connection, pings, load.clone(), released));
    Ok(Rc::new(Session { sender, load, freed, _held: held }))
}

/// The cause, as who knows nothing of HTTP/2 takes it.
pub fn into_io(error: h2::Error) -> io::Error {
    if error.is_io() {
        error.into_io().unwrap_or_else(|| io::ErrorKind::BrokenPipe.into())
    } else {
        io::Error::other(error)
    }
}

/// Reads and writes a connection's frames until it ends: by either side's word, or because nobody answers any more.
async fn drive(
    mut connection: Driven<Connection<Gathered, Bytes>>,
    pings: Option<PingPong>,
    load: Rc<Load>,
    released: oneshot::Receiver<()>,
) {
    let silent = async {
        let Some(mut pings) = pings else { return std::future::pending().await };
        loop {
            sleep(PING_EVERY).await;
            if load.streams.get() > 0 && !matches!(timeout(PING_WAIT, pings.ping(Ping::opaque())).await, Ok(Ok(_))) {
                break;
            }
        }
    };
    tokio::select! {
        ended = &mut connection => if let Err(error) = ended.and_then(|ended| ended.map_err(into_io)) {
            tracing::debug!(%error, "an HTTP/2 connection to upstream ended");
        },
        () = silent => tracing::debug!("an HTTP/2 connection to upstream answers no ping"),
        // Nothing is under way: what is left is to say so to the other side.
        _ = released => if timeout(GOODBYE, connection).await.is_err() {
            tracing::debug!("an HTTP/2 connection to upstream was closed without a goodbye");
        },
    }
    load.ended.set(true);
}
