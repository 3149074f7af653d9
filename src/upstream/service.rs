//! What lives of a service beside its members: the round-robin cursor, what is counted of it, and which circuits of its
//! members may be open together.

use std::{
    cmp::Ordering,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::{
    breaker::{BreakerRules, Cause, State},
    circuit::Circuit,
    cluster::Member,
    retry::{Reason, RetryRules},
};
use crate::{
    model::name::{Datacenter, ServiceName},
    telemetry::{
        cells::ServiceCells,
        events::{Event, Events},
        metrics::Metrics,
        standing::Standing,
        window::{Counts, WindowCells},
    },
};

/// The live side of a service.
#[derive(Debug)]
pub struct Service {
    /// Requests under way and their durations.
    pub cells: Arc<ServiceCells>,
    cursor: Cursor,
    seats: Mutex<Seats>,
    /// Requests, and tries beyond their first.
    tries: WindowCells,
    /// In nanoseconds since `born`, when the first open circuit lets a request through; the greatest number: none.
    due: AtomicU64,
    /// The place of the datacenter that requests go to. Written with the seats locked.
    in_use: AtomicU32,
    born: Instant,
    name: ServiceName,
    metrics: Arc<Metrics>,
    events: Arc<Events>,
}

/// The members, whose circuits may not all be open: the very list of the newest cluster, of which there may be ten
/// thousand, so that nothing is made for each of them.
#[derive(Clone, Debug, Default)]
pub struct Seats {
    /// The members.
    pub members: Arc<[Arc<Member>]>,
    /// The service's datacenters in order of preference; empty: it is not in several.
    pub datacenters: Arc<[Datacenter]>,
}

impl Seats {
    /// Those that may be picked, as far as they are not for their circuits.
    fn usable(&self) -> impl Iterator<Item = &Member> {
        let is_usable = |member: &&Member| member.weight > 0 && !member.circuit().is_draining();
        self.members.iter().map(|member| &**member).filter(is_usable)
    }

    fn of(&self, circuit: &Circuit) -> Option<&Member> {
        let is_its = |member: &&Arc<Member>| std::ptr::eq(member.circuit(), circuit);
        self.members.iter().find(is_its).map(|member| &**member)
    }
}

/// The one counter that all workers write: on a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Cursor(AtomicU64);

/// A request under way to a service, as long as its caller waits for the head of an answer: over all of its tries and the
/// pauses between them.
#[derive(Debug)]
pub struct Entry<'s> {
    cells: &'s ServiceCells,
    worker: usize,
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.cells.leave(self.worker);
    }
}

const NEVER: u64 = u64::MAX;

impl Service {
    /// A service whose turn begins with its first member.
    #[must_use]
    pub fn new(name: ServiceName, metrics: &Arc<Metrics>, events: &Arc<Events>) -> Self {
        Self {
            cells: metrics.service(name.as_str()),
            cursor: Cursor::default(),
            seats: Mutex::default(),
            tries: metrics.window(),
            due: AtomicU64::new(NEVER),
            in_use: AtomicU32::new(0),
            born: Instant::now(),
            name,
            metrics: metrics.clone(),
            events: events.clone(),
        }
    }

    /// The number of this turn; the next caller, on whichever worker, gets the next one.
    #[must_use]
    pub fn turn(&self) -> u64 {
        self.cursor.0.fetch_add(1, Relaxed)
    }

    /// Lets a request in, unless as many are under way as may be.
    #[inline]
    #[must_use]
    pub fn enter(&self, worker: usize, most: Option<u64>) -> Option<Entry<'_>> {
        self.cells.enter(worker, most.unwrap_or(u64::MAX)).then(|| Entry { cells: &self.cells, worker })
    }

    /// Another entry of a request that has one, and gives that up for this.
    #[must_use]
    pub fn carry(&self, worker: usize) -> Entry<'_> {
        self.cells.carry(worker);
        Entry { cells: &self.cells, worker }
    }

    /// A request is to be sent.
    #[inline]
    pub fn asked(&self, worker: usize, now: Instant) {
        self.tries.count(worker, self.age(now), Counts { requests: 1, failures: 0 });
    }

    /// Whether a request is tried again, for the budget lets it or the try is `free`; counted if so.
    pub fn retries(&self, rules: &RetryRules, worker: usize, now: Instant, reason: Reason, free: bool) -> bool {
        if !free {
            let lately = |window| self.tries.recent(self.age(now), window, Duration::ZERO);
            if !rules.affords(lately(Duration::from_secs(10)), lately(Duration::from_secs(1))) {
                return false;
            }
            self.tries.count(worker, self.age(now), Counts { requests: 0, failures: 1 });
        }
        self.metrics.retry(&self.name, reason.as_str());
        true
    }

    fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.born)
    }

    /// Says who the members are now; none: the service is gone.
    pub fn enlist(&self, members: Seats) {
        let mut seats = self.seats();
        // Those before may be the last to hold what has left, and letting go of it takes its time.
        let before = std::mem::replace(&mut *seats, members);
        self.reckon(&seats);
        drop(seats);
        drop(before);
    }

    /// Whether a circuit of a member waits for a request that decides.
    #[inline]
    #[must_use]
    pub fn is_probe_due(&self, now: Instant) -> bool {
        let due = self.due.load(Relaxed);
        due != NEVER && self.born + Duration::from_nanos(due) <= now
    }

    pub(super) fn seats(&self) -> MutexGuard<'_, Seats> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells of a change that is in force. That of an instance which has left is nobody's business.
    pub(super) fn circuit_changed(&self, seats: &Seats, circuit: &Circuit, cause: Cause) {
        let Some(member) = seats.of(circuit) else { return };
        let (kind, cause) = match circuit.state() {
            State::Closed => {
                // What it was before it failed says nothing of what it is now.
                member.loads().forget();
                ("circuit_closed", cause.to_string())
            }
            State::HalfOpen => ("circuit_half_open", cause.to_string()),
            State::Open(until) => {
                let left = until.saturating_duration_since(Instant::now());
                ("circuit_opened", format!("{cause}; open for {:.1} s", left.as_secs_f64()))
            }
        };
        self.metrics.circuit_transition(&self.name, circuit.state().as_str());
        self.events.publish(Event::new(kind, cause).service(&self.name).instance(&member.endpoint.key.id));
        self.reckon(seats);
    }

    fn reckon(&self, seats: &Seats) {
        let (mut standing, mut in_use) = (Standing::default(), u32::MAX);
        let mut open = Vec::new();
        for member in seats.usable() {
            match member.circuit().state() {
                State::Closed => {
                    standing.closed += 1;
                    in_use = in_use.min(member.rank);
                }
                State::HalfOpen => standing.half_open += 1,
                State::Open(until) => open.push((member.rank, until)),
            }
        }
        standing.open = open.iter().map(|(_, until)| *until).collect();
        // Those behind the datacenter in use get nothing, so they have nothing to wait for.
        let waiting = open.iter().filter(|(rank, _)| *rank <= in_use);
        let due = waiting.map(|(_, until)| until.saturating_duration_since(self.born).as_nanos());
        self.due.store(due.min().map_or(NEVER, |due| u64::try_from(due).unwrap_or(NEVER)), Relaxed);
        self.metrics.standing(&self.name, standing);
        let datacenter = seats.datacenters.get(in_use as usize).filter(|_| seats.datacenters.len() > 1);
        if let Some(datacenter) = datacenter {
            self.moved(in_use, datacenter);
        }
    }

    /// Tells where requests go from now on, if that is elsewhere.
    fn moved(&self, to: u32, datacenter: &Datacenter) {
        let from = self.in_use.swap(to, Relaxed);
        let cause = match to.cmp(&from) {
            Ordering::Equal => return,
            Ordering::Less => format!("`{datacenter}` has somebody to pick again, and is preferred"),
            Ordering::Greater => format!("`{datacenter}` is used: no datacenter before it has anybody to pick"),
        };
        self.events.publish(Event::new("datacenter_changed", cause).service(&self.name));
    }
}

/// Whether the circuit of one more of these members may open, which is this one. All may while the next datacenter has
/// somebody to take their place; of those in the others none counts, nor does what could not be picked anyway.
pub(super) fn has_place(seats: &Seats, circuit: &Circuit, rules: &BreakerRules) -> bool {
    let rank = seats.of(circuit).map_or(0, |member| member.rank);
    let beside = || seats.usable().filter(|member| member.rank == rank);
    let places = rules.places(beside().count());
    if seats.usable().any(|member| member.rank > rank && member.circuit().is_closed()) {
        return places > 0;
    }
    beside().filter(|member| !member.circuit().is_closed()).count() < places
}
