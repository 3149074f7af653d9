//! The streams of a connection: those that are open by their numbers, all that anybody holds by their places; and how the last
//! ones ended, for what still comes on them.

use std::{
    collections::{HashMap, VecDeque},
    ops::{Index, IndexMut},
};

use foldhash::fast::RandomState;

use super::stream::Stream;

/// Streams.
#[derive(Debug, Default)]
pub struct Streams {
    slots: Vec<Option<Stream>>,
    free: Vec<usize>,
    open: HashMap<u32, usize, RandomState>,
    closed: VecDeque<(u32, How)>,
    /// Whether there was more to remember than is remembered.
    has_forgotten: bool,
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// Both sides came to their end.
    Whole,
    /// The other side reset it.
    ByOther,
    /// This side did, of which the other may not have heard yet.
    ByUs,
}

/// Of so many the end is remembered.
const REMEMBERED: usize = 128;

impl Streams {
    /// How many are open.
    #[inline]
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.len()
    }

    /// Whether there is none, neither open nor held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.free.len() == self.slots.len()
    }

    /// Where the open one with this number is.
    #[inline]
    #[must_use]
    pub fn find(&self, id: u32) -> Option<usize> {
        self.open.get(&id).copied()
    }

    /// Adds one, and says where.
    pub fn insert(&mut self, stream: Stream) -> usize {
        let id = stream.id;
        let at = self.free.pop().unwrap_or(self.slots.len());
        match self.slots.get_mut(at) {
            Some(slot) => *slot = Some(stream),
            None => self.slots.push(Some(stream)),
        }
        self.open.insert(id, at);
        at
    }

    /// No frame belongs to it any more.
    pub fn close(&mut self, at: usize, how: How) {
        let Some(stream) = self.slots.get_mut(at).and_then(Option::as_mut) else { return };
        if !std::mem::replace(&mut stream.is_open, false) {
            return;
        }
        let (id, is_held) = (stream.id, stream.is_held);
        self.open.remove(&id);
        self.remember(id, how);
        if !is_held {
            self.forget(at);
        }
    }

    /// The end of one that has no place here.
    pub fn remember(&mut self, id: u32, how: How) {
        if self.closed.len() == REMEMBERED {
            self.closed.pop_front();
            self.has_forgotten = true;
        }
        self.closed.push_back((id, how));
    }

    /// How it ended; `None`: it never began, as far as is known.
    #[must_use]
    pub fn how(&self, id: u32) -> Option<How> {
        let known = self.closed.iter().rev().find(|(closed, _)| *closed == id).map(|(_, how)| *how);
        known.or_else(|| self.has_forgotten.then_some(How::ByOther))
    }

    /// Nobody holds it any more: its place is free once it is closed.
    pub fn let_go(&mut self, at: usize) {
        let Some(stream) = self.slots.get_mut(at).and_then(Option::as_mut) else { return };
        stream.is_held = false;
        if !stream.is_open {
            self.forget(at);
        }
    }

    fn forget(&mut self, at: usize) {
        self.slots[at] = None;
        self.free.push(at);
        if self.is_empty() {
            // A connection at rest holds no memory for what it had, which costs less than the rest of a request by far.
            (self.slots, self.free, self.open) = Default::default();
        }
    }

    /// The places of all that are open.
    #[must_use]
    pub fn places(&self) -> Vec<usize> {
        self.open.values().copied().collect()
    }
}

impl Index<usize> for Streams {
    type Output = Stream;

    #[inline]
    #[expect(clippy::expect_used, reason = "who holds a place holds the stream in it")]
    fn index(&self, at: usize) -> &Stream {
        self.slots[at].as_ref().expect("a place is given back by its holder alone")
    }
}

impl IndexMut<usize> for Streams {
    #[inline]
    #[expect(clippy::expect_used, reason = "who holds a place holds the stream in it")]
    fn index_mut(&mut self, at: usize) -> &mut Stream {
        self.slots[at].as_mut().expect("a place is given back by its holder alone")
    }
}

#[cfg(test)]
mod tests {
    use super::{super::stream::Reading, *};

    fn stream(id: u32) -> Stream {
        Stream::new(id, Reading::Body, 1, 1)
    }

    #[test]
    fn a_place_is_free_once_its_stream_is_closed_and_nobody_holds_it() {
        let mut streams = Streams::default();
        let (one, two) = (streams.insert(stream(1)), streams.insert(stream(3)));
        assert_eq!((streams.open(), streams.find(3)), (2, Some(two)));
        streams.close(one, How::Whole);
        streams.let_go(two);
        assert_eq!((streams.open(), streams.find(1), streams[one].id), (1, None, 1));
        assert_eq!(streams.insert(stream(5)), 2);
        streams.let_go(one);
        streams.close(two, How::ByUs);
        assert_eq!([streams.insert(stream(7)), streams.insert(stream(9))], [two, one]);
        assert_eq!([1, 3, 5].map(|id| streams.how(id)), [Some(How::Whole), Some(How::ByUs), None]);
    }

    #[test]
    fn the_last_ends_are_remembered_and_a_quiet_connection_holds_little() {
        let mut streams = Streams::default();
        for id in 0..1000 {
            let at = streams.insert(stream(id));
            if id % 100 == 0 {
                streams.close(at, How::ByUs);
                streams.let_go(at);
            }
        }
        let all = streams.places();
        for at in all {
            streams.close(at, How::Whole);
            streams.let_go(at);
        }
        assert_eq!((streams.slots.capacity(), streams.open.capacity()), (0, 0));
        assert_eq!(streams.closed.len(), REMEMBERED);
        assert_eq!(streams.how(100_000), Some(How::ByOther), "there may have been one");
    }
}
