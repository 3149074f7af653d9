//! What is known of one stream: what came and nobody has taken yet, and what may still come and be sent.

use std::{
    collections::VecDeque,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::HeaderMap;

use super::{
    Ended,
    flow::{Room, Window},
    message::ResponseHead,
};

/// One stream. Source: RFC 9113 §5.1.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Stream {
    /// Its number.
    pub id: u32,
    /// What may still come.
    pub reading: Reading,
    /// Whether this side may still send.
    pub is_sending: bool,
    /// Whether anybody holds it.
    pub is_held: bool,
    /// Whether frames still belong to it.
    pub is_open: bool,
    /// Why no more comes, before its end.
    pub ended: Option<Ended>,
    /// Whether it ended before both sides came to their end.
    pub is_cut: bool,
    /// What the other side may send.
    pub window: Window,
    /// Bytes that came and are not given back yet, taken or not.
    pub kept: usize,
    /// What it has room for.
    pub room: Room,
    /// Interim answers.
    pub interim: VecDeque<ResponseHead>,
    /// The answer.
    pub head: Option<ResponseHead>,
    /// Pieces of the body.
    pub data: VecDeque<Bytes>,
    /// Trailers, and whether there were more of them than were kept.
    pub trailers: Option<(HeaderMap, bool)>,
    /// Bytes of the body to come, where that was said.
    pub left: Option<u64>,
    /// Whether nothing may come as a body, whatever its length is said to be.
    pub is_bodyless: bool,
    /// Whether the head of our answer was sent.
    pub is_answered: bool,
    /// Whether it may send where others wait for the same room.
    pub turn: Turn,
    /// Bytes that it sent since it waited behind others.
    pub had: usize,
    /// Whether there was no room for half of what others have in their turn.
    pub is_short: bool,
    pub reader: Option<Waker>,
    pub writer: Option<Waker>,
}

/// What may still come on a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// The head of an answer.
    Head,
    /// A body, or trailers.
    Body,
    /// Nothing.
    Done,
}

/// Where a stream stands among those that wait for room on their connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It does not wait.
    None,
    /// It waits.
    Waits,
    /// It is the next to send.
    Has,
}

/// As many small pieces lie apart; more of them are copied together, so that each costs no more than its bytes.
const APART: usize = 8;
/// A piece that is copied, in bytes.
const SMALL: usize = 1024;

impl Stream {
    /// One that begins now.
    #[must_use]
    pub fn new(id: u32, reading: Reading, window: u32, room: u32) -> Self {
        Self {
            id,
            reading,
            is_sending: true,
            is_held: true,
            is_open: true,
            ended: None,
            is_cut: false,
            window: Window::new(window),
            kept: 0,
            room: Room::new(room),
            interim: VecDeque::new(),
            head: None,
            data: VecDeque::new(),
            trailers: None,
            left: None,
            is_bodyless: false,
            is_answered: false,
            turn: Turn::None,
            had: 0,
            is_short: false,
            reader: None,
            writer: None,
        }
    }

    /// A piece of the body came.
    pub fn push(&mut self, piece: Bytes) {
        if self.data.len() >= APART
            && piece.len() <= SMALL
            && let Some(last) = self.data.pop_back()
        {
            match last.try_into_mut() {
                Ok(mut last) => {
                    last.extend_from_slice(&piece);
                    return self.data.push_back(last.freeze());
                }
                Err(last) => self.data.push_back(last),
            }
        }
        self.data.push_back(piece);
    }

    /// Whether all was taken of what came, and nothing more comes.
    #[must_use]
    pub fn is_taken(&self) -> bool {
        self.reading == Reading::Done && self.data.is_empty() && self.trailers.is_none() && self.ended.is_none()
    }

    /// The head of the answer.
    pub fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<ResponseHead, Ended>> {
        match (self.head.take(), &self.ended) {
            (Some(head), _) => Poll::Ready(Ok(head)),
            (None, Some(ended)) => Poll::Ready(Err(ended.clone())),
            (None, None) => wait(&mut self.reader, cx),
        }
    }

    /// The next piece of the body; `None`: there is none any more.
    pub fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Ended>>> {
        if let Some(piece) = self.data.pop_front() {
            return Poll::Ready(Some(Ok(piece)));
        }
        match (&self.ended, self.reading) {
            (Some(ended), _) => Poll::Ready(Some(Err(ended.clone()))),
            (None, Reading::Done) => Poll::Ready(None),
            (None, _) => wait(&mut self.reader, cx),
        }
    }

    /// Ready when it ended before both sides came to their end. Also that of a request that had come whole: else its work would go on
    /// where no stream counts it.
    pub fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_cut { Poll::Ready(()) } else { wait(&mut self.writer, cx) }
    }

    /// Lets everybody look who waits for it.
    pub fn wake(&mut self) {
        wake(&mut self.reader);
        wake(&mut self.writer);
    }
}

/// Has the task be woken by the next [`wake`].
pub fn wait<T>(waker: &mut Option<Waker>, cx: &mut Context<'_>) -> Poll<T> {
    if waker.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker())) {
        *waker = Some(cx.waker().clone());
    }
    Poll::Pending
}

/// Wakes who waits.
#[inline]
pub fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_small_pieces_cost_no_more_than_their_bytes_and_keep_their_order() {
        let mut stream = Stream::new(1, Reading::Body, 65_535, 65_535);
        for byte in 0..200_u8 {
            stream.push(Bytes::copy_from_slice(&[byte]));
        }
        stream.push(Bytes::from(vec![200; SMALL + 1]));
        assert_eq!(stream.data.len(), APART + 1);
        let mut cx = Context::from_waker(Waker::noop());
        let mut came = Vec::new();
        while let Poll::Ready(Some(Ok(piece))) = stream.poll_data(&mut cx) {
            came.extend_from_slice(&piece);
        }
        let want: Vec<u8> = (0..200).chain(std::iter::repeat_n(200, SMALL + 1)).collect();
        assert!(came == want);
    }
}
