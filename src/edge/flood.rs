//! Ends HTTP/2 connections that keep us busy with frames that carry nothing: SETTINGS, PING, `WINDOW_UPDATE` and
//! the like, beyond what requests and answers account for. Floods of frames that do belong to requests are h2's to end.

use std::{
    cell::Cell,
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

use crate::{
    http1::trailer,
    wire::{Frames, Gathered},
};

/// How many such frames a connection may have at once, and for each second of its life: clients ask for signs of life.
const FREE: u64 = 10_000;
const A_SECOND: u64 = 10;
/// How often the sum is made, in frames.
const EVERY: u64 = 1024;
/// What trailers may take as they come: more than they may hold, and less than where some of them could be lost, for letters
/// take five bits at least.
const TRAILERS: usize = 4 * trailer::LIMITS.max_head;

/// How many frames requests and answers account for.
#[derive(Clone, Debug, Default)]
pub struct Credit(Rc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    frames: Cell<u64>,
    /// Reads that brought something.
    heard: Cell<u64>,
    /// The list of fields of which a part has come, by its number, and since when.
    partial: Cell<Option<(u64, Instant)>>,
}

impl Credit {
    /// A request came.
    pub fn request(&self) {
        self.add(10);
    }

    /// So many bytes of an answer went out, for which the client makes room again.
    pub fn piece(&self, bytes: u64) {
        self.add(4 + bytes / 256);
    }

    /// How often anything came from the client.
    #[must_use]
    pub fn heard(&self) -> u64 {
        self.0.heard.get()
    }

    /// Since when a head or trailers have come in part alone.
    #[must_use]
    pub fn partial_since(&self) -> Option<Instant> {
        self.0.partial.get().map(|(_, since)| since)
    }

    fn add(&self, frames: u64) {
        self.0.frames.set(self.0.frames.get().saturating_add(frames));
    }
}

/// A connection whose incoming frames are counted.
pub struct Watched {
    stream: Gathered,
    frames: Frames,
    credit: Credit,
    since: Instant,
}

impl Watched {
    /// A connection of which nothing was read as frames yet.
    #[must_use]
    pub fn new(stream: Gathered, credit: Credit) -> Self {
        Self { stream, frames: Frames::of_client(TRAILERS), credit, since: Instant::now() }
    }
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { stream, frames, credit, since } = &mut *self;
        let before = buffer.filled().len();
        ready!(Pin::new(stream).poll_read(cx, buffer))?;
        let Counts { heard, partial, .. } = &*credit.0;
        heard.set(heard.get() + 1);
        let looked = frames.idle() / EVERY;
        frames.note(&buffer.filled()[before..])?;
        let list = frames.partial();
        if partial.get().map(|(list, _)| list) != list {
            partial.set(list.map(|list| (list, Instant::now())));
        }
        if frames.idle() / EVERY != looked {
            let allowed = FREE + since.elapsed().as_secs() * A_SECOND + credit.0.frames.get();
            if frames.idle() > allowed {
                return Poll::Ready(Err(io::Error::other("a flood of frames that carry nothing")));
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
