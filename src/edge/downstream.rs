//! A client's connection while its requests are read: the server and the body of the present request share it.

use std::{
    cell::{Cell, RefCell},
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http_body::{Frame, SizeHint};

use super::pace::Pace;
use crate::{
    body::BodyError,
    http1::{
        body::{Decoder, Piece},
        encode::{Connection, Framing, write_response_head},
        framing::Length,
    },
    proxy::strip_connection,
    upstream::aside::Aside,
    wire::{Io, Timer, socket::Then},
};

/// One client connection.
#[derive(Debug)]
pub struct Downstream {
    /// The socket.
    pub io: Io,
    /// Read and not yet used.
    pub input: RefCell<BytesMut>,
    /// For all waits for the client.
    pub timer: RefCell<Timer>,
    body: RefCell<Receiving>,
    /// A `100 Continue` that the client waits for.
    owed: Cell<bool>,
    /// What upstream tells beside the answer.
    pub aside: Rc<Aside>,
    /// Interim answers that the socket has not taken yet.
    ahead: RefCell<Vec<u8>>,
    broken: Cell<bool>,
    /// Whether what comes is acknowledged without waiting for an answer.
    acknowledges: Cell<bool>,
}

#[derive(Debug)]
struct Receiving {
    decoder: Decoder,
    pace: Pace,
}

impl Receiving {
    /// Whether what came, and what was announced to come, is within what may.
    fn fits(&self, aside: &Aside) -> Result<(), BodyError> {
        let size = aside.received().saturating_add(self.decoder.announced());
        match aside.most() {
            Some(limit) if size > limit => Err(BodyError::TooLarge { limit }),
            _ => Ok(()),
        }
    }
}

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

const ROOM: usize = 32 * 1024;
/// What a client may send ahead while nobody reads it.
const AHEAD: usize = 16 * 1024;
/// What may wait of interim answers for a client that does not read.
const HINTS: usize = 16 * 1024;

impl Downstream {
    /// A connection on which nothing was read yet.
    #[must_use]
    pub fn new(io: Io) -> Self {
        let body = Receiving { decoder: Decoder::new(Length::Empty), pace: Pace::default() };
        Self {
            io,
            input: RefCell::default(),
            timer: RefCell::default(),
            body: RefCell::new(body),
            owed: Cell::new(false),
            aside: Rc::default(),
            ahead: RefCell::default(),
            broken: Cell::new(false),
            acknowledges: Cell::new(false),
        }
    }

    /// More of the request has to come before there is anything to say: what came is acknowledged, for there are clients that send
    /// the rest only then. The system does so by itself later on. Source: RFC 1122 §4.2.3.4 (Nagle's algorithm).
    pub fn acknowledge(&self) {
        if !self.acknowledges.replace(true) {
            self.io.acknowledge();
        }
    }

    /// A request begins whose body goes through this decoder.
    pub fn begin(&self, decoder: Decoder, expects_continue: bool) {
        *self.body.borrow_mut() = Receiving { decoder, pace: Pace::default() };
        self.owed.set(expects_continue);
    }

    /// The answer begins: no interim answer may come between its bytes. Gives what has to stand before it.
    #[must_use]
    pub fn answer(&self) -> Vec<u8> {
        self.collect();
        self.owed.set(false);
        self.ahead.take()
    }

    /// Writes the interim answers that have come.
    pub fn poll_interim(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.collect();
        let ahead = &mut *self.ahead.borrow_mut();
        if ahead.is_empty() {
            return Poll::Ready(Ok(()));
        }
        while !ahead.is_empty() {
            let written = ready!(self.io.poll_write(cx, &[IoSlice::new(ahead)], Then::Leave))?;
            ahead.drain(..written);
        }
        *ahead = Vec::new();
        self.io.poll_flush(cx)
    }

    fn collect(&self) {
        for (status, mut fields) in self.aside.interim() {
            let ahead = &mut *self.ahead.borrow_mut();
            if status == StatusCode::CONTINUE {
                // The one that the client waits for; who waits for none might take it for something else.
                if self.owed.take() {
                    ahead.extend_from_slice(CONTINUE);
                }
            } else if ahead.len() < HINTS {
                strip_connection(&mut fields);
                write_response_head(ahead, status, &fields, Framing::None, Connection::Implied);
            }
        }
    }

    /// Bytes of the present request's body so far.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.aside.received()
    }

    /// Ready when the client has left: its connection was reset, or, with `end`, came to an end after the whole request.
    pub fn poll_gone(&self, cx: &mut Context<'_>, end: bool) -> Poll<()> {
        let end = end && self.is_body_done();
        let input = &mut *self.input.borrow_mut();
        while !self.broken.get() && input.len() < AHEAD {
            match ready!(self.io.poll_read(cx, input, AHEAD)) {
                Ok(0) if end => return Poll::Ready(()),
                Ok(0) => return Poll::Pending,
                Ok(n) => {
                    let body = &mut *self.body.borrow_mut();
                    body.pace.note(n);
                    if !body.decoder.is_done() {
                        cx.waker().wake_by_ref(); // somebody may wait for just these
                    }
                }
                Err(_) => self.broken.set(true),
            }
        }
        if self.broken.get() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Whether the body of the present request has been read to its end.
    #[must_use]
    pub fn is_body_done(&self) -> bool {
        self.body.borrow().decoder.is_done()
    }

    /// The next piece of the present request's body.
    pub fn poll_body(&self, cx: &mut Context<'_>) -> Poll<Result<Piece, BodyError>> {
        let body = &mut *self.body.borrow_mut();
        let input = &mut *self.input.borrow_mut();
        if self.owed.get() && !body.decoder.is_done() && input.is_empty() {
            self.ahead.borrow_mut().extend_from_slice(CONTINUE);
            if let Poll::Ready(Err(e)) = self.poll_interim(cx) {
                return Poll::Ready(Err(BodyError::CutShort(Some(e))));
            }
        }
        self.owed.set(false);
        loop {
            match body.decoder.decode(input).map_err(BodyError::Malformed)? {
                Piece::More => body.fits(&self.aside)?,
                Piece::Data(data) => {
                    self.aside.note(data.len());
                    body.fits(&self.aside)?;
                    return Poll::Ready(Ok(Piece::Data(data)));
                }
                piece => return Poll::Ready(Ok(piece)),
            }
            match self.io.poll_read(cx, input, ROOM) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(BodyError::CutShort(None))),
                Poll::Ready(Ok(n)) => body.pace.note(n),
                Poll::Ready(Err(e)) => {
                    self.broken.set(true);
                    return Poll::Ready(Err(BodyError::CutShort(Some(e))));
                }
                Poll::Pending => break,
            }
        }
        self.acknowledge();
        let Err(slow) = ready!(body.pace.poll(cx, &mut self.timer.borrow_mut()));
        Poll::Ready(Err(slow))
    }
}

/// The body of the present request, for whoever forwards it.
pub struct Incoming {
    connection: Rc<Downstream>,
    length: Option<u64>,
}

impl Incoming {
    /// The body that the connection's present request announced.
    #[must_use]
    pub fn new(connection: Rc<Downstream>, length: Length) -> Self {
        let length = if let Length::Exact(n) = length { Some(n) } else { None };
        Self { connection, length }
    }
}

impl http_body::Body for Incoming {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let piece = ready!(self.connection.poll_body(cx));
        Poll::Ready(match piece {
            Ok(Piece::Data(data)) => {
                self.length = self.length.map(|left| left.saturating_sub(data.len() as u64));
                Some(Ok(Frame::data(data)))
            }
            Ok(Piece::Trailers(trailers)) => Some(Ok(Frame::trailers(trailers))),
            Ok(Piece::End | Piece::More) => None,
            Err(e) => Some(Err(e)),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.connection.is_body_done()
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, time::Duration};

    use tokio::{
        io::AsyncWriteExt,
        net::{TcpListener, TcpStream},
        time::{Instant, sleep},
    };

    use super::*;

    async fn connected() -> (Downstream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        (Downstream::new(Io::new(accepted.unwrap().0)), client.unwrap())
    }

    /// Reads pieces until `enough` bytes have come.
    async fn read(connection: &Downstream, enough: usize) -> Result<(), BodyError> {
        let mut came = 0;
        while came < enough {
            if let Piece::Data(data) = poll_fn(|cx| connection.poll_body(cx)).await? {
                came += data.len();
            }
        }
        Ok(())
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_sends_a_byte_now_and_then_is_too_slow() {
        let (connection, mut client) = connected().await;
        connection.begin(Decoder::new(Length::Exact(1_000_000)), false);
        let start = Instant::now();
        let drip = async {
            for _ in 0..20 {
                client.write_all(b"a").await.unwrap();
                sleep(Duration::from_secs(3)).await;
            }
        };
        let failed = tokio::select! {
            read = read(&connection, 1_000_000) => read.unwrap_err(),
            () = drip => panic!("still waiting after a minute"),
        };
        assert!(matches!(failed, BodyError::TooSlow), "{failed:?}");
        assert_eq!(start.elapsed().as_secs(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_sends_fast_enough_may_take_its_time() {
        let (connection, mut client) = connected().await;
        connection.begin(Decoder::new(Length::Exact(200 * 1024)), false);
        let send = async {
            for _ in 0..100 {
                sleep(Duration::from_millis(1_500)).await;
                client.write_all(&[b'a'; 2048]).await.unwrap();
            }
        };
        let (read, ()) = tokio::join!(read(&connection, 200 * 1024), send);
        read.unwrap();
        assert!(connection.is_body_done());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_is_not_too_slow_while_upstream_is() {
        let (connection, mut client) = connected().await;
        connection.begin(Decoder::new(Length::Exact(20)), false);
        for _ in 0..10 {
            client.write_all(b"ab").await.unwrap();
            read(&connection, 2).await.unwrap();
            sleep(Duration::from_secs(9)).await;
        }
        assert!(connection.is_body_done());
    }

    #[tokio::test]
    async fn who_waits_for_100_continue_gets_it_with_the_first_read_of_the_body() {
        let (connection, mut client) = connected().await;
        connection.begin(Decoder::new(Length::Exact(2)), true);
        let play = async {
            let mut told = [0; 25];
            tokio::io::AsyncReadExt::read_exact(&mut client, &mut told).await.unwrap();
            assert_eq!(&told, b"HTTP/1.1 100 Continue\r\n\r\n");
            client.write_all(b"ab").await.unwrap();
        };
        let (read, ()) = tokio::join!(read(&connection, 2), play);
        read.unwrap();
    }

    #[tokio::test]
    async fn what_came_of_a_body_is_acknowledged_once_more_of_it_is_awaited() {
        let (connection, mut client) = connected().await;
        connection.begin(Decoder::new(Length::Exact(4)), false);
        client.write_all(b"ab").await.unwrap();
        read(&connection, 2).await.unwrap();
        assert!(!connection.acknowledges.get());
        let (rest, ()) = tokio::join!(read(&connection, 2), async {
            assert!(connection.acknowledges.get());
            client.write_all(b"cd").await.unwrap();
        });
        rest.unwrap();
    }

    #[tokio::test]
    async fn a_body_is_cut_where_its_limit_is() {
        let (connection, mut client) = connected().await;
        connection.begin(Decoder::new(Length::Chunked), false);
        connection.aside.allow(5);
        client.write_all(b"3\r\nabc\r\n3\r\nabc\r\n0\r\n\r\n").await.unwrap();
        let failed = read(&connection, 6).await.unwrap_err();
        assert!(matches!(failed, BodyError::TooLarge { limit: 5 }), "{failed:?}");
        assert!(!connection.is_body_done());
    }

    #[tokio::test]
    async fn a_chunk_over_the_limit_is_refused_by_its_size() {
        let (connection, mut client) = connected().await;
        connection.begin(Decoder::new(Length::Chunked), false);
        connection.aside.allow(5);
        client.write_all(b"3\r\nabc\r\n3\r\n").await.unwrap();
        let failed = read(&connection, 6).await.unwrap_err();
        assert!(matches!(failed, BodyError::TooLarge { limit: 5 }), "{failed:?}");
    }
}
