//! A request's body that can be sent again: what was taken of it is kept, up to a limit. Whoever sends it next gets that,
//! and then the rest as it comes.

use std::{
    cell::RefCell,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use tokio::time::Instant;

use crate::body::{Body, BodyError};

/// A body that is kept as it is sent.
#[derive(Debug)]
pub struct Replay(Rc<RefCell<Kept>>);

#[derive(Debug)]
struct Kept {
    /// What was not taken yet.
    rest: Body,
    pieces: Vec<Bytes>,
    trailers: Option<HeaderMap>,
    /// Bytes in `pieces`.
    held: u64,
    most: u64,
    /// Some of it is gone.
    lost: bool,
    /// Nobody will want it once more.
    last: bool,
    ended: Option<Instant>,
}

impl Replay {
    /// Takes the place of a body, and keeps at most so many bytes of it. `None` where it is known to be longer.
    pub fn of(body: &mut Body, most: u64) -> Option<Self> {
        if body.is_empty() || body.length().is_some_and(|length| length > most) {
            return None;
        }
        let rest = std::mem::take(body);
        let kept =
            Kept { rest, pieces: Vec::new(), trailers: None, held: 0, most, lost: false, last: false, ended: None };
        let replay = Self(Rc::new(RefCell::new(kept)));
        *body = replay.again()?;
        Some(replay)
    }

    /// The body from its beginning; `None` where that is gone.
    pub fn again(&self) -> Option<Body> {
        (!self.0.borrow().lost).then(|| Body::stream(Again { kept: self.0.clone(), next: 0, given: 0 }))
    }

    /// Since when all of it has been here.
    pub fn ended(&self) -> Option<Instant> {
        self.0.borrow().ended
    }
}

/// What is sent of it now is the last time: a long body need not be held until its end.
impl Drop for Replay {
    fn drop(&mut self) {
        if let Ok(mut kept) = self.0.try_borrow_mut() {
            kept.last = true;
        }
    }
}

/// One time that the body is sent.
struct Again {
    kept: Rc<RefCell<Kept>>,
    /// The piece that is to be sent next.
    next: usize,
    /// Bytes that were sent of those that are kept.
    given: u64,
}

impl Kept {
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = match ready!(self.rest.poll_piece(cx)) {
            None => {
                self.end();
                return Poll::Ready(None);
            }
            Some(Err(e)) => {
                self.lost = true;
                return Poll::Ready(Some(Err(e)));
            }
            Some(Ok(frame)) => frame,
        };
        if let Some(data) = frame.data_ref() {
            self.held = self.held.saturating_add(data.len() as u64);
            if self.held > self.most {
                self.lost = true;
                self.pieces = Vec::new();
            } else if !self.last {
                self.pieces.push(data.clone());
            }
        }
        if let Some(trailers) = frame.trailers_ref().filter(|_| !self.last) {
            self.trailers = Some(trailers.clone());
        }
        if self.rest.is_empty() {
            self.end();
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn end(&mut self) {
        self.ended.get_or_insert_with(Instant::now);
    }
}

impl http_body::Body for Again {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let mut kept = this.kept.borrow_mut();
        if kept.last && this.next <= kept.pieces.len() {
            kept.pieces.drain(..this.next);
            this.next = 0;
        }
        if let Some(piece) = kept.pieces.get(this.next).cloned() {
            this.next += 1;
            this.given += piece.len() as u64;
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        if kept.ended.is_some() {
            let trailers = if this.next == kept.pieces.len() { kept.trailers.clone() } else { None };
            this.next = kept.pieces.len() + 1;
            return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
        }
        let polled = ready!(kept.poll_rest(cx));
        match &polled {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    this.next += usize::from(!kept.last);
                    this.given += data.len() as u64;
                } else {
                    this.next = kept.pieces.len() + 1;
                }
            }
            Some(Err(_)) | None => this.next = kept.pieces.len() + 1,
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        let kept = self.kept.borrow();
        let all = self.next >= kept.pieces.len() + usize::from(kept.trailers.is_some());
        if kept.ended.is_some() { kept.lost || all } else { all && kept.rest.is_empty() }
    }

    fn size_hint(&self) -> SizeHint {
        let kept = self.kept.borrow();
        let behind = kept.held.saturating_sub(self.given);
        kept.rest.length().map_or_else(SizeHint::default, |rest| SizeHint::with_exact(rest + behind))
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, time::Duration};

    use super::*;

    /// Pieces, one by one, then trailers.
    struct Pieces(Vec<&'static str>, bool);

    impl http_body::Body for Pieces {
        type Data = Bytes;
        type Error = BodyError;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
            if !self.0.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(self.0.remove(0).as_bytes())))));
            }
            let trailers = std::mem::take(&mut self.1);
            Poll::Ready(trailers.then(|| Ok(Frame::trailers(HeaderMap::new()))))
        }

        fn is_end_stream(&self) -> bool {
            self.0.is_empty() && !self.1
        }
    }

    async fn next(body: &mut Body) -> Option<String> {
        match poll_fn(|cx| body.poll_piece(cx)).await?.unwrap().into_data() {
            Ok(data) => Some(String::from_utf8(data.to_vec()).unwrap()),
            Err(_) => Some("trailers".into()),
        }
    }

    async fn all(mut body: Body) -> Vec<String> {
        let mut all = Vec::new();
        while let Some(piece) = next(&mut body).await {
            all.push(piece);
        }
        all
    }

    #[tokio::test]
    async fn a_body_is_sent_again_whole_wherever_the_first_time_stopped() {
        for trailers in [false, true] {
            let mut want = vec!["a", "bc", "d"];
            want.extend(trailers.then_some("trailers"));
            for stop in 0..=4 {
                let mut body = Body::stream(Pieces(vec!["a", "bc", "d"], trailers));
                let replay = Replay::of(&mut body, 4).unwrap();
                for _ in 0..stop {
                    next(&mut body).await;
                }
                drop(body);
                assert_eq!(all(replay.again().unwrap()).await, want, "{stop}");
                assert_eq!(all(replay.again().unwrap()).await, want, "{stop}, once more");
                assert!(replay.ended().is_some());
            }
        }
    }

    #[tokio::test]
    async fn a_body_over_the_limit_goes_out_once_and_not_again() {
        let mut body = Body::stream(Pieces(vec!["a", "bc", "d"], false));
        let replay = Replay::of(&mut body, 3).unwrap();
        assert_eq!(next(&mut body).await.as_deref(), Some("a"));
        assert!(replay.again().is_some());
        assert_eq!(all(body).await, ["bc", "d"]);
        assert!(replay.again().is_none());
        assert!(Replay::of(&mut Body::from("abcd".to_owned()), 3).is_none());
        assert!(Replay::of(&mut Body::empty(), 3).is_none());
    }

    #[tokio::test]
    async fn what_is_sent_for_the_last_time_is_whole_and_not_held() {
        for trailers in [false, true] {
            let mut want = vec!["a", "bc", "d"];
            want.extend(trailers.then_some("trailers"));
            // Of the first time, of the second, and of that when it became the last.
            for (first, second) in [(0, 0), (0, 2), (2, 0), (2, 1), (2, 2), (2, 3), (4, 1), (4, 3), (4, 4)] {
                let mut body = Body::stream(Pieces(vec!["a", "bc", "d"], trailers));
                let replay = Replay::of(&mut body, 4).unwrap();
                for _ in 0..first {
                    next(&mut body).await;
                }
                drop(body);
                let (mut body, kept) = (replay.again().unwrap(), replay.0.clone());
                let mut came = Vec::new();
                for _ in 0..second {
                    came.extend(next(&mut body).await);
                }
                drop(replay);
                while let Some(piece) = next(&mut body).await {
                    came.push(piece);
                    assert!(kept.borrow().pieces.len() <= 3 - second.min(2), "{first} {second}");
                }
                assert_eq!(came, want, "{first} {second}");
                assert!(body.is_empty());
            }
        }
    }

    #[tokio::test]
    async fn its_length_stays_known_each_time() {
        let mut body = Body::from("abcd".to_owned());
        let replay = Replay::of(&mut body, 4).unwrap();
        assert_eq!((body.length(), body.is_empty()), (Some(4), false));
        assert_eq!(next(&mut body).await.as_deref(), Some("abcd"));
        assert_eq!((body.length(), body.is_empty()), (Some(0), true));
        let again = replay.again().unwrap();
        assert_eq!((again.length(), again.is_empty()), (Some(4), false));
        assert!(replay.ended().unwrap().elapsed() < Duration::from_mins(1));
    }
}
