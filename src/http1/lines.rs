//! Cuts bytes into lines that end in CRLF, remembering how far it has looked.
//! What a line means is for `head`, `request`, `response` and `chunk`.

use std::ops::Range;

use crate::model::text::each;

/// A cursor over the lines at the front of a buffer that grows between calls.
#[derive(Debug, Default)]
pub(super) struct Lines {
    start: usize,
    scanned: usize,
}

/// Why the bytes are no line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LineError {
    BareLineFeed,
    TooLong,
}

impl Lines {
    /// The next line without its CRLF, or `None` when more bytes are needed. A line must end within the first `max` bytes.
    ///
    /// The length is judged before the ending, so that the verdict does not depend on how the bytes were split over reads.
    #[inline]
    pub(super) fn next(&mut self, bytes: &[u8], max: usize) -> Result<Option<Range<usize>>, LineError> {
        let seen = bytes.len().min(max);
        let Some(at) = bytes.get(self.scanned..seen).and_then(|unseen| find(unseen, b'\n')) else {
            self.scanned = self.scanned.max(seen);
            return if bytes.len() >= max { Err(LineError::TooLong) } else { Ok(None) };
        };
        let end = self.scanned + at;
        if end == self.start || bytes[end - 1] != b'\r' {
            return Err(LineError::BareLineFeed);
        }
        let line = self.start..end - 1;
        self.start = end + 1;
        self.scanned = end + 1;
        Ok(Some(line))
    }

    /// Where the line begins that `next` has not given yet.
    pub(super) fn position(&self) -> usize {
        self.start
    }
}

/// Where the first byte of this value is. Eight at a time: a head is scanned once before it is parsed, and this keeps that pass
/// below a tenth of the whole.
#[inline]
pub(super) fn find(bytes: &[u8], sought: u8) -> Option<usize> {
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let differs = u64::from_le_bytes(*word) ^ each(sought);
        let zeros = differs.wrapping_sub(each(1)) & !differs & each(0x80);
        if zeros != 0 {
            return Some(index * 8 + zeros.trailing_zeros() as usize / 8);
        }
    }
    rest.iter().position(|&b| b == sought).map(|at| words.len() * 8 + at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_a_byte_is_found_at_every_offset_beside_every_byte() {
        for sought in [b'\n', b':', 0xff] {
            for (other, len) in (0..=255u8).flat_map(|other| (0..20).map(move |len| (other, len))) {
                for at in 0..len {
                    let mut bytes = vec![other; len];
                    bytes[at] = sought;
                    let expected = if other == sought { 0 } else { at };
                    assert_eq!(find(&bytes, sought), Some(expected), "{sought} beside {other}, length {len}, at {at}");
                }
            }
        }
        assert_eq!(find(b"no end in this line", b'\n'), None);
    }

    #[test]
    fn lines_end_in_crlf_alone_and_within_the_limit() {
        let next = |bytes: &[u8], max| Lines::default().next(bytes, max);
        assert_eq!(next(b"ab\r\ncd", 100), Ok(Some(0..2)));
        assert_eq!(next(b"\r\n", 100), Ok(Some(0..0)));
        assert_eq!(next(b"ab\r", 100), Ok(None));
        assert_eq!(next(b"ab\n", 100), Err(LineError::BareLineFeed));
        assert_eq!(next(b"\n", 100), Err(LineError::BareLineFeed));
        assert_eq!(next(b"ab\r\n", 4), Ok(Some(0..2)));
        assert_eq!(next(b"abc\r\n", 4), Err(LineError::TooLong));
        assert_eq!(next(b"abc\r", 4), Err(LineError::TooLong));
        assert_eq!(next(b"abc\n", 3), Err(LineError::TooLong));
        assert_eq!(next(b"abc", 4), Ok(None));
    }

    #[test]
    fn a_line_that_comes_byte_by_byte_is_looked_at_once() {
        let mut lines = Lines::default();
        let bytes = b"first\r\nsecond\r\n";
        let mut found = Vec::new();
        for end in 0..=bytes.len() {
            while let Some(line) = lines.next(&bytes[..end], 100).unwrap() {
                found.push(&bytes[line]);
            }
            assert_eq!(lines.scanned, end);
        }
        assert_eq!(found, [b"first".as_slice(), b"second"]);
        assert_eq!(lines.position(), bytes.len());
    }
}
