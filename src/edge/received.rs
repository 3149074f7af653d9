//! The body of an HTTP/2 request, within its limits.

use std::{
    cell::{Cell, RefCell},
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::RecvStream;
use http::HeaderMap;
use http_body::{Frame, SizeHint};

use super::pace::Pace;
use crate::{
    body::BodyError,
    http1::{
        self,
        head::{HeadError, is_padded},
        trailer,
    },
    upstream::aside::Aside,
    wire::{Outlet, Timer},
};

/// What comes on a stream, for whoever forwards it, and for who lets the rest of it run out.
pub type Incoming = Rc<RefCell<RecvStream>>;

/// Counts what comes, and how fast.
pub struct Received {
    stream: Incoming,
    /// The connection that it comes on.
    outlet: Outlet,
    /// Bytes to come, where that was announced.
    left: Option<u64>,
    /// Only trailers may follow.
    is_read: bool,
    limits: Option<Limits>,
    /// Where bytes are counted.
    aside: Rc<Aside>,
    owed: Option<Owed>,
}

#[derive(Default)]
struct Limits {
    pace: Pace,
    timer: Timer,
}

/// A `100 Continue` that the client waits for. Source: RFC 9110 §10.1.1.
#[derive(Clone, Debug)]
pub struct Owed(Rc<Cell<Awaited>>);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Awaited {
    /// Nobody has decided for or against the body.
    Undecided,
    /// Somebody reads the body: it is wanted.
    Wanted,
    /// It was given, or the client has not waited for it.
    No,
}

impl Owed {
    /// To who asked for it.
    #[must_use]
    pub fn new() -> Self {
        Self(Rc::new(Cell::new(Awaited::Undecided)))
    }

    /// Whether somebody waits for the body, and the client for leave to send it; it is given with this.
    #[must_use]
    pub fn is_due(&self) -> bool {
        self.0.get() == Awaited::Wanted && self.settle()
    }

    /// The service gives leave itself; whether the client waits for that.
    #[must_use]
    pub fn settle(&self) -> bool {
        self.0.replace(Awaited::No) != Awaited::No
    }
}

impl Received {
    /// A body that takes as long as it takes.
    #[must_use]
    pub fn new(
        (stream, outlet): (Incoming, Outlet),
        announced: Option<u64>,
        aside: Rc<Aside>,
        owed: Option<Owed>,
    ) -> Self {
        Self { stream, outlet, left: announced, is_read: false, limits: None, aside, owed }
    }

    /// It may have as many bytes as its route allows, and has to come fast enough.
    #[must_use]
    pub fn limited(self) -> Self {
        Self { limits: Some(Limits::default()), ..self }
    }

    /// The next piece, or trailers, as they come.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Frame<Bytes>>, BodyError>> {
        let stream = &mut *self.stream.borrow_mut();
        while !self.is_read {
            match ready!(stream.poll_data(cx)).transpose().map_err(cut_short)? {
                Some(data) => {
                    // It fails only where nothing came.
                    let _ = stream.flow_control().release_capacity(data.len());
                    if !data.is_empty() {
                        self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
                        return Poll::Ready(Ok(Some(Frame::data(data))));
                    }
                }
                None => self.is_read = true,
            }
        }
        let Some(trailers) = ready!(stream.poll_trailers(cx)).map_err(cut_short)? else { return Poll::Ready(Ok(None)) };
        let trailers = decent(trailers).map_err(|e| BodyError::Malformed(http1::body::BodyError::Trailers(e)))?;
        Poll::Ready(Ok(Some(Frame::trailers(trailers))))
    }
}

/// What HTTP/1 has of trailers, by its rules.
fn decent(mut trailers: HeaderMap) -> Result<HeaderMap, HeadError> {
    trailer::check(&trailers, &trailer::LIMITS)?;
    if trailers.values().any(is_padded) {
        return Err(HeadError::Value);
    }
    trailer::strip(&mut trailers);
    Ok(trailers)
}

fn cut_short(error: h2::Error) -> BodyError {
    // Where the library itself ended it, what came was malformed.
    let is_gone = error.is_remote() || error.is_io();
    BodyError::CutShort(is_gone.then(|| io::Error::other(error)))
}

impl Limits {
    /// So many bytes came, which are counted already.
    fn note(&mut self, bytes: usize, aside: &Aside) -> Result<(), BodyError> {
        self.pace.note(bytes);
        match aside.most() {
            Some(limit) if aside.received() > limit => Err(BodyError::TooLarge { limit }),
            _ => Ok(()),
        }
    }
}

impl http_body::Body for Received {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = self.poll_next(cx);
        let Self { outlet, limits, aside, owed, .. } = &mut *self;
        if polled.is_pending() {
            outlet.acknowledge(); // there are clients that send the rest only then
        }
        if let Some(owed) = owed {
            match owed.0.get() {
                Awaited::Undecided if polled.is_pending() => owed.0.set(Awaited::Wanted),
                _ if polled.is_ready() => owed.0.set(Awaited::No),
                _ => {}
            }
        }
        if let (Poll::Pending, Some(limits)) = (&polled, limits.as_mut()) {
            let Err(e) = ready!(limits.pace.poll(cx, &mut limits.timer));
            return Poll::Ready(Some(Err(e)));
        }
        Poll::Ready(match ready!(polled) {
            Ok(None) => None,
            Ok(Some(frame)) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                aside.note(bytes);
                let noted = limits.as_mut().map_or(Ok(()), |limits| limits.note(bytes, aside));
                Some(noted.map(|()| frame))
            }
            Err(e) => Some(Err(e)),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.stream.borrow().is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
