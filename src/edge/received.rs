//! The body of an HTTP/2 request, within its limits.

use std::{
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::downstream::Pace;
use crate::{body::BodyError, http1::trailer::may_trail, upstream::aside::Aside, wire::Timer};

/// Counts what comes, and how fast.
pub struct Received {
    body: hyper::body::Incoming,
    /// Where bytes are counted.
    aside: Rc<Aside>,
    limits: Option<Limits>,
}

#[derive(Default)]
struct Limits {
    most: u64,
    pace: Pace,
    timer: Timer,
}

impl Received {
    /// A body of at most `most` bytes (0: any number) that has to come fast enough.
    #[must_use]
    pub fn limited(body: hyper::body::Incoming, most: u64, aside: &Rc<Aside>) -> Self {
        Self { body, aside: aside.clone(), limits: Some(Limits { most, ..Limits::default() }) }
    }

    /// A conversation: it takes as long as it takes.
    #[must_use]
    pub fn unlimited(body: hyper::body::Incoming, aside: &Rc<Aside>) -> Self {
        Self { body, aside: aside.clone(), limits: None }
    }
}

impl Limits {
    fn note(&mut self, bytes: usize, received: u64) -> Result<(), BodyError> {
        self.pace.note(bytes);
        if self.most != 0 && received > self.most {
            return Err(BodyError::TooLarge { limit: self.most });
        }
        Ok(())
    }
}

impl http_body::Body for Received {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Self { body, aside, limits } = &mut *self;
        let polled = Pin::new(body).poll_frame(cx);
        if let (Poll::Pending, Some(limits)) = (&polled, limits.as_mut()) {
            let Err(e) = ready!(limits.pace.poll(cx, &mut limits.timer));
            return Poll::Ready(Some(Err(e)));
        }
        let Some(frame) = ready!(polled) else { return Poll::Ready(None) };
        let frame = match frame {
            Ok(frame) => frame,
            Err(e) => return Poll::Ready(Some(Err(BodyError::CutShort(Some(io::Error::other(e)))))),
        };
        let frame = match frame.into_trailers() {
            Ok(mut trailers) => {
                while let Some(name) = trailers.keys().find(|name| !may_trail(name)).cloned() {
                    trailers.remove(name);
                }
                Frame::trailers(trailers)
            }
            Err(frame) => frame,
        };
        let bytes = frame.data_ref().map_or(0, Bytes::len);
        aside.note(bytes);
        let noted = limits.as_mut().map_or(Ok(()), |limits| limits.note(bytes, aside.received()));
        Poll::Ready(Some(noted.map(|()| frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
