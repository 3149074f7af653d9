//! Heads and trailers, from the lines of a field section. Source: RFC 9113 §8.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, uri::PathAndQuery};

use super::hpack::{Fault, Line, Pseudo, Section, Token};
use crate::model::{
    field::Name,
    fields::{Fields, NoValue},
    text::find,
};

/// A request without its body.
#[derive(Debug)]
pub struct RequestHead {
    /// Any token.
    pub method: Method,
    /// Path and query, as they came; `/` where a CONNECT has none.
    pub target: PathAndQuery,
    /// Whether the scheme is one of HTTP's own.
    pub is_http: bool,
    /// All fields; what `:authority` says is the one Host then.
    pub fields: Fields,
    /// By the measure of RFC 9113 §6.5.2.
    pub size: usize,
    /// More came than was kept: `fields` are not all of them.
    pub is_cut: bool,
    /// How long the body is, where that was said.
    pub length: Option<u64>,
}

/// An answer without its body.
#[derive(Debug)]
pub struct ResponseHead {
    /// 100 to 999.
    pub status: StatusCode,
    /// All fields.
    pub fields: Fields,
    /// More came than was kept: `fields` are not all of them.
    pub is_cut: bool,
    /// How long the body is, where that was said.
    pub length: Option<u64>,
}

/// It may not be passed on: its stream is reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl From<NoValue> for Malformed {
    fn from(_: NoValue) -> Self {
        Self
    }
}

/// Reads the head of a request.
///
/// # Errors
/// It breaks a rule of RFC 9113 §8.2 or §8.3.
pub fn request(section: &Section) -> Result<RequestHead, Malformed> {
    let is_cut = is_cut(section)?;
    let (mut method, mut scheme, mut authority, mut path) = (None, None, None, None);
    let regular = split(section, |pseudo, line| match pseudo {
        Pseudo::Method => is_first(&mut method, line),
        Pseudo::Scheme => is_first(&mut scheme, line),
        Pseudo::Authority => is_first(&mut authority, line),
        Pseudo::Path => is_first(&mut path, line),
        // Nobody was told that there is extended CONNECT here.
        Pseudo::Protocol | Pseudo::Status => false,
    })?;
    let value = |line: &Line| &section.text[place(line)];
    let method = Method::from_bytes(value(method.ok_or(Malformed)?)).map_err(|_| Malformed)?;
    let head = Bytes::copy_from_slice(&section.text);
    let target = match (path, scheme) {
        (None, None) if method == Method::CONNECT => PathAndQuery::from_static("/"),
        (Some(path), Some(_)) if method != Method::CONNECT => target(&head, path)?,
        // What was not kept may have been among it.
        _ if is_cut => PathAndQuery::from_static("/"),
        _ => return Err(Malformed),
    };
    let is_http = scheme.is_none_or(|scheme| matches!(value(scheme), b"http" | b"https"));
    let mut fields = Fields::of(head, regular.len() + ROOM);
    if let Some(authority) = authority {
        fields.append_read(HOST, place(authority))?;
    }
    let length = read(&mut fields, regular, |name| authority.is_none() || **name != header::HOST)?;
    Ok(RequestHead { method, target, is_http, fields, size: section.size(), is_cut, length })
}

/// Reads the head of an answer.
///
/// # Errors
/// It breaks a rule of RFC 9113 §8.2 or §8.3.
pub fn response(section: &Section) -> Result<ResponseHead, Malformed> {
    let is_cut = is_cut(section)?;
    let mut status = None;
    let regular = split(section, |pseudo, line| pseudo == Pseudo::Status && is_first(&mut status, line))?;
    let status = &section.text[place(status.ok_or(Malformed)?)];
    let status = StatusCode::from_bytes(status).map_err(|_| Malformed)?;
    let mut fields = Fields::of(Bytes::copy_from_slice(&section.text), regular.len() + ROOM);
    let length = read(&mut fields, regular, |_| true)?;
    Ok(ResponseHead { status, fields, is_cut, length })
}

/// Reads trailers, which have no pseudo-field; and whether more came than was kept.
///
/// # Errors
/// They break a rule of RFC 9113 §8.1 or §8.2.
pub fn trailers(section: &Section) -> Result<(HeaderMap, bool), Malformed> {
    let is_cut = is_cut(section)?;
    let regular = split(section, |_, _| false)?;
    let head = Bytes::copy_from_slice(&section.text);
    let mut map = HeaderMap::try_with_capacity(regular.len()).map_err(|_| Malformed)?;
    for line in regular {
        let Token::Field(name) = &line.name else { return Err(Malformed) };
        let mut value = HeaderValue::from_maybe_shared(head.slice(place(line))).map_err(|_| Malformed)?;
        check(name, value.as_bytes())?;
        value.set_sensitive(line.never_indexed);
        map.try_append(HeaderName::clone(name), value).map_err(|_| Malformed)?;
    }
    Ok((map, is_cut))
}

/// Whether more came than was kept.
fn is_cut(section: &Section) -> Result<bool, Malformed> {
    match section.fault {
        None => Ok(false),
        Some(Fault::TooLarge | Fault::TooMany) => Ok(true),
        Some(Fault::Name | Fault::Value) => Err(Malformed),
    }
}

/// Has `put` take the pseudo-fields, which come before all fields, or say that there may be none such; gives the fields.
fn split<'s>(section: &'s Section, mut put: impl FnMut(Pseudo, &'s Line) -> bool) -> Result<&'s [Line], Malformed> {
    let lines = &section.lines[..];
    for (at, line) in lines.iter().enumerate() {
        let Token::Pseudo(pseudo) = line.name else {
            let fields = &lines[at..];
            let is_late = fields.iter().any(|line| matches!(line.name, Token::Pseudo(_)));
            return if is_late { Err(Malformed) } else { Ok(fields) };
        };
        if !put(pseudo, line) {
            return Err(Malformed);
        }
    }
    Ok(&[])
}

fn is_first<'s>(place: &mut Option<&'s Line>, line: &'s Line) -> bool {
    place.replace(line).is_none()
}

/// Adds the fields that `keeps` wants; and what they say of the body's length.
fn read(fields: &mut Fields, lines: &[Line], keeps: impl Fn(&Name) -> bool) -> Result<Option<u64>, Malformed> {
    let mut length = None;
    for line in lines {
        let Token::Field(name) = &line.name else { return Err(Malformed) };
        let value = &fields.head()[place(line)];
        check(name, value)?;
        if **name == header::CONTENT_LENGTH && length.replace(digits(value)?).is_some() {
            return Err(Malformed);
        }
        if !keeps(name) {
            continue;
        }
        fields.make_room();
        if line.never_indexed {
            fields.append_secret(name.clone(), place(line))?;
        } else {
            fields.append_read(name.clone(), place(line))?;
        }
    }
    Ok(length)
}

/// What is of a connection of HTTP/1 is of none here. Source: RFC 9113 §8.2.2.
fn check(name: &Name, value: &[u8]) -> Result<(), Malformed> {
    if !name.is_of_connection() {
        return Ok(());
    }
    match name.as_str() {
        "connection" | "keep-alive" | "proxy-connection" | "transfer-encoding" | "upgrade" => Err(Malformed),
        "te" if !value.eq_ignore_ascii_case(b"trailers") => Err(Malformed),
        _ => Ok(()),
    }
}

/// A length in bytes. Source: RFC 9110 §8.6.
fn digits(value: &[u8]) -> Result<u64, Malformed> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(Malformed);
    }
    std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).ok_or(Malformed)
}

/// A path and a query, without a fragment, which is nothing to a server.
fn target(head: &Bytes, path: &Line) -> Result<PathAndQuery, Malformed> {
    let text = head.slice(place(path));
    if text.is_empty() || find(&text, b'#').is_some() {
        return Err(Malformed);
    }
    PathAndQuery::from_maybe_shared(text).map_err(|_| Malformed)
}

fn place(line: &Line) -> std::ops::Range<usize> {
    line.value.start as usize..line.value.end as usize
}

const HOST: HeaderName = header::HOST;
/// Fields that a gateway adds to what comes.
const ROOM: usize = 2;
