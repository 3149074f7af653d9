//! What waits to be sent on a connection: frames in the order in which they were written. Small ones are copied together, and
//! a large piece of a body lies where it is.

use std::{collections::VecDeque, io::IoSlice};

use bytes::{Buf, Bytes};

/// What waits.
#[derive(Debug, Default)]
pub struct Out {
    pieces: VecDeque<Bytes>,
    /// Behind all pieces.
    text: Vec<u8>,
    /// Of `text`, what has left.
    sent: usize,
    /// Bytes in `pieces`.
    held: usize,
}

/// A piece of this size is not copied.
const LARGE: usize = 4 * 1024;
/// So few bytes are copied, lest they hold all the room that was meant for more.
const FEW: usize = 512;
/// The most slices that are told at once.
const SLICES: usize = 16;

impl Out {
    /// Bytes that wait.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.held + self.text.len() - self.sent
    }

    /// Where frames are appended.
    #[inline]
    pub fn text(&mut self) -> &mut Vec<u8> {
        &mut self.text
    }

    /// The memory for what is appended, given and taken back by who has some to spare; only while nothing waits.
    pub fn swap_text(&mut self, text: &mut Vec<u8>) {
        if self.len() == 0 {
            self.text.clear();
            self.sent = 0;
            std::mem::swap(&mut self.text, text);
        }
    }

    /// Appends a piece of a body.
    pub fn push(&mut self, piece: Bytes) {
        if piece.len() < LARGE {
            return self.text.extend_from_slice(&piece);
        }
        self.seal();
        self.held += piece.len();
        self.pieces.push_back(piece);
    }

    /// What was written so far comes before what is pushed next.
    fn seal(&mut self) {
        let sent = std::mem::take(&mut self.sent);
        let text = if self.text.len() - sent <= FEW {
            let text = Bytes::copy_from_slice(&self.text[sent..]);
            self.text.clear();
            text
        } else {
            let mut text = Bytes::from(std::mem::take(&mut self.text));
            text.advance(sent);
            text
        };
        if !text.is_empty() {
            self.held += text.len();
            self.pieces.push_back(text);
        }
    }

    /// What comes next, as slices; and how many there are.
    #[must_use]
    pub fn slices(&self) -> ([IoSlice<'_>; SLICES], usize) {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let mut count = 0;
        let text = &self.text[self.sent..];
        let last = (!text.is_empty()).then_some(text);
        for (slice, bytes) in slices.iter_mut().zip(self.pieces.iter().map(|piece| &piece[..]).chain(last)) {
            *slice = IoSlice::new(bytes);
            count += 1;
        }
        (slices, count)
    }

    /// So many of these bytes have left.
    pub fn took(&mut self, mut bytes: usize) {
        while let Some(piece) = self.pieces.front_mut() {
            if bytes < piece.len() {
                piece.advance(bytes);
                self.held -= bytes;
                return;
            }
            bytes -= piece.len();
            self.held -= piece.len();
            self.pieces.pop_front();
        }
        self.sent += bytes;
        // There may be something behind it at all times, where the other side is slow.
        if self.sent >= LARGE && self.sent >= self.text.len() / 2 {
            self.text.drain(..std::mem::take(&mut self.sent));
        }
    }

    /// Gives up what waits.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_bytes_leave_in_order_whatever_their_sizes_and_however_many_are_taken() {
        let sizes = [1, 5_000, 3, LARGE, LARGE - 1, 20_000, 2, 9];
        let all: Vec<u8> = (0..=250).cycle().take(sizes.iter().sum()).collect();
        for step in [1, 7, 1000, 4099, 1 << 20] {
            let (mut out, mut at) = (Out::default(), 0);
            let mut came = Vec::new();
            for size in sizes {
                out.push(Bytes::copy_from_slice(&all[at..at + size]));
                at += size;
                assert_eq!(out.len(), at - came.len());
                // Some leave while others come.
                take(&mut out, step.min(3000), &mut came);
            }
            while out.len() > 0 {
                take(&mut out, step, &mut came);
            }
            assert!(came == all, "{step} at once");
        }
    }

    #[test]
    fn what_never_leaves_to_the_last_byte_takes_no_more_room_for_that() {
        let mut out = Out::default();
        out.push(Bytes::from_static(b"the first of many"));
        for _ in 0..100_000 {
            out.push(Bytes::from_static(b"small"));
            out.took(5);
        }
        assert_eq!(out.len(), 17);
        assert!(out.text.capacity() <= 4 * LARGE, "{}", out.text.capacity());
    }

    fn take(out: &mut Out, step: usize, came: &mut Vec<u8>) {
        let (slices, count) = out.slices();
        let bytes: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.iter().copied()).take(step).collect();
        out.took(bytes.len());
        came.extend(bytes);
    }
}
