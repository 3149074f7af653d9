//! What is observed of one instance: a cell for each worker, as in `cells`, but made at once and side by side. A pick looks
//! at the cells of two instances, which among many are in no near cache: so the way to a cell is one pointer, which a
//! balancer keeps, and what picks read is on one line. It costs 128 bytes for each instance and worker.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::{
    cells::{Outcome, Padded, bump, lower},
    histogram::nanos,
    peak::Peak,
};

/// What goes to one instance.
#[derive(Debug)]
pub struct InstanceCells(Loads);

/// The cells of an instance as balancers read them, to be kept beside the instance.
#[derive(Clone, Debug)]
pub struct Loads(Arc<[Padded<InstanceCell>]>);

/// What picks read comes first: in this order it is on the first line.
#[derive(Debug, Default)]
#[repr(C)]
struct InstanceCell {
    in_flight: AtomicU64,
    peak: Peak,
    recent: Recent,
    outcomes: [AtomicU64; Outcome::ALL.len()],
}

/// What one worker knows of an instance, for choosing between instances.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Its tries under way.
    pub in_flight: u64,
    /// Nanoseconds until the head of an answer, by its own tries; `None`: none has ended yet.
    pub wait: Option<u64>,
}

impl InstanceCells {
    pub(super) fn new(workers: usize) -> Self {
        Self(Loads((0..workers).map(|_| Padded::default()).collect()))
    }

    /// The cells, for a balancer.
    #[must_use]
    pub fn loads(&self) -> &Loads {
        &self.0
    }

    /// A try begins at this [`time`].
    #[inline]
    pub fn enter(&self, worker: usize, now: u64) {
        let cell = self.0.of(worker);
        bump(&cell.in_flight, 1);
        cell.peak.ask(now);
    }

    /// A try that began on this worker has ended.
    #[inline]
    pub fn leave(&self, worker: usize) {
        lower(&self.0.of(worker).in_flight);
    }

    /// Tries under way.
    pub fn in_flight(&self) -> u64 {
        self.0.in_flight()
    }

    /// A try has been answered, or failed, after a wait that ends at this [`time`].
    #[inline]
    pub fn waited(&self, worker: usize, now: u64, wait: Duration) {
        self.0.of(worker).peak.add(now, nanos(wait));
    }

    /// The client has left after a wait in vain that ends at this [`time`].
    #[inline]
    pub fn waited_in_vain(&self, worker: usize, now: u64, wait: Duration) {
        self.0.of(worker).peak.at_least(now, nanos(wait));
    }

    /// Counts how a try ended, and after how long.
    #[inline]
    pub fn outcome(&self, worker: usize, outcome: Outcome, took: Duration) {
        let cell = self.0.of(worker);
        bump(&cell.outcomes[outcome as usize], 1);
        // Neither a refused connection nor a client that left says how fast the instance is.
        if matches!(outcome, Outcome::Success | Outcome::Failure | Outcome::Timeout) {
            cell.recent.add(took);
        }
    }

    /// The mean of the last tries, about fifty of each worker; `None` before the first.
    pub fn latency(&self) -> Option<Duration> {
        let (sum, count) = self.0.all().map(|cell| cell.recent.read()).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
        sum.checked_div(count).map(Duration::from_nanos)
    }

    /// How many tries have ended, and how many of them failed. Those whose client left are neither.
    #[must_use]
    pub fn tries(&self) -> (u64, u64) {
        let sum = |of: &[Outcome]| {
            self.0.all().flat_map(|cell| of.iter().map(|o| cell.outcomes[*o as usize].load(Relaxed))).sum()
        };
        let failed: u64 = sum(&[Outcome::Failure, Outcome::Timeout, Outcome::ConnectError]);
        (sum(&[Outcome::Success]) + failed, failed)
    }

    /// How often each outcome was counted; `None` if the instance was never tried.
    pub(super) fn outcomes(&self) -> Option<[(Outcome, u64); Outcome::ALL.len()]> {
        let sum = |o: Outcome| self.0.all().map(|cell| cell.outcomes[o as usize].load(Relaxed)).sum();
        let all = Outcome::ALL.map(|o| (o, sum(o)));
        (self.in_flight() > 0 || all.iter().any(|(_, count)| *count > 0)).then_some(all)
    }
}

impl Loads {
    /// What this worker knows of the instance at a [`time`].
    #[inline]
    #[must_use]
    pub fn known(&self, worker: usize, now: u64) -> Load {
        let cell = self.of(worker);
        Load { in_flight: cell.in_flight.load(Relaxed), wait: cell.peak.read(now) }
    }

    /// This worker's tries under way, and the wait in nanoseconds as it was when the last one ended.
    #[inline]
    #[must_use]
    pub fn last_known(&self, worker: usize) -> (u64, Option<u64>) {
        let cell = self.of(worker);
        (cell.in_flight.load(Relaxed), cell.peak.last())
    }

    /// Tries under way, over all workers.
    #[inline]
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.all().map(|cell| cell.in_flight.load(Relaxed)).sum()
    }

    /// Forgets how long the instance lets wait. What a worker learns in this very moment may be lost, or stay.
    pub fn forget(&self) {
        self.all().for_each(|cell| cell.peak.forget());
    }

    #[inline]
    fn of(&self, worker: usize) -> &InstanceCell {
        &self.0[worker].0
    }

    fn all(&self) -> impl Iterator<Item = &InstanceCell> {
        self.0.iter().map(|padded| &padded.0)
    }
}

/// An instant as all cells count it, in nanoseconds, to be worked out once and compared with many. Never 0.
#[inline]
#[must_use]
pub fn time(now: Instant) -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    /// Clocks of tests stand where they please: there is as much room before the start as after it.
    const MIDDLE: u64 = 1 << 62;
    let start = *START.get_or_init(|| now);
    match now.checked_duration_since(start) {
        Some(after) => MIDDLE.saturating_add(nanos(after)),
        None => MIDDLE.saturating_sub(nanos(start.saturating_duration_since(now))).max(1),
    }
}

/// A sum of nanoseconds and a count in one word, so that no reader sees one without the other. Both are halved when
/// the count is full: old tries weigh less and less.
#[derive(Debug, Default)]
struct Recent(AtomicU64);

impl Recent {
    fn add(&self, took: Duration) {
        let (sum, count) = self.read();
        let (sum, count) = if count == Self::FULL { (sum / 2, count / 2) } else { (sum, count) };
        let sum = sum.saturating_add(nanos(took)).min(u64::MAX >> Self::COUNT_BITS);
        self.0.store(sum << Self::COUNT_BITS | (count + 1), Relaxed);
    }

    fn read(&self) -> (u64, u64) {
        let word = self.0.load(Relaxed);
        (word >> Self::COUNT_BITS, word & ((1 << Self::COUNT_BITS) - 1))
    }

    const COUNT_BITS: u32 = 7;
    const FULL: u64 = 64;
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn latency_is_of_tries_that_tell_it_and_follows_a_change() {
        let cells = InstanceCells::new(2);
        cells.outcome(0, Outcome::ConnectError, 900 * MS);
        cells.outcome(0, Outcome::Cancelled, 900 * MS);
        assert_eq!(cells.latency(), None);
        cells.outcome(0, Outcome::Success, 2 * MS);
        cells.outcome(1, Outcome::Timeout, 4 * MS);
        assert_eq!(cells.latency(), Some(3 * MS));
        for _ in 0..1000 {
            cells.outcome(0, Outcome::Success, 10 * MS);
            cells.outcome(1, Outcome::Failure, 20 * MS);
        }
        let now = cells.latency().unwrap();
        assert!(now > 14 * MS && now < 16 * MS, "{now:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn each_worker_knows_what_it_has_seen_itself() {
        let cells = InstanceCells::new(2);
        assert_eq!(cells.loads().known(0, time(Instant::now())), Load::default());
        cells.enter(0, time(Instant::now()));
        assert_eq!(cells.loads().known(0, time(Instant::now())), Load { in_flight: 1, wait: None });
        tokio::time::advance(8 * MS).await;
        cells.waited(0, time(Instant::now()), 8 * MS);
        assert_eq!(cells.loads().known(0, time(Instant::now())), Load { in_flight: 1, wait: Some(8_000_000) });
        assert_eq!(cells.loads().known(1, time(Instant::now())), Load::default());
        cells.leave(0);
        tokio::time::advance(Duration::from_mins(2)).await;
        assert!(cells.loads().known(0, time(Instant::now())).wait < Some(100));
    }

    #[test]
    fn a_latency_beyond_all_measure_stays_one() {
        let cells = InstanceCells::new(1);
        cells.outcome(0, Outcome::Timeout, Duration::MAX);
        cells.outcome(0, Outcome::Timeout, Duration::MAX);
        assert!(cells.latency().unwrap() > Duration::from_hours(8760));
    }
}
