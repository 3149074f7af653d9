//! Drives an HTTP/2 connection of either side over its socket. What its streams send leaves together, after all tasks that
//! can go on have had their turn: a system call costs more than all the rest of a small answer.

mod outflow;
mod stream;

use std::{
    cell::{Cell, Ref, RefCell, RefMut},
    future::Future as _,
    io,
    pin::pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker, ready},
};

use bytes::{Bytes, BytesMut};
use tokio::task::yield_now;

use super::{Io, socket::Then, spare};
use crate::http2::{
    Ended,
    connection::{Connection, Counts},
    message::RequestHead,
};

pub use outflow::Outflow;
pub use stream::Stream;

/// A connection, for whoever drives it and for its streams.
#[derive(Clone, Debug)]
pub struct Link(Rc<Inner>);

#[derive(Debug)]
struct Inner {
    codec: RefCell<Connection>,
    io: Io,
    /// What has come of a frame that is not whole yet.
    input: RefCell<BytesMut>,
    /// Whether other tasks were let go first, since there was nothing to send.
    gave_way: Cell<bool>,
    /// Written, but TLS may hold some of it back.
    unflushed: Cell<bool>,
    /// Nothing is read meanwhile.
    rest: RefCell<Option<Arc<Rest>>>,
    /// Reads that brought something.
    heard: Cell<u64>,
    /// Writes that took something.
    told: Cell<u64>,
}

/// What is read at once: as much as elsewhere, so that all share what is spare; and within a frame, of which more comes.
const ROOM: usize = 16 * 1024;
const LARGE_ROOM: usize = 32 * 1024;
/// What is read, in bytes, before others have their turn: of small frames it is thousands, and some send without end.
const TURN: usize = 128 * 1024;
/// Room for what usually waits: it is not to grow step by step.
const USUAL: usize = 8 * 1024;
/// So much does not wait for other tasks.
const LARGE: usize = 16 * 1024;

impl Link {
    /// A connection on which `read` came first.
    #[must_use]
    pub fn new(io: Io, read: Bytes, codec: Connection) -> Self {
        Self(Rc::new(Inner {
            codec: RefCell::new(codec),
            io,
            input: RefCell::new(BytesMut::from(read)),
            gave_way: Cell::new(false),
            unflushed: Cell::new(false),
            rest: RefCell::default(),
            heard: Cell::new(0),
            told: Cell::new(0),
        }))
    }

    /// Reads what there is, up to a turn's share, and hands it on to the streams. Ready when the connection has ended, by itself or
    /// by what came; what waits may still be to be sent. Nothing is read, and nobody woken, while so much waits that [`Self::is_full`].
    pub fn poll_read(&self, cx: &mut Context<'_>) -> Poll<Ended> {
        let input = &mut *self.0.input.borrow_mut();
        self.0.codec.borrow_mut().is_driven();
        let rest = &mut *self.0.rest.borrow_mut();
        if rest.as_ref().is_some_and(|rest| !rest.is_over()) {
            return Poll::Pending;
        }
        *rest = None;
        let mut came = 0;
        loop {
            let codec = &mut *self.0.codec.borrow_mut();
            if let Err(ended) = codec.receive(input) {
                return Poll::Ready(ended);
            }
            if codec.is_full() {
                return Poll::Pending;
            }
            if came >= TURN {
                *rest = Some(Rest::begin(cx));
                return Poll::Pending;
            }
            let room = if input.is_empty() { ROOM } else { LARGE_ROOM };
            spare::give_back(input);
            match ready!(self.0.io.poll_read(cx, input, room)) {
                Ok(0) => return Poll::Ready(codec.lost(io::ErrorKind::UnexpectedEof.into())),
                Ok(bytes) => {
                    came += bytes;
                    self.0.heard.set(self.0.heard.get() + 1);
                }
                Err(error) => return Poll::Ready(codec.lost(error)),
            }
        }
    }

    /// Sends what waits, after all tasks that can go on now: they may have more. To be asked after each turn of the streams;
    /// ready when all has left.
    ///
    /// # Errors
    /// The other side does not take it, and never will.
    pub fn poll_send(&self, cx: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        let codec = &mut *self.0.codec.borrow_mut();
        let waits = codec.out().len();
        if waits > 0 && waits < LARGE && !self.0.gave_way.replace(true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let sent = self.poll_out(codec, cx);
        codec.driven_by(cx);
        sent.map_err(|error| codec.lost(error))
    }

    fn poll_out(&self, codec: &mut Connection, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while codec.out().len() > 0 {
            let (slices, count) = codec.out().slices();
            let sent = ready!(self.0.io.poll_write(cx, &slices[..count], Then::Leave))?;
            self.0.unflushed.set(true);
            self.0.told.set(self.0.told.get() + 1);
            codec.took(sent);
        }
        if self.0.unflushed.get() {
            ready!(self.0.io.poll_flush(cx))?;
            self.0.unflushed.set(false);
        }
        // A connection at rest holds no memory but its own.
        let mut text = Vec::new();
        codec.out().swap_text(&mut text);
        spare::give_back_text(&mut text);
        self.0.gave_way.set(false);
        Poll::Ready(Ok(()))
    }

    /// Reads, hands on and sends, where the streams are tasks of their own; ready when the connection has ended, and what waits
    /// may still be to be sent.
    pub fn poll_turn(&self, cx: &mut Context<'_>) -> Poll<Ended> {
        loop {
            if let Poll::Ready(ended) = self.poll_read(cx) {
                return Poll::Ready(ended);
            }
            let was_full = self.is_full();
            match self.poll_send(cx) {
                Poll::Ready(Err(ended)) => return Poll::Ready(ended),
                _ if was_full && !self.is_full() => {} // there is more to read
                Poll::Ready(Ok(())) if self.state().is_done() => {
                    return Poll::Ready(Ended::Io(Arc::new(io::ErrorKind::ConnectionAborted.into())));
                }
                _ => return Poll::Pending,
            }
        }
    }

    /// Whether nothing is read until some of what waits has left.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.0.codec.borrow().is_full()
    }

    /// Its state, for who only looks.
    #[must_use]
    pub fn state(&self) -> Ref<'_, Connection> {
        self.0.codec.borrow()
    }

    /// Its state, with memory for what is to be sent.
    pub fn codec(&self) -> RefMut<'_, Connection> {
        let mut codec = self.0.codec.borrow_mut();
        let text = codec.out().text();
        if text.capacity() == 0 {
            *text = spare::text(USUAL);
        }
        codec
    }

    /// The next request that came.
    #[must_use]
    pub fn accept(&self) -> Option<(RequestHead, Stream)> {
        let (at, head) = self.0.codec.borrow_mut().accept()?;
        Some((head, Stream::new(self.clone(), at)))
    }

    /// How often anything came.
    #[must_use]
    pub fn heard(&self) -> u64 {
        self.0.heard.get()
    }

    /// How often anything left.
    #[must_use]
    pub fn told(&self) -> u64 {
        self.0.told.get()
    }

    /// What the other side has kept us busy with.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.0.codec.borrow().counts()
    }

    /// Whether all has left that was to be sent.
    #[must_use]
    pub fn is_clear(&self) -> bool {
        self.0.codec.borrow_mut().out().len() == 0 && !self.0.unflushed.get()
    }

    /// Has what came be acknowledged at once, and what comes until something is sent: there are peers that send the rest only then.
    pub fn acknowledge(&self) {
        self.0.io.acknowledge();
    }

    /// Reads what still comes and is of no use any more; ready when all has come, or so many bytes.
    pub fn poll_rest(&self, cx: &mut Context<'_>, most: usize, came: &mut usize) -> Poll<()> {
        let input = &mut *self.0.input.borrow_mut();
        while *came < most {
            input.clear();
            match ready!(self.0.io.poll_read(cx, input, ROOM)) {
                Ok(bytes @ 1..) => *came += bytes,
                Ok(0) | Err(_) => break,
            }
        }
        Poll::Ready(())
    }

    /// Says that nothing more will be written.
    pub fn finish(&self) {
        self.0.io.finish();
    }
}

/// Until the sockets of others were looked at too, however often the task itself is woken before: there may be hundreds of turns
/// between two such looks.
#[derive(Debug)]
struct Rest {
    is_over: AtomicBool,
    task: Waker,
}

impl Rest {
    fn begin(cx: &Context<'_>) -> Arc<Self> {
        let rest = Arc::new(Self { is_over: AtomicBool::new(false), task: cx.waker().clone() });
        let _ = pin!(yield_now()).poll(&mut Context::from_waker(&rest.clone().into()));
        rest
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }
}

impl Wake for Rest {
    fn wake(self: Arc<Self>) {
        self.is_over.store(true, Ordering::Relaxed);
        self.task.wake_by_ref();
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, io::Write, net::SocketAddr};

    use tokio::{
        io::AsyncReadExt,
        net::{TcpSocket, TcpStream},
        runtime::{Builder, LocalOptions},
        task::spawn_local,
    };

    use super::*;
    use crate::http2::{PREFACE, connection::Rules, hpack::Limits};

    const UNKNOWN: [u8; 9] = [0, 0, 0, 99, 0, 0, 0, 0, 0];

    /// A connection that holds much.
    async fn pair() -> (TcpStream, std::net::TcpStream) {
        let [server, client] = [TcpSocket::new_v4().unwrap(), TcpSocket::new_v4().unwrap()];
        server.set_recv_buffer_size(1 << 20).unwrap();
        client.set_send_buffer_size(1 << 20).unwrap();
        server.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let listener = server.listen(1).unwrap();
        let far = client.connect(listener.local_addr().unwrap()).await.unwrap().into_std().unwrap();
        (listener.accept().await.unwrap().0, far)
    }

    /// How many frames are read before another connection is looked at on which something has come.
    async fn read_before_another() -> u64 {
        let (near, mut far) = pair().await;
        let frames = UNKNOWN.repeat(100);
        far.write_all(&[PREFACE, &[0, 0, 0, 4, 0, 0, 0, 0, 0]].concat()).unwrap();
        let mut filled = 0;
        // Only whole frames, but for the last one.
        while let Ok(bytes) = far.write(&frames) {
            filled += bytes;
            if bytes < frames.len() {
                break;
            }
        }
        assert!(filled > 5 * TURN, "{filled} bytes are no more than a few turns");

        let (mut other, mut asks) = pair().await;
        let limits = Limits { max_list: 4096, max_lines: 10 };
        let rules = Rules { streams: 1, stream_window: 65_535, connection_window: 65_535, limits };
        let link = Link::new(Io::new(near), Bytes::new(), Connection::server(rules));
        let seen = link.clone();
        let heard = spawn_local(async move {
            other.read_u8().await.unwrap();
            seen.counts().idle
        });
        let reading = spawn_local(poll_fn(move |cx| {
            let _ = asks.write(b"x");
            cx.waker().wake_by_ref(); // as what its streams do may
            link.poll_read(cx)
        }));
        let read = heard.await.unwrap();
        reading.abort();
        read
    }

    #[test]
    fn who_sends_without_end_leaves_others_their_turn() {
        let mut builder = Builder::new_current_thread();
        let runtime = builder.enable_all().event_interval(256).build_local(LocalOptions::default()).unwrap();
        let read = runtime.block_on(read_before_another());
        // Who is heard may have its turn after the next one.
        let most = 2 * (TURN + LARGE_ROOM * 2) / UNKNOWN.len();
        assert!((1..=most as u64).contains(&read), "{read} frames");
    }
}
