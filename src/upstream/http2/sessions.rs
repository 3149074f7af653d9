//! A worker's HTTP/2 connections to instances: each carries many requests at once, so there are few.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    future::poll_fn,
    io,
    rc::Rc,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use futures_util::{
    FutureExt,
    future::{LocalBoxFuture, Shared, WeakShared},
};
use tokio::{
    sync::{Notify, oneshot},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::{
    http2::{
        Ended,
        connection::{Connection, Rules},
        hpack::Limits,
    },
    upstream::{
        Local,
        cluster::Cluster,
        dial::{DialError, dial},
        endpoint::Endpoint,
        policy::PoolRules,
    },
    wire::{Io, Link},
};

/// Streams at once on one connection, however many the other side takes.
const STREAMS: usize = 256;
/// Connections to one instance; a further one is opened when all streams of the others are taken.
pub const CONNECTIONS: usize = 4;
/// What an instance may send ahead on one stream …
const STREAM_WINDOW: u32 = 64 * 1024;
/// … and on all of them: so much that streams which nobody reads stop no other.
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * 256;
/// What is kept of the fields of one head, or of trailers: more than is passed on (`bounds`).
const LIMITS: Limits = Limits { max_list: 64 * 1024, max_lines: 512 };
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
    link: Link,
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
}

/// A stream's place on a connection, given back when dropped.
#[derive(Debug)]
pub struct Place(Rc<Session>);

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
        !self.load.ended.get() && !self.link.state().is_closing()
    }

    fn place(self: &Rc<Self>) -> Option<Place> {
        let streams = self.load.streams.get();
        if !self.is_open() || streams >= self.link.state().max_streams().min(STREAMS) {
            return None;
        }
        self.load.streams.set(streams + 1);
        Some(Place(self.clone()))
    }
}

impl Place {
    /// The connection.
    pub fn link(&self) -> &Link {
        &self.0.link
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let load = &self.0.load;
        load.streams.set(load.streams.get() - 1);
        load.idle_since.set(Instant::now());
        self.0.freed.notify_one();
    }
}

/// Makes a connection and puts it in its lane.
fn open(local: Rc<Local>, cluster: &Cluster, endpoint: Arc<Endpoint>, limit: Duration, freed: Rc<Notify>) -> Dialing {
    let (barred, tls) = (cluster.barred.clone(), cluster.tls.clone());
    async move {
        let dialed = match dial(&endpoint.key.address, limit, &barred, tls.as_deref()).await {
            Ok(connection) => shake(connection.io, &endpoint, &local, freed).await,
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

async fn shake(io: Io, endpoint: &Endpoint, local: &Local, freed: Rc<Notify>) -> Result<Rc<Session>, DialError> {
    let rules =
        Rules { streams: 0, stream_window: STREAM_WINDOW, connection_window: CONNECTION_WINDOW, limits: LIMITS };
    let link = Link::new(io, Bytes::new(), Connection::client(rules));
    // Its settings are the first that a server says (RFC 9113 §3.4). Until then nobody knows whether it speaks HTTP/2
    // at all, nor how many streams it takes.
    let greeted = poll_fn(|cx| match link.poll_turn(cx) {
        Poll::Ready(ended) => Poll::Ready(Err(ended)),
        Poll::Pending if link.state().is_greeted() && link.state().max_streams() > 0 => Poll::Ready(Ok(())),
        Poll::Pending => Poll::Pending,
    });
    let failed =
        |ended: Ended| DialError::Connect { address: endpoint.key.address.clone(), source: Arc::new(ended.into_io()) };
    greeted.await.map_err(failed)?;
    let load = Rc::new(Load { streams: Cell::new(0), idle_since: Cell::new(Instant::now()), ended: Cell::new(false) });
    let (held, released) = oneshot::channel();
    let driven = drive(link.clone(), load.clone(), freed.clone(), released);
    local.http2.drivers.borrow_mut().spawn_local(driven);
    Ok(Rc::new(Session { link, load, freed, _held: held }))
}

/// Reads and writes a connection's frames until it ends: by either side's word, or because nobody answers any more.
async fn drive(link: Link, load: Rc<Load>, freed: Rc<Notify>, released: oneshot::Receiver<()>) {
    let silent = async {
        loop {
            sleep(PING_EVERY).await;
            if load.streams.get() > 0 {
                let heard = link.heard();
                link.codec().ask();
                let sign = timeout(PING_WAIT, poll_fn(|cx| link.codec().poll_sign(cx))).await;
                // The question may wait behind what the instance has not read yet, or the sign behind what it sends.
                if sign.is_err() && link.heard() == heard {
                    break;
                }
            }
        }
    };
    let mut most = 0;
    let turns = poll_fn(|cx| {
        let ended = link.poll_turn(cx);
        // Once it takes no more streams at all, another connection may be made.
        let now = if link.state().is_closing() { usize::MAX } else { link.state().max_streams() };
        if now > std::mem::replace(&mut most, now) {
            freed.notify_waiters();
        }
        ended
    });
    tokio::select! {
        ended = turns => {
            tracing::debug!(error = &ended as &dyn std::error::Error, "an HTTP/2 connection to upstream ended");
        }
        () = silent => {
            tracing::debug!("an HTTP/2 connection to upstream answers no ping");
            link.codec().lost(io::ErrorKind::TimedOut.into());
        }
        // Nothing is under way: what is left is to say so to the other side.
        _ = released => link.codec().part(),
    }
    load.ended.set(true);
    if timeout(GOODBYE, poll_fn(|cx| link.poll_send(cx))).await.is_err() {
        tracing::debug!("an HTTP/2 connection to upstream was closed without a goodbye");
    }
    link.finish();
}
