//! How long things took, in buckets: one worker's counts, and their sum over workers.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use super::cells::bump;

/// The upper bounds of buckets, in nanoseconds, from the least on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounds {
    all: Box<[u64]>,
    /// By bit length: the first bound that a number of so many bits may be at or below. A search costs more than all the
    /// rest of a count; behind this one there are few to look at, and one or none where each is twice the one before.
    first: [u8; 65],
}

impl Bounds {
    /// These, in ascending order; `None`: they are not, or there are none, or more than [`Bounds::MOST`].
    #[must_use]
    pub fn new(all: &[Duration]) -> Option<Self> {
        let all: Box<[u64]> = all.iter().copied().map(nanos).collect();
        let in_order = all.windows(2).all(|pair| pair[0] < pair[1]) && all.first().is_some_and(|&least| least > 0);
        if !in_order || all.len() > Self::MOST {
            return None;
        }
        let mut first = [0; 65];
        for (bits, place) in first.iter_mut().enumerate().skip(1) {
            let least = 1 << (bits - 1);
            *place = u8::try_from(all.iter().filter(|&&bound| bound < least).count()).ok()?;
        }
        Some(Self { all, first })
    }

    /// The most that there may be.
    pub const MOST: usize = BUCKETS - 1;

    /// From half a millisecond to half a minute.
    pub const DEFAULT: [Duration; 15] = [
        Duration::from_micros(500),
        Duration::from_millis(1),
        Duration::from_micros(2_500),
        Duration::from_millis(5),
        Duration::from_millis(10),
        Duration::from_millis(25),
        Duration::from_millis(50),
        Duration::from_millis(100),
        Duration::from_millis(250),
        Duration::from_millis(500),
        Duration::from_secs(1),
        Duration::from_millis(2_500),
        Duration::from_secs(5),
        Duration::from_secs(10),
        Duration::from_secs(30),
    ];

    /// All of them.
    pub fn times(&self) -> impl Iterator<Item = Duration> {
        self.all.iter().copied().map(Duration::from_nanos)
    }

    #[inline]
    fn bucket(&self, nanos: u64) -> usize {
        let mut place = usize::from(self.first[(u64::BITS - nanos.leading_zeros()) as usize]);
        while self.all.get(place).is_some_and(|&bound| nanos > bound) {
            place += 1;
        }
        place
    }
}

impl Default for Bounds {
    #[expect(clippy::expect_used, reason = "they are constants, and a test makes them")]
    fn default() -> Self {
        Self::new(&Self::DEFAULT).expect("in order")
    }
}

/// One worker's durations. Only that worker writes.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    nanos: AtomicU64,
}

impl Histogram {
    /// Counts one duration.
    #[inline]
    pub fn took(&self, bounds: &Bounds, took: Duration) {
        let nanos = nanos(took);
        bump(&self.buckets[bounds.bucket(nanos).min(BUCKETS - 1)], 1);
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

    /// The bounds, each with how many durations are at or below it. Beyond the last one is all that is left.
    pub fn cumulative(&self, bounds: &Bounds) -> impl Iterator<Item = (Duration, u64)> {
        bounds.all.iter().zip(self.buckets).scan(0, |below, (&bound, count)| {
            *below += count;
            Some((Duration::from_nanos(bound), *below))
        })
    }
}

/// Room for them in a cell: the last is for what is beyond all bounds.
const BUCKETS: usize = 32;

/// Nanoseconds of a duration; five hundred years are enough.
pub fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn the_table_finds_the_bucket_that_a_search_finds() {
        let close = [1, 2, 3, 1000, 1001, 1002, 5000].map(Duration::from_nanos);
        for bounds in [Bounds::default(), Bounds::new(&close).unwrap()] {
            let search = |n: u64| bounds.all.iter().position(|&bound| n <= bound).unwrap_or(bounds.all.len());
            let near_bounds = bounds.all.iter().flat_map(|&b| [b - 1, b, b + 1]);
            let near_powers = (0..64).map(|p| 1u64 << p).flat_map(|p| [p - 1, p, p + 1]);
            for n in near_bounds.chain(near_powers).chain([u64::MAX]) {
                assert_eq!(bounds.bucket(n), search(n), "{n}");
            }
        }
    }

    #[test]
    fn bounds_ascend_and_have_room() {
        let times = |times: &[u64]| times.iter().copied().map(Duration::from_nanos).collect::<Vec<_>>();
        for bad in [&[][..], &[0, 1], &[2, 1], &[1, 1]] {
            assert_eq!(Bounds::new(&times(bad)), None, "{bad:?}");
        }
        let many: Vec<u64> = (1..=32).collect();
        assert_eq!((Bounds::new(&times(&many)), Bounds::new(&times(&many[..31])).is_some()), (None, true));
    }

    #[test]
    fn what_is_beyond_all_bounds_counts_too() {
        let bounds = Bounds::new(&[Duration::from_nanos(MS)]).unwrap();
        let histogram = Histogram::default();
        histogram.took(&bounds, Duration::from_nanos(MS + 1));
        let sum = Sum::default().with(&histogram);
        assert_eq!(
            (sum.count(), sum.cumulative(&bounds).collect::<Vec<_>>()),
            (1, vec![(Duration::from_nanos(MS), 0)])
        );
    }

    #[test]
    fn parts_add_up() {
        let (a, b, bounds) = (Histogram::default(), Histogram::default(), Bounds::default());
        a.took(&bounds, Duration::from_micros(500));
        a.took(&bounds, Duration::from_mins(1));
        b.took(&bounds, Duration::from_millis(2));
        let sum = Sum::default().with(&a).with(&b);
        assert_eq!(sum.count(), 3);
        assert_eq!(sum.total(), Duration::from_micros(60_002_500));
        let below: Vec<_> = sum.cumulative(&bounds).map(|(_, n)| n).collect();
        assert_eq!(below, [1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2]);
    }
}
