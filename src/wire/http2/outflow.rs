//! A body on its way out on an HTTP/2 stream, as fast as the other side takes it: a request's, or an answer's.

use std::{
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::HeaderMap;

use super::Stream;
use crate::{
    body::{Body, BodyError},
    http1::trailer,
    http2::Reason,
};

/// A body that is being sent.
#[derive(Debug)]
pub struct Outflow {
    stream: Rc<Stream>,
    body: Body,
    /// What was taken of the body and waits for room.
    piece: Bytes,
    /// How many were taken so far.
    pieces: u64,
    sent: u64,
    done: bool,
}

impl Outflow {
    /// `done`: there is no body.
    #[must_use]
    pub fn new(stream: Rc<Stream>, body: Body, done: bool) -> Self {
        Self { stream, body, piece: Bytes::new(), pieces: 0, sent: 0, done }
    }

    /// Bytes that left.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Whether all has left, or the other side wants no more.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// Whether it is the other side that has to make room.
    #[must_use]
    pub fn is_held(&self) -> bool {
        !self.piece.is_empty()
    }

    /// Pieces that were taken of the body.
    #[must_use]
    pub fn pieces(&self) -> u64 {
        self.pieces
    }

    /// Sends this before the rest: a piece that was taken of the body already.
    pub fn push(&mut self, piece: Bytes) {
        self.piece = piece;
        self.pieces += 1;
    }

    /// Sends these after what was sent so far, and nothing more.
    pub fn trail(&mut self, mut trailers: HeaderMap) {
        trailer::strip(&mut trailers);
        if trailers.is_empty() {
            return self.end();
        }
        self.stream.trail(&trailers);
        self.done = true;
    }

    /// Ends the stream before its end.
    pub fn reset(&mut self, reason: Reason) {
        self.done = true;
        self.stream.reset(reason);
    }

    /// The body, if nothing was taken of it.
    #[must_use]
    pub fn untouched(self) -> Option<Body> {
        (self.pieces == 0).then_some(self.body)
    }

    /// Sends what can be sent now. What goes wrong with the stream is told to who waits for its answer.
    ///
    /// # Errors
    /// The body broke off. The stream has to be reset, lest it looks whole.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        while !self.done {
            if !self.piece.is_empty() {
                if self.poll_piece(cx).is_pending() {
                    self.body.poll_request(cx);
                    return Poll::Pending;
                }
                continue;
            }
            let Poll::Ready(frame) = self.body.poll_piece(cx) else {
                // The other side may want no more of it meanwhile.
                self.done = self.stream.poll_reset(cx).is_ready();
                return if self.done { Poll::Ready(Ok(())) } else { Poll::Pending };
            };
            self.pieces += 1;
            match frame {
                None => self.end(),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.piece = data,
                    Err(frame) => self.trail(frame.into_trailers().unwrap_or_default()),
                },
                Some(Err(e)) => {
                    self.done = true;
                    return Poll::Ready(Err(e));
                }
            }
        }
        if self.pieces > 0 {
            self.body = Body::empty(); // what it holds is of no more use
        }
        Poll::Ready(Ok(()))
    }

    /// Sends as much of the piece as there is room for.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(room) = ready!(self.stream.poll_room(cx)) else {
            self.done = true;
            return Poll::Ready(());
        };
        let data = self.piece.split_to(room.min(self.piece.len()));
        let last = self.piece.is_empty() && self.body.is_empty();
        self.sent += data.len() as u64;
        self.stream.data(data, last);
        self.done = last;
        Poll::Ready(())
    }

    fn end(&mut self) {
        self.stream.data(Bytes::new(), true);
        self.done = true;
    }
}
