//! A client's connection while its requests are read: the server and the body of the present request share it.

use std::{
    cell::{Cell, RefCell},
    io::IoSlice,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http_body::{Frame, SizeHint};
use tokio::time::Instant;

use crate::{
    body::BodyError,
    http1::{
        body::{Decoder, Piece},
        framing::Length,
    },
    wire::{Io, Timer},
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
}

#[derive(Debug)]
struct Receiving {
    decoder: Decoder,
    limit: u64,
    received: u64,
    /// Since when bytes are awaited, and how many came since.
    window: Option<(Instant, u64)>,
}

/// A body has to bring this much …
const LEAST: u64 = 10 * 1024;
/// … in each such time.
const WINDOW: Duration = Duration::from_secs(10);
const ROOM: usize = 32 * 1024;

impl Downstream {
    /// A connection on which nothing was read yet.
    #[must_use]
    pub fn new(io: Io) -> Self {
        let body = Receiving { decoder: Decoder::new(Length::Empty), limit: 0, received: 0, window: None };
        Self {
            io,
            input: RefCell::default(),
            timer: RefCell::default(),
            body: RefCell::new(body),
            owed: Cell::new(false),
        }
    }

    /// A request with a body of `length` begins. `limit` 0: the body may be of any length.
    pub fn begin(&self, length: Length, limit: u64, expects_continue: bool) {
        *self.body.borrow_mut() = Receiving { decoder: Decoder::new(length), limit, received: 0, window: None };
        self.owed.set(expects_continue);
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
            // A line this short fits the socket of a client that waits for it.
            let line = [IoSlice::new(b"HTTP/1.1 100 Continue\r\n\r\n")];
            ready!(self.io.poll_write(cx, &line)).map_err(|e| BodyError::CutShort(Some(e)))?;
        }
        self.owed.set(false);
        loop {
            match body.decoder.decode(input).map_err(BodyError::Malformed)? {
                Piece::More => {}
                Piece::Data(data) => {
                    body.received += data.len() as u64;
                    if body.limit != 0 && body.received > body.limit {
                        return Poll::Ready(Err(BodyError::TooLarge { limit: body.limit }));
                    }
                    body.window = None;
                    return Poll::Ready(Ok(Piece::Data(data)));
                }
                piece => return Poll::Ready(Ok(piece)),
            }
            match self.io.poll_read(cx, input, ROOM) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(BodyError::CutShort(None))),
                Poll::Ready(Ok(n)) => {
                    if let Some((_, came)) = &mut body.window {
                        *came += n as u64;
                    }
                }
                Poll::Ready(Err(e)) => return Poll::Ready(Err(BodyError::CutShort(Some(e)))),
                Poll::Pending => break,
            }
        }
        loop {
            let (since, came) = body.window.get_or_insert_with(|| (Instant::now(), 0));
            ready!(self.timer.borrow_mut().poll(cx, *since + WINDOW));
            if *came < LEAST {
                return Poll::Ready(Err(BodyError::TooSlow));
            }
            body.window = None;
        }
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
