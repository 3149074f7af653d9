//! How many client connections each worker has, and so which of them gets the next one: the system spreads connections
//! by hash, which spreads few of them badly. Only counts; how a connection gets from one worker to another is `listener`'s.

use std::sync::Arc;

use super::atomic::{AtomicUsize, Ordering::Relaxed};

/// The client connections of the whole program, over all workers and listeners.
#[derive(Debug)]
pub struct Crowd {
    all: Count,
    workers: Box<[Count]>,
}

/// Written by any worker: on a cache line of its own, and not beside another one, since processors fetch them in pairs.
#[derive(Debug)]
#[repr(align(128))]
struct Count(AtomicUsize);

/// A connection's place at one worker, given back when dropped.
#[derive(Debug)]
pub struct Seat {
    crowd: Arc<Crowd>,
    worker: usize,
}

/// Workers that are compared for one connection. On machines with more, each looks at its neighbours.
const LOOK: usize = 8;

impl Crowd {
    /// Nobody yet, at so many workers.
    #[must_use]
    pub fn new(workers: usize) -> Arc<Self> {
        let count = || Count(AtomicUsize::new(0));
        Arc::new(Self { all: count(), workers: (0..workers).map(|_| count()).collect() })
    }

    /// All connections.
    #[must_use]
    pub fn total(&self) -> usize {
        self.all.0.load(Relaxed)
    }

    /// The connections of one worker.
    #[must_use]
    pub fn of(&self, worker: usize) -> usize {
        self.workers[worker].0.load(Relaxed)
    }

    /// A place for a connection that `worker` has accepted: there, unless another has clearly fewer. As long as none
    /// ends, the busiest never has more than the idlest plus one, and an eighth that spares the way where there are many.
    #[must_use]
    pub fn seat(self: &Arc<Self>, worker: usize) -> Seat {
        let all = self.workers.len();
        loop {
            let mine = self.of(worker);
            let others = (1..all.min(LOOK)).map(|step| (worker + step) % all);
            let least = others.map(|other| (self.of(other), other)).min();
            let (seen, at) = match least {
                Some((least, other)) if mine > least + least / 8 => (least, other),
                _ => (mine, worker),
            };
            // Two workers that both see a third one idle must not both be right. What the other counts say meanwhile
            // does not matter: they were at most this low.
            let count = &self.workers[at].0;
            if count.compare_exchange(seen, seen + 1, Relaxed, Relaxed).is_ok() {
                return self.sit(at);
            }
        }
    }

    /// A place at this very worker.
    #[must_use]
    pub fn seat_at(self: &Arc<Self>, worker: usize) -> Seat {
        self.workers[worker].0.fetch_add(1, Relaxed);
        self.sit(worker)
    }

    fn sit(self: &Arc<Self>, worker: usize) -> Seat {
        self.all.0.fetch_add(1, Relaxed);
        Seat { crowd: self.clone(), worker }
    }
}

impl Seat {
    /// Whose place it is.
    #[must_use]
    pub fn worker(&self) -> usize {
        self.worker
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.crowd.workers[self.worker].0.fetch_sub(1, Relaxed);
        self.crowd.all.0.fetch_sub(1, Relaxed);
    }
}
