//! The live side of an instance: what is under way to it and what was observed of it.
//! It outlives every snapshot that lists it; its idle connections are each worker's own (`pool.rs`).

use std::{
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use http::{HeaderValue, StatusCode};
use tokio::time::Instant;

use super::{
    call::Outbound,
    circuit::{Circuit, Era},
    policy::Policy,
    service::Service,
    tls::Trust,
};
use crate::{
    model::{
        instance::Address,
        name::{InstanceId, ServiceName},
        protocol::Protocol,
    },
    telemetry::{
        cells::Outcome,
        instance::InstanceCells,
        journey::{Journey, TRACEPARENT},
    },
};

/// What makes two tellings of an instance the same one. Weight, tags and health are not in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EndpointKey {
    /// The service it is an instance of.
    pub service: ServiceName,
    /// What Consul calls it; of several at one address, the first by name.
    pub id: InstanceId,
    /// Where it listens.
    pub address: Address,
    /// How it is spoken to.
    pub transport: Transport,
}

/// What connections to an instance have in common: one that differs in any of it must not be used in place of another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Transport {
    /// What is spoken.
    pub protocol: Protocol,
    /// What the other end has to prove, where that goes through TLS.
    pub trust: Option<Arc<Trust>>,
}

/// The live side of one instance.
#[derive(Debug)]
pub struct Endpoint {
    /// Which instance it is.
    pub key: EndpointKey,
    /// Never given to another endpoint, so that a worker may file connections under it.
    pub serial: u64,
    /// Since when it is known.
    pub since: SystemTime,
    cells: Arc<InstanceCells>,
    circuit: Arc<Circuit>,
    listed: AtomicBool,
    draining: AtomicBool,
}

/// A failed try counts as a wait of at least so long, so that failing fast attracts nothing.
const FAILED: Duration = Duration::from_secs(1);

impl Endpoint {
    /// A new endpoint. Its circuit is that of whom it takes the place of, or a new one.
    #[must_use]
    pub fn new(key: EndpointKey, cells: Arc<InstanceCells>, circuit: Arc<Circuit>) -> Self {
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        let serial = SERIAL.fetch_add(1, Relaxed);
        Self {
            key,
            serial,
            since: SystemTime::now(),
            cells,
            circuit,
            listed: AtomicBool::new(true),
            draining: AtomicBool::default(),
        }
    }

    /// Whether discovery still tells of it. One that left gets no new connection and keeps no idle one.
    #[must_use]
    pub fn is_listed(&self) -> bool {
        self.listed.load(Relaxed)
    }

    /// Says whether discovery tells of it.
    pub fn set_listed(&self, listed: bool) {
        self.listed.store(listed, Relaxed);
    }

    /// Whether an operator has taken it out: it finishes what it has, and gets nothing new.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Relaxed)
    }

    /// Takes it out, or puts it back. True if it was otherwise.
    pub fn set_draining(&self, draining: bool) -> bool {
        self.draining.swap(draining, Relaxed) != draining
    }

    /// What was observed of it.
    #[must_use]
    pub fn cells(&self) -> &InstanceCells {
        &self.cells
    }

    /// Whether it may be asked.
    #[must_use]
    pub fn circuit(&self) -> &Arc<Circuit> {
        &self.circuit
    }

    /// Lets one request of `service` in, which begins now, counted until the permit is reported or dropped; `None`
    /// where the circuit does not let it.
    #[must_use]
    pub fn admit(
        self: &Arc<Self>,
        service: &Arc<Service>,
        policy: &Arc<Policy>,
        worker: usize,
        now: Instant,
    ) -> Option<Permit> {
        let era = self.circuit.enter(service, now)?;
        self.cells.enter(worker, now);
        Some(Permit {
            endpoint: self.clone(),
            service: service.clone(),
            policy: policy.clone(),
            worker,
            started: now,
            era,
            asked: None,
            answered: false,
            carries: false,
            outcome: Outcome::Cancelled,
            ended: None,
            journey: None,
        })
    }
}

/// One request under way to an endpoint. Dropped without a report, the client went away.
#[derive(Debug)]
pub struct Permit {
    endpoint: Arc<Endpoint>,
    service: Arc<Service>,
    policy: Arc<Policy>,
    worker: usize,
    started: Instant,
    era: Era,
    /// Since when the instance has had the whole request.
    asked: Option<Instant>,
    answered: bool,
    /// It is what counts the request as under way to the service: who called waits no more.
    carries: bool,
    outcome: Outcome,
    /// When it ended, where that was asked already.
    ended: Option<Instant>,
    /// Where it is told, and as which try.
    journey: Option<(Rc<Journey>, usize)>,
}

impl Permit {
    /// The endpoint it admits to.
    #[must_use]
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// The rules that it was given by.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// When it was given.
    #[must_use]
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Has how it goes be told there too.
    #[must_use]
    pub fn told(mut self, request: &mut Outbound) -> Self {
        let Some(journey) = request.aside.journey() else { return self };
        let (key, protocol) = (&self.endpoint.key, self.endpoint.key.transport.protocol);
        let version = if protocol.is_http2() { "2" } else { "1.1" };
        let number = journey.begin_try(&key.address, self.started, version);
        let scheme = if protocol.is_tls() { "https" } else { "http" };
        if let Some(context) = journey.trace_try(number, scheme, request.target.as_str()) {
            request.headers.insert(TRACEPARENT, context);
        }
        self.journey = Some((journey, number));
        self
    }

    /// These fields of the answer say how the call went, by gRPC's own word.
    pub fn heard_grpc(&self, status: &HeaderValue) {
        let status = status.to_str().ok().and_then(|status| status.parse().ok());
        if let (Some((journey, number)), Some(status)) = (&self.journey, status) {
            journey.answered_grpc(*number, status);
        }
    }

    /// Since when the instance has had the whole request: what the client took to send it is no wait for an answer.
    pub fn asked(&mut self, since: Instant) {
        self.asked = Some(since);
    }

    /// The head of the answer is there, and the rest may take long through no fault of the instance. Need not be said
    /// of an answer that is whole already.
    pub fn answered(&mut self) {
        let now = Instant::now();
        let wait = now.saturating_duration_since(self.asked.unwrap_or(self.started));
        self.endpoint.cells.waited(self.worker, now, wait);
        self.answered = true;
        self.carry();
    }

    /// From now on, and until this ends, it counts the request as one that is under way to the service.
    pub(super) fn carry(&mut self) {
        if !self.carries {
            self.service.cells.carry(self.worker);
            self.carries = true;
        }
    }

    /// What came shows that the instance is well: a request that was to decide that has done so, though it may go on
    /// for long.
    pub fn proven(&mut self) {
        let circuit = &self.endpoint.circuit;
        if !circuit.is_closed()
            && let Some(era) = circuit.prove(&self.service, self.era, Instant::now())
        {
            self.era = era;
        }
    }

    /// The head of the answer has this status.
    pub fn heard(&self, status: StatusCode) {
        if let Some((journey, number)) = &self.journey {
            journey.answered(*number, status);
        }
    }

    /// Says how the request went, should nobody say otherwise before it ends.
    pub fn settle(&mut self, outcome: Outcome) {
        self.outcome = outcome;
    }

    /// Says how the request went; ends it.
    pub fn report(mut self, outcome: Outcome) {
        self.outcome = outcome;
    }

    /// The same, of one that ends at this very moment.
    pub fn report_at(mut self, now: Instant, outcome: Outcome) {
        self.outcome = outcome;
        self.ended = Some(now);
    }

    fn end(&self, now: Instant) {
        let cells = &self.endpoint.cells;
        let wait = now.saturating_duration_since(self.asked.unwrap_or(self.started));
        match self.outcome {
            Outcome::Failure | Outcome::Timeout | Outcome::ConnectError => {
                cells.waited(self.worker, now, wait.max(FAILED));
            }
            Outcome::Success if !self.answered => cells.waited(self.worker, now, wait),
            // Only of a whole request can be said that the wait was for the instance.
            Outcome::Cancelled if !self.answered && self.asked.is_some() => {
                cells.waited_in_vain(self.worker, now, wait);
            }
            Outcome::Success | Outcome::Cancelled => {}
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let now = self.ended.unwrap_or_else(Instant::now);
        self.end(now);
        let rules = &self.policy.breaker;
        self.endpoint.circuit.report(&self.service, rules, self.worker, self.era, self.outcome, now);
        let took = now.saturating_duration_since(self.started);
        self.endpoint.cells.leave(self.worker);
        self.endpoint.cells.outcome(self.worker, self.outcome, took);
        if self.carries {
            self.service.cells.leave(self.worker);
        }
        self.service.cells.took(self.worker, took);
        if let Some((journey, number)) = &self.journey {
            journey.end_try(*number, now, self.outcome);
        }
    }
}
