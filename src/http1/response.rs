//! Response heads: the status line, the fields, and what they say about body and connection.

use bytes::BytesMut;
use http::{Method, StatusCode, Version};
use thiserror::Error;

use super::{
    framing::{Facts, FramingError, Length},
    head::{HeadError, Limits, Section, read_fields},
};
use crate::model::fields::Fields;

/// An answer without its body, interim ones (1xx) included.
#[derive(Debug)]
pub struct ResponseHead {
    /// 100 to 599.
    pub status: StatusCode,
    /// HTTP/1.0 or HTTP/1.1.
    pub version: Version,
    /// All fields.
    pub fields: Fields,
    /// The body that follows. Empty for 1xx, 204, 304 and answers to HEAD, whatever the fields say.
    pub length: Length,
    /// What Content-Length said, also where no body follows.
    #[cfg_attr(not(test), expect(dead_code, reason = "answers to HEAD still carry it among their fields"))]
    pub content_length: Option<u64>,
    /// Whether the connection can carry another request when the body has ended.
    pub keep_alive: bool,
}

/// Why bytes are no answer that may be passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ResponseError {
    /// It does not begin with `HTTP/`.
    #[error("the bytes are not HTTP")]
    NotHttp,
    /// Neither 1.0 nor 1.1.
    #[error("the HTTP version of the answer is not supported")]
    Version,
    /// Not three digits from 100 to 599 after one blank.
    #[error("the status of the answer is not a status code")]
    Status,
    /// A control byte in the reason.
    #[error("the reason of the status line holds a control byte")]
    Reason,
    /// What is wrong with the field section.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// What is wrong with the body's announcement.
    #[error(transparent)]
    Framing(#[from] FramingError),
}

/// Reads the answers of one connection, one after the other.
#[derive(Debug, Default)]
pub struct ResponseReader {
    limits: Limits,
    section: Section,
    line: Option<StatusLine>,
}

#[derive(Debug)]
struct StatusLine {
    status: StatusCode,
    version: Version,
    end: usize,
}

impl ResponseReader {
    /// A reader for a new connection.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// The head at the front of `buf`, or `None` when more bytes are needed: then `buf` may only grow before the next call.
    /// On success the head's bytes have left `buf`. After an interim answer (1xx, except 101) call again for the next.
    ///
    /// # Errors
    /// As soon as the bytes can be no answer any more, which may be before the head is whole.
    pub fn read(&mut self, buf: &mut BytesMut, method: &Method) -> Result<Option<ResponseHead>, ResponseError> {
        if self.line.is_none() {
            let start = buf.len().min(NAME.len());
            if buf[..start] != NAME[..start] {
                return Err(ResponseError::NotHttp);
            }
            let next = self.section.lines.next(buf, self.limits.max_head).map_err(HeadError::from)?;
            let Some(line) = next else { return Ok(None) };
            self.line = Some(StatusLine::read(&buf[line])?);
        }
        let Some(end) = self.section.end(buf, &self.limits)? else { return Ok(None) };
        let Some(line) = self.line.take() else { return Ok(None) };
        let section = std::mem::take(&mut self.section);
        let head = buf.split_to(end).freeze();
        let mut facts = Facts::default();
        let fields = read_fields(head, line.end, &section, ROOM, |field| {
            facts.note(&field)?;
            Ok::<_, ResponseError>(true)
        })?;
        let said = facts.length(line.version)?;
        let length = if has_no_body(line.status, method) { Length::Empty } else { said.unwrap_or(Length::UntilClose) };
        Ok(Some(ResponseHead {
            status: line.status,
            version: line.version,
            fields,
            length,
            content_length: facts.content_length(),
            keep_alive: length != Length::UntilClose && facts.keep_alive(line.version),
        }))
    }
}

impl StatusLine {
    fn read(line: &[u8]) -> Result<Self, ResponseError> {
        let (version, rest) = match line {
            [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'1', rest @ ..] => (Version::HTTP_11, rest),
            [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'0', rest @ ..] => (Version::HTTP_10, rest),
            _ => return Err(ResponseError::Version),
        };
        let (code, rest) = match rest {
            [b' ', rest @ ..] if rest.len() >= 3 => rest.split_at(3),
            _ => return Err(ResponseError::Status),
        };
        let reason = match rest {
            // The grammar wants a blank before an empty reason too; old servers leave it out.
            [] => rest,
            [b' ', reason @ ..] => reason,
            _ => return Err(ResponseError::Status),
        };
        let status = StatusCode::from_bytes(code).map_err(|_| ResponseError::Status)?;
        if status.as_u16() > 599 {
            return Err(ResponseError::Status);
        }
        if reason.iter().any(|&b| b.is_ascii_control() && b != b'\t') {
            return Err(ResponseError::Reason);
        }
        Ok(Self { status, version, end: line.len() + 2 })
    }
}

/// Source: RFC 9112 §6.3.
fn has_no_body(status: StatusCode, method: &Method) -> bool {
    *method == Method::HEAD
        || status.is_informational()
        || status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED
}

const NAME: &[u8] = b"HTTP/";
/// Fields that the gateway adds to an answer.
const ROOM: usize = 2;
