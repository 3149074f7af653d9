//! One request as a line of the access log.

use std::{
    cell::{Cell, RefCell},
    time::Duration,
};

use http::{Version, header};

use super::{
    super::journey::{Asked, Found, Journey},
    clock::{Clock, RFC_3339},
    escape::{quoted, text},
    near,
};
use crate::model::{
    text::{decimal, ip, padded, three},
    value::Value,
};

/// How a line is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// One JSON object.
    #[default]
    Json,
    /// As Apache's and nginx's `combined`.
    Combined,
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

/// The line of a request, as far as it is known when the request comes. It is text already: what the client sent need
/// not be kept for it.
#[derive(Debug)]
pub struct Line {
    format: Format,
    text: RefCell<Vec<u8>>,
    /// Where the time of its end stands, for which there is room.
    time: usize,
    /// Where that which has become of it is to stand, in the combined form: in JSON it comes last.
    outcome: usize,
    /// Where the instance that is tried is to stand, in JSON.
    instance: Cell<usize>,
}

/// What has become of a request.
#[derive(Clone, Copy, Debug)]
pub struct End {
    /// The status of its answer.
    pub status: u16,
    /// How long it took.
    pub took: Duration,
}

impl Line {
    /// That of a request that has just come.
    #[must_use]
    pub fn begin(format: Format, asked: &Asked<'_>) -> Self {
        let mut text = near::text(room(asked));
        let (time, outcome) = match format {
            Format::Json => begin_json(&mut text, asked),
            Format::Combined => begin_combined(&mut text, asked),
        };
        let instance = Cell::new(text.len());
        Self { format, text: RefCell::new(text), time, outcome, instance }
    }

    /// A route takes the request.
    pub fn found(&self, found: &Found) {
        if self.format == Format::Json {
            let mut text = self.text.borrow_mut();
            text.extend_from_slice(found.line.get_or_init(|| named(found)));
            self.instance.set(text.len());
        }
    }

    /// This instance is tried, perhaps after another.
    pub fn tried(&self, address: &str) {
        if self.format == Format::Json {
            let mut text = self.text.borrow_mut();
            text.truncate(self.instance.get());
            put(&mut text, key!("upstream", text));
            put(&mut text, address);
            text.push(b'"');
        }
    }

    /// Writes it whole, with the time of its end.
    pub(super) fn end(&self, out: &mut Vec<u8>, clock: &Clock, journey: &Journey, end: End) {
        let text = self.text.borrow();
        out.reserve(text.len() + OUTCOME);
        let time = out.len() + self.time;
        match self.format {
            Format::Json => {
                out.extend_from_slice(&text);
                write_at(out, time, clock.rfc3339());
                write_at(out, time + RFC_3339 + 1, clock.milliseconds());
                outcome(out, journey, end);
                out.extend_from_slice(b"}\n");
            }
            Format::Combined => {
                let (asked, behind) = text.split_at(self.outcome);
                out.extend_from_slice(asked);
                write_at(out, time, clock.combined());
                decimal(out, end.status.into());
                out.push(b' ');
                decimal(out, journey.sent.get());
                out.extend_from_slice(behind);
                out.push(b'\n');
            }
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        near::give_back(self.text.take());
    }
}

/// Writes over what stands there.
#[inline]
fn write_at<const N: usize>(out: &mut [u8], at: usize, text: &[u8; N]) {
    if let Some(place) = out.get_mut(at..at + N) {
        place.copy_from_slice(text);
    }
}

/// Gives where the time and where the outcome are to stand.
fn begin_json(out: &mut Vec<u8>, asked: &Asked<'_>) -> (usize, usize) {
    put(out, "{\"time\":\"");
    let time = out.len();
    put(out, "0000-00-00T00:00:00.000Z\",\"client\":\"");
    ip(out, asked.client);
    out.push(b'"');
    // It stands for one that was not read.
    if asked.version.is_some() {
        word(out, key!("method", text), asked.method.as_str());
    }
    if let Some(target) = asked.target {
        put(out, key!("path", text));
        text(out, target.as_str().as_bytes());
    }
    if let Some(host) = asked.host() {
        put(out, key!("host", text));
        text(out, host.as_bytes());
    }
    if let Some(version) = asked.version {
        put(out, key!("protocol", text));
        put(out, protocol(version));
        out.push(b'"');
    }
    word(out, key!("scheme", text), asked.scheme);
    if let Some(version) = asked.tls {
        word(out, key!("tls", text), version);
    }
    put(out, key!("request_id", text));
    text(out, asked.request_id.as_bytes());
    put(out, key!("trace_id", text));
    // Of a context that is well formed.
    if let Some(trace) = asked.context.and_then(|context| context.as_bytes().get(3..)?.first_chunk::<32>()) {
        out.extend_from_slice(trace);
    }
    out.push(b'"');
    if let Some(agent) = asked.fields.get(header::USER_AGENT) {
        put(out, key!("user_agent", text));
        text(out, agent.as_bytes());
    }
    (time, out.len())
}

/// The same.
fn begin_combined(out: &mut Vec<u8>, asked: &Asked<'_>) -> (usize, usize) {
    ip(out, asked.client);
    put(out, " - - [");
    let time = out.len();
    put(out, "00/Jan/0000:00:00:00 +0000] \"");
    if let (Some(target), Some(version)) = (asked.target, asked.version) {
        quoted(out, asked.method.as_str().as_bytes());
        out.push(b' ');
        quoted(out, target.as_str().as_bytes());
        out.push(b' ');
        put(out, protocol(version));
    } else {
        out.push(b'-');
    }
    put(out, "\" ");
    let outcome = out.len();
    for said in [header::REFERER, header::USER_AGENT] {
        put(out, " \"");
        quoted(out, asked.fields.get(said).map_or(b"-", Value::as_bytes));
        out.push(b'"');
    }
    (time, outcome)
}

/// Room for what is written of it at first, unless much of it is escaped.
fn room(asked: &Asked<'_>) -> usize {
    let target = asked.target.map_or(0, |target| target.as_str().len());
    KEYS + target + asked.request_id.len()
}

/// What else stands in a line at first: keys, and what is short, as most hosts and names of programs are.
const KEYS: usize = 448;
/// What is written of an end, unless names are long.
const OUTCOME: usize = 384;

fn outcome(out: &mut Vec<u8>, journey: &Journey, end: End) {
    put(out, key!("status"));
    out.extend_from_slice(&three(end.status.into()));
    put(out, key!("bytes_in"));
    decimal(out, journey.received.get());
    put(out, key!("bytes_out"));
    decimal(out, journey.sent.get());
    put(out, key!("duration_seconds"));
    seconds(out, end.took);
    let tries = journey.tries.borrow();
    if let Some(last) = tries.last() {
        if let Some(status) = last.status {
            put(out, key!("upstream_status"));
            out.extend_from_slice(&three(status.as_u16().into()));
        }
        let waited = tries.iter().filter_map(|one| one.ended).map(|(took, _)| took).sum();
        put(out, key!("upstream_seconds"));
        seconds(out, waited);
    }
    put(out, key!("tries"));
    decimal(out, tries.len() as u64);
}

/// What lines of JSON say of a route and its service, which is the same for all of their requests.
fn named(found: &Found) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, key!("route", text));
    text(&mut out, found.route.as_str().as_bytes());
    put(&mut out, key!("service", text));
    text(&mut out, found.service.as_str().as_bytes());
    out
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

/// To the microsecond.
#[inline]
fn seconds(out: &mut Vec<u8>, value: Duration) {
    decimal(out, value.as_secs());
    out.push(b'.');
    padded(out, value.subsec_micros(), 6);
}

/// A text that has nothing to be escaped: a token, or one of ours.
#[inline]
fn word(out: &mut Vec<u8>, key: &str, value: &str) {
    put(out, key);
    put(out, value);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, Method, StatusCode, header};
    use tokio::time::Instant;

    use super::{
        super::super::{cells::Outcome, journey::TRACEPARENT},
        *,
    };
    use crate::model::fields::Fields;

    const EVIL: &[u8] = b"x\" 200 1 \"-\"\\ \t\x80\xff\xe2\x80\xa8 \"z\":1, \xc3\xbc";

    fn journey(format: Format, user_agent: &[u8]) -> Journey {
        begun(format, user_agent, Some("/u/7?x=1"), Some(Version::HTTP_11))
    }

    fn begun(format: Format, user_agent: &[u8], target: Option<&str>, version: Option<Version>) -> Journey {
        let mut fields = Fields::new();
        fields.insert(header::USER_AGENT, HeaderValue::from_bytes(user_agent).unwrap());
        fields.insert(header::HOST, HeaderValue::from_static("api.example.com"));
        let context = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        fields.insert(TRACEPARENT, HeaderValue::from_static(context));
        let (id, target) = (HeaderValue::from_static("abc"), target.map(|target| target.parse().unwrap()));
        let by = Asked::by("2001:db8::7".parse().unwrap(), &Method::GET, &fields, &id);
        Journey::new(&Asked { target: target.as_ref(), version, ..by }, Instant::now(), Some(format), None)
    }

    fn written(journey: &Journey) -> String {
        let (mut clock, mut out) = (Clock::default(), Vec::new());
        clock.set(Duration::from_millis(784_111_777_089));
        let end = End { status: 502, took: Duration::from_micros(1_000_250) };
        journey.line.as_ref().unwrap().end(&mut out, &clock, journey, end);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_line_of_json_has_all_that_is_known() {
        let journey = journey(Format::Json, b"curl/8");
        journey.taken_by(&Found::new("users".into(), "user-service".into(), "/u/{id}".into()));
        journey.begin_try("10.0.0.6:8002");
        journey.end_try(0, Duration::from_millis(2), Outcome::ConnectError);
        journey.begin_try("10.0.0.7:8002");
        journey.answered(1, StatusCode::BAD_GATEWAY);
        journey.end_try(1, Duration::from_millis(3), Outcome::Failure);
        journey.received.set(12);
        journey.sent.set(u64::MAX);
        let line = written(&journey);
        let want = serde_json::json!({
            "time": "1994-11-06T08:49:37.089Z", "client": "2001:db8::7", "method": "GET", "path": "/u/7?x=1",
            "host": "api.example.com", "protocol": "HTTP/1.1", "scheme": "http", "status": 502, "bytes_in": 12,
            "bytes_out": u64::MAX, "duration_seconds": 1.000_250, "route": "users", "service": "user-service",
            "upstream": "10.0.0.7:8002", "upstream_status": 502, "upstream_seconds": 0.005, "tries": 2,
            "request_id": "abc", "trace_id": "0af7651916cd43dd8448eb211c80319c", "user_agent": "curl/8",
        });
        assert_eq!(serde_json::from_str::<serde_json::Value>(&line).unwrap(), want, "{line}");
        assert!(!line.contains("10.0.0.6"), "the last alone: {line}");
    }

    #[test]
    fn the_combined_form_is_that_of_other_servers() {
        assert_eq!(
            written(&journey(Format::Combined, b"curl/8")),
            "2001:db8::7 - - [06/Nov/1994:08:49:37 +0000] \"GET /u/7?x=1 HTTP/1.1\" 502 0 \"-\" \"curl/8\"\n"
        );
    }

    #[test]
    fn what_was_not_understood_is_left_out() {
        let line = written(&begun(Format::Json, b"x", None, None));
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        for left_out in ["method", "path", "protocol", "upstream"] {
            assert_eq!(line.get(left_out), None);
        }
        let line = written(&begun(Format::Combined, b"x", None, None));
        assert!(line.contains("\"-\" 502 0"));
    }

    #[test]
    fn no_text_of_a_clients_can_forge_a_line_or_a_field() {
        let line = written(&journey(Format::Json, EVIL));
        let read: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(read["user_agent"].as_str().unwrap(), String::from_utf8_lossy(EVIL));
        assert_eq!(read.get("z"), None);
        let line = line.strip_suffix('\n').unwrap();
        assert!(!line.contains(|c: char| c.is_control() || c == '\u{2028}'), "{line:?}");

        let line = written(&journey(Format::Combined, EVIL));
        let line = line.strip_suffix('\n').unwrap();
        assert!(line.bytes().all(|b| matches!(b, b' '..=b'~')), "{line:?}");
        assert_eq!(line.matches('"').count(), 6, "{line:?}");
        assert!(
            line.ends_with(r#""x\x22 200 1 \x22-\x22\x5C \x09\x80\xFF\xE2\x80\xA8 \x22z\x22:1, \xC3\xBC""#),
            "{line}"
        );
    }
}
