//! Writes heads and chunks. Framing and Connection are the codec's alone: such fields among those given are left out.
//!
//! Names and values come as types that hold no control byte, and what comes as text is escaped, so no line can be split here.

use std::{cell::OnceCell, num::NonZero};

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode,
    header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING},
};

use super::trailer::may_trail;
use crate::model::{fields::Fields, text::find, value::Value};

/// How the end of a body is told to the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Not at all: there is no body, or (in an answer, with [`Connection::Close`]) it ends with the connection.
    None,
    /// By a Content-Length; also in answers to HEAD and in 304, which send no body.
    Length(u64),
    /// In chunks. Never to an HTTP/1.0 client.
    Chunked,
}

/// What the peer is told about the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connection {
    /// Nothing: HTTP/1.1 goes on by itself.
    Implied,
    /// It goes on, which an HTTP/1.0 client must be told.
    KeepAlive,
    /// This message is the last.
    Close,
    /// It changes to the protocol of the Upgrade field among those given.
    Upgrade,
    /// The TE field among those given is for it alone.
    Te,
}

/// Fields that many messages have in common, written out once.
#[derive(Debug, Default)]
pub struct Block {
    text: Vec<u8>,
    fields: OnceCell<Vec<(HeaderName, HeaderValue)>>,
}

impl Block {
    /// No field yet, and room for so many bytes.
    #[must_use]
    pub fn with_room(room: usize) -> Self {
        Self { text: Vec::with_capacity(room), fields: OnceCell::new() }
    }

    /// Adds a field, unless what `value` writes can be none.
    pub fn add(&mut self, name: &HeaderName, value: impl FnOnce(&mut Vec<u8>)) {
        let start = self.text.len();
        self.text.extend_from_slice(name.as_str().as_bytes());
        self.text.extend_from_slice(b": ");
        let written = self.text.len();
        value(&mut self.text);
        if Value::of(&self.text[written..]).is_some() {
            self.text.extend_from_slice(b"\r\n");
        } else {
            self.text.truncate(start);
        }
        self.fields.take();
    }

    /// The fields, in the order in which they were added, for who writes them in another way.
    #[must_use]
    pub fn fields(&self) -> &[(HeaderName, HeaderValue)] {
        self.fields.get_or_init(|| {
            let lines = self.text.split(|&b| b == b'\n').filter_map(|line| line.strip_suffix(b"\r"));
            let field = |line: &[u8]| {
                let (name, value) = line.split_at_checked(find(line, b':')?)?;
                Some((HeaderName::from_bytes(name).ok()?, HeaderValue::from_bytes(value.strip_prefix(b": ")?).ok()?))
            };
            lines.filter_map(field).collect()
        })
    }
}

/// The bytes that the head of a request takes, as far as can be said at once.
#[must_use]
pub fn request_room(target: &str, host: &HeaderValue, (fields, ours): (&Fields, &Block)) -> usize {
    ROOM + target.len() + host.len() + fields.len() * FIELD_ROOM + ours.text.len()
}

/// Writes the head of a request, with `ours` behind `fields`. `target` is in origin or asterisk form; `host` takes the place of any Host in `fields`.
pub fn write_request_head(
    out: &mut Vec<u8>,
    method: &Method,
    target: &str,
    host: &HeaderValue,
    (fields, ours): (&Fields, &Block),
    framing: Framing,
    connection: Connection,
) {
    out.extend_from_slice(method.as_str().as_bytes());
    out.push(b' ');
    write_target(out, target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\nhost: ");
    out.extend_from_slice(host.as_bytes());
    out.extend_from_slice(b"\r\n");
    write_fields(out, fields, |name| *name != HOST && !is_ours(name));
    out.extend_from_slice(&ours.text);
    write_end(out, framing, connection);
}

/// The bytes that the head of an answer takes, as far as can be said at once.
#[must_use]
pub fn response_room(fields: &Fields) -> usize {
    ROOM + fields.len() * FIELD_ROOM
}

/// Writes the head of an answer. 1xx and 204 get no framing, whatever is asked.
pub fn write_response_head(
    out: &mut Vec<u8>,
    status: StatusCode,
    fields: &Fields,
    framing: Framing,
    connection: Connection,
) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
    write_fields(out, fields, |name| !is_ours(name));
    let bodiless = status.is_informational() || status == StatusCode::NO_CONTENT;
    write_end(out, if bodiless { Framing::None } else { framing }, connection);
}

/// Writes what stands before the data of a chunk; the data and [`CHUNK_END`] follow. A chunk is never empty: that would end the body.
pub fn write_chunk_head(out: &mut Vec<u8>, bytes: NonZero<usize>) {
    let mut digits = [0; 16];
    let mut at = digits.len();
    let mut rest = bytes.get();
    while rest > 0 && at > 0 {
        at -= 1;
        digits[at] = b"0123456789abcdef"[rest & 15];
        rest >>= 4;
    }
    out.extend_from_slice(&digits[at..]);
    out.extend_from_slice(b"\r\n");
}

/// Writes the end of a chunked body, with those trailers that [`may_trail`].
pub fn write_last_chunk(out: &mut Vec<u8>, trailers: Option<&HeaderMap>) {
    out.extend_from_slice(b"0\r\n");
    if let Some(trailers) = trailers {
        for (name, value) in trailers.iter().filter(|(name, _)| may_trail(name)) {
            write_field(out, name, value);
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// What stands after the data of a chunk.
pub const CHUNK_END: &[u8] = b"\r\n";

fn is_ours(name: &HeaderName) -> bool {
    *name == CONTENT_LENGTH || *name == TRANSFER_ENCODING || *name == CONNECTION
}

#[inline]
fn write_fields(out: &mut Vec<u8>, fields: &Fields, wanted: impl Fn(&HeaderName) -> bool) {
    for (name, value) in fields.named().filter(|(name, _)| wanted(name)) {
        name.write(out);
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

fn write_field(out: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) {
    out.extend_from_slice(name.as_str().as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn write_end(out: &mut Vec<u8>, framing: Framing, connection: Connection) {
    match framing {
        Framing::None => {}
        Framing::Length(bytes) => {
            out.extend_from_slice(b"content-length: ");
            write_decimal(out, bytes);
            out.extend_from_slice(b"\r\n");
        }
        Framing::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
    }
    out.extend_from_slice(match connection {
        Connection::Implied => b"\r\n",
        Connection::KeepAlive => b"connection: keep-alive\r\n\r\n",
        Connection::Close => b"connection: close\r\n\r\n",
        Connection::Upgrade => b"connection: upgrade\r\n\r\n",
        Connection::Te => b"connection: te\r\n\r\n",
    });
}

/// A target is checked when it is read and escaped when it is built; this is so that a mistake there splits no request.
fn write_target(out: &mut Vec<u8>, target: &[u8]) {
    // To stop at the first that is not costs more than to look at all.
    if target.iter().fold(true, |all, byte| all & byte.is_ascii_graphic()) {
        out.extend_from_slice(target);
        return;
    }
    for &byte in target {
        if byte.is_ascii_graphic() {
            out.push(byte);
        } else {
            let hex = b"0123456789ABCDEF";
            out.extend_from_slice(&[b'%', hex[usize::from(byte >> 4)], hex[usize::from(byte & 15)]]);
        }
    }
}

fn write_decimal(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 || at == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// The start line, the framing and connection fields, without target and host.
const ROOM: usize = 160;
/// A field of usual length; a wrong guess costs one growth.
const FIELD_ROOM: usize = 48;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_in_full() {
        for number in [0, 7, 10, 1_024, u64::MAX] {
            let mut out = Vec::new();
            write_decimal(&mut out, number);
            assert_eq!(out, number.to_string().as_bytes());
        }
        for number in [1, 9, 15, 16, 0xabc, usize::MAX] {
            let mut out = Vec::new();
            write_chunk_head(&mut out, NonZero::new(number).unwrap());
            assert_eq!(out, format!("{number:x}\r\n").as_bytes());
        }
    }
}
