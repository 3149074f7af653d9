//! Memory that waits for its next use, on each thread its own: what the last request left lies in the cache, and the allocator
//! has nothing to give back to the system and to fetch anew.

use std::cell::RefCell;

use bytes::BytesMut;

/// The most of each kind that a thread keeps: for as many requests at once as are usual, not for a crowd.
const MOST: usize = 64;
/// A read buffer that has grown beyond this, in bytes, is not kept: a head may be as large as the configuration says.
const LARGEST: usize = 64 * 1024;
/// How many of those that were left last are looked at.
const LOOKED_AT: usize = 4;

thread_local! {
    static BUFFERS: RefCell<Vec<BytesMut>> = const { RefCell::new(Vec::new()) };
    static TEXTS: RefCell<[Vec<Vec<u8>>; ROOMS.len()]> = const { RefCell::new([Vec::new(), Vec::new()]) };
}

/// A read buffer with room for this much, if one is at hand.
pub fn take(room: usize) -> Option<BytesMut> {
    BUFFERS.with_borrow_mut(|spare| {
        let from = spare.len().saturating_sub(LOOKED_AT);
        if let Some(at) = spare[from..].iter_mut().rposition(|buffer| buffer.try_reclaim(room)) {
            return Some(spare.swap_remove(from + at));
        }
        let looked_at = spare.len() - from;
        spare.rotate_right(looked_at); // others are looked at the next time
        None
    })
}

/// Leaves a read buffer for others, who get it once nobody holds a part of it; `buffer` holds no memory then. One with something
/// unread stays what it is.
pub fn give_back(buffer: &mut BytesMut) {
    if !buffer.is_empty() {
        return;
    }
    let left = std::mem::take(buffer);
    if (1..=LARGEST).contains(&left.capacity()) {
        BUFFERS.with_borrow_mut(|spare| {
            if spare.len() < MOST {
                spare.push(left);
            }
        });
    }
}

/// An empty text with room for this much, for what is to be written.
#[must_use]
pub fn text(room: usize) -> Vec<u8> {
    let Some(kind) = ROOMS.iter().position(|&kept| room <= kept) else { return Vec::with_capacity(room) };
    let spare = TEXTS.with_borrow_mut(|spare| spare[kind].pop());
    spare.unwrap_or_else(|| Vec::with_capacity(ROOMS[kind]))
}

/// Leaves a text for others; `text` holds no memory then.
pub fn give_back_text(text: &mut Vec<u8>) {
    let mut left = std::mem::take(text);
    let Some(kind) = ROOMS.iter().position(|&kept| (kept..=2 * kept).contains(&left.capacity())) else { return };
    left.clear();
    TEXTS.with_borrow_mut(|spare| {
        if spare[kind].len() < MOST {
            spare[kind].push(left);
        }
    });
}

/// Room for most heads, with a small body; and with the largest that is copied behind one.
const ROOMS: [usize; 2] = [2 * 1024, 16 * 1024];

#[cfg(test)]
mod tests {
    use super::*;

    fn buffer() -> BytesMut {
        let mut buffer = BytesMut::with_capacity(64);
        buffer.extend_from_slice(b"read");
        buffer
    }

    #[test]
    fn a_buffer_is_for_others_once_nobody_holds_a_part_of_it() {
        let mut left = buffer();
        let held = left.split().freeze();
        give_back(&mut left);
        assert!(take(64).is_none());
        assert_eq!((left.capacity(), &held[..]), (0, &b"read"[..]));
        drop(held);
        assert!(take(128).is_none());
        let again = take(64).unwrap();
        assert!(again.is_empty() && again.capacity() >= 64);
        assert!(take(1).is_none());
    }

    #[test]
    fn what_is_held_for_long_hides_no_others() {
        let mut free = buffer();
        free.clear();
        give_back(&mut free);
        let held: Vec<_> = (0..3 * LOOKED_AT)
            .map(|_| {
                let mut left = buffer();
                let held = left.split().freeze();
                give_back(&mut left);
                held
            })
            .collect();
        let tries = (0..10).position(|_| take(64).is_some());
        assert_eq!(tries, Some(3), "four at a time, those left last at first");
        drop(held);
        assert!(take(64).is_some());
    }

    #[test]
    fn a_buffer_with_something_unread_and_a_large_one_are_for_nobody() {
        let mut unread = buffer();
        give_back(&mut unread);
        assert!(take(1).is_none() && unread == "read");
        give_back(&mut BytesMut::with_capacity(LARGEST + 1));
        assert!(take(1).is_none());
        give_back(&mut BytesMut::with_capacity(LARGEST));
        assert!(take(1).is_some());
    }

    #[test]
    fn texts_are_empty_and_those_of_an_odd_size_are_not_kept() {
        let mut least = 1;
        for room in ROOMS {
            let mut written = text(least);
            written.extend_from_slice(b"written");
            let place = written.as_ptr();
            give_back_text(&mut written);
            assert_eq!(written.capacity(), 0);
            let again = text(room);
            assert!(again.is_empty() && again.capacity() >= room && again.as_ptr() == place);
            for odd in [room / 2, 3 * room] {
                give_back_text(&mut Vec::with_capacity(odd));
                assert!(TEXTS.with_borrow(|spare| spare.iter().all(Vec::is_empty)));
            }
            least = room + 1;
        }
        assert!(text(least).capacity() >= least);
    }
}
