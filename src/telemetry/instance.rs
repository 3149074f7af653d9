//! What is observed of one instance: a cell for each worker, as in `cells`.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use super::{
    cells::{Outcome, Workers, bump, lower},
    histogram::nanos,
};

/// What goes to one instance.
#[derive(Debug)]
pub struct InstanceCells(Workers<InstanceCell>);

#[derive(Debug, Default)]
struct InstanceCell {
    in_flight: AtomicU64,
    outcomes: [AtomicU64; Outcome::ALL.len()],
    recent: Recent,
}

impl InstanceCells {
    pub(super) fn new(workers: usize) -> Self {
        Self(Workers::new(workers))
    }

    /// A try begins.
    #[inline]
    pub fn enter(&self, worker: usize) {
        bump(&self.0.of(worker).in_flight, 1);
    }

    /// A try that began on this worker has ended.
    #[inline]
    pub fn leave(&self, worker: usize) {
        lower(&self.0.of(worker).in_flight);
    }

    /// Tries under way.
    pub fn in_flight(&self) -> u64 {
        self.0.made().map(|cell| cell.in_flight.load(Relaxed)).sum()
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
        let (sum, count) = self.0.made().map(|cell| cell.recent.read()).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
        sum.checked_div(count).map(Duration::from_nanos)
    }

    /// How often each outcome was counted; `None` if the instance was never tried.
    pub(super) fn outcomes(&self) -> Option<[(Outcome, u64); Outcome::ALL.len()]> {
        self.0.made().next()?;
        let sum = |o: Outcome| self.0.made().map(|cell| cell.outcomes[o as usize].load(Relaxed)).sum();
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

    #[test]
    fn a_latency_beyond_all_measure_stays_one() {
        let cells = InstanceCells::new(1);
        cells.outcome(0, Outcome::Timeout, Duration::MAX);
        cells.outcome(0, Outcome::Timeout, Duration::MAX);
        assert!(cells.latency().unwrap() > Duration::from_hours(8760));
    }
}
