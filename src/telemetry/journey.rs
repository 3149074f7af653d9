//! What is told of one request once it has ended: who asked for what, which instances were tried, what came of it. Plain
//! data of one worker, kept only while somebody wants it: the access log, or the trace that the request belongs to.

use std::{
    cell::{Cell, OnceCell, RefCell},
    net::IpAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use http::{HeaderName, HeaderValue, Method, StatusCode, Version, header, uri::PathAndQuery};
use tokio::time::Instant;

use super::{
    access::{Format, Line},
    cells::Outcome,
};
use crate::model::{
    Held,
    fields::Fields,
    instance::Address,
    name::{RouteName, ServiceName},
    protocol::Protocol,
    random::drawn,
    value::Value,
};

/// One request on its way: small, since it is far away by the time the answer comes.
#[derive(Debug)]
pub struct Journey {
    /// Its line of the access log, as far as that is known; `None`: there will be none.
    pub line: Option<Line>,
    /// What its spans need; `None`: its trace is not recorded.
    pub traced: Option<Box<Traced>>,
    /// Who took it.
    pub(super) found: OnceCell<Held<Found>>,
    /// What its line says of the instances that were tried.
    pub(super) tries: Cell<Tries>,
    /// Bytes of the answer's body that were sent.
    pub sent: Cell<u64>,
}

/// What was tried, all together.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tries {
    /// How many there were.
    pub count: usize,
    /// What the last one was answered.
    pub status: Option<StatusCode>,
    /// How long all took that have ended.
    pub waited: Duration,
}

/// How a request ended.
#[derive(Clone, Copy, Debug)]
pub struct Ending {
    /// The status that it counts as.
    pub status: StatusCode,
    /// When.
    pub at: Instant,
    /// After how long.
    pub took: Duration,
    /// Bytes of its body that came.
    pub received: u64,
}

/// What spans say of a request, in memory of its own: as it came it is a part of what was read with it, all of which
/// it would keep too. Long texts are cut.
#[derive(Debug)]
pub struct Traced {
    /// When it came.
    pub began: Instant,
    /// Who took it.
    pub found: OnceCell<Arc<Found>>,
    /// What was tried, in order.
    pub tries: RefCell<Vec<Try>>,
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
            // There is one, and mostly the gateway put it there.
            context: fields.get_all(TRACEPARENT).next_back(),
        }
    }

    /// The host that it was for, as it came.
    #[must_use]
    pub fn host(&self) -> Option<Value<'r>> {
        self.fields.get(header::HOST).filter(|host| !host.is_empty())
    }
}

impl Traced {
    fn new(asked: &Asked<'_>, began: Instant, mut marks: Marks) -> Box<Self> {
        marks.state = marks.state.as_ref().map(Value::from).and_then(own_list);
        Box::new(Self {
            began,
            found: OnceCell::new(),
            tries: RefCell::default(),
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

/// One try of one instance, as its span says it.
#[derive(Clone, Debug)]
pub struct Try {
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
    /// How long it took, and how it ended; `None`: it has not.
    pub ended: Option<(Duration, Outcome)>,
    /// The status of its answer.
    pub status: Option<StatusCode>,
    /// The status of its answer as gRPC has it.
    pub grpc: Option<u16>,
}

impl Journey {
    /// One that begins: for the access log in this format, and for spans where they have these marks.
    #[must_use]
    pub fn new(asked: &Asked<'_>, began: Instant, format: Option<Format>, marks: Option<Marks>) -> Self {
        Self {
            line: format.map(|format| Line::begin(format, asked)),
            traced: marks.map(|marks| Traced::new(asked, began, marks)),
            found: OnceCell::new(),
            tries: Cell::default(),
            sent: Cell::default(),
        }
    }

    /// A route takes it.
    pub fn taken_by(&self, found: &Held<Found>) {
        if let Some(traced) = &self.traced {
            traced.found.get_or_init(|| Arc::clone(found));
        }
        self.found.get_or_init(|| found.clone());
    }

    /// A try of an instance at this address begins; gives its number.
    pub fn begin_try(&self, address: &str) -> usize {
        if let Some(line) = &self.line {
            line.tried(address);
        }
        let tries = self.tries.get();
        self.tries.set(Tries { count: tries.count + 1, status: None, ..tries });
        tries.count
    }

    /// What the span of the try that began last needs beside; gives the context that the instance gets. `None`: the trace is not
    /// recorded.
    pub fn trace_try(
        &self,
        address: &Address,
        began: Instant,
        protocol: Protocol,
        target: &str,
    ) -> Option<HeaderValue> {
        let traced = self.traced.as_ref()?;
        let scheme = if protocol.is_tls() { "https" } else { "http" };
        let (span, url) = (drawn(), format!("{scheme}://{address}{}", clipped(target)));
        let (address, protocol) = (address.clone(), if protocol.is_http2() { "2" } else { "1.1" });
        let one = Try { address, began, span, url, protocol, ended: None, status: None, grpc: None };
        traced.tries.borrow_mut().push(one);
        let trace = traced.context.as_ref()?.to_str().ok()?.get(3..35)?;
        let mut context = HeaderValue::try_from(format!("00-{trace}-{span:016x}-01")).ok()?;
        context.set_sensitive(true); // it will not come again: see RFC 7541 §6.2.3
        Some(context)
    }

    /// A try was answered with this status of gRPC.
    pub fn answered_grpc(&self, number: usize, status: u16) {
        self.of_try(number, |answered| answered.grpc = Some(status));
    }

    /// A try was answered with this status.
    pub fn answered(&self, number: usize, status: StatusCode) {
        let tries = self.tries.get();
        if number + 1 == tries.count {
            self.tries.set(Tries { status: Some(status), ..tries });
        }
        self.of_try(number, |answered| answered.status = Some(status));
    }

    /// A try has ended, after so long.
    pub fn end_try(&self, number: usize, took: Duration, outcome: Outcome) {
        let tries = self.tries.get();
        self.tries.set(Tries { waited: tries.waited.saturating_add(took), ..tries });
        self.of_try(number, |ended| ended.ended = Some((took, outcome)));
    }

    fn of_try(&self, number: usize, tell: impl FnOnce(&mut Try)) {
        if let Some(traced) = &self.traced
            && let Some(one) = traced.tries.borrow_mut().get_mut(number)
        {
            tell(one);
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
