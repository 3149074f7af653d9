//! An instance's circuit as all workers share it: `breaker` decides, this admits and reports. In the usual case, closed
//! and without failures, a request costs two loads of one word that nobody writes, and a count in a cell of its worker's.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    atomic::{AtomicBool, AtomicU64, Mutex, MutexGuard, Ordering::Relaxed},
    breaker::{Breaker, BreakerRules, Cause, Moment, State},
    service::{Seats, Service, has_place},
};
use crate::{
    model::random::Draws,
    telemetry::{cells::Outcome, circuit::CircuitCells},
};

/// The live circuit of one instance. It outlives changes of how the instance is spoken to. What picks read comes first:
/// in this order it is on one line.
#[derive(Debug)]
#[repr(C)]
pub struct Circuit {
    /// The state, whether failures are remembered, and the era: the number of changes so far. What was admitted in
    /// one era says nothing about the next.
    word: AtomicU64,
    /// An operator has taken the instance out.
    draining: AtomicBool,
    /// In nanoseconds since `born`, until when it is open.
    until: AtomicU64,
    breaker: Mutex<Breaker>,
    /// When it was closed last, since `born`; 0: it was never open.
    closed: AtomicU64,
    cells: Arc<CircuitCells>,
    born: Instant,
}

const STATE: u64 = 0b11;
const CLOSED: u64 = 0;
const HALF_OPEN: u64 = 1;
const OPEN: u64 = 2;
const MARKED: u64 = 0b100;
/// What is above the era's lowest bit.
const ERA: u32 = 3;

/// When a request was admitted, as a circuit reckons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Era(u64);

impl Circuit {
    /// A closed one.
    #[must_use]
    pub fn new(cells: Arc<CircuitCells>) -> Self {
        cells.show(CLOSED);
        Self {
            word: AtomicU64::new(CLOSED),
            draining: AtomicBool::new(false),
            until: AtomicU64::new(0),
            breaker: Mutex::new(Breaker::default()),
            closed: AtomicU64::new(0),
            cells,
            born: Instant::now(),
        }
    }

    /// Whether the instance gets requests by the policy's choice.
    #[inline]
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.word.load(Relaxed) & STATE == CLOSED
    }

    /// Whether an operator has taken the instance out: it finishes what it has, and gets nothing new.
    #[inline]
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Relaxed)
    }

    /// Takes the instance out, or puts it back. True if it was otherwise.
    pub fn set_draining(&self, draining: bool) -> bool {
        self.draining.swap(draining, Relaxed) != draining
    }

    /// Whether the next request is the one that decides.
    #[must_use]
    pub fn is_due(&self, now: Instant) -> bool {
        matches!(self.state(), State::Open(until) if until <= now)
    }

    /// How it is.
    #[must_use]
    pub fn state(&self) -> State {
        match self.word.load(Relaxed) & STATE {
            CLOSED => State::Closed,
            HALF_OPEN => State::HalfOpen,
            _ => State::Open(self.born + Duration::from_nanos(self.until.load(Relaxed))),
        }
    }

    /// Lets a request in, if one may be: any while it is closed, one when its open time is over.
    #[inline]
    #[must_use]
    pub fn enter(&self, service: &Service, now: Instant) -> Option<Era> {
        let word = self.word.load(Relaxed);
        if word & STATE == CLOSED { Some(Era(word >> ERA)) } else { self.probe(service, now) }
    }

    #[cold]
    fn probe(&self, service: &Service, now: Instant) -> Option<Era> {
        self.change(service, now, |breaker, _| breaker.probe(now))
    }

    /// Takes in how a request ended that was let in.
    #[inline]
    pub fn report(
        &self,
        service: &Service,
        rules: &BreakerRules,
        worker: usize,
        era: Era,
        outcome: Outcome,
        now: Instant,
    ) {
        let word = self.word.load(Relaxed);
        if word >> ERA != era.0 {
            return;
        }
        let failed = match outcome {
            Outcome::Success => false,
            Outcome::Failure | Outcome::Timeout | Outcome::ConnectError => true,
            Outcome::Cancelled if word & STATE == CLOSED => return,
            Outcome::Cancelled => {
                self.settle(service, era, now, |breaker, _| breaker.left(now));
                return;
            }
        };
        self.cells.count(worker, self.age(now), failed);
        if failed {
            self.failed(service, rules, era, outcome, now);
        } else if word & !(u64::MAX << ERA) != CLOSED {
            self.settle(service, era, now, |breaker, _| breaker.succeeded());
        }
    }

    /// The request that was to decide has gone well, though it has not ended. The era that it goes on in.
    pub fn prove(&self, service: &Service, era: Era, now: Instant) -> Option<Era> {
        self.settle(service, era, now, |breaker, _| breaker.succeeded())
    }

    #[cold]
    fn failed(&self, service: &Service, rules: &BreakerRules, era: Era, outcome: Outcome, now: Instant) {
        let since = Duration::from_nanos(self.closed.load(Relaxed));
        let recent = self.cells.recent(self.age(now), rules.window, since);
        let at = Moment { now, draw: Draws::new().next() };
        self.settle(service, era, now, |breaker, seats| {
            breaker.failed(rules, recent, outcome, at, || has_place(seats, self, rules))
        });
    }

    /// An operator closes it. True if it was not.
    pub fn reset(&self, service: &Service) -> bool {
        self.change(service, Instant::now(), |breaker, _| breaker.reset()).is_some()
    }

    /// As `change`, unless it has changed since `era`.
    fn settle(
        &self,
        service: &Service,
        era: Era,
        now: Instant,
        step: impl FnOnce(&mut Breaker, &Seats) -> Option<Cause>,
    ) -> Option<Era> {
        self.change(service, now, |breaker, seats| {
            // Under the lock nobody else changes it.
            if self.word.load(Relaxed) >> ERA == era.0 { step(breaker, seats) } else { None }
        })
    }

    /// Makes a step; gives the era that begins if it changed the state.
    fn change(
        &self,
        service: &Service,
        now: Instant,
        step: impl FnOnce(&mut Breaker, &Seats) -> Option<Cause>,
    ) -> Option<Era> {
        let mut breaker = self.lock();
        // Held as well, so that two circuits of a service do not both take the last place.
        let seats = service.seats();
        let cause = step(&mut breaker, &seats);
        let era = (self.word.load(Relaxed) >> ERA) + u64::from(cause.is_some());
        let state = match breaker.state() {
            State::Closed => CLOSED,
            State::HalfOpen => HALF_OPEN,
            State::Open(until) => {
                self.until.store(nanos(self.age(until)), Relaxed);
                OPEN
            }
        };
        let marked = if breaker.is_marked() && state == CLOSED { MARKED } else { 0 };
        self.word.store(era << ERA | marked | state, Relaxed);
        let cause = cause?;
        if state == CLOSED {
            self.closed.store(nanos(self.age(now)).max(1), Relaxed);
        }
        self.cells.show(state);
        service.circuit_changed(&seats, self, cause);
        Some(Era(era))
    }

    fn age(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.born)
    }

    fn lock(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
