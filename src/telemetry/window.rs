//! What was counted lately, up to a minute ago: in a cell for each worker as in `cells`.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use super::{cells::Workers, histogram::nanos};

/// Requests of the last minute, and those among them that are special: that failed, or that were tried again.
#[derive(Debug)]
pub struct WindowCells(Workers<Recent>);

/// Requests, and how many of them are special.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All that counted.
    pub requests: u64,
    /// Those that failed, or tries beyond the first, or answers with an error.
    pub failures: u64,
}

impl WindowCells {
    pub(super) fn new(workers: usize) -> Self {
        Self(Workers::new(workers))
    }

    /// Counts what happened so long after the beginning.
    #[inline]
    pub fn count(&self, worker: usize, at: Duration, one: Counts) {
        self.0.of(worker).count(slice(at), one);
    }

    /// What was counted within the last `window` before `at`, but of that what came after `since` alone.
    pub fn recent(&self, at: Duration, window: Duration, since: Duration) -> Counts {
        let last = slice(at);
        let back = nanos(window).div_ceil(1 << SLICE).clamp(1, SLICES as u64 - 1);
        let first = (last + 1).saturating_sub(back).max(if since.is_zero() { 0 } else { slice(since) + 1 });
        self.0.made().fold(Counts::default(), |sum, recent| recent.add_to(sum, first, last))
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
    fn count(&self, slice: u64, one: Counts) {
        let word = self.of(slice);
        let known = word.load(Relaxed);
        let (is, mut counts) = read(known);
        if is != tag(slice) {
            counts = Counts::default();
        }
        let requests = (counts.requests + one.requests).min(FULL);
        let failures = (counts.failures + one.failures).min(FULL);
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
    const WELL: Counts = Counts { requests: 1, failures: 0 };
    const FAILED: Counts = Counts { requests: 1, failures: 1 };

    #[test]
    fn only_the_tries_of_the_window_count_and_those_of_all_workers() {
        let cells = WindowCells::new(2);
        for second in 0..30 {
            cells.count(0, second * S, WELL);
            cells.count(1, second * S, if second >= 25 { FAILED } else { WELL });
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
        let cells = WindowCells::new(1);
        cells.count(0, S, FAILED);
        let round = Duration::from_nanos(SLICES as u64) * (1 << SLICE);
        cells.count(0, S + round, WELL);
        assert_eq!(cells.recent(S + round, 60 * S, Duration::ZERO), Counts { requests: 1, failures: 0 });
        assert_eq!(cells.recent(S + 2 * round, 60 * S, Duration::ZERO), Counts::default());
    }

    #[test]
    fn counts_beyond_all_measure_stay_counts() {
        let recent = Recent::default();
        recent.of(3).store(tag(3) << (2 * COUNT) | FULL << COUNT | FULL, Relaxed);
        recent.count(3, FAILED);
        assert_eq!(recent.add_to(Counts::default(), 3, 3), Counts { requests: FULL, failures: FULL });
    }
}
