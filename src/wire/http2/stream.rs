//! One stream of an HTTP/2 connection, for who reads and who writes it.

use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;

use super::Link;
use crate::http2::{Ended, Reason, hpack, message::ResponseHead};

/// A stream. Dropped before its end, it is reset.
#[derive(Debug)]
pub struct Stream {
    link: Link,
    at: usize,
}

impl Stream {
    pub(super) fn new(link: Link, at: usize) -> Self {
        Self { link, at }
    }

    /// Opens one with the head of a request, which `write` appends to what it is given. `is_all`: there is no body;
    /// `is_bodyless`: the answer has none.
    ///
    /// # Errors
    /// The other side takes no more streams.
    pub fn open(link: &Link, is_all: bool, is_bodyless: bool, write: impl FnOnce(&mut Vec<u8>)) -> Result<Self, Ended> {
        let at = link.codec().open(is_all, is_bodyless, write)?;
        Ok(Self::new(link.clone(), at))
    }

    /// What it is a stream of.
    #[must_use]
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// The next interim answer that came.
    #[must_use]
    pub fn interim(&self) -> Option<ResponseHead> {
        self.link.0.codec.borrow_mut().stream(self.at).interim.pop_front()
    }

    /// The head of the answer.
    ///
    /// # Errors
    /// There is none.
    pub fn poll_head(&self, cx: &mut Context<'_>) -> Poll<Result<ResponseHead, Ended>> {
        self.link.0.codec.borrow_mut().stream(self.at).poll_head(cx)
    }

    /// The next piece of the body; `None`: there is none any more, and trailers may be asked for. Its bytes are to be
    /// [released](Self::release).
    ///
    /// # Errors
    /// It broke off.
    pub fn poll_data(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Ended>>> {
        self.link.0.codec.borrow_mut().stream(self.at).poll_data(cx)
    }

    /// The trailers, once the body has ended, and whether there were more than were kept.
    #[must_use]
    pub fn trailers(&self) -> Option<(HeaderMap, bool)> {
        self.link.0.codec.borrow_mut().stream(self.at).trailers.take()
    }

    /// Whether all was taken of what came, and nothing more comes.
    #[must_use]
    pub fn is_taken(&self) -> bool {
        self.link.0.codec.borrow_mut().stream(self.at).is_taken()
    }

    /// So many bytes that came are done with: the other side may send as many again.
    pub fn release(&self, bytes: usize) {
        self.link.codec().release(self.at, bytes);
    }

    /// Sends the head of an answer.
    pub fn head(&self, is_last: bool, is_all: bool, write: impl FnOnce(&mut Vec<u8>)) {
        self.link.codec().head(self.at, is_last, is_all, write);
    }

    /// How many bytes of a body may be sent now. `None`: nobody wants any of it any more.
    pub fn poll_room(&self, cx: &mut Context<'_>) -> Poll<Option<usize>> {
        self.link.0.codec.borrow_mut().poll_room(self.at, cx)
    }

    /// Sends a piece of a body, for which there was room, and the end behind it where that is it.
    pub fn data(&self, piece: Bytes, is_all: bool) {
        self.link.codec().data(self.at, piece, is_all);
    }

    /// Sends trailers, and with them the end.
    pub fn trail(&self, trailers: &HeaderMap) {
        self.link.codec().trail(self.at, |out| {
            for (name, value) in trailers {
                hpack::write_named(out, name, value.as_bytes(), value.is_sensitive());
            }
        });
    }

    /// Ends it before its end.
    pub fn reset(&self, reason: Reason) {
        self.link.codec().reset(self.at, reason);
    }

    /// Ready when it ended before both sides came to their end.
    pub fn poll_reset(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.link.0.codec.borrow_mut().stream(self.at).poll_reset(cx)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.link.codec().let_go(self.at);
    }
}
