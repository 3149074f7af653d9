//! Read buffers that wait for their next use, on each thread its own: a request that takes up the one that the last
//! request left finds it in the cache, and the allocator has nothing to give back to the system and to fetch anew.

use std::cell::RefCell;

use bytes::BytesMut;

/// The most that a thread keeps: for as many requests at once as are usual, not for a crowd.
const MOST: usize = 64;

thread_local! {
    static SPARE: RefCell<Vec<BytesMut>> = const { RefCell::new(Vec::new()) };
}

/// A buffer with room for this much, if one is at hand.
pub fn take(room: usize) -> Option<BytesMut> {
    SPARE.with_borrow_mut(|spare| spare.pop_if(|buffer| buffer.capacity() >= room))
}

/// Leaves an empty buffer for others, if it has so much room and nobody holds a part of it; `buffer` holds no memory then.
pub fn give_back(buffer: &mut BytesMut, room: usize) {
    let mut left = std::mem::take(buffer);
    if left.capacity() > 0 && left.try_reclaim(room) {
        SPARE.with_borrow_mut(|spare| {
            if spare.len() < MOST {
                spare.push(left);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_that_somebody_holds_a_part_of_is_not_for_others() {
        let mut buffer = BytesMut::with_capacity(64);
        buffer.extend_from_slice(b"held");
        let held = buffer.split().freeze();
        give_back(&mut buffer, 64);
        assert!(take(1).is_none());
        assert_eq!((buffer.capacity(), &held[..]), (0, &b"held"[..]));
    }

    #[test]
    fn a_buffer_comes_back_whole_when_all_parts_of_it_are_gone() {
        let mut buffer = BytesMut::with_capacity(64);
        buffer.extend_from_slice(b"gone");
        drop(buffer.split().freeze());
        give_back(&mut buffer, 64);
        assert!(take(128).is_none());
        let again = take(64).unwrap();
        assert!(again.is_empty() && again.capacity() >= 64);
        assert!(take(1).is_none());
    }
}
