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
    wire::{Io, Timer, socket::Then, spare},
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
        }
    }

    /// A request begins whose body goes through this decoder.
    pub fn begin(&self, decoder: Decoder, expects_continue: bool) {
        *self.body.borrow_mut() = Receiving { decoder, pace: Pace::default() };
        self.owed.set(expects_continue);
        spare::give_back(&mut self.input.borrow_mut());
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

    /// The present request's body, where its length was told and all of it came with the head. Not of a client that waits for leave to
    /// send it: what came may be something else.
    pub fn whole_body(&self) -> Option<Bytes> {
        let body = &mut *self.body.borrow_mut();
        let input = &mut *self.input.borrow_mut();
        let whole = if self.owed.get() { None } else { body.decoder.whole(input) };
        if whole.is_some() {
            spare::give_back(input); // others get it once the body has gone
        }
        self.aside.note(whole.as_ref().map_or(0, Bytes::len));
        whole
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
        self.io.acknowledge(); // there are clients that send the rest only then
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
mod tests;
