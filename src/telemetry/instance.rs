//! What is observed of one instance: a cell for each worker, as in `cells`.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    cells::{Outcome, Workers, bump, lower},
    histogram::nanos,
    peak::Peak,
};

/// What goes to one instance.
#[derive(Debug)]
pub struct InstanceCells {
    workers: Workers<InstanceCell>,
    /// What the cells count their time from.
    born: Instant,
}

#[derive(Debug, Default)]
struct InstanceCell {
    in_flight: AtomicU64,
    outcomes: [AtomicU64; Outcome::ALL.len()],
    recent: Recent,
    peak: Peak,
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
        Self { workers: Workers::new(workers), born: Instant::now() }
    }

    /// A try begins now.
    #[inline]
    pub fn enter(&self, worker: usize, now: Instant) {
        let cell = self.workers.of(worker);
        bump(&cell.in_flight, 1);
        cell.peak.ask(self.since_born(now));
    }

    /// A try that began on this worker has ended.
    #[inline]
    pub fn leave(&self, worker: usize) {
        lower(&self.workers.of(worker).in_flight);
    }

    /// Tries under way.
    pub fn in_flight(&self) -> u64 {
        self.workers.made().map(|cell| cell.in_flight.load(Relaxed)).sum()
    }

    /// A try has been answered, or failed, after a wait that now ends.
    #[inline]
    pub fn waited(&self, worker: usize, now: Instant, wait: Duration) {
        self.workers.of(worker).peak.add(self.since_born(now), nanos(wait));
    }

    /// The client has left after a wait in vain that now ends.
    #[inline]
    pub fn waited_in_vain(&self, worker: usize, now: Instant, wait: Duration) {
        self.workers.of(worker).peak.at_least(self.since_born(now), nanos(wait));
    }

    /// What this worker knows of the instance now.
    #[inline]
    pub fn load(&self, worker: usize, now: Instant) -> Load {
        self.workers.get(worker).map_or_else(Load::default, |cell| Load {
            in_flight: cell.in_flight.load(Relaxed),
            wait: cell.peak.read(self.since_born(now)),
        })
    }

    fn since_born(&self, now: Instant) -> u64 {
        nanos(now.saturating_duration_since(self.born))
    }

    /// Counts how a try ended, and after how long.
    #[inline]
    pub fn outcome(&self, worker: usize, outcome: Outcome, took: Duration) {
        let cell = self.workers.of(worker);
        bump(&cell.outcomes[outcome as usize], 1);
        // Neither a refused connection nor a client that left says how fast the instance is.
        if matches!(outcome, Outcome::Success | Outcome::Failure | Outcome::Timeout) {
            cell.recent.add(took);
        }
    }

    /// The mean of the last tries, about fifty of each worker; `None` before the first.
    pub fn latency(&self) -> Option<Duration> {
        let (sum, count) =
            self.workers.made().map(|cell| cell.recent.read()).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
        sum.checked_div(count).map(Duration::from_nanos)
    }

    /// How often each outcome was counted; `None` if the instance was never tried.
    pub(super) fn outcomes(&self) -> Option<[(Outcome, u64); Outcome::ALL.len()]> {
        self.workers.made().next()?;
        let sum = |o: Outcome| self.workers.made().map(|cell| cell.outcomes[o as usize].load(Relaxed)).sum();
        Some(Outcome::ALL.map(|o| (o, sum(o))))
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
        assert_eq!(cells.load(0, Instant::now()), Load::default());
        cells.enter(0, Instant::now());
        assert_eq!(cells.load(0, Instant::now()), Load { in_flight: 1, wait: None });
        tokio::time::advance(8 * MS).await;
        cells.waited(0, Instant::now(), 8 * MS);
        assert_eq!(cells.load(0, Instant::now()), Load { in_flight: 1, wait: Some(8_000_000) });
        assert_eq!(cells.load(1, Instant::now()), Load::default());
        cells.leave(0);
        tokio::time::advance(Duration::from_mins(2)).await;
        assert!(cells.load(0, Instant::now()).wait < Some(100));
    }

    #[test]
    fn a_latency_beyond_all_measure_stays_one() {
        let cells = InstanceCells::new(1);
        cells.outcome(0, Outcome::Timeout, Duration::MAX);
        cells.outcome(0, Outcome::Timeout, Duration::MAX);
        assert!(cells.latency().unwrap() > Duration::from_hours(8760));
    }
}
