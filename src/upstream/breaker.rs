//! Whether an instance may be asked: its circuit is closed, open or half-open. A pure state machine: rules, counts,
//! time and chance are arguments. Who shares it and how many may be open at once is the business of `circuit`.

use std::{fmt, time::Duration};

use http::StatusCode;
use tokio::time::Instant;

use crate::{
    model::units::Share,
    telemetry::{cells::Outcome, window::Counts},
};

/// When a circuit opens and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BreakerRules {
    /// So many failures in a row open it; 0: no number of them does.
    pub consecutive: u32,
    /// So great a part of the requests within `window`, where it failed, opens it.
    pub error_rate: Share,
    /// Fewer requests within `window` are too few to say.
    pub min_requests: u32,
    /// What the rate is of.
    pub window: Duration,
    /// How long it is open at first.
    pub open: Duration,
    /// How long at most, as one failed probe follows another.
    pub max_open: Duration,
    /// The part of a service's members whose circuits may be open at once; where it is not 0, one may always be.
    pub max_ejected: Share,
    /// Which answers count as failures, in order.
    pub failure_status: Vec<u16>,
}

impl Default for BreakerRules {
    fn default() -> Self {
        Self {
            consecutive: 5,
            error_rate: Share::HALF,
            min_requests: 20,
            window: Duration::from_secs(10),
            open: Duration::from_secs(5),
            max_open: Duration::from_mins(1),
            max_ejected: Share::HALF,
            failure_status: vec![500, 502, 503, 504],
        }
    }
}

impl BreakerRules {
    /// How an answer counts: the instance failed, or it did not.
    #[inline]
    #[must_use]
    pub fn judge(&self, status: StatusCode) -> Outcome {
        let status = status.as_u16();
        if status >= 400 && self.failure_status.contains(&status) { Outcome::Failure } else { Outcome::Success }
    }

    /// How many circuits may be open at once among so many members.
    #[must_use]
    pub fn places(&self, members: usize) -> usize {
        if self.max_ejected == Share::NONE { 0 } else { self.max_ejected.of(members).max(1) }
    }
}

/// How a circuit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The instance gets requests.
    Closed,
    /// One request is under way that decides.
    HalfOpen,
    /// The instance gets nothing until then; the first request after that decides.
    Open(Instant),
}

impl State {
    /// The word for it in labels and reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half_open",
            Self::Open(_) => "open",
        }
    }
}

/// One circuit.
#[derive(Debug)]
pub struct Breaker {
    state: State,
    /// Failures in a row.
    consecutive: u32,
    /// Times it opened since it was last closed.
    openings: u32,
}

/// Now, and a number drawn by chance.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Now.
    pub now: Instant,
    /// Any number.
    pub draw: u64,
}

/// Why a circuit changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// So many failures in a row, the last one of this kind.
    Consecutive(u32, Outcome),
    /// So many of the requests within the window failed.
    Rate(Counts, Duration),
    /// Its time is over, and a request is to decide.
    Due,
    /// The request that was to decide went well.
    Proven,
    /// It failed.
    ProbeFailed(Outcome),
    /// It was given up before there was an answer.
    ProbeLeft,
    /// An operator has closed it.
    Reset,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { state: State::Closed, consecutive: 0, openings: 0 }
    }
}

impl Breaker {
    /// How it is.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// Whether failures are remembered that a success forgets.
    #[must_use]
    pub fn is_marked(&self) -> bool {
        self.consecutive > 0
    }

    /// A request failed. A closed circuit opens where the rules say so and there is a place for it among the open ones
    /// of the service; where there is none, it stays as it is and opens at a later failure. `recent` has this failure in it.
    pub fn failed(
        &mut self,
        rules: &BreakerRules,
        recent: Counts,
        outcome: Outcome,
        at: Moment,
        has_place: impl FnOnce() -> bool,
    ) -> Option<Cause> {
        match self.state {
            State::Closed => {
                self.consecutive = self.consecutive.saturating_add(1);
                let cause = self.trips(rules, recent, outcome).filter(|_| has_place())?;
                self.open(rules, at);
                Some(cause)
            }
            State::HalfOpen => {
                self.open(rules, at);
                Some(Cause::ProbeFailed(outcome))
            }
            State::Open(_) => None,
        }
    }

    fn trips(&self, rules: &BreakerRules, recent: Counts, outcome: Outcome) -> Option<Cause> {
        if rules.consecutive > 0 && self.consecutive >= rules.consecutive {
            return Some(Cause::Consecutive(self.consecutive, outcome));
        }
        let enough = recent.requests >= u64::from(rules.min_requests);
        (enough && rules.error_rate.is_reached(recent.failures, recent.requests))
            .then_some(Cause::Rate(recent, rules.window))
    }

    fn open(&mut self, rules: &BreakerRules, at: Moment) {
        let whole = rules.open.saturating_mul(1_u32.checked_shl(self.openings).unwrap_or(u32::MAX)).min(rules.max_open);
        // The first time is as the rules say. Later ones fall apart, so that gateways which saw one failure do not all
        // come back at once.
        let less = if self.openings == 0 { 0 } else { u32::try_from(at.draw >> 32).unwrap_or(0) % 200 };
        self.openings = self.openings.saturating_add(1);
        self.state = State::Open(at.now + whole.mul_f64(1.0 - f64::from(less) / 1000.0));
    }

    /// A request went well.
    pub fn succeeded(&mut self) -> Option<Cause> {
        match self.state {
            State::Closed => {
                self.consecutive = 0;
                None
            }
            State::HalfOpen => {
                *self = Self::default();
                Some(Cause::Proven)
            }
            State::Open(_) => None,
        }
    }

    /// Nobody waits any more for the request that was to decide: the next one does.
    pub fn left(&mut self, now: Instant) -> Option<Cause> {
        (self.state == State::HalfOpen).then(|| {
            self.state = State::Open(now);
            Cause::ProbeLeft
        })
    }

    /// Makes the next request the one that decides, where it is time for it.
    pub fn probe(&mut self, now: Instant) -> Option<Cause> {
        matches!(self.state, State::Open(until) if until <= now).then(|| {
            self.state = State::HalfOpen;
            Cause::Due
        })
    }

    /// Closes it by hand.
    pub fn reset(&mut self) -> Option<Cause> {
        let was = std::mem::take(self).state;
        (was != State::Closed).then_some(Cause::Reset)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Consecutive(count, outcome) => {
                write!(f, "{count} failures in a row, the last one {}", told(*outcome))
            }
            Self::Rate(Counts { requests, failures }, window) => {
                write!(f, "{failures} of {requests} requests within {window:?} failed")
            }
            Self::Due => f.write_str("its time is over; one request is let through to see"),
            Self::Proven => f.write_str("the request that was let through went well"),
            Self::ProbeFailed(outcome) => write!(f, "the request that was let through ended with {}", told(*outcome)),
            Self::ProbeLeft => f.write_str("the request that was let through was given up; the next one is to see"),
            Self::Reset => f.write_str("closed by hand"),
        }
    }
}

fn told(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Failure => "a failure",
        Outcome::Timeout => "a timeout",
        Outcome::ConnectError => "no connection",
        Outcome::Success => "an answer",
        Outcome::Cancelled => "nothing",
    }
}
