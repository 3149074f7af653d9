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
