//! The body of an HTTP/2 request, within its limits.

use std::{
    cell::Cell,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
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
    http2::Ended,
    upstream::aside::Aside,
    wire::{Timer, http2::Stream},
};

/// What comes on a stream, for whoever forwards it, and for who lets the rest of it run out.
#[derive(Clone, Debug)]
pub struct Incoming {
    stream: Rc<Stream>,
    /// Held by all who read it.
    readers: Rc<()>,
}

impl Incoming {
    /// The rest of what comes there.
    #[must_use]
    pub fn new(stream: Rc<Stream>) -> Self {
        Self { stream, readers: Rc::default() }
    }

    /// Whether nobody else reads it.
    #[must_use]
    pub fn is_only(&self) -> bool {
        Rc::strong_count(&self.readers) == 1
    }

    /// The stream.
    #[must_use]
    pub fn stream(&self) -> &Stream {
        &self.stream
    }
}

/// Counts what comes, and how fast.
pub struct Received {
    incoming: Incoming,
    /// Bytes to come, where that was announced.
    left: Option<u64>,
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
    pub fn new(incoming: Incoming, announced: Option<u64>, aside: Rc<Aside>, owed: Option<Owed>) -> Self {
        Self { incoming, left: announced, limits: None, aside, owed }
    }

    /// It may have as many bytes as its route allows, and has to come fast enough.
    #[must_use]
    pub fn limited(self) -> Self {
        Self { limits: Some(Limits::default()), ..self }
    }

    /// The next piece, or trailers, as they come.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Frame<Bytes>>, BodyError>> {
        let stream = self.incoming.stream();
        if let Some(data) = ready!(stream.poll_data(cx)).transpose().map_err(cut_short)? {
            stream.release(data.len());
            self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
            return Poll::Ready(Ok(Some(Frame::data(data))));
        }
        let Some((trailers, is_cut)) = stream.trailers() else { return Poll::Ready(Ok(None)) };
        let trailers = decent(trailers, is_cut);
        let trailers = trailers.map_err(|e| BodyError::Malformed(http1::body::BodyError::Trailers(e)))?;
        Poll::Ready(Ok(Some(Frame::trailers(trailers))))
    }
}

/// What HTTP/1 has of trailers, by its rules.
fn decent(mut trailers: HeaderMap, is_cut: bool) -> Result<HeaderMap, HeadError> {
    if is_cut {
        return Err(HeadError::TooLarge);
    }
    trailer::check(&trailers, &trailer::LIMITS)?;
    if trailers.values().any(|value| is_padded(value.as_bytes())) {
        return Err(HeadError::Value);
    }
    trailer::strip(&mut trailers);
    Ok(trailers)
}

fn cut_short(error: Ended) -> BodyError {
    // Where this side ended it, what came was malformed.
    let is_gone = error.is_remote();
    BodyError::CutShort(is_gone.then(|| error.into_io()))
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
        let Self { incoming, limits, aside, owed, .. } = &mut *self;
        if polled.is_pending() {
            incoming.stream().link().acknowledge(); // there are clients that send the rest only then
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
        self.incoming.stream().is_taken()
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
