//! What is counted for an instance's circuit: its state, and how its tries of the last minute went, in a cell for each
//! worker as in `cells`.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use super::{cells::Workers, histogram::nanos};

/// One circuit's state for `/metrics`, and the recent tries of its instance.
#[derive(Debug)]
pub struct CircuitCells {
    state: AtomicU64,
    workers: Workers<Recent>,
}

/// Tries and how many of them failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All that counted.
    pub requests: u64,
    /// Those that failed.
    pub failures: u64,
}

impl CircuitCells {
    pub(super) fn new(workers: usize) -> Self {
        Self { state: AtomicU64::new(0), workers: Workers::new(workers) }
    }

    /// Shows a state: 0 closed, 1 half-open, 2 open.
    pub fn show(&self, state: u64) {
        self.state.store(state, Relaxed);
    }

    pub(super) fn shown(&self) -> u64 {
        self.state.load(Relaxed)
    }

    /// Counts a try that ended so long after the circuit came to be.
    #[inline]
    pub fn count(&self, worker: usize, at: Duration, failed: bool) {
        self.workers.of(worker).count(slice(at), failed);
    }

    /// The tries of the last `window` before `at`, but of those the ones after `since` alone.
    pub fn recent(&self, at: Duration, window: Duration, since: Duration) -> Counts {
        let last = slice(at);
        let back = nanos(window).div_ceil(1 << SLICE).clamp(1, SLICES as u64 - 1);
        let first = (last + 1).saturating_sub(back).max(if since.is_zero() { 0 } else { slice(since) + 1 });
        self.workers.made().fold(Counts::default(), |sum, recent| recent.add_to(sum, first, last))
    }
}

/// Tries by slices of time. Only the worker whose it is writes.
#[derive(Debug)]
struct Recent([AtomicU64; SLICES]);

/// A slice is this power of two of nanoseconds, about half a second, so that it takes no division to find.
const SLICE: u32 = 29;
/// Over a minute of them.
const SLICES: usize = 128;
/// A slice's number, its failures and its requests share one word, so that no reader sees one without the others.
const COUNT: u32 = 20;
const FULL: u64 = (1 << COUNT) - 1;

fn slice(at: Duration) -> u64 {
    nanos(at) >> SLICE
}

impl Default for Recent {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; SLICES])
    }
}

impl Recent {
    #[inline]
    fn count(&self, slice: u64, failed: bool) {
        let word = self.of(slice);
        let known = word.load(Relaxed);
        let (is, mut counts) = read(known);
        if is != tag(slice) {
            counts = Counts::default();
        }
        let requests = (counts.requests + 1).min(FULL);
        let failures = (counts.failures + u64::from(failed)).min(FULL);
        word.store(tag(slice) << (2 * COUNT) | failures << COUNT | requests, Relaxed);
    }

    fn add_to(&self, sum: Counts, first: u64, last: u64) -> Counts {
        (first..=last).fold(sum, |sum, slice| {
            let (is, counts) = read(self.of(slice).load(Relaxed));
            if is != tag(slice) {
                return sum;
            }
            Counts { requests: sum.requests + counts.requests, failures: sum.failures + counts.failures }
        })
    }

    #[expect(clippy::cast_possible_truncation, reason = "a remainder of a length fits usize")]
    fn of(&self, slice: u64) -> &AtomicU64 {
        &self.0[(slice % SLICES as u64) as usize]
    }
}

/// The part of a slice's number that is kept. It comes again after months.
fn tag(slice: u64) -> u64 {
    slice & (u64::MAX >> (2 * COUNT))
}

fn read(word: u64) -> (u64, Counts) {
    (word >> (2 * COUNT), Counts { requests: word & FULL, failures: (word >> COUNT) & FULL })
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn only_the_tries_of_the_window_count_and_those_of_all_workers() {
        let cells = CircuitCells::new(2);
        for second in 0..30 {
            cells.count(0, second * S, false);
            cells.count(1, second * S, second >= 25);
        }
        let counts = |window: Duration, since: Duration| {
            let Counts { requests, failures } = cells.recent(29 * S, window, since);
            (requests, failures)
        };
        assert_eq!(counts(S, Duration::ZERO), (2, 1));
        assert_eq!(counts(10 * S, Duration::ZERO), (20, 5));
        assert_eq!(counts(60 * S, Duration::ZERO), (60, 5));
        assert_eq!(counts(10 * S, 26 * S), (6, 3));
    }

    #[test]
    fn a_slice_that_comes_again_begins_anew() {
        let cells = CircuitCells::new(1);
        cells.count(0, S, true);
        let round = Duration::from_nanos(SLICES as u64) * (1 << SLICE);
        cells.count(0, S + round, false);
        assert_eq!(cells.recent(S + round, 60 * S, Duration::ZERO), Counts { requests: 1, failures: 0 });
        assert_eq!(cells.recent(S + 2 * round, 60 * S, Duration::ZERO), Counts::default());
    }

    #[test]
    fn counts_beyond_all_measure_stay_counts() {
        let recent = Recent::default();
        recent.of(3).store(tag(3) << (2 * COUNT) | FULL << COUNT | FULL, Relaxed);
        recent.count(3, true);
        assert_eq!(recent.add_to(Counts::default(), 3, 3), Counts { requests: FULL, failures: FULL });
    }
}
