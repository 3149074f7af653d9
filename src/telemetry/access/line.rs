//! One request as a line of the access log. Whatever clients wrote is escaped, so that a line is one line, and no text
//! can pass for another field.

use std::{
    io::Write as _,
    time::{Duration, SystemTime},
};

use http::{HeaderValue, Version};

use super::{
    super::journey::{Found, Journey},
    clock::Clock,
};
use crate::model::text::{address, decimal, fraction, ip};

/// How a line is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// One JSON object.
    #[default]
    Json,
    /// As Apache's and nginx's `combined`.
    Combined,
}

/// Writes the line of a request that has just ended.
pub fn write(
    out: &mut Vec<u8>,
    format: Format,
    clock: &mut Clock,
    journey: &Journey,
    (status, took, at): (u16, Duration, SystemTime),
) {
    let milliseconds = clock.set(at);
    match format {
        Format::Json => json(out, clock, milliseconds, journey, status, took),
        Format::Combined => combined(out, clock, journey, status),
    }
    out.push(b'\n');
}

/// What stands before a number, and before a text.
macro_rules! key {
    ($name:literal) => {
        concat!(",\"", $name, "\":")
    };
    ($name:literal, text) => {
        concat!(",\"", $name, "\":\"")
    };
}

fn json(out: &mut Vec<u8>, clock: &Clock, milliseconds: u32, journey: &Journey, status: u16, took: Duration) {
    let asked = &journey.asked;
    put(out, "{\"time\":\"");
    put(out, clock.rfc3339());
    out.push(b'.');
    fraction(out, milliseconds, 1_000);
    put(out, "Z\",\"client\":\"");
    ip(out, asked.client);
    out.push(b'"');
    // It stands for one that was not read.
    if asked.version.is_some() {
        word(out, key!("method", text), asked.method.as_str());
    }
    if let Some(target) = &asked.target {
        text(out, key!("path", text), target.as_str().as_bytes());
    }
    field(out, key!("host", text), asked.host.as_ref());
    if let Some(version) = asked.version {
        word(out, key!("protocol", text), protocol(version));
    }
    word(out, key!("scheme", text), asked.scheme);
    if let Some(version) = asked.tls {
        word(out, key!("tls", text), version);
    }
    number(out, key!("status"), status.into());
    number(out, key!("bytes_in"), journey.received.get());
    number(out, key!("bytes_out"), journey.sent.get());
    seconds(out, key!("duration_seconds"), took);
    if let Some(found) = &*journey.found.borrow() {
        out.extend_from_slice(found.line.get_or_init(|| named(found)));
    }
    let tries = journey.tries.borrow();
    if let Some(last) = tries.last() {
        put(out, key!("upstream", text));
        address(out, &last.address);
        out.push(b'"');
        if let Some(status) = last.status {
            number(out, key!("upstream_status"), status.as_u16().into());
        }
        let waited = tries.iter().filter_map(|one| one.ended).map(|(took, _)| took).sum();
        seconds(out, key!("upstream_seconds"), waited);
    }
    number(out, key!("tries"), tries.len() as u64);
    field(out, key!("request_id", text), Some(&journey.request_id));
    put(out, key!("trace_id", text));
    // Of a context that is well formed.
    out.extend_from_slice(journey.context.as_bytes().get(3..35).unwrap_or_default());
    out.push(b'"');
    field(out, key!("user_agent", text), asked.user_agent.as_ref());
    out.push(b'}');
}

/// What lines of JSON say of a route and its service, which is the same for all of their requests.
fn named(found: &Found) -> Vec<u8> {
    let mut out = Vec::new();
    text(&mut out, key!("route", text), found.route.as_str().as_bytes());
    text(&mut out, key!("service", text), found.service.as_str().as_bytes());
    out
}

fn combined(out: &mut Vec<u8>, clock: &Clock, journey: &Journey, status: u16) {
    let asked = &journey.asked;
    ip(out, asked.client);
    out.extend_from_slice(b" - - [");
    out.extend_from_slice(clock.combined().as_bytes());
    out.extend_from_slice(b"] \"");
    if let (Some(target), Some(version)) = (&asked.target, asked.version) {
        quoted(out, asked.method.as_str().as_bytes());
        out.push(b' ');
        quoted(out, target.as_str().as_bytes());
        out.push(b' ');
        out.extend_from_slice(protocol(version).as_bytes());
    } else {
        out.push(b'-');
    }
    out.extend_from_slice(b"\" ");
    decimal(out, status.into());
    out.push(b' ');
    decimal(out, journey.sent.get());
    for said in [&asked.referer, &asked.user_agent] {
        out.extend_from_slice(b" \"");
        quoted(out, said.as_ref().map_or(b"-", HeaderValue::as_bytes));
        out.push(b'"');
    }
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        _ => "HTTP/1.1",
    }
}

#[inline]
fn put(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

#[inline]
fn number(out: &mut Vec<u8>, key: &str, value: u64) {
    put(out, key);
    decimal(out, value);
}

/// To the microsecond.
#[inline]
fn seconds(out: &mut Vec<u8>, key: &str, value: Duration) {
    number(out, key, value.as_secs());
    out.push(b'.');
    fraction(out, value.subsec_micros(), 1_000_000);
}

#[inline]
fn field(out: &mut Vec<u8>, key: &str, value: Option<&HeaderValue>) {
    if let Some(value) = value {
        text(out, key, value.as_bytes());
    }
}

/// A text that has nothing to be escaped: a token, or one of ours.
#[inline]
fn word(out: &mut Vec<u8>, key: &str, value: &str) {
    put(out, key);
    put(out, value);
    out.push(b'"');
}

fn text(out: &mut Vec<u8>, key: &str, value: &[u8]) {
    put(out, key);
    // To stop at the first that is not costs more than to look at all.
    if is_plain(value) {
        out.extend_from_slice(value);
    } else {
        escaped(out, value);
    }
    out.push(b'"');
}

#[cold]
fn escaped(out: &mut Vec<u8>, value: &[u8]) {
    for c in String::from_utf8_lossy(value).chars() {
        match c {
            '"' | '\\' => out.extend_from_slice(&[b'\\', if c == '"' { b'"' } else { b'\\' }]),
            // The separators of Unicode end a line to some readers.
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

/// Visible ASCII and the blank, but for what would end the quotes.
const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = b' ';
    while byte <= b'~' {
        plain[byte as usize] = byte != b'"' && byte != b'\\';
        byte += 1;
    }
    plain
};

/// Whether all bytes are `PLAIN`: eight at a time, by arithmetic that sets the highest bit of a byte that is not.
fn is_plain(value: &[u8]) -> bool {
    const fn each(byte: u8) -> u64 {
        u64::from_ne_bytes([byte; 8])
    }
    let (eights, rest) = value.as_chunks::<8>();
    let odd = eights.iter().fold(0, |odd, &eight| {
        let word = u64::from_ne_bytes(eight);
        // Only what stands above one that is not plain itself can be taken for another.
        let is = |byte| (word ^ each(byte)).wrapping_sub(each(1));
        odd | word | word.wrapping_sub(each(b' ')) | word.wrapping_add(each(1)) | is(b'"') | is(b'\\')
    });
    odd & each(0x80) == 0 && rest.iter().all(|&byte| PLAIN[usize::from(byte)])
}

/// Visible ASCII as it is, but for what would end the quotes; all else as `\xHH`, as nginx does.
fn quoted(out: &mut Vec<u8>, value: &[u8]) {
    for &byte in value {
        if PLAIN[usize::from(byte)] {
            out.push(byte);
        } else {
            let _ = write!(out, "\\x{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{Method, StatusCode, header};
    use tokio::time::Instant;

    use super::{
        super::super::{cells::Outcome, journey::Asked},
        *,
    };
    use crate::model::{fields::Fields, instance::Address};

    const EVIL: &[u8] = b"x\" 200 1 \"-\"\\ \t\x80\xff\xe2\x80\xa8 \"z\":1, \xc3\xbc";

    fn journey(user_agent: &[u8]) -> Journey {
        let mut fields = Fields::new();
        fields.insert(header::USER_AGENT, HeaderValue::from_bytes(user_agent).unwrap());
        fields.insert(header::HOST, HeaderValue::from_static("api.example.com"));
        let mut asked = Asked::by("2001:db8::7".parse().unwrap(), Method::GET, &fields);
        asked.target = Some("/u/7?x=1".parse().unwrap());
        asked.version = Some(Version::HTTP_11);
        let context = HeaderValue::from_static("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
        Journey::new(asked, Instant::now(), HeaderValue::from_static("abc"), context, None)
    }

    fn written(format: Format, journey: &Journey) -> String {
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(784_111_777_089);
        let mut out = Vec::new();
        write(&mut out, format, &mut Clock::default(), journey, (502, Duration::from_micros(1_000_250), at));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_line_of_json_has_all_that_is_known() {
        let journey = journey(b"curl/8");
        *journey.found.borrow_mut() = Some(Found::new("users".into(), "user-service".into(), "/u/{id}".into()));
        let address = Address::new("10.0.0.7", 8002).unwrap();
        journey.begin_try(&address, journey.began, "1.1");
        journey.end_try(0, journey.began + Duration::from_millis(2), Outcome::ConnectError);
        journey.begin_try(&address, journey.began, "1.1");
        journey.answered(1, StatusCode::BAD_GATEWAY);
        journey.end_try(1, journey.began + Duration::from_millis(3), Outcome::Failure);
        journey.received.set(12);
        journey.sent.set(u64::MAX);
        let line = written(Format::Json, &journey);
        let want = serde_json::json!({
            "time": "1994-11-06T08:49:37.089Z", "client": "2001:db8::7", "method": "GET", "path": "/u/7?x=1",
            "host": "api.example.com", "protocol": "HTTP/1.1", "scheme": "http", "status": 502, "bytes_in": 12,
            "bytes_out": u64::MAX, "duration_seconds": 1.000_250, "route": "users", "service": "user-service",
            "upstream": "10.0.0.7:8002", "upstream_status": 502, "upstream_seconds": 0.005, "tries": 2,
            "request_id": "abc", "trace_id": "0af7651916cd43dd8448eb211c80319c", "user_agent": "curl/8",
        });
        assert_eq!(serde_json::from_str::<serde_json::Value>(&line).unwrap(), want, "{line}");
    }

    #[test]
    fn what_is_plain_is_seen_wherever_it_stands() {
        for byte in 0..=u8::MAX {
            for length in 1..=17 {
                for place in 0..length {
                    for beside in [b' ', b'~', b'!', b'#', b'[', b']'] {
                        let mut value = vec![beside; length];
                        value[place] = byte;
                        assert_eq!(is_plain(&value), PLAIN[usize::from(byte)], "{}", value.escape_ascii());
                    }
                }
            }
        }
        assert!(is_plain(b""));
    }

    #[test]
    fn the_combined_form_is_that_of_other_servers() {
        assert_eq!(
            written(Format::Combined, &journey(b"curl/8")),
            "2001:db8::7 - - [06/Nov/1994:08:49:37 +0000] \"GET /u/7?x=1 HTTP/1.1\" 502 0 \"-\" \"curl/8\"\n"
        );
    }

    #[test]
    fn what_was_not_understood_is_left_out() {
        let mut journey = journey(b"x");
        (journey.asked.target, journey.asked.version) = (None, None);
        let line = written(Format::Json, &journey);
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        for left_out in ["method", "path", "protocol", "upstream"] {
            assert_eq!(line.get(left_out), None);
        }
        assert!(written(Format::Combined, &journey).contains("\"-\" 502 0"));
    }

    #[test]
    fn no_text_of_a_clients_can_forge_a_line_or_a_field() {
        let journey = journey(EVIL);
        let line = written(Format::Json, &journey);
        let read: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(read["user_agent"].as_str().unwrap(), String::from_utf8_lossy(EVIL));
        assert_eq!(read.get("z"), None);
        let line = line.strip_suffix('\n').unwrap();
        assert!(!line.contains(|c: char| c.is_control() || c == '\u{2028}'), "{line:?}");

        let line = written(Format::Combined, &journey);
        let line = line.strip_suffix('\n').unwrap();
        assert!(line.bytes().all(|b| matches!(b, b' '..=b'~')), "{line:?}");
        assert_eq!(line.matches('"').count(), 6, "{line:?}");
        assert!(
            line.ends_with(r#""x\x22 200 1 \x22-\x22\x5C \x09\x80\xFF\xE2\x80\xA8 \x22z\x22:1, \xC3\xBC""#),
            "{line}"
        );
    }
}
