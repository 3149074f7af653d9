//! Where a message ends and whether its connection goes on: Content-Length, Transfer-Encoding and Connection.

use http::{
    HeaderName, Version,
    header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING},
};
use thiserror::Error;

use super::head::{Field, trim};
use crate::model::fields::Fields;

/// How much body follows a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// None, and none was announced.
    Empty,
    /// So many bytes; zero is one that was said.
    Exact(u64),
    /// In chunks, perhaps with trailers.
    Chunked,
    /// All that comes until the peer closes; responses only.
    UntilClose,
}

/// Why nobody can say for certain where the message ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FramingError {
    /// Signed, empty, a list, not digits, or more than 2^63 - 1.
    #[error("the Content-Length is not a number of bytes")]
    ContentLength,
    /// Also where both say the same: RFC 9112 §6.3 lets us choose, and refusing cannot be misread.
    #[error("there is more than one Content-Length")]
    RepeatedContentLength,
    /// Anything but a single `chunked`.
    #[error("the Transfer-Encoding is not `chunked` alone")]
    TransferEncoding,
    /// The way requests are smuggled.
    #[error("there are both a Content-Length and a Transfer-Encoding")]
    Both,
    /// HTTP/1.0 knows no transfer codings.
    #[error("there is a Transfer-Encoding in an HTTP/1.0 message")]
    TransferEncodingInHttp10,
}

/// The fields, also those behind the body, that `Connection` says belong to it (RFC 9110 §7.6.1); except the host, for a
/// request without one is for nobody.
#[must_use]
pub fn nominated(fields: &Fields) -> Vec<HeaderName> {
    let options = fields.get_all(CONNECTION).flat_map(|value| value.as_bytes().split(|&b| b == b','));
    options.filter_map(|name| HeaderName::from_bytes(trim(name)).ok()).filter(|name| *name != HOST).collect()
}

/// What the fields of one head say about framing.
#[derive(Debug, Default)]
pub(super) struct Facts {
    content_length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
}

impl Facts {
    /// Takes note of one field.
    #[inline]
    pub(super) fn note(&mut self, field: &Field<'_>) -> Result<(), FramingError> {
        if *field.name == CONTENT_LENGTH {
            let bytes = number(field.value.as_bytes()).ok_or(FramingError::ContentLength)?;
            if self.content_length.replace(bytes).is_some() {
                return Err(FramingError::RepeatedContentLength);
            }
        } else if *field.name == TRANSFER_ENCODING {
            if self.chunked || !field.value.as_bytes().eq_ignore_ascii_case(b"chunked") {
                return Err(FramingError::TransferEncoding);
            }
            self.chunked = true;
        } else if *field.name == CONNECTION {
            for option in field.value.as_bytes().split(|&b| b == b',').map(trim) {
                self.close |= option.eq_ignore_ascii_case(b"close");
                self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
            }
        }
        Ok(())
    }

    /// The body that the fields announce, or `None` where they are silent.
    pub(super) fn length(&self, version: Version) -> Result<Option<Length>, FramingError> {
        match (self.chunked, self.content_length) {
            (true, Some(_)) => Err(FramingError::Both),
            (true, None) if version == Version::HTTP_10 => Err(FramingError::TransferEncodingInHttp10),
            (true, None) => Ok(Some(Length::Chunked)),
            (false, Some(bytes)) => Ok(Some(Length::Exact(bytes))),
            (false, None) => Ok(None),
        }
    }

    /// What the Content-Length said.
    pub(super) fn content_length(&self) -> Option<u64> {
        self.content_length
    }

    /// Whether the peer wants to go on with the connection. Source: RFC 9112 §9.3.
    pub(super) fn keep_alive(&self, version: Version) -> bool {
        !self.close && (version != Version::HTTP_10 || self.keep_alive)
    }
}

/// Digits alone, and below 2^63: others read a length into a signed number.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    let mut number = 0u64;
    for &digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        number = number.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
    }
    (number <= i64::MAX.unsigned_abs()).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_digits_that_fit() {
        for (digits, expected) in [
            ("0", Some(0)),
            ("42", Some(42)),
            ("007", Some(7)),
            ("9223372036854775807", Some(9_223_372_036_854_775_807)),
            ("9223372036854775808", None),
            ("18446744073709551616", None),
            ("99999999999999999999999", None),
            ("", None),
            ("+1", None),
            ("-1", None),
            ("1 ", None),
            ("1 1", None),
            ("1,1", None),
            ("0x10", None),
            ("1.0", None),
            ("1e3", None),
            ("ten", None),
            ("٣", None),
        ] {
            assert_eq!(number(digits.as_bytes()), expected, "{digits:?}");
        }
    }
}
