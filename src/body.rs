//! The one body type, for requests and answers of every version: empty, whole, or streamed.
//! Where a stream's bytes come from is the business of whoever made it.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

/// A message body. Not `Send`: it stays on the worker that made it.
#[derive(Default)]
pub struct Body(Kind);

#[derive(Default)]
enum Kind {
    #[default]
    Empty,
    Whole(Bytes),
    Stream(Pin<Box<dyn http_body::Body<Data = Bytes, Error = BodyError>>>),
    Duplex(Pin<Box<dyn Duplex>>),
}

/// The body of an answer whose request may still be on its way.
pub trait Duplex: http_body::Body<Data = Bytes, Error = BodyError> {
    /// Goes on with the request while nobody takes the answer. Wakes the task when there is more to do.
    fn poll_request(self: Pin<&mut Self>, cx: &mut Context<'_>);
}

impl Body {
    /// A body of no bytes.
    #[must_use]
    pub fn empty() -> Self {
        Self(Kind::Empty)
    }

    /// A body that comes in pieces.
    pub fn stream(pieces: impl http_body::Body<Data = Bytes, Error = BodyError> + 'static) -> Self {
        Self(Kind::Stream(Box::pin(pieces)))
    }

    /// A body that comes in pieces, and goes on with its request meanwhile.
    pub fn duplex(pieces: impl Duplex + 'static) -> Self {
        Self(Kind::Duplex(Box::pin(pieces)))
    }

    /// Whether an instance still sends it.
    #[must_use]
    pub fn is_duplex(&self) -> bool {
        matches!(self.0, Kind::Duplex(_))
    }

    /// To be called where nobody takes the next piece: a request that goes with it goes on.
    pub fn poll_request(&mut self, cx: &mut Context<'_>) {
        if let Kind::Duplex(pieces) = &mut self.0 {
            pieces.as_mut().poll_request(cx);
        }
    }

    /// True when there is nothing (more) to send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match &self.0 {
            Kind::Empty => true,
            Kind::Whole(bytes) => bytes.is_empty(),
            Kind::Stream(pieces) => pieces.is_end_stream(),
            Kind::Duplex(pieces) => pieces.is_end_stream(),
        }
    }

    /// The number of bytes to come, where it is known.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        match &self.0 {
            Kind::Empty => Some(0),
            Kind::Whole(bytes) => Some(bytes.len() as u64),
            Kind::Stream(pieces) => pieces.size_hint().exact(),
            Kind::Duplex(pieces) => pieces.size_hint().exact(),
        }
    }

    /// The next piece. [`http_body::Body::poll_frame`] without a pin, for this type needs none.
    pub fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.0 {
            Kind::Empty => Poll::Ready(None),
            Kind::Whole(bytes) => {
                let all = std::mem::take(bytes);
                self.0 = Kind::Empty;
                Poll::Ready((!all.is_empty()).then(|| Ok(Frame::data(all))))
            }
            Kind::Stream(pieces) => {
                let piece = ready!(pieces.as_mut().poll_frame(cx));
                if piece.is_none() {
                    self.0 = Kind::Empty;
                }
                Poll::Ready(piece)
            }
            Kind::Duplex(pieces) => {
                let piece = ready!(pieces.as_mut().poll_frame(cx));
                if piece.is_none() {
                    self.0 = Kind::Empty;
                }
                Poll::Ready(piece)
            }
        }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self(Kind::Whole(bytes))
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Bytes::from(text).into()
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Empty => f.write_str("Empty"),
            Kind::Whole(bytes) => write!(f, "Whole({} bytes)", bytes.len()),
            Kind::Stream(_) | Kind::Duplex(_) => f.write_str("Stream"),
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.poll_piece(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        self.length().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// Why a body ended before its end.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The peer closed the connection in the middle; with a cause, it is gone: by a reset, or with its connection.
    #[error("the connection ended inside the body")]
    CutShort(#[source] Option<io::Error>),
    /// The framing of the body is broken.
    #[error("the body is malformed")]
    Malformed(#[source] crate::http1::body::BodyError),
    /// More bytes than are allowed.
    #[error("the body is over {limit} bytes")]
    TooLarge {
        /// The most that is allowed.
        limit: u64,
    },
    /// The bytes come too slowly.
    #[error("the body did not arrive in time")]
    TooSlow,
}
