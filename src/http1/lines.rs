//! Cuts bytes into lines that end in CRLF, remembering how far it has looked.
//! What a line means is for `head`, `request`, `response` and `chunk`.

use std::ops::Range;

use crate::model::text::find;

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

#[cfg(test)]
mod tests {
    use super::*;

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
