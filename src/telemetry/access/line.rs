//! One request as a line of the access log.

use std::{
    cell::{Cell, RefCell},
    time::Duration,
};

use http::{Version, header};

use super::{
    super::journey::{Asked, Found, Journey},
    clock::Clock,
    escape::{quoted, text},
    near,
    pen::{self, Pen},
};
use crate::model::{text::three, value::Value};

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

/// The line of a request, as far as it is known when the request comes, but for the time of its end. It is text already: what the
/// client sent need not be kept for it.
#[derive(Debug)]
pub struct Line {
    format: Format,
    text: RefCell<Text>,
    /// Where the time of its end is to stand.
    time: usize,
    /// Where that which has become of it is to stand, in the combined form: in JSON it comes last.
    outcome: usize,
    /// Where the instance that is tried is to stand, in JSON.
    instance: Cell<usize>,
}

/// Text, and what room there is behind it.
#[derive(Debug)]
struct Text {
    place: Vec<u8>,
    used: usize,
}

impl Text {
    fn written(&self) -> &[u8] {
        self.place.get(..self.used).unwrap_or_default()
    }
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
        let mut place = near::place();
        let (used, time, outcome) = match format {
            Format::Json => {
                let (used, ()) = pen::write(&mut place, 0, |mut pen| {
                    begin_json(&mut pen, asked);
                    (pen, ())
                });
                (used, 0, used)
            }
            Format::Combined => {
                let (used, (time, outcome)) = pen::write(&mut place, 0, |mut pen| {
                    let left = begin_combined(&mut pen, asked);
                    (pen, left)
                });
                (used, place.len() - time, place.len() - outcome)
            }
        };
        Self { format, text: RefCell::new(Text { place, used }), time, outcome, instance: Cell::new(used) }
    }

    /// A route takes the request.
    pub fn found(&self, found: &Found) {
        if self.format == Format::Json {
            let Text { place, used } = &mut *self.text.borrow_mut();
            (*used, ()) = pen::write(place, *used, |mut pen| {
                pen.put(found.line.get_or_init(|| named(found)));
                (pen, ())
            });
            self.instance.set(*used);
        }
    }

    /// This instance is tried, perhaps after another.
    pub fn tried(&self, address: &str) {
        if self.format == Format::Json {
            let Text { place, used } = &mut *self.text.borrow_mut();
            (*used, ()) = pen::write(place, self.instance.get(), |mut pen| {
                word(&mut pen, key!("upstream", text), address);
                (pen, ())
            });
        }
    }

    /// Writes it whole, with the time of its end, behind what `out` has `used`. Gives where it ends.
    pub(super) fn end(&self, out: &mut Vec<u8>, used: usize, clock: &Clock, journey: &Journey, end: End) -> usize {
        let text = self.text.borrow();
        let (before, behind) = text.written().split_at(self.time);
        let (used, ()) = match self.format {
            Format::Json => pen::write(out, used, |mut pen| {
                pen.word("{\"time\":\"");
                pen.put(clock.rfc3339());
                pen.put(behind);
                outcome(&mut pen, journey, end);
                pen.put(b"}\n");
                (pen, ())
            }),
            Format::Combined => pen::write(out, used, |mut pen| {
                let (asked, said) = behind.split_at(self.outcome - self.time);
                pen.put(before);
                pen.put(clock.combined());
                pen.put(asked);
                pen.decimal(end.status.into());
                pen.put(b" ");
                pen.decimal(journey.sent.get());
                pen.put(said);
                pen.put(b"\n");
                (pen, ())
            }),
        };
        used
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        near::give_back(std::mem::take(&mut self.text.get_mut().place));
    }
}

/// Begins behind the time.
#[inline]
fn begin_json(pen: &mut Pen<'_>, asked: &Asked<'_>) {
    pen.word("Z\",\"client\":\"");
    pen.ip(asked.client);
    pen.put(b"\"");
    // It stands for one that was not read.
    if asked.version.is_some() {
        word(pen, key!("method", text), asked.method.as_str());
    }
    if let Some(target) = asked.target {
        pen.word(key!("path", text));
        text(pen, target.as_str().as_bytes());
    }
    if let Some(host) = asked.host() {
        pen.word(key!("host", text));
        text(pen, host.as_bytes());
    }
    if let Some(version) = asked.version {
        word(pen, key!("protocol", text), protocol(version));
    }
    word(pen, key!("scheme", text), asked.scheme);
    if let Some(version) = asked.tls {
        word(pen, key!("tls", text), version);
    }
    pen.word(key!("request_id", text));
    text(pen, asked.request_id.as_bytes());
    pen.word(key!("trace_id", text));
    // Of a context that is well formed.
    if let Some(trace) = asked.context.and_then(|context| context.as_bytes().get(3..)?.first_chunk::<32>()) {
        pen.put(trace);
    }
    pen.put(b"\"");
    if let Some(agent) = asked.fields.get(header::USER_AGENT) {
        pen.word(key!("user_agent", text));
        text(pen, agent.as_bytes());
    }
}

/// Gives what room was left where the time, and where the outcome is to stand.
#[inline]
fn begin_combined(pen: &mut Pen<'_>, asked: &Asked<'_>) -> (usize, usize) {
    pen.ip(asked.client);
    pen.word(" - - [");
    let time = pen.left();
    pen.word("] \"");
    if let (Some(target), Some(version)) = (asked.target, asked.version) {
        quoted(pen, asked.method.as_str().as_bytes());
        pen.put(b" ");
        quoted(pen, target.as_str().as_bytes());
        pen.put(b" ");
        pen.word(protocol(version));
    } else {
        pen.put(b"-");
    }
    pen.word("\" ");
    let outcome = pen.left();
    for said in [header::REFERER, header::USER_AGENT] {
        pen.word(" \"");
        quoted(pen, asked.fields.get(said).map_or(b"-", Value::as_bytes));
        pen.put(b"\"");
    }
    (time, outcome)
}

#[inline]
fn outcome(pen: &mut Pen<'_>, journey: &Journey, end: End) {
    pen.word(key!("status"));
    pen.put(&three(end.status.into()));
    pen.word(key!("bytes_in"));
    pen.decimal(journey.received.get());
    pen.word(key!("bytes_out"));
    pen.decimal(journey.sent.get());
    pen.word(key!("duration_seconds"));
    pen.seconds(end.took);
    let tries = journey.tries.borrow();
    if let Some(last) = tries.last() {
        if let Some(status) = last.status {
            pen.word(key!("upstream_status"));
            pen.put(&three(status.as_u16().into()));
        }
        let waited = tries.iter().filter_map(|one| one.ended).map(|(took, _)| took).sum();
        pen.word(key!("upstream_seconds"));
        pen.seconds(waited);
    }
    pen.word(key!("tries"));
    pen.decimal(tries.len() as u64);
}

/// What lines of JSON say of a route and its service, which is the same for all of their requests.
fn named(found: &Found) -> Vec<u8> {
    let mut out = Vec::new();
    let (used, ()) = pen::write(&mut out, 0, |mut pen| {
        pen.word(key!("route", text));
        text(&mut pen, found.route.as_str().as_bytes());
        pen.word(key!("service", text));
        text(&mut pen, found.service.as_str().as_bytes());
        (pen, ())
    });
    out.truncate(used);
    out.shrink_to_fit();
    out
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        _ => "HTTP/1.1",
    }
}

/// A text that has nothing to be escaped: a token, or one of ours.
#[inline]
fn word(pen: &mut Pen<'_>, key: &str, value: &str) {
    pen.word(key);
    pen.word(value);
    pen.put(b"\"");
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
        let used = journey.line.as_ref().unwrap().end(&mut out, 0, &clock, journey, end);
        out.truncate(used);
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
