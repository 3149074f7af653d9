//! The value of a field, wherever it lies: in a head that was read, or in one of its own.

use std::{fmt, ops::Range};

use bytes::Bytes;
use http::HeaderValue;

use super::{
    text::{each, words},
    units::MASK,
};

/// Bytes that hold no control byte but the tab, so that no line can be split with them. Source: RFC 9110 §5.5.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Value<'a>(&'a [u8]);

impl<'a> Value<'a> {
    /// Takes bytes that can be one; `None`: they cannot.
    #[inline]
    #[must_use]
    pub fn of(bytes: &'a [u8]) -> Option<Self> {
        is_value(bytes).then_some(Self(bytes))
    }

    /// The bytes.
    #[inline]
    #[must_use]
    pub const fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// The text, where all of it is ASCII that can be seen, blanks and tabs.
    #[inline]
    #[must_use]
    pub fn to_str(self) -> Option<&'a str> {
        let is_ascii = match words(self.0) {
            Some(words) => words.fold(0, |all, word| all | word) & each(0x80) == 0,
            None => self.0.is_ascii(),
        };
        if is_ascii { std::str::from_utf8(self.0).ok() } else { None }
    }

    /// How many bytes it has.
    #[inline]
    #[must_use]
    pub const fn len(self) -> usize {
        self.0.len()
    }

    /// Whether it has none.
    #[inline]
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0.is_empty()
    }
}

/// A value as people may see it: not at all where it is marked as one that nobody may.
#[must_use]
pub fn shown(value: &HeaderValue) -> String {
    if value.is_sensitive() { MASK.into() } else { String::from_utf8_lossy(value.as_bytes()).into_owned() }
}

/// Whether all bytes may stand in a value.
#[inline]
fn is_value(bytes: &[u8]) -> bool {
    let is_plain = words(bytes).is_some_and(|mut words| words.all(is_plain));
    is_plain || bytes.iter().all(|&b| b == b'\t' || (b >= b' ' && b != DELETE))
}

/// Whether eight bytes hold no control byte at all, not even the tab.
#[inline]
fn is_plain(word: u64) -> bool {
    let deletes = word ^ each(DELETE);
    // A byte below what is taken from it borrows the upper bit, which it did not have.
    let below = word.wrapping_sub(each(b' ')) & !word;
    let zero = deletes.wrapping_sub(each(1)) & !deletes;
    (below | zero) & each(0x80) == 0
}

const DELETE: u8 = 0x7f;

/// A value as it is kept.
#[derive(Clone)]
pub(super) enum Stored {
    /// It lies there in the head. HTTP/2 may have sent it as one that no table may hold.
    Read { place: Range<u32>, is_secret: bool },
    /// One that was added, or that came by HTTP/2.
    Own(HeaderValue),
}

impl Stored {
    #[inline]
    pub(super) fn value<'a>(&'a self, head: &'a [u8]) -> Value<'a> {
        match self {
            Self::Read { place, .. } => Value(head.get(wide(place)).unwrap_or_default()),
            Self::Own(value) => value.into(),
        }
    }

    /// Whether no table may hold it. Source: RFC 7541 §7.1.3.
    #[inline]
    pub(super) fn is_secret(&self) -> bool {
        match self {
            Self::Read { is_secret, .. } => *is_secret,
            Self::Own(value) => value.is_sensitive(),
        }
    }

    /// Takes the blanks around it off.
    #[inline]
    pub(super) fn strip(&mut self, head: &Bytes) {
        let bytes = self.value(head).0;
        let is_blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
        if !is_blank(bytes.first()) && !is_blank(bytes.last()) {
            return;
        }
        let before = bytes.iter().take_while(|&byte| is_blank(Some(byte))).count();
        let behind = bytes[before..].iter().rev().take_while(|&byte| is_blank(Some(byte))).count();
        let bare = before..bytes.len() - behind;
        *self = match &*self {
            Self::Read { place, is_secret } => {
                let end = |end: usize| u32::try_from(end).map_or(place.end, |end| place.start + end);
                Self::Read { place: end(bare.start)..end(bare.end), is_secret: *is_secret }
            }
            Self::Own(value) => {
                let mut own = HeaderValue::from_bytes(&bytes[bare]).unwrap_or(HeaderValue::from_static(""));
                own.set_sensitive(value.is_sensitive());
                Self::Own(own)
            }
        };
    }

    pub(super) fn into_owned(self, head: &Bytes) -> HeaderValue {
        match self {
            Self::Read { place, is_secret } => {
                // It was looked at when it was read.
                let value = HeaderValue::from_maybe_shared(head.slice(wide(&place)));
                let mut value = value.unwrap_or(HeaderValue::from_static(""));
                value.set_sensitive(is_secret);
                value
            }
            Self::Own(value) => value,
        }
    }
}

#[inline]
fn wide(range: &Range<u32>) -> Range<usize> {
    range.start as usize..range.end as usize
}

impl<'a> From<&'a HeaderValue> for Value<'a> {
    #[inline]
    fn from(value: &'a HeaderValue) -> Self {
        Self(value.as_bytes())
    }
}

impl PartialEq<HeaderValue> for Value<'_> {
    fn eq(&self, other: &HeaderValue) -> bool {
        self.0 == other.as_bytes()
    }
}

impl PartialEq<str> for Value<'_> {
    fn eq(&self, other: &str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl PartialEq<&str> for Value<'_> {
    fn eq(&self, other: &&str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_in_every_place_is_taken_as_the_library_takes_it() {
        for length in 1..=25 {
            for at in 0..length {
                for byte in 0..=255 {
                    for rest in [b'x', b'\t', 0xff, 0x80] {
                        let mut bytes = vec![rest; length];
                        bytes[at] = byte;
                        let value = HeaderValue::from_bytes(&bytes).ok();
                        assert_eq!(Value::of(&bytes), value.as_ref().map(Value::from), "{}", bytes.escape_ascii());
                        let text = value.as_ref().and_then(|value| value.to_str().ok());
                        assert_eq!(Value::of(&bytes).and_then(Value::to_str), text, "{}", bytes.escape_ascii());
                    }
                }
            }
        }
        assert_eq!(Value::of(b"").map(Value::len), Some(0));
    }

    #[test]
    fn to_know_which_value_is_secret_takes_no_room() {
        assert_eq!(size_of::<Stored>(), size_of::<HeaderValue>());
    }

    #[test]
    fn what_is_not_ascii_is_no_text_wherever_it_stands() {
        for length in 0..20 {
            let plain = "a".repeat(length);
            assert_eq!(Value::of(plain.as_bytes()).unwrap().to_str(), Some(plain.as_str()));
            for at in 0..length {
                let odd = format!("{}ü{}", &plain[..at], &plain[at..]);
                assert_eq!(Value::of(odd.as_bytes()).unwrap().to_str(), None, "{odd}");
            }
        }
    }
}
