//! A request under way to an instance: let in by the instance's circuit, counted, and reported at its end.

use std::{rc::Rc, time::Duration};

use http::StatusCode;
use tokio::time::Instant;

use super::{call::Outbound, circuit::Era, endpoint::Endpoint, policy::Policy, pool::Link};
use crate::{
    model::{Held, value::Value},
    telemetry::{
        cells::Outcome,
        instance::time,
        journey::{Journey, TRACEPARENT},
    },
};

/// A failed try counts as a wait of at least so long, so that failing fast attracts nothing.
const FAILED: Duration = Duration::from_secs(1);

impl Link {
    /// Lets one request in, which begins now, counted until the permit is reported or dropped; `None` where the circuit
    /// does not let it.
    #[must_use]
    pub fn admit(self: Rc<Self>, policy: &Held<Policy>, worker: usize, now: Instant) -> Option<Permit> {
        let era = self.endpoint.circuit().enter(&self.service, now)?;
        let began = time(now);
        self.endpoint.cells().enter(worker, began);
        Some(Permit {
            link: self,
            policy: policy.clone(),
            worker,
            started: now,
            began,
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
    link: Rc<Link>,
    policy: Held<Policy>,
    worker: usize,
    started: Instant,
    /// The same as cells count it: to take one [`Instant`] from another costs more than to count.
    began: u64,
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
    /// The worker's link to the endpoint that it admits to.
    #[must_use]
    pub fn link(&self) -> &Link {
        &self.link
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
        let Endpoint { key, address, .. } = &*self.link.endpoint;
        let number = journey.begin_try(address);
        if journey.traced.is_some() {
            let (protocol, target) = (key.transport.protocol, request.target.as_str());
            if let Some(context) = journey.trace_try(&key.address, self.started, protocol, target) {
                request.fields.insert(TRACEPARENT, context);
            }
        }
        self.journey = Some((journey, number));
        self
    }

    /// These fields of the answer say how the call went, by gRPC's own word.
    pub fn heard_grpc(&self, status: Value<'_>) {
        let status = status.to_str().and_then(|status| status.parse().ok());
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
        let at = time(now);
        self.link.endpoint.cells().waited(self.worker, at, self.wait(now, at));
        self.answered = true;
        self.carry();
    }

    /// From now on, and until this ends, it counts the request as one that is under way to the service.
    pub(super) fn carry(&mut self) {
        if !self.carries {
            self.link.service.cells.carry(self.worker);
            self.carries = true;
        }
    }

    /// What came shows that the instance is well: a request that was to decide that has done so, though it may go on
    /// for long.
    pub fn proven(&mut self) {
        let circuit = self.link.endpoint.circuit();
        if !circuit.is_closed()
            && let Some(era) = circuit.prove(&self.link.service, self.era, Instant::now())
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

    /// How long it took until `now`, which cells count as `at`.
    #[inline]
    fn took(&self, at: u64) -> Duration {
        Duration::from_nanos(at.saturating_sub(self.began))
    }

    /// How long the instance let wait until then.
    #[inline]
    fn wait(&self, now: Instant, at: u64) -> Duration {
        match self.asked {
            Some(asked) if asked != self.started => now.saturating_duration_since(asked),
            _ => self.took(at),
        }
    }

    fn end(&self, now: Instant, at: u64) {
        let cells = self.link.endpoint.cells();
        let wait = self.wait(now, at);
        match self.outcome {
            Outcome::Failure | Outcome::Timeout | Outcome::ConnectError => {
                cells.waited(self.worker, at, wait.max(FAILED));
            }
            Outcome::Success if !self.answered => cells.waited(self.worker, at, wait),
            // Only of a whole request can be said that the wait was for the instance.
            Outcome::Cancelled if !self.answered && self.asked.is_some() => {
                cells.waited_in_vain(self.worker, at, wait);
            }
            Outcome::Success | Outcome::Cancelled => {}
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let now = self.ended.unwrap_or_else(Instant::now);
        let at = time(now);
        self.end(now, at);
        let rules = &self.policy.breaker;
        self.link.endpoint.circuit().report(&self.link.service, rules, self.worker, self.era, self.outcome, now);
        let took = self.took(at);
        self.link.endpoint.cells().leave(self.worker);
        self.link.endpoint.cells().outcome(self.worker, self.outcome, took);
        if self.carries {
            self.link.service.cells.leave(self.worker);
        }
        self.link.service.cells.took(self.worker, took);
        if let Some((journey, number)) = &self.journey {
            journey.end_try(*number, took, self.outcome);
        }
    }
}
