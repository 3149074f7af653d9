//! One request as a line of the access log.

use std::cell::RefCell;

use http::{Method, Version, header};

use super::{
    super::journey::{Asked, Ending, Found, Journey},
    clock::{COMBINED, Clock, RFC_3339},
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

/// What stands before a number, and before a text. Texts are left without the quotes that end them: whoever goes on ends them.
macro_rules! key {
    ($name:literal) => {
        concat!(",\"", $name, "\":")
    };
    ($name:literal, text) => {
        concat!("\",\"", $name, "\":\"")
    };
    ($name:literal, $value:literal) => {
        concat!("\",\"", $name, "\":\"", $value)
    };
}

/// The line of a request, as far as it is known when the request comes. It is text already: what the client sent need not be kept for it.
#[derive(Debug)]
pub struct Line {
    format: Format,
    text: RefCell<Text>,
    /// Where the time of its end is to stand.
    time: usize,
    /// How much stands before the line that is to stand at its end, in the combined form.
    said: usize,
    /// Where the instance that is tried is to stand, in JSON.
    instance: usize,
}

/// Text, and what room there is behind it.
#[derive(Debug, Default)]
struct Text {
    place: Vec<u8>,
    used: usize,
}

/// A line that is whole, in the memory in which it was begun.
#[derive(Debug)]
pub struct Whole {
    place: Vec<u8>,
    from: usize,
    to: usize,
}

impl Whole {
    /// What is to be written.
    #[inline]
    pub fn text(&self) -> &[u8] {
        self.place.get(self.from..self.to).unwrap_or_default()
    }

    /// The memory, for another.
    pub fn into_place(self) -> Vec<u8> {
        self.place
    }
}

impl Line {
    /// That of a request that has just come.
    #[must_use]
    pub fn begin(format: Format, asked: &Asked<'_>) -> Self {
        let mut place = near::place();
        let (used, time, said) = match format {
            Format::Json => {
                let (used, ()) = pen::write(&mut place, 0, |mut pen| {
                    begin_json(&mut pen, asked);
                    (pen, ())
                });
                (used, BEFORE.len(), 0)
            }
            Format::Combined => {
                let (used, (said, time)) = pen::write(&mut place, 0, |mut pen| {
                    let left = begin_combined(&mut pen, asked);
                    (pen, left)
                });
                (used, place.len() - time, place.len() - said)
            }
        };
        Self { format, text: RefCell::new(Text { place, used }), time, said, instance: used }
    }

    /// This instance is tried, perhaps after another.
    pub fn tried(&self, address: &str) {
        if self.format == Format::Json {
            let Text { place, used } = &mut *self.text.borrow_mut();
            (*used, ()) = pen::write(place, self.instance, |mut pen| {
                word(&mut pen, key!("upstream", text), address);
                (pen, ())
            });
        }
    }

    /// Ends it, with the time of its end; `None`: it has ended already.
    #[inline]
    pub(super) fn end(&self, clock: &Clock, journey: &Journey, ending: Ending) -> Option<Whole> {
        let Text { mut place, used } = std::mem::take(&mut *self.text.borrow_mut());
        if used == 0 {
            return None;
        }
        Some(match self.format {
            Format::Json => {
                fill(&mut place, self.time, clock.rfc3339());
                let (to, ()) = pen::write(&mut place, used, |mut pen| {
                    outcome(&mut pen, journey, ending);
                    pen.put(b"}\n");
                    (pen, ())
                });
                Whole { place, from: 0, to }
            }
            Format::Combined => {
                fill(&mut place, self.time, clock.combined());
                let (used, ()) = pen::write(&mut place, used, |mut pen| {
                    pen.put(&three(ending.status.as_u16().into()));
                    pen.put(b" ");
                    pen.decimal(journey.sent.get());
                    (pen, ())
                });
                let to = used + self.said;
                if place.len() <= to {
                    place.resize(to + 1, 0);
                }
                place.copy_within(..self.said, used);
                fill(&mut place, to, b"\n");
                Whole { place, from: self.said, to: to + 1 }
            }
        })
    }
}

/// Writes where room was left.
#[inline]
fn fill<const N: usize>(place: &mut [u8], at: usize, text: &[u8; N]) {
    if let Some(place) = place.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
        *place = *text;
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let place = std::mem::take(&mut self.text.get_mut().place);
        if place.capacity() > 0 {
            near::give_back(place);
        }
    }
}

/// What stands before the time, in JSON.
const BEFORE: &str = "{\"time\":\"";

/// Leaves room for the time.
#[inline]
fn begin_json(pen: &mut Pen<'_>, asked: &Asked<'_>) {
    pen.word(BEFORE);
    pen.leave(RFC_3339);
    pen.word("Z\",\"client\":\"");
    pen.ip(asked.client);
    // It stands for one that was not read.
    match (asked.version, asked.method) {
        (None, _) => {}
        (_, &Method::GET) => pen.word(key!("method", "GET")),
        (_, method) => word(pen, key!("method", text), method.as_str()),
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
        pen.word(key!("protocol", text));
        pen.put(protocol(version));
    }
    match asked.scheme {
        "http" => pen.word(key!("scheme", "http")),
        scheme => word(pen, key!("scheme", text), scheme),
    }
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
    if let Some(agent) = asked.fields.get(header::USER_AGENT) {
        pen.word(key!("user_agent", text));
        text(pen, agent.as_bytes());
    }
}

/// Writes what is to stand at the end first. Gives what room was left behind that, and where the time is to stand.
#[inline]
fn begin_combined(pen: &mut Pen<'_>, asked: &Asked<'_>) -> (usize, usize) {
    for said in [header::REFERER, header::USER_AGENT] {
        pen.word(" \"");
        quoted(pen, asked.fields.get(said).map_or(b"-", Value::as_bytes));
        pen.put(b"\"");
    }
    let said = pen.left();
    pen.ip(asked.client);
    pen.word(" - - [");
    let time = pen.left();
    pen.leave(COMBINED);
    pen.word("] \"");
    if let (Some(target), Some(version)) = (asked.target, asked.version) {
        quoted(pen, asked.method.as_str().as_bytes());
        pen.put(b" ");
        quoted(pen, target.as_str().as_bytes());
        pen.put(b" ");
        pen.put(protocol(version));
    } else {
        pen.put(b"-");
    }
    pen.word("\" ");
    (said, time)
}

#[inline]
fn outcome(pen: &mut Pen<'_>, journey: &Journey, ending: Ending) {
    if let Some(found) = journey.found.get() {
        pen.put(found.line.get_or_init(|| named(found)));
    }
    pen.word(concat!("\"", key!("status")));
    pen.put(&three(ending.status.as_u16().into()));
    pen.word(key!("bytes_in"));
    pen.decimal(ending.received);
    pen.word(key!("bytes_out"));
    pen.decimal(journey.sent.get());
    pen.word(key!("duration_seconds"));
    pen.seconds(ending.took);
    let tries = journey.tries.get();
    if let Some(status) = tries.status {
        pen.word(key!("upstream_status"));
        pen.put(&three(status.as_u16().into()));
    }
    if tries.count > 0 {
        pen.word(key!("upstream_seconds"));
        pen.seconds(tries.waited);
    }
    pen.word(key!("tries"));
    pen.decimal(tries.count as u64);
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

fn protocol(version: Version) -> &'static [u8; 8] {
    match version {
        Version::HTTP_10 => b"HTTP/1.0",
        Version::HTTP_2 => b"HTTP/2.0",
        _ => b"HTTP/1.1",
    }
}

/// A text that has nothing to be escaped: a token, or one of ours.
#[expect(clippy::inline_always, reason = "the pen is to stay in registers")]
#[inline(always)]
fn word(pen: &mut Pen<'_>, key: &str, value: &str) {
    pen.word(key);
    pen.few(value.as_bytes());
}

#[cfg(test)]
mod tests {
    use std::{rc::Rc, time::Duration};

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
        let mut clock = Clock::default();
        clock.set(Duration::from_millis(784_111_777_089));
        let (status, took) = (StatusCode::BAD_GATEWAY, Duration::from_micros(1_000_250));
        let ending = Ending { status, at: Instant::now(), took, received: 12 };
        let line = journey.line.as_ref().unwrap().end(&clock, journey, ending).unwrap();
        String::from_utf8(line.text().to_vec()).unwrap()
    }

    #[test]
    fn a_line_of_json_has_all_that_is_known() {
        let journey = journey(Format::Json, b"curl/8");
        journey.taken_by(&Rc::new(Found::new("users".into(), "user-service".into(), "/u/{id}".into())));
        journey.begin_try("10.0.0.6:8002");
        journey.end_try(0, Duration::from_millis(2), Outcome::ConnectError);
        journey.begin_try("10.0.0.7:8002");
        journey.answered(1, StatusCode::BAD_GATEWAY);
        journey.end_try(1, Duration::from_millis(3), Outcome::Failure);
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
