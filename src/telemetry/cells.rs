//! Counts of the request path. Each worker has a cell of its own that it alone writes, so that a count is a load, an
//! addition and a store; readers sum the cells. A cell is made when its worker first counts something, but for those
//! of instances, which picks read.
//!
//! Every method that takes a worker must be called on that worker's thread, with a number below the number of workers.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use http::{Method, StatusCode};

use super::{
    entries::Entries,
    histogram::{Bounds, Histogram, Sum},
    tally::{Sums, Tally},
};

/// What a route has answered.
#[derive(Debug)]
pub struct RouteCells {
    of: Workers<RouteCell>,
    bounds: Arc<Bounds>,
}

#[derive(Debug, Default)]
struct RouteCell {
    tally: Tally,
    took: Histogram,
}

impl RouteCells {
    pub(super) fn new(workers: usize, bounds: Arc<Bounds>) -> Self {
        Self { of: Workers::new(workers), bounds }
    }

    /// Counts one answer, at its end.
    #[inline]
    pub fn count(&self, worker: usize, method: &Method, status: StatusCode, took: Duration) {
        let cell = self.of.of(worker);
        cell.tally.count(method, status);
        cell.took.took(&self.bounds, took);
    }

    pub(super) fn sums(&self) -> Sums {
        let mut sums = Sums::default();
        for cell in self.of.made() {
            cell.tally.add_to(&mut sums);
        }
        sums
    }

    pub(super) fn took_sum(&self) -> Sum {
        self.of.made().fold(Sum::default(), |sum, cell| sum.with(&cell.took))
    }
}

/// What goes to a service, over all its instances.
#[derive(Debug)]
pub struct ServiceCells {
    under_way: Entries,
    took: Workers<Histogram>,
    bounds: Arc<Bounds>,
}

impl ServiceCells {
    pub(super) fn new(workers: usize, bounds: Arc<Bounds>) -> Self {
        Self { under_way: Entries::new(workers), took: Workers::new(workers), bounds }
    }

    /// A request begins, unless `most` are under way already; false: they are.
    #[inline]
    #[must_use]
    pub fn enter(&self, worker: usize, most: u64) -> bool {
        self.under_way.enter(worker, most)
    }

    /// One that has begun goes on under a second count, before it gives the first one back.
    #[inline]
    pub fn carry(&self, worker: usize) {
        self.under_way.carry(worker);
    }

    /// A request that began on this worker has ended.
    #[inline]
    pub fn leave(&self, worker: usize) {
        self.under_way.leave(worker);
    }

    /// An upstream request has ended.
    #[inline]
    pub fn took(&self, worker: usize, took: Duration) {
        self.took.of(worker).took(&self.bounds, took);
    }

    /// Requests under way.
    pub fn in_flight(&self) -> u64 {
        self.under_way.count()
    }

    pub(super) fn took_sum(&self) -> Sum {
        self.took.made().fold(Sum::default(), Sum::with)
    }
}

/// How a try of one instance ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// An answer came, and it is not the instance's fault if it is an error.
    Success,
    /// The instance broke off, answered badly, or with an error of its own.
    Failure,
    /// No answer came in time.
    Timeout,
    /// There was no connection.
    ConnectError,
    /// The client went away.
    Cancelled,
}

impl Outcome {
    pub(super) const ALL: [Self; 5] =
        [Self::Success, Self::Failure, Self::Timeout, Self::ConnectError, Self::Cancelled];

    /// The word for it in labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Timeout => "timeout",
            Self::ConnectError => "connect_error",
            Self::Cancelled => "cancelled",
        }
    }
}

/// How many of something there are at present.
#[derive(Debug)]
pub struct Gauge(Workers<AtomicU64>);

impl Gauge {
    pub(super) fn new(workers: usize) -> Self {
        Self(Workers::new(workers))
    }

    /// One more.
    #[inline]
    pub fn up(&self, worker: usize) {
        bump(self.0.of(worker), 1);
    }

    /// One less of those that this worker counted.
    #[inline]
    pub fn down(&self, worker: usize) {
        lower(self.0.of(worker));
    }

    /// How many there are.
    pub fn value(&self) -> u64 {
        self.0.made().map(|cell| cell.load(Relaxed)).sum()
    }
}

/// A cell for each worker.
#[derive(Debug)]
pub(super) struct Workers<T>(Box<[OnceLock<Box<Padded<T>>>]>);

/// Two cache lines, since processors fetch them in pairs: what one worker writes never slows another down.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Padded<T>(pub(super) T);

impl<T: Default> Workers<T> {
    pub(super) fn new(workers: usize) -> Self {
        Self((0..workers).map(|_| OnceLock::new()).collect())
    }

    #[inline]
    pub(super) fn of(&self, worker: usize) -> &T {
        &self.0[worker].get_or_init(Box::default).0
    }

    pub(super) fn made(&self) -> impl Iterator<Item = &T> {
        self.0.iter().filter_map(|cell| cell.get().map(|made| &made.0))
    }
}

/// Adds without a locked instruction, which only a single writer may do.
#[inline]
pub(super) fn bump(counter: &AtomicU64, by: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(by), Relaxed);
}

#[inline]
pub(super) fn lower(counter: &AtomicU64) {
    // A `leave` too many would show as 2^64 requests under way for ever.
    debug_assert_ne!(counter.load(Relaxed), 0, "left without having entered on this worker");
    counter.store(counter.load(Relaxed).saturating_sub(1), Relaxed);
}

#[cfg(test)]
mod tests {
    use std::thread;

    use tokio::time::Instant;

    use super::*;
    use crate::telemetry::instance::{InstanceCells, time};

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn counts_of_all_workers_add_up() {
        let cells = RouteCells::new(3, Arc::default());
        cells.count(0, &Method::GET, StatusCode::OK, MS);
        cells.count(2, &Method::GET, StatusCode::OK, 3 * MS);
        cells.count(2, &Method::POST, StatusCode::BAD_GATEWAY, MS);
        assert_eq!(cells.sums().iter().collect::<Vec<_>>(), [("GET", 200, 2), ("POST", 502, 1)]);
        assert_eq!((cells.took_sum().count(), cells.took_sum().total()), (3, 5 * MS));
    }

    #[test]
    fn a_worker_without_traffic_has_no_cell() {
        let cells = RouteCells::new(8, Arc::default());
        assert_eq!(cells.of.made().count(), 0);
        cells.count(5, &Method::GET, StatusCode::OK, MS);
        assert_eq!(cells.of.made().count(), 1);
    }

    #[test]
    fn no_count_is_lost_with_every_worker_writing_and_one_reading() {
        const EACH: u64 = 20_000;
        let (route, instance) = (RouteCells::new(4, Arc::default()), InstanceCells::new(4));
        thread::scope(|scope| {
            for worker in 0..4 {
                let (route, instance) = (&route, &instance);
                scope.spawn(move || {
                    for n in 0..EACH {
                        let status = StatusCode::from_u16(200 + u16::try_from(n % 40).unwrap()).unwrap();
                        instance.enter(worker, time(Instant::now()));
                        route.count(worker, &Method::GET, status, MS);
                        instance.outcome(worker, Outcome::Success, MS);
                        instance.leave(worker);
                    }
                });
            }
            let mut before = 0;
            while before < 4 * EACH {
                let now = route.sums().iter().map(|(_, _, n)| n).sum();
                assert!(now >= before, "{now} after {before}");
                assert!(instance.in_flight() <= 4);
                assert!(instance.latency().is_none_or(|l| l == MS));
                before = now;
            }
        });
        assert_eq!(route.took_sum().count(), 4 * EACH);
        assert_eq!(instance.outcomes().unwrap()[0], (Outcome::Success, 4 * EACH));
        assert_eq!(instance.in_flight(), 0);
    }

    #[test]
    fn what_enters_is_in_flight_until_it_leaves() {
        let (service, instance, gauge) = (ServiceCells::new(2, Arc::default()), InstanceCells::new(2), Gauge::new(2));
        for worker in [0, 1, 1] {
            assert!(service.enter(worker, 8));
            instance.enter(worker, time(Instant::now()));
            gauge.up(worker);
        }
        assert_eq!((service.in_flight(), instance.in_flight(), gauge.value()), (3, 3, 3));
        service.leave(1);
        instance.leave(1);
        gauge.down(1);
        assert_eq!((service.in_flight(), instance.in_flight(), gauge.value()), (2, 2, 2));
    }

    #[test]
    fn cells_of_two_workers_share_no_line() {
        assert_eq!(align_of::<Padded<AtomicU64>>(), 128);
        assert_eq!(size_of::<Padded<AtomicU64>>(), 128);
    }
}
