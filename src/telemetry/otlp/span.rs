//! A request that has ended as spans: one of the server kind, and one of the client kind for each try.
//! Source: OpenTelemetry's semantic conventions for HTTP spans and for gRPC.

use std::time::{Duration, SystemTime};

use http::{HeaderValue, Method, StatusCode, Version};
use opentelemetry::{
    InstrumentationScope, KeyValue, SpanId, TraceFlags, TraceId,
    trace::{SpanContext, SpanKind, Status, TraceState},
};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use tokio::time::Instant;

use super::{
    super::{
        cells::Outcome,
        journey::{Ending, Traced, Try},
    },
    query,
};
use crate::model::{instance::Address, protocol::grpc_status};

/// A request that has ended, and whose trace is recorded.
#[derive(Debug)]
pub struct Told {
    traced: Box<Traced>,
    ending: Ending,
    /// Bytes of the answer's body.
    sent: u64,
    at: SystemTime,
}

/// What the client leaves before counts as: it has no status.
const CLIENT_LEFT: u16 = 499;

impl Told {
    /// One that has ended just now.
    #[must_use]
    pub fn new(traced: Box<Traced>, ending: Ending, sent: u64) -> Self {
        Self { traced, ending, sent, at: SystemTime::now() }
    }

    /// How many spans it makes.
    #[must_use]
    pub fn spans(&self) -> u64 {
        1 + self.traced.tries.borrow().len() as u64
    }

    /// All of them, the server's first.
    pub(super) fn into_spans(self) -> Vec<SpanData> {
        let tries = self.traced.tries.borrow();
        let server = self.server(&self.traced);
        let tries = tries.iter().enumerate().map(|(resent, one)| self.client(one, resent, &self.traced));
        std::iter::once(server).chain(tries).collect()
    }

    fn server(&self, asked: &Traced) -> SpanData {
        let marks = &asked.marks;
        let found = asked.found.get();
        let status = self.ending.status;
        let pattern = found.map(|found| found.pattern.as_str());
        let mut attributes = Vec::with_capacity(20);
        let mut say = |key: &'static str, value: opentelemetry::Value| attributes.push(KeyValue::new(key, value));
        let word = method(&mut say, asked);
        let name = pattern.map_or_else(|| word.to_owned(), |pattern| format!("{word} {pattern}"));
        if let Some(target) = &asked.target {
            say("url.path", target.path().to_owned().into());
            if let Some(query) = target.query() {
                say("url.query", query::shown(query).into());
            }
        }
        say("url.scheme", asked.scheme.into());
        if let Some((host, port)) = asked.host.as_ref().and_then(|host| host.to_str().ok()).map(parted) {
            say("server.address", host.to_owned().into());
            if let Some(port) = port {
                say("server.port", i64::from(port).into());
            }
        }
        say("client.address", asked.client.to_string().into());
        if let Some(version) = asked.version {
            say("network.protocol.version", number(version).into());
        }
        if let Some(pattern) = pattern {
            say("http.route", pattern.to_owned().into());
        }
        if let Some(agent) = &asked.user_agent {
            say("user_agent.original", String::from_utf8_lossy(agent.as_bytes()).into_owned().into());
        }
        if let Some(found) = found {
            say("lictor.route", found.route.to_string().into());
            say("lictor.service", found.service.to_string().into());
        }
        say("lictor.request_id", asked.request_id.as_ref().map(text).unwrap_or_default().into());
        say("http.request.body.size", whole(self.ending.received).into());
        say("http.response.body.size", whole(self.sent).into());
        let left = status.as_u16() == CLIENT_LEFT;
        if left {
            say("error.type", "client_left".into());
        } else {
            say("http.response.status_code", i64::from(status.as_u16()).into());
        }
        let mut error = status.is_server_error().then(|| status.as_str().to_owned());
        if marks.is_grpc {
            // What an instance answered is 200, whatever came of the call; all else the gateway says itself, in gRPC too.
            let said = status == StatusCode::OK;
            let last = || asked.tries.borrow().last().and_then(|last| last.grpc);
            let code = if left {
                None
            } else if said {
                last()
            } else {
                Some(grpc_status(status.as_u16()))
            };
            error = error.or_else(|| code.filter(|&code| said && is_fault(code)).map(|code| code.to_string()));
            grpc(&mut say, asked, code);
        }
        let failed = error.is_some();
        if let Some(error) = error {
            say("error.type", error.into());
        }
        let status = if failed || left { Status::error("") } else { Status::Unset };
        let parent = marks.parent.map_or(SpanId::INVALID, |parent| SpanId::from_bytes(parent.to_be_bytes()));
        let times = (asked.began, self.ending.at);
        self.span(
            asked,
            (SpanKind::Server, name),
            (marks.span, parent, marks.parent.is_some()),
            times,
            attributes,
            status,
        )
    }

    fn client(&self, one: &Try, resent: usize, asked: &Traced) -> SpanData {
        let marks = &asked.marks;
        let mut attributes = Vec::with_capacity(13);
        let mut say = |key: &'static str, value: opentelemetry::Value| attributes.push(KeyValue::new(key, value));
        let name = method(&mut say, asked);
        let (host, port) = match &one.address {
            Address::Ip(address) => (address.ip().to_string(), address.port()),
            Address::Name(name, port) => (name.to_string(), *port),
        };
        say("server.address", host.into());
        say("server.port", i64::from(port).into());
        say("url.full", query::url(&one.url).into());
        say("network.protocol.version", one.protocol.into());
        if resent > 0 {
            say("http.request.resend_count", whole(resent as u64).into());
        }
        if let Some(found) = asked.found.get() {
            say("lictor.service", found.service.to_string().into());
        }
        if let Some(status) = one.status {
            say("http.response.status_code", i64::from(status.as_u16()).into());
        }
        let (took, outcome) =
            one.ended.unwrap_or((self.ending.at.saturating_duration_since(one.began), Outcome::Cancelled));
        let error = match one.status {
            Some(status) if status.is_client_error() || status.is_server_error() => Some(status.as_str().to_owned()),
            Some(_) if one.grpc.is_some_and(|code| code != 0) => one.grpc.map(|code| code.to_string()),
            _ if outcome == Outcome::Success => None,
            _ => Some(outcome.as_str().to_owned()),
        };
        let status = if error.is_some() { Status::error("") } else { Status::Unset };
        if let Some(error) = error {
            say("error.type", error.into());
        }
        if marks.is_grpc {
            grpc(&mut say, asked, one.grpc);
        }
        let parent = SpanId::from_bytes(marks.span.to_be_bytes());
        let times = (one.began, one.began + took);
        self.span(asked, (SpanKind::Client, name.to_owned()), (one.span, parent, false), times, attributes, status)
    }

    fn span(
        &self,
        asked: &Traced,
        (span_kind, name): (SpanKind, String),
        (span, parent_span_id, parent_span_is_remote): (u64, SpanId, bool),
        (began, ended): (Instant, Instant),
        attributes: Vec<KeyValue>,
        status: Status,
    ) -> SpanData {
        let trace =
            asked.context.as_ref().and_then(|context| TraceId::from_hex(context.to_str().ok()?.get(3..35)?).ok());
        let state = asked
            .marks
            .state
            .as_ref()
            .and_then(|state| state.to_str().ok()?.parse::<TraceState>().ok())
            .unwrap_or_default();
        let span_context = SpanContext::new(
            trace.unwrap_or(TraceId::INVALID),
            SpanId::from_bytes(span.to_be_bytes()),
            TraceFlags::SAMPLED,
            false,
            state,
        );
        SpanData {
            span_context,
            parent_span_id,
            parent_span_is_remote,
            span_kind,
            name: name.into(),
            start_time: self.wall(began),
            end_time: self.wall(ended),
            attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status,
            instrumentation_scope: InstrumentationScope::builder("lictor")
                .with_version(env!("CARGO_PKG_VERSION"))
                .build(),
        }
    }

    /// The time of day of a moment.
    fn wall(&self, moment: Instant) -> SystemTime {
        let ago: Duration = self.ending.at.saturating_duration_since(moment);
        self.at.checked_sub(ago).unwrap_or(self.at)
    }
}

/// Says which method it is, and how it came where that says more; gives its word in the names of spans.
fn method(say: &mut impl FnMut(&'static str, opentelemetry::Value), asked: &Traced) -> &'static str {
    let method = known(&asked.method);
    say("http.request.method", method.into());
    if method != OTHER {
        return method;
    }
    // Where there is no version, it stands for one that was not read.
    if asked.version.is_some() {
        say("http.request.method_original", asked.method.to_string().into());
    }
    "HTTP"
}

fn grpc(say: &mut impl FnMut(&'static str, opentelemetry::Value), asked: &Traced, code: Option<u16>) {
    say("rpc.system", "grpc".into());
    let path = asked.target.as_ref().map_or("", |target| target.path());
    if let Some((service, method)) = path.trim_start_matches('/').rsplit_once('/') {
        say("rpc.service", service.to_owned().into());
        say("rpc.method", method.to_owned().into());
    }
    if let Some(code) = code {
        say("rpc.grpc.status_code", i64::from(code).into());
    }
}

/// Which statuses of gRPC are faults of who answers: `UNKNOWN`, `DEADLINE_EXCEEDED`, `UNIMPLEMENTED`, `INTERNAL`,
/// `UNAVAILABLE`, `DATA_LOSS`. Source: the conventions for gRPC, of spans of the server.
fn is_fault(code: u16) -> bool {
    matches!(code, 2 | 4 | 12..=15)
}

const OTHER: &str = "_OTHER";

/// The methods of the conventions; all others are one.
fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        Method::PATCH => "PATCH",
        Method::CONNECT => "CONNECT",
        Method::TRACE => "TRACE",
        _ => OTHER,
    }
}

fn number(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        _ => "1.1",
    }
}

fn text(value: &HeaderValue) -> String {
    value.to_str().unwrap_or_default().to_owned()
}

fn whole(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A host and its port, as `Host` has them.
fn parted(host: &str) -> (&str, Option<u16>) {
    match host.rsplit_once(':') {
        Some((name, port)) if !name.is_empty() && !port.contains(']') => (name, port.parse().ok()),
        _ => (host, None),
    }
}
