//! What is told of one request once it has ended: who asked for what, which instances were tried, what came of it. Plain
//! data of one worker, kept only while somebody wants it: the access log, or the trace that the request belongs to.

use std::{
    cell::{Cell, RefCell},
    net::IpAddr,
    time::Duration,
};

use http::{HeaderMap, HeaderValue, Method, StatusCode, Version, header, uri::PathAndQuery};
use tokio::time::Instant;

use super::cells::Outcome;
use crate::model::{
    instance::Address,
    name::{RouteName, ServiceName},
};

/// One request on its way.
#[derive(Debug)]
pub struct Journey {
    /// What was asked.
    pub asked: Asked,
    /// When it came.
    pub began: Instant,
    /// The mark of it that the client, services and logs share.
    pub request_id: HeaderValue,
    /// The trace context that it came with or was given: `traceparent`, well formed.
    pub context: HeaderValue,
    /// Who took it.
    pub found: RefCell<Option<Found>>,
    /// What was tried, in order.
    pub tries: RefCell<Vec<Try>>,
    /// Bytes of its body that came.
    pub received: Cell<u64>,
    /// Bytes of the answer's body that were sent.
    pub sent: Cell<u64>,
}

/// What a client asked for.
#[derive(Debug)]
pub struct Asked {
    /// The client's address, as far as those who say it are believed.
    pub client: IpAddr,
    /// The scheme that the client used: `http` or `https`.
    pub scheme: &'static str,
    /// The version of TLS that the request came through; `None`: none.
    pub tls: Option<&'static str>,
    /// The method.
    pub method: Method,
    /// Path and query; `None`: they were not understood.
    pub target: Option<PathAndQuery>,
    /// The version of HTTP; `None`: it was not understood.
    pub version: Option<Version>,
    /// The host that it was for.
    pub host: Option<HeaderValue>,
    /// What the client says that it is.
    pub user_agent: Option<HeaderValue>,
    /// Where the client says that it comes from.
    pub referer: Option<HeaderValue>,
}

impl Asked {
    /// What there is of it in these fields; the rest is not known.
    #[must_use]
    pub fn by(client: IpAddr, method: Method, fields: &HeaderMap) -> Self {
        let field = |name| fields.get(name).cloned();
        Self {
            client,
            scheme: "http",
            tls: None,
            method,
            target: None,
            version: None,
            host: field(header::HOST).filter(|host| !host.is_empty()),
            user_agent: field(header::USER_AGENT),
            referer: field(header::REFERER),
        }
    }
}

/// The route that took a request.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its name.
    pub route: RouteName,
    /// The service behind it.
    pub service: ServiceName,
}

/// One try of one instance.
#[derive(Clone, Debug)]
pub struct Try {
    /// The instance.
    pub address: Address,
    /// When it began.
    pub began: Instant,
    /// How long it took, and how it ended; `None`: it has not.
    pub ended: Option<(Duration, Outcome)>,
    /// The status of its answer.
    pub status: Option<StatusCode>,
}

impl Journey {
    /// One that begins.
    #[must_use]
    pub fn new(asked: Asked, began: Instant, request_id: HeaderValue, context: HeaderValue) -> Self {
        Self {
            asked,
            began,
            request_id,
            context,
            found: RefCell::default(),
            tries: RefCell::default(),
            received: Cell::default(),
            sent: Cell::default(),
        }
    }

    /// A try begins; gives its number.
    pub fn begin_try(&self, address: &Address, began: Instant) -> usize {
        let mut tries = self.tries.borrow_mut();
        tries.push(Try { address: address.clone(), began, ended: None, status: None });
        tries.len() - 1
    }

    /// A try was answered with this status.
    pub fn answered(&self, number: usize, status: StatusCode) {
        if let Some(answered) = self.tries.borrow_mut().get_mut(number) {
            answered.status = Some(status);
        }
    }

    /// A try has ended.
    pub fn end_try(&self, number: usize, at: Instant, outcome: Outcome) {
        if let Some(ended) = self.tries.borrow_mut().get_mut(number) {
            ended.ended = Some((at.saturating_duration_since(ended.began), outcome));
        }
    }
}
