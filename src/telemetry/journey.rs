//! What is told of one request once it has ended: who asked for what, which instances were tried, what came of it. Plain
//! data of one worker, kept only while somebody wants it: the access log, or the trace that the request belongs to.

use std::{
    cell::{Cell, OnceCell, RefCell},
    net::IpAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use http::{HeaderName, HeaderValue, Method, StatusCode, Version, header, uri::PathAndQuery};
use smallvec::SmallVec;
use tokio::time::Instant;

use super::{
    access::{Format, Line},
    cells::Outcome,
};
use crate::model::{
    fields::Fields,
    instance::Address,
    name::{RouteName, ServiceName},
    protocol::Protocol,
    random::drawn,
    value::Value,
};

/// One request on its way.
#[derive(Debug)]
pub struct Journey {
    /// When it came.
    pub began: Instant,
    /// Its line of the access log, as far as that is known; `None`: there will be none.
    pub line: Option<Line>,
    /// What its spans need; `None`: its trace is not recorded.
    pub traced: Option<Box<Traced>>,
    /// Who took it, where its trace is recorded.
    pub found: OnceCell<Arc<Found>>,
    /// What was tried, in order: there is rarely another.
    pub tries: RefCell<SmallVec<[Try; 1]>>,
    /// Bytes of its body that came.
    pub received: Cell<u64>,
    /// Bytes of the answer's body that were sent.
    pub sent: Cell<u64>,
}

/// What spans say of a request, in memory of its own: as it came it is a part of what was read with it, all of which
/// it would keep too. Long texts are cut.
#[derive(Debug)]
pub struct Traced {
    /// The client's address.
    pub client: IpAddr,
    /// The scheme that the client used.
    pub scheme: &'static str,
    /// The method.
    pub method: Method,
    /// Path and query.
    pub target: Option<PathAndQuery>,
    /// The version of HTTP.
    pub version: Option<Version>,
    /// The host that its client asked for.
    pub host: Option<HeaderValue>,
    /// What the client says that it is.
    pub user_agent: Option<HeaderValue>,
    /// The mark of it that the client, services and logs share.
    pub request_id: Option<HeaderValue>,
    /// The trace context that it came with or was given.
    pub context: Option<HeaderValue>,
    /// What ties its spans together.
    pub marks: Marks,
}

/// What the spans of a request have in common.
#[derive(Debug)]
pub struct Marks {
    /// The number of the server's span.
    pub span: u64,
    /// That of the span that it belongs to, where the request came with one.
    pub parent: Option<u64>,
    /// What came with the context, for others.
    pub state: Option<HeaderValue>,
    /// Whether it is a call of gRPC.
    pub is_grpc: bool,
}

/// What a client asked for.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'r> {
    /// The client's address, as far as those who say it are believed.
    pub client: IpAddr,
    /// The scheme that the client used: `http` or `https`.
    pub scheme: &'static str,
    /// The version of TLS that the request came through; `None`: none.
    pub tls: Option<&'static str>,
    /// The method.
    pub method: &'r Method,
    /// Path and query; `None`: they were not understood.
    pub target: Option<&'r PathAndQuery>,
    /// The version of HTTP; `None`: it was not understood.
    pub version: Option<Version>,
    /// The host that its client asked for, where proxies that are believed say so.
    pub told_host: Option<&'r HeaderValue>,
    /// Its fields, or those that there are.
    pub fields: &'r Fields,
    /// The mark of it that the client, services and logs share.
    pub request_id: Value<'r>,
    /// The trace context that it came with or was given: `traceparent`, well formed.
    pub context: Option<Value<'r>>,
}

/// The field of the trace context. Source: W3C Trace Context §3.2.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

impl<'r> Asked<'r> {
    /// What there is of it in these fields; the rest is not known.
    #[must_use]
    pub fn by(client: IpAddr, method: &'r Method, fields: &'r Fields, request_id: &'r HeaderValue) -> Self {
        Self {
            client,
            scheme: "http",
            tls: None,
            method,
            target: None,
            version: None,
            told_host: None,
            fields,
            request_id: request_id.into(),
            context: fields.get(TRACEPARENT),
        }
    }

    /// The host that it was for, as it came.
    #[must_use]
    pub fn host(&self) -> Option<Value<'r>> {
        self.fields.get(header::HOST).filter(|host| !host.is_empty())
    }
}

impl Traced {
    fn new(asked: &Asked<'_>, mut marks: Marks) -> Box<Self> {
        marks.state = marks.state.as_ref().map(Value::from).and_then(own_list);
        Box::new(Self {
            client: asked.client,
            scheme: asked.scheme,
            method: asked.method.clone(),
            target: asked.target.and_then(|target| PathAndQuery::try_from(clipped(target.as_str())).ok()),
            version: asked.version,
            // Source: OpenTelemetry's semantic conventions for HTTP spans, "Setting `server.address`".
            host: asked.told_host.map(Value::from).or_else(|| asked.host()).and_then(own),
            user_agent: asked.fields.get(header::USER_AGENT).and_then(own),
            request_id: own(asked.request_id),
            context: asked.context.and_then(own),
            marks,
        })
    }
}

/// What waits to be told of a request is no longer than this, in bytes for each of its texts.
const LONGEST: usize = 2048;

fn own(value: Value<'_>) -> Option<HeaderValue> {
    let bytes = value.as_bytes();
    HeaderValue::from_bytes(&bytes[..bytes.len().min(LONGEST)]).ok()
}

/// A list, of whose members the last are left out where it is too long. Source: W3C Trace Context §3.3.1.5.
fn own_list(value: Value<'_>) -> Option<HeaderValue> {
    let bytes = value.as_bytes();
    let end = match bytes.get(..=LONGEST) {
        Some(much) => much.iter().rposition(|&b| b == b',')?,
        None => bytes.len(),
    };
    HeaderValue::from_bytes(&bytes[..end]).ok()
}

fn clipped(text: &str) -> &str {
    text.get(..LONGEST).unwrap_or(if text.len() < LONGEST { text } else { "/" })
}

/// The route that takes a request. Each worker has its own.
#[derive(Debug)]
pub struct Found {
    /// Its name.
    pub route: RouteName,
    /// The service behind it.
    pub service: ServiceName,
    /// Its path pattern, for spans.
    pub pattern: String,
    /// Both names as the access log writes them, once it has.
    pub(super) line: OnceLock<Vec<u8>>,
}

impl Found {
    /// The route of this name and path pattern, with the service behind it.
    #[must_use]
    pub fn new(route: RouteName, service: ServiceName, pattern: String) -> Arc<Self> {
        Arc::new(Self { route, service, pattern, line: OnceLock::new() })
    }
}

/// One try of one instance.
#[derive(Clone, Debug)]
pub struct Try {
    /// How long it took, and how it ended; `None`: it has not.
    pub ended: Option<(Duration, Outcome)>,
    /// The status of its answer.
    pub status: Option<StatusCode>,
    /// The status of its answer as gRPC has it.
    pub grpc: Option<u16>,
    /// What its span needs beside; `None`: there will be none.
    pub traced: Option<Box<TracedTry>>,
}

/// What the span of a try says of it.
#[derive(Clone, Debug)]
pub struct TracedTry {
    /// The instance.
    pub address: Address,
    /// When it began.
    pub began: Instant,
    /// The number of its span.
    pub span: u64,
    /// What was asked for there.
    pub url: String,
    /// The version of HTTP: `1.1` or `2`.
    pub protocol: &'static str,
}

impl Journey {
    /// One that begins: for the access log in this format, and for spans where they have these marks.
    #[must_use]
    pub fn new(asked: &Asked<'_>, began: Instant, format: Option<Format>, marks: Option<Marks>) -> Self {
        Self {
            began,
            line: format.map(|format| Line::begin(format, asked)),
            traced: marks.map(|marks| Traced::new(asked, marks)),
            found: OnceCell::new(),
            tries: RefCell::default(),
            received: Cell::default(),
            sent: Cell::default(),
        }
    }

    /// A route takes it.
    pub fn taken_by(&self, found: &Arc<Found>) {
        if let Some(line) = &self.line {
            line.found(found);
        }
        if self.traced.is_some() {
            self.found.get_or_init(|| found.clone());
        }
    }

    /// A try of an instance at this address begins; gives its number.
    pub fn begin_try(&self, address: &str) -> usize {
        if let Some(line) = &self.line {
            line.tried(address);
        }
        let mut tries = self.tries.borrow_mut();
        tries.push(Try { ended: None, status: None, grpc: None, traced: None });
        tries.len() - 1
    }

    /// What a try's span needs beside; gives the context that the instance gets. `None`: the trace is not recorded.
    pub fn trace_try(
        &self,
        number: usize,
        address: &Address,
        began: Instant,
        protocol: Protocol,
        target: &str,
    ) -> Option<HeaderValue> {
        let traced = self.traced.as_ref()?;
        let mut tries = self.tries.borrow_mut();
        let scheme = if protocol.is_tls() { "https" } else { "http" };
        let (span, url) = (drawn(), format!("{scheme}://{address}{}", clipped(target)));
        let protocol = if protocol.is_http2() { "2" } else { "1.1" };
        tries.get_mut(number)?.traced =
            Some(Box::new(TracedTry { address: address.clone(), began, span, url, protocol }));
        let trace = traced.context.as_ref()?.to_str().ok()?.get(3..35)?;
        let mut context = HeaderValue::try_from(format!("00-{trace}-{span:016x}-01")).ok()?;
        context.set_sensitive(true); // it will not come again: see RFC 7541 §6.2.3
        Some(context)
    }

    /// A try was answered with this status of gRPC.
    pub fn answered_grpc(&self, number: usize, status: u16) {
        if let Some(answered) = self.tries.borrow_mut().get_mut(number) {
            answered.grpc = Some(status);
        }
    }

    /// A try was answered with this status.
    pub fn answered(&self, number: usize, status: StatusCode) {
        if let Some(answered) = self.tries.borrow_mut().get_mut(number) {
            answered.status = Some(status);
        }
    }

    /// A try has ended, after so long.
    pub fn end_try(&self, number: usize, took: Duration, outcome: Outcome) {
        if let Some(ended) = self.tries.borrow_mut().get_mut(number) {
            ended.ended = Some((took, outcome));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_list_that_is_too_long_whole_members_are_kept() {
        let kept = |text: &str| {
            let kept = own_list(Value::of(text.as_bytes()).unwrap());
            kept.map(|value| value.to_str().unwrap().to_owned())
        };
        let long = |length: usize| format!("a={}", "x".repeat(length - 2));
        for whole in ["a=b", "a=b,c=d", &long(LONGEST)] {
            assert_eq!(kept(whole).as_deref(), Some(whole));
        }
        for first in ["a=b".to_owned(), long(LONGEST - 1), long(LONGEST)] {
            assert_eq!(kept(&format!("{first},{}", long(LONGEST))), Some(first));
        }
        assert_eq!(kept(&long(LONGEST + 1)), None);
    }
}
