//! How long things took, in buckets: one worker's counts, and their sum over workers.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use super::cells::bump;

/// One worker's durations. Only that worker writes.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    nanos: AtomicU64,
}

impl Histogram {
    /// Counts one duration.
    pub fn took(&self, took: Duration) {
        let nanos = nanos(took);
        bump(&self.buckets[bucket(nanos)], 1);
        bump(&self.nanos, nanos);
    }
}

/// The sum of several workers' histograms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    buckets: [u64; BUCKETS],
    nanos: u64,
}

impl Sum {
    /// With what one more worker has counted by now.
    pub fn with(mut self, part: &Histogram) -> Self {
        for (sum, bucket) in self.buckets.iter_mut().zip(&part.buckets) {
            *sum += bucket.load(Relaxed);
        }
        self.nanos = self.nanos.wrapping_add(part.nanos.load(Relaxed));
        self
    }

    /// How many durations there were.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// All of them together.
    pub fn total(&self) -> Duration {
        Duration::from_nanos(self.nanos)
    }

    /// The upper bounds but the last, infinite one, each with how many durations are at or below it.
    pub fn cumulative(&self) -> impl Iterator<Item = (Duration, u64)> {
        LATENCY.iter().zip(self.buckets).scan(0, |below, (&bound, count)| {
            *below += count;
            Some((Duration::from_nanos(bound), *below))
        })
    }
}

/// Nanoseconds of a duration; five hundred years are enough.
pub fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

// A search costs more than all the rest of a count. Each bound is at least twice the one before, so the bit length
// of a number leaves one bound to compare with.
fn bucket(nanos: u64) -> usize {
    let first = usize::from(FIRST[(u64::BITS - nanos.leading_zeros()) as usize]);
    match LATENCY.get(first) {
        Some(&bound) if nanos > bound => first + 1,
        _ => first,
    }
}

const US: u64 = 1_000;
const MS: u64 = 1_000 * US;
const S: u64 = 1_000 * MS;

/// Upper bounds of latencies in nanoseconds, from half a millisecond to half a minute.
const LATENCY: [u64; 15] = [
    500 * US,
    MS,
    2_500 * US,
    5 * MS,
    10 * MS,
    25 * MS,
    50 * MS,
    100 * MS,
    250 * MS,
    500 * MS,
    S,
    2_500 * MS,
    5 * S,
    10 * S,
    30 * S,
];

const BUCKETS: usize = LATENCY.len() + 1;

/// By bit length: the first bound that a number of so many bits may be at or below.
const FIRST: [u8; 65] = {
    let mut table = [0; 65];
    let mut bits = 1;
    while bits < table.len() {
        let least = 1 << (bits - 1);
        let mut below = 0;
        while (below as usize) < LATENCY.len() && LATENCY[below as usize] < least {
            below += 1;
        }
        table[bits] = below;
        bits += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bound_is_at_least_twice_the_one_before() {
        assert!(LATENCY.windows(2).all(|w| w[1] >= 2 * w[0]));
    }

    #[test]
    fn the_table_finds_the_bucket_that_a_search_finds() {
        let search = |n: u64| LATENCY.iter().position(|&bound| n <= bound).unwrap_or(LATENCY.len());
        let near_bounds = LATENCY.iter().flat_map(|&b| [b - 1, b, b + 1]);
        let near_powers = (0..64).map(|p| 1u64 << p).flat_map(|p| [p - 1, p, p + 1]);
        for n in near_bounds.chain(near_powers).chain([u64::MAX]) {
            assert_eq!(bucket(n), search(n), "{n}");
        }
    }

    #[test]
    fn parts_add_up() {
        let (a, b) = (Histogram::default(), Histogram::default());
        a.took(Duration::from_micros(500));
        a.took(Duration::from_mins(1));
        b.took(Duration::from_millis(2));
        let sum = Sum::default().with(&a).with(&b);
        assert_eq!(sum.count(), 3);
        assert_eq!(sum.total(), Duration::from_micros(60_002_500));
        let below: Vec<_> = sum.cumulative().map(|(_, n)| n).collect();
        assert_eq!(below, [1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2]);
    }
}
