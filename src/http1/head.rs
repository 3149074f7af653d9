//! The field section that requests, responses and trailers share: where it ends, and its lines as fields.
//! Values are slices of the head's own bytes, not copies. What single fields mean is for the callers.

use std::ops::Range;

use bytes::Bytes;
use http::HeaderName;
use thiserror::Error;

use super::{
    among,
    lines::{LineError, Lines},
};
use crate::model::{fields::Fields, names, text::find, value::Value};

/// How large a head may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the whole head: start line, fields and the empty line.
    pub max_head: usize,
    /// Field lines.
    pub max_fields: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_head: 32 * 1024, max_fields: 128 }
    }
}

/// What is wrong with a field section, whatever its fields mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum HeadError {
    /// CRLF ends a line, nothing else does.
    #[error("a line ends in a line feed without a carriage return")]
    BareLineFeed,
    /// Longer than [`Limits::max_head`].
    #[error("the head is too large")]
    TooLarge,
    /// More lines than [`Limits::max_fields`].
    #[error("there are too many header fields")]
    TooManyFields,
    /// A line that begins with a blank; RFC 9112 §5.2 has buried folding.
    #[error("a header line begins with a blank")]
    Folded,
    /// A field line without a colon.
    #[error("a header line has no colon")]
    NoColon,
    /// Empty, or bytes that a token cannot hold; a blank before the colon is one of them.
    #[error("a header name is not a token")]
    Name,
    /// A control byte other than the tab.
    #[error("a header value holds a control byte")]
    Value,
}

impl From<LineError> for HeadError {
    fn from(error: LineError) -> Self {
        match error {
            LineError::BareLineFeed => Self::BareLineFeed,
            LineError::TooLong => Self::TooLarge,
        }
    }
}

/// Counts the field lines of one section until its empty line has come.
#[derive(Debug, Default)]
pub(super) struct Section {
    pub(super) lines: Lines,
    fields: usize,
    /// Where the first lines end, so that they need not be looked for again; 0: not known.
    ends: [u16; ENDS],
}

/// As many lines as most heads have.
const ENDS: usize = 24;

impl Section {
    /// The offset behind the empty line, or `None` when more bytes are needed.
    pub(super) fn end(&mut self, bytes: &[u8], limits: &Limits) -> Result<Option<usize>, HeadError> {
        while let Some(line) = self.lines.next(bytes, limits.max_head)? {
            if line.is_empty() {
                return Ok(Some(self.lines.position()));
            }
            if let Some(end) = self.ends.get_mut(self.fields) {
                *end = u16::try_from(line.end).unwrap_or(0);
            }
            self.fields += 1;
            if self.fields > limits.max_fields {
                return Err(HeadError::TooManyFields);
            }
        }
        Ok(None)
    }

    /// Whether it has no field line.
    pub(super) fn is_bare(&self) -> bool {
        self.fields == 0
    }

    /// Where that field line of a whole section ends which begins at `start` in `head`.
    #[inline]
    fn line_end(&self, line: usize, head: &[u8], start: usize) -> Option<usize> {
        match self.ends.get(line) {
            Some(&end) if end > 0 => Some(usize::from(end)),
            _ => find(&head[start..], b'\n').map(|length| start + length - 1),
        }
    }
}

/// One field as it is read: the caller looks at it and says whether it stays.
pub(super) struct Field<'a> {
    pub(super) name: &'a HeaderName,
    pub(super) value: Value<'a>,
    /// Where the value lies in the head.
    pub(super) range: Range<usize>,
}

/// Reads the complete field section, which begins at `from` and ends `head`, keeping those fields for which `visit` says so.
/// There is room for `room` more in what it gives.
pub(super) fn read_fields<E: From<HeadError>>(
    head: Bytes,
    from: usize,
    section: &Section,
    room: usize,
    mut visit: impl FnMut(Field<'_>) -> Result<bool, E>,
) -> Result<Fields, E> {
    let mut read = Fields::of(head, section.fields + room);
    let mut start = from;
    for line in 0..section.fields {
        let head = read.head();
        let Some(end) = section.line_end(line, head, start) else { break };
        let (length, range) = split_field(head, start, end)?;
        let usual = names::usual(head, start, length);
        // Each is put where it stays before anybody looks at it: to move it once it lies somewhere costs more.
        read.make_room();
        if let Some(name) = usual {
            read.append_read(name, range.clone()).map_err(|_| HeadError::Value)?;
        } else {
            let name = names::read(read.head(), start, length).map_err(|_| HeadError::Name)?;
            read.append_read(name, range.clone()).map_err(|_| HeadError::Value)?;
        }
        start = end + 2;
        if let Some((name, value)) = read.last()
            && !visit(Field { name, value, range })?
        {
            read.pop();
        }
    }
    Ok(read)
}

/// How long the name of the field line there is, and where its value lies without blanks around it.
#[inline]
fn split_field(head: &[u8], start: usize, end: usize) -> Result<(usize, Range<usize>), HeadError> {
    let line = &head[start..end];
    if line.first().is_some_and(|&b| is_blank(b)) {
        return Err(HeadError::Folded);
    }
    let colon = find(line, b':').ok_or(HeadError::NoColon)?;
    let (mut from, mut to) = (start + colon + 1, end);
    while from < to && is_blank(head[from]) {
        from += 1;
    }
    while from < to && is_blank(head[to - 1]) {
        to -= 1;
    }
    Ok((colon, from..to))
}

/// The blanks of RFC 9110's OWS.
pub(super) fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// `bytes` without blanks on both sides.
pub fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = bytes
        && is_blank(*first)
    {
        bytes = rest;
    }
    while let [rest @ .., last] = bytes
        && is_blank(*last)
    {
        bytes = rest;
    }
    bytes
}

/// Whether there are blanks around a value, which HTTP/2 does not take off. Source: RFC 9113 §8.2.1.
#[must_use]
pub fn is_padded(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(|&b| is_blank(b)) || bytes.last().is_some_and(|&b| is_blank(b))
}

/// RFC 9110 §5.6.2.
pub(super) fn is_token(byte: u8) -> bool {
    IS_TOKEN[usize::from(byte)]
}

const IS_TOKEN: [bool; 256] = among(b"!#$%&'*+-.^_`|~");

#[cfg(test)]
mod tests {
    use super::*;

    fn read(section: &[u8]) -> Result<Fields, HeadError> {
        let head = Bytes::copy_from_slice(section);
        let mut section = Section::default();
        let end = section.end(&head, &Limits::default())?.expect("a whole section");
        assert_eq!(end, head.len());
        read_fields(head, 0, &section, 0, |_| Ok(true))
    }

    #[test]
    fn fields_are_read_without_the_blanks_around_them() {
        let headers = read(b"A: 1\r\nb:2\r\nC:\t 3 \t\r\nd:\r\ne: \t \r\na:x y\r\n\r\n").unwrap();
        let all: Vec<_> = headers.iter().map(|(n, v)| (n.as_str(), v.as_bytes())).collect();
        let expected: [(&str, &[u8]); 6] =
            [("a", b"1"), ("b", b"2"), ("c", b"3"), ("d", b""), ("e", b""), ("a", b"x y")];
        assert_eq!(all, expected);
    }

    #[test]
    fn every_rule_for_a_field_line_has_its_error() {
        for (section, error) in [
            (b"a: 1\n\r\n".as_slice(), HeadError::BareLineFeed),
            (b"a: 1\r\n\n", HeadError::BareLineFeed),
            (b"\n", HeadError::BareLineFeed),
            (b" a: 1\r\n\r\n", HeadError::Folded),
            (b"a: 1\r\n b\r\n\r\n", HeadError::Folded),
            (b"a: 1\r\n\tb: 2\r\n\r\n", HeadError::Folded),
            (b"a: 1\r\n \r\n\r\n", HeadError::Folded),
            (b"abc\r\n\r\n", HeadError::NoColon),
            (b": 1\r\n\r\n", HeadError::Name),
            (b"a : 1\r\n\r\n", HeadError::Name),
            (b"a\t: 1\r\n\r\n", HeadError::Name),
            (b"a b: 1\r\n\r\n", HeadError::Name),
            (b"\0a: 1\r\n\r\n", HeadError::Name),
            (b"a\r: 1\r\n\r\n", HeadError::Name),
            (b"a: 1\r\r\n\r\n", HeadError::Value),
            (b"a: 1\rb: 2\r\n\r\n", HeadError::Value),
            (b"a: 1\r \r\n\r\n", HeadError::Value),
            (b"a: \x7f\r\n\r\n", HeadError::Value),
        ] {
            assert_eq!(read(section).unwrap_err(), error, "{}", section.escape_ascii());
        }
    }

    #[test]
    fn names_are_tokens_and_values_hold_no_control_byte() {
        for byte in 0..=255u8 {
            let in_name = read(&[b"a".as_slice(), &[byte], b"b: 1\r\n\r\n"].concat());
            // A colon ends the name and what follows is the value.
            assert_eq!(in_name.is_ok(), is_token(byte) || byte == b':', "byte {byte} in a name");
            let long = [b"a".repeat(70).as_slice(), &[byte], b": 1\r\n\r\n"].concat();
            assert_eq!(read(&long).is_ok(), is_token(byte) || byte == b':', "byte {byte} in a long name");
            let in_value = read(&[b"a: x".as_slice(), &[byte], b"y\r\n\r\n"].concat());
            assert_eq!(in_value.is_ok(), byte == b'\t' || (byte >= 0x20 && byte != 0x7f), "byte {byte} in a value");
        }
    }

    #[test]
    fn sections_are_bounded_before_all_of_them_has_come() {
        let limits = Limits { max_head: 20, max_fields: 2 };
        let end = |bytes: &[u8]| Section::default().end(bytes, &limits);
        assert_eq!(end(b"a: 1\r\nb: 2\r\n\r\n"), Ok(Some(14)));
        assert_eq!(end(b"a: 1\r\nb: 2\r\nc: 3\r\n"), Err(HeadError::TooManyFields));
        assert_eq!(end(b"a: 345678901234\r\n\r\n"), Ok(Some(19)));
        assert_eq!(end(b"a: 3456789012345\r\n\r\n"), Ok(Some(20)));
        assert_eq!(end(b"a: 34567890123456\r\n\r\n"), Err(HeadError::TooLarge));
        assert_eq!(end(b"a: 34567890123456789"), Err(HeadError::TooLarge));
        assert_eq!(end(b"a: 3456789012345678"), Ok(None));
    }
}
