//! A request's body on its way up a stream, as fast as the other side takes it.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::SendStream;

use crate::{
    body::{Body, BodyError},
    http1::trailer::may_trail,
};

/// A body that is being sent.
#[derive(Debug)]
pub struct Upload {
    stream: SendStream<Bytes>,
    body: Body,
    /// What was taken of the body and waits for room.
    piece: Bytes,
    touched: bool,
    sent: u64,
    done: bool,
}

impl Upload {
    /// `done`: the request had no body.
    pub fn new(stream: SendStream<Bytes>, body: Body, done: bool) -> Self {
        Self { stream, body, piece: Bytes::new(), touched: false, sent: 0, done }
    }

    /// Bytes that left.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Whether all has left, or the other side wants no more.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// The body, if nothing was taken of it.
    pub fn untouched(self) -> Option<Body> {
        (!self.touched).then_some(self.body)
    }

    /// Sends what can be sent now. What goes wrong with the stream is told to who waits for its answer.
    ///
    /// # Errors
    /// The body broke off: the request must not look whole.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        while !self.done {
            if !self.piece.is_empty() {
                ready!(self.poll_piece(cx));
                continue;
            }
            let Poll::Ready(frame) = self.body.poll_piece(cx) else {
                // The other side may want no more of it meanwhile.
                self.done = self.stream.poll_reset(cx).is_ready();
                return if self.done { Poll::Ready(Ok(())) } else { Poll::Pending };
            };
            self.touched = true;
            match frame {
                None => self.end(),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.piece = data,
                    Err(frame) => self.trail(frame.into_trailers().unwrap_or_default()),
                },
                Some(Err(e)) => {
                    self.done = true;
                    self.stream.send_reset(h2::Reason::CANCEL);
                    return Poll::Ready(Err(e));
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Sends as much of the piece as there is room for.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.stream.reserve_capacity(self.piece.len());
        let mut room = self.stream.capacity();
        if room == 0 {
            let Some(Ok(now)) = ready!(self.stream.poll_capacity(cx)) else {
                self.done = true;
                return Poll::Ready(());
            };
            room = now;
        }
        let data = self.piece.split_to(room.min(self.piece.len()));
        let last = self.piece.is_empty() && self.body.is_empty();
        if !data.is_empty() {
            self.sent += data.len() as u64;
            self.done = self.stream.send_data(data, last).is_err() || last;
        }
        Poll::Ready(())
    }

    fn trail(&mut self, mut trailers: http::HeaderMap) {
        let unwanted: Vec<_> = trailers.keys().filter(|name| !may_trail(name)).cloned().collect();
        for name in unwanted {
            trailers.remove(name);
        }
        let _ = self.stream.send_trailers(trailers);
        self.done = true;
    }

    fn end(&mut self) {
        let _ = self.stream.send_data(Bytes::new(), true);
        self.done = true;
    }
}
