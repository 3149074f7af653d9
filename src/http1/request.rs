//! Request heads: the request line, the fields, and what they say about host, body and connection.

use bytes::{Buf, Bytes, BytesMut};
use http::{
    HeaderValue, Method, StatusCode, Version,
    header::{EXPECT, HOST},
};
use thiserror::Error;

use super::{
    framing::{Facts, FramingError, Length},
    head::{HeadError, Limits, Section, is_token, read_fields, trim},
    host::{HostError, validate},
    lines::LineError,
    target::{Parts, Target, TargetError},
};
use crate::model::{fields::Fields, text::find};

/// A request without its body. CONNECT and TRACE are read like all others; refusing them is the server's.
#[derive(Debug)]
pub struct RequestHead {
    /// Case-sensitive; any token.
    pub method: Method,
    /// Path and query, as they came.
    pub target: Target,
    /// HTTP/1.0 or HTTP/1.1.
    pub version: Version,
    /// All fields. Host is the effective one: an absolute target has replaced what the field said.
    pub fields: Fields,
    /// The body that follows; never until close.
    pub length: Length,
    /// Whether version and Connection ask for another request on this connection.
    pub keep_alive: bool,
    /// A body waits for `100 Continue`.
    pub expect_continue: bool,
    /// Something else than `100-continue` is expected.
    pub expects_more: bool,
}

/// Why bytes are no request that may be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RequestError {
    /// The first byte begins no method: TLS, or noise.
    #[error("the bytes are not HTTP")]
    NotHttp,
    /// Not three parts with one blank between them.
    #[error("the request line is not a method, a target and a version")]
    Line,
    /// Not a token.
    #[error("the method is not a token")]
    Method,
    /// Longer than any that exists.
    #[error("the method is too long")]
    MethodTooLong,
    /// Longer than 8 KiB.
    #[error("the request target is too long")]
    TargetTooLong,
    /// What is wrong with the target.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// Not `HTTP/`, a digit, a dot and a digit.
    #[error("the request line does not end in an HTTP version")]
    Version,
    /// Neither 1.0 nor 1.1.
    #[error("the HTTP version is not supported")]
    UnknownVersion,
    /// What is wrong with the field section.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// What is wrong with the body's announcement.
    #[error(transparent)]
    Framing(#[from] FramingError),
    /// HTTP/1.1 wants one.
    #[error("there is no Host")]
    NoHost,
    /// More than one Host line, whatever they say.
    #[error("there is more than one Host")]
    RepeatedHost,
    /// What is wrong with the Host field.
    #[error(transparent)]
    Host(#[from] HostError),
}

impl RequestError {
    /// The status of the answer that is the last on its connection.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::Head(HeadError::TooLarge | HeadError::TooManyFields) => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::MethodTooLong => StatusCode::NOT_IMPLEMENTED,
            Self::UnknownVersion => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Self::NotHttp
            | Self::Line
            | Self::Method
            | Self::Target(_)
            | Self::Version
            | Self::Head(_)
            | Self::Framing(_)
            | Self::NoHost
            | Self::RepeatedHost
            | Self::Host(_) => StatusCode::BAD_REQUEST,
        }
    }
}

/// Reads the request heads of one connection, one after the other.
#[derive(Debug, Default)]
pub struct RequestReader {
    limits: Limits,
    section: Section,
    line: Option<RequestLine>,
    blank_line: bool,
    /// What was refused last asked for a head alone.
    head_only: bool,
}

#[derive(Debug)]
struct RequestLine {
    method: Method,
    target: Parts,
    version: Version,
    end: usize,
}

impl RequestReader {
    /// A reader for a new connection.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// The head at the front of `buf`, or `None` when more bytes are needed: then `buf` may only grow before the next call.
    /// On success the head's bytes have left `buf`, of which it holds nothing, and those of the body are at its front.
    ///
    /// # Errors
    /// As soon as the bytes can be no request any more, which may be before the head is whole.
    pub fn read(&mut self, buf: &mut BytesMut) -> Result<Option<RequestHead>, RequestError> {
        if self.line.is_none() {
            let Some(line) = self.request_line(buf)? else { return Ok(None) };
            self.line = Some(line);
        }
        let Some(end) = self.section.end(buf, &self.limits)? else { return Ok(None) };
        let Some(line) = self.line.take() else { return Ok(None) };
        self.head_only = line.method == Method::HEAD;
        // In memory of its own: what is read with it is then free for others as soon as the body has gone, and while that is near.
        let head = Bytes::copy_from_slice(&buf[..end]);
        if buf.len() == end {
            buf.clear();
        } else {
            buf.advance(end);
        }
        let head = read_head(line, head, &self.section);
        self.section = Section::default();
        self.blank_line = false;
        head.map(Some)
    }

    /// Whether what was refused, or is not whole, asks for the head of an answer alone, so far as `buf` or what was read of it says.
    #[must_use]
    pub fn wants_head_alone(&self, buf: &[u8]) -> bool {
        let line = self.line.as_ref().is_some_and(|line| line.method == Method::HEAD);
        self.head_only || line || buf.trim_ascii_start().starts_with(b"HEAD ")
    }

    fn request_line(&mut self, buf: &[u8]) -> Result<Option<RequestLine>, RequestError> {
        loop {
            // The first byte tells noise at once, which may never send a line feed.
            let start = self.section.lines.position();
            match &buf[start..] {
                [] | [b'\r'] if !self.blank_line => return Ok(None),
                [] => return Ok(None),
                [b'\r', b'\n', ..] if !self.blank_line => {}
                [first, ..] if is_token(*first) => {}
                _ => return Err(RequestError::NotHttp),
            }
            let max = MAX_LINE.min(self.limits.max_head);
            let line = match self.section.lines.next(buf, max) {
                Ok(Some(line)) => line,
                Ok(None) => return Ok(None),
                Err(LineError::TooLong) if max == MAX_LINE => return Err(RequestError::TargetTooLong),
                Err(error) => return Err(HeadError::from(error).into()),
            };
            if !line.is_empty() {
                return RequestLine::read(&buf[..line.end], line.start).map(Some);
            }
            // RFC 9112 §2.2: old clients end a body with one empty line too many.
            self.blank_line = true;
        }
    }
}

impl RequestLine {
    /// Reads the line that begins at `start` and ends `bytes`.
    fn read(bytes: &[u8], start: usize) -> Result<Self, RequestError> {
        let line = &bytes[start..];
        let blank = find(line, b' ').ok_or(RequestError::Line)?;
        if blank > MAX_METHOD {
            return Err(RequestError::MethodTooLong);
        }
        let method = Method::from_bytes(&line[..blank]).map_err(|_| RequestError::Method)?;
        let target = start + blank + 1;
        let target_end = target + find(&bytes[target..], b' ').ok_or(RequestError::Line)?;
        if target_end == target {
            return Err(RequestError::Line);
        }
        if target_end - target > MAX_TARGET {
            return Err(RequestError::TargetTooLong);
        }
        let version = match &bytes[target_end + 1..] {
            b"HTTP/1.1" => Version::HTTP_11,
            b"HTTP/1.0" => Version::HTTP_10,
            [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => {
                return Err(RequestError::UnknownVersion);
            }
            _ => return Err(RequestError::Version),
        };
        let target = Parts::read(&method, bytes, target..target_end)?;
        Ok(Self { method, target, version, end: bytes.len() + 2 })
    }
}

fn read_head(line: RequestLine, head: Bytes, section: &Section) -> Result<RequestHead, RequestError> {
    let mut facts = Facts::default();
    let mut host = None;
    let (mut expect_continue, mut expects_more) = (false, false);
    let mut fields = read_fields(head, line.end, section, ROOM, |field| {
        facts.note(&field)?;
        if *field.name == HOST {
            if host.replace(field.range).is_some() {
                return Err(RequestError::RepeatedHost);
            }
        } else if *field.name == EXPECT {
            for member in field.value.as_bytes().split(|&b| b == b',').map(trim) {
                let is_continue = member.eq_ignore_ascii_case(b"100-continue");
                expect_continue |= is_continue;
                expects_more |= !is_continue && !member.is_empty();
            }
        }
        Ok(true)
    })?;
    let length = facts.length(line.version)?.unwrap_or(Length::Empty);
    let has_body = !matches!(length, Length::Empty | Length::Exact(0));
    let target = line.target.target(fields.head());
    let head = fields.head();
    match (host, &line.target.authority) {
        (None, _) if line.version != Version::HTTP_10 => return Err(RequestError::NoHost),
        (None, None) => {}
        (Some(field), None) => validate(&head[field])?,
        (field, Some(authority)) => {
            // An empty Host is what a URI without authority would have; beside an absolute target it says nothing.
            if let Some(field) = field.filter(|field| !field.is_empty()) {
                validate(&head[field])?;
            }
            validate(&head[authority.clone()])?;
            let host = HeaderValue::from_maybe_shared(head.slice(authority.clone())).map_err(|_| HostError::Name)?;
            fields.insert(HOST, host);
        }
    }
    Ok(RequestHead {
        target,
        method: line.method,
        version: line.version,
        fields,
        length,
        keep_alive: facts.keep_alive(line.version),
        // HTTP/1.0 knows no interim answers, and who has no body waits for none.
        expect_continue: expect_continue && has_body && line.version != Version::HTTP_10,
        expects_more: expects_more && line.version != Version::HTTP_10,
    })
}

/// Fields that the gateway adds to a request, less those that it takes.
const ROOM: usize = 2;
/// Twice the longest registered method.
const MAX_METHOD: usize = 32;
/// The longest target, in bytes: RFC 9112 §3 asks for 8,000 at least.
pub const MAX_TARGET: usize = 8 * 1024;
/// Method, target, version, an empty line before and what stands between.
const MAX_LINE: usize = MAX_TARGET + 64;
