//! The value of a field. Most are short and lie in the value itself: a piece of the head that they came with would have to be counted
//! when it is taken and when it goes, and to count across threads costs more than to copy so little.

use std::{fmt, ops::Range, str::from_utf8};

use bytes::{Bytes, BytesMut};
use http::HeaderValue;

/// Bytes without control bytes but the tab. Source: RFC 9110 §5.5.
#[derive(Clone)]
pub struct Value(Kind);

#[derive(Clone)]
enum Kind {
    /// With blanks behind it, and at last its length and whether it is [`UNIQUE`].
    Short([u8; LONGEST + 1]),
    Long(HeaderValue),
}

/// Of a short one, in bytes.
const LONGEST: usize = 31;
/// Beside the length of a short one: it never comes again.
const UNIQUE: u8 = 0x80;

/// What no value may hold, or no text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a value holds a byte that it cannot hold")]
pub struct BadByte;

impl Value {
    /// Text that is known to be one.
    ///
    /// # Panics
    /// It is none.
    #[must_use]
    pub const fn from_static(text: &'static str) -> Self {
        Self(Kind::Long(HeaderValue::from_static(text)))
    }

    /// A copy of these bytes.
    ///
    /// # Errors
    /// There is a control byte among them.
    #[inline]
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BadByte> {
        match short(bytes) {
            Some(short) => Ok(Self(Kind::Short(short?))),
            None => HeaderValue::from_bytes(bytes).map(Self::from).map_err(|_| BadByte),
        }
    }

    /// These bytes, shared where they are many.
    ///
    /// # Errors
    /// There is a control byte among them.
    #[inline]
    pub fn of(all: &Bytes, range: Range<usize>) -> Result<Self, BadByte> {
        match short(&all[range.clone()]) {
            Some(short) => Ok(Self(Kind::Short(short?))),
            None => HeaderValue::from_maybe_shared(all.slice(range)).map(Self::from).map_err(|_| BadByte),
        }
    }

    /// The bytes.
    #[inline]
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Kind::Short(short) => &short[..usize::from(short[LONGEST] & !UNIQUE).min(LONGEST)],
            Kind::Long(long) => long.as_bytes(),
        }
    }

    /// The same as text.
    ///
    /// # Errors
    /// There are others among them than those of ASCII.
    pub fn to_str(&self) -> Result<&str, BadByte> {
        match &self.0 {
            Kind::Short(_) => {
                Some(self.as_bytes()).filter(|bytes| bytes.is_ascii()).and_then(|bytes| from_utf8(bytes).ok())
            }
            Kind::Long(long) => long.to_str().ok(),
        }
        .ok_or(BadByte)
    }

    /// How many bytes there are.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.as_bytes().len()
    }

    /// Whether there are none.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.as_bytes().is_empty()
    }

    /// The same as one that never comes again, which is of no use in a table of those that did. Source: RFC 7541 §6.2.3.
    #[must_use]
    pub fn unique(mut self) -> Self {
        match &mut self.0 {
            Kind::Short(short) => short[LONGEST] |= UNIQUE,
            Kind::Long(long) => long.set_sensitive(true),
        }
        self
    }

    /// As HTTP/2 has it.
    #[must_use]
    pub fn to_header(&self) -> HeaderValue {
        let empty = HeaderValue::from_static(""); // it holds nothing that the library would not take
        self.clone().into_header(&mut BytesMut::new()).unwrap_or(empty)
    }

    /// Whether it lies in the value itself.
    #[inline]
    pub(super) fn is_short(&self) -> bool {
        matches!(self.0, Kind::Short(_))
    }

    /// As HTTP/2 has it; a short one is put into `memory`. It holds nothing that the library would not take.
    #[inline]
    pub(super) fn into_header(self, memory: &mut BytesMut) -> Option<HeaderValue> {
        match self.0 {
            Kind::Long(long) => Some(long),
            Kind::Short(short) => {
                memory.extend_from_slice(self.as_bytes());
                let mut value = HeaderValue::from_maybe_shared(memory.split().freeze()).ok()?;
                value.set_sensitive(short[LONGEST] & UNIQUE != 0);
                Some(value)
            }
        }
    }
}

/// How a short value is kept; `None`: it is long.
#[inline]
fn short(bytes: &[u8]) -> Option<Result<[u8; LONGEST + 1], BadByte>> {
    let mut short = [b' '; LONGEST + 1];
    short[..LONGEST].get_mut(..bytes.len())?.copy_from_slice(bytes);
    // All of them, without a look at the length: eight or sixteen at once.
    let bad = |b: u8| u8::from(b < b' ') & u8::from(b != b'\t') | u8::from(b == 0x7f);
    let is_bad = short.iter().fold(0, |seen, &b| seen | bad(b)) != 0;
    short[LONGEST] = u8::try_from(bytes.len()).ok()?;
    Some(if is_bad { Err(BadByte) } else { Ok(short) })
}

impl From<HeaderValue> for Value {
    #[inline]
    fn from(value: HeaderValue) -> Self {
        Self(Kind::Long(value))
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        HeaderValue::from(number).into()
    }
}

impl TryFrom<String> for Value {
    type Error = BadByte;

    fn try_from(text: String) -> Result<Self, BadByte> {
        Self::from_bytes(text.as_bytes())
    }
}

impl std::str::FromStr for Value {
    type Err = BadByte;

    fn from_str(text: &str) -> Result<Self, BadByte> {
        Self::from_bytes(text.as_bytes())
    }
}

impl PartialEq for Value {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Value {}

impl PartialEq<HeaderValue> for Value {
    fn eq(&self, other: &HeaderValue) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl PartialEq<str> for Value {
    fn eq(&self, other: &str) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl PartialEq<&str> for Value {
    fn eq(&self, other: &&str) -> bool {
        self == *other
    }
}

impl PartialEq<String> for Value {
    fn eq(&self, other: &String) -> bool {
        self == other.as_str()
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.as_bytes().escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_what_the_library_takes_for_one_whatever_its_length() {
        for length in [0, 1, 2, LONGEST - 1, LONGEST, LONGEST + 1, 100] {
            for byte in 0..=255u8 {
                for at in [0, length / 2, length.saturating_sub(1)] {
                    let mut bytes = vec![b'a'; length];
                    if let Some(there) = bytes.get_mut(at) {
                        *there = byte;
                    }
                    let (mine, theirs) = (Value::from_bytes(&bytes), HeaderValue::from_bytes(&bytes));
                    let shared = Value::of(&Bytes::from([b"\0", &bytes[..], b"\0"].concat()), 1..length + 1);
                    assert_eq!(mine, shared);
                    assert_eq!(
                        mine.as_ref().ok().map(Value::as_bytes),
                        theirs.as_ref().ok().map(HeaderValue::as_bytes)
                    );
                    let Ok((mine, theirs)) = mine.and_then(|mine| Ok((mine, theirs.map_err(|_| BadByte)?))) else {
                        continue;
                    };
                    assert_eq!(mine.to_str().ok(), theirs.to_str().ok(), "{mine:?}");
                    assert_eq!((mine.len(), mine.is_empty()), (length, length == 0));
                    assert!(mine == theirs);
                    let long = Value::from(theirs.clone());
                    assert_eq!(mine, long);
                    for value in [mine, long] {
                        assert!(!value.to_header().is_sensitive() && value.to_header() == theirs);
                        let unique = value.unique();
                        assert!(unique.to_header().is_sensitive() && unique == theirs);
                    }
                }
            }
        }
    }

    #[test]
    fn a_short_value_takes_no_more_room_than_a_long_one() {
        assert_eq!(size_of::<Value>(), size_of::<HeaderValue>());
    }
}
