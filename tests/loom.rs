//! What workers share, in every order in which their steps can fall: loom goes through all of them.
//! Run alone by `cargo test --test loom`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

/// Stands where `crowd` looks for its atomics.
mod atomic {
    pub use loom::sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence},
    };
}

#[expect(dead_code, reason = "the models need not all of it")]
#[path = "../src/upstream/breaker.rs"]
mod breaker;
#[expect(dead_code, reason = "the models need not all of it")]
#[path = "../src/upstream/circuit.rs"]
mod circuit;
#[path = "../src/edge/crowd.rs"]
mod crowd;
#[path = "../src/telemetry/entries.rs"]
mod entries;

/// What `breaker` and `circuit` need beside each other, without what is counted.
#[expect(dead_code, reason = "the models need not all of it")]
#[path = "../src/model"]
mod model {
    pub mod random;
    pub mod units;
}

/// Counts that count nothing.
mod telemetry {
    pub mod cells {
        #[expect(dead_code, reason = "the models need not all of them")]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Outcome {
            Success,
            Failure,
            Timeout,
            ConnectError,
            Cancelled,
        }
    }

    pub mod window {
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counts {
            pub requests: u64,
            pub failures: u64,
        }
    }

    pub mod circuit {
        use std::time::Duration;

        #[derive(Debug)]
        pub struct CircuitCells;

        #[expect(clippy::unused_self, reason = "those in whose place these stand use it")]
        impl CircuitCells {
            pub fn show(&self, _: u64) {}
            pub fn count(&self, _: usize, _: Duration, _: bool) {}
            pub fn recent(&self, _: Duration, _: Duration, _: Duration) -> super::window::Counts {
                super::window::Counts::default()
            }
        }
    }
}

/// The service of two circuits, as far as they share it: the places for those that are open, under one lock.
mod service {
    use std::sync::Arc;

    use crate::{
        atomic::{Mutex, MutexGuard},
        breaker::{BreakerRules, Cause},
        circuit::Circuit,
    };

    pub struct Seats(pub [Arc<Circuit>; 2]);

    pub struct Service(pub Mutex<Seats>);

    #[expect(clippy::unused_self, reason = "the one in whose place this stands uses it")]
    impl Service {
        pub fn seats(&self) -> MutexGuard<'_, Seats> {
            self.0.lock().unwrap()
        }

        pub fn circuit_changed(&self, _: &Seats, _: &Circuit, _: Cause) {}
    }

    pub fn has_place(seats: &Seats, _: &Circuit, rules: &BreakerRules) -> bool {
        seats.0.iter().filter(|circuit| !circuit.is_closed()).count() < rules.places(seats.0.len())
    }
}

use std::sync::Arc;

use loom::{
    sync::{
        Arc as Shared, Condvar, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use breaker::{BreakerRules, State};
use circuit::Circuit;
use crowd::Crowd;
use entries::Entries;
use service::{Seats, Service};
use telemetry::{cells::Outcome, circuit::CircuitCells};
use tokio::time::Instant;

/// Two circuits of one service, of which one may be open, by rules that one failure opens it.
fn two_circuits() -> (Shared<Service>, [Arc<Circuit>; 2], Arc<BreakerRules>) {
    let circuits = [0, 1].map(|_| Arc::new(Circuit::new(Arc::new(CircuitCells))));
    let seats = Seats(circuits.clone());
    let rules = BreakerRules { consecutive: 1, ..BreakerRules::default() };
    (Shared::new(Service(loom::sync::Mutex::new(seats))), circuits, Arc::new(rules))
}

#[test]
fn of_two_workers_one_gets_the_probe_and_its_word_alone_counts() {
    let now = Instant::now();
    let due = now + BreakerRules::default().open;
    loom::model(move || {
        let (service, [circuit, _], rules) = two_circuits();
        let [early, late] = [0, 1].map(|_| circuit.enter(&service, now).unwrap());
        circuit.report(&service, &rules, 0, early, Outcome::Failure, now);
        assert!(circuit.enter(&service, now).is_none());
        let other = thread::spawn({
            let (service, circuit, rules) = (service.clone(), circuit.clone(), rules.clone());
            move || {
                // What was let in before says nothing any more.
                circuit.report(&service, &rules, 1, late, Outcome::Success, due);
                circuit.enter(&service, due)
            }
        });
        let mine = circuit.enter(&service, due);
        let others = other.join().unwrap();
        assert!(mine.is_some() != others.is_some(), "{mine:?} {others:?}");
        assert_eq!(circuit.state(), State::HalfOpen);
        circuit.report(&service, &rules, 0, mine.or(others).unwrap(), Outcome::Success, due);
        assert_eq!(circuit.state(), State::Closed);
    });
}

#[test]
fn of_two_circuits_that_fail_at_once_one_opens_where_there_is_one_place() {
    let now = Instant::now();
    loom::model(move || {
        let (service, [one, other], rules) = two_circuits();
        let fail = |worker: usize, circuit: &Arc<Circuit>| {
            let (service, circuit, rules) = (service.clone(), circuit.clone(), rules.clone());
            move || {
                let era = circuit.enter(&service, now).unwrap();
                circuit.report(&service, &rules, worker, era, Outcome::Failure, now);
            }
        };
        let thread = thread::spawn(fail(1, &other));
        fail(0, &one)();
        thread.join().unwrap();
        assert!(one.is_closed() != other.is_closed());
    });
}

#[test]
fn workers_that_let_requests_in_at_once_never_pass_the_limit_and_leave_nothing_behind() {
    // All orders there are would take hours; three switches that neither worker asks for show what goes wrong.
    let mut few = loom::model::Builder::new();
    few.preemption_bound = Some(3);
    for most in [1, 2] {
        few.check(move || {
            let before = most - 1;
            let entries = Shared::new(Entries::new(2));
            (0..before).for_each(|_| entries.carry(0));
            let other = thread::spawn({
                let entries = entries.clone();
                move || entries.enter(1, most)
            });
            let mine = entries.enter(0, most);
            let others = other.join().unwrap();
            assert!(!(mine && others), "two for one place");
            assert_eq!(entries.count(), before + u64::from(mine) + u64::from(others));
            if others {
                entries.leave(1);
            }
            (0..before + u64::from(mine)).for_each(|_| entries.leave(0));
            assert_eq!(entries.count(), 0);
        });
    }
}

#[test]
fn workers_that_accept_at_once_give_nobody_more_than_one_connection_over_another() {
    // Nobody is there yet, or who is sits at these workers.
    for before in [&[][..], &[0, 0], &[1], &[0, 1, 1]] {
        loom::model(move || {
            let crowd = Crowd::new(2);
            let mut seats: Vec<_> = before.iter().map(|at| crowd.seat_at(*at)).collect();
            let other = thread::spawn({
                let crowd = crowd.clone();
                move || crowd.seat(1)
            });
            seats.push(crowd.seat(0));
            seats.push(other.join().unwrap());
            let most = crowd.of(0).abs_diff(crowd.of(1));
            assert!(most <= 1, "{} and {}", crowd.of(0), crowd.of(1));
            assert_eq!(crowd.total(), seats.len());
        });
    }
}

#[test]
fn connections_that_end_as_others_come_are_counted_down() {
    loom::model(|| {
        let crowd = Crowd::new(2);
        let ends = crowd.seat_at(0);
        let other = thread::spawn({
            let crowd = crowd.clone();
            move || drop(crowd.seat(0))
        });
        let seat = crowd.seat(1);
        drop(ends);
        other.join().unwrap();
        assert_eq!(crowd.of(0) + crowd.of(1), 1);
        assert_eq!((crowd.of(seat.worker()), crowd.total()), (1, 1));
        drop(seat);
        assert_eq!((crowd.of(0), crowd.of(1), crowd.total()), (0, 0, 0));
    });
}

/// How news gets to a worker: what `Endpoint`, `ArcSwap` and the channel of `state.rs` do with memory, and no more.
struct News {
    /// The endpoint is a member.
    listed: AtomicBool,
    /// The version of the snapshot that is in the place of the old one.
    world: AtomicUsize,
    published: Mutex<usize>,
    wake: Condvar,
}

/// The control plane takes the endpoint out and publishes; a worker whose request ends keeps its connection if the
/// endpoint is a member, and closes idle ones when it is woken. Gives what the worker still keeps in the end.
fn keep_as_news_comes(unlist_first: bool) -> usize {
    let news = Shared::new(News {
        listed: AtomicBool::new(true),
        world: AtomicUsize::new(0),
        published: Mutex::new(0),
        wake: Condvar::new(),
    });
    let worker = thread::spawn({
        let news = news.clone();
        move || {
            let mut pool = 0;
            let keep = |pool: &mut usize| {
                if news.listed.load(Ordering::Relaxed) {
                    *pool += 1;
                }
            };
            keep(&mut pool);
            let mut published = news.published.lock().unwrap();
            while *published == 0 {
                published = news.wake.wait(published).unwrap();
            }
            drop(published);
            assert_eq!(news.world.load(Ordering::Acquire), 1, "woken for a snapshot that is not there");
            if !news.listed.load(Ordering::Relaxed) {
                pool = 0;
            }
            keep(&mut pool);
            pool
        }
    });
    if unlist_first {
        news.listed.store(false, Ordering::Relaxed);
    }
    news.world.store(1, Ordering::Release);
    *news.published.lock().unwrap() = 1;
    news.wake.notify_one();
    if !unlist_first {
        news.listed.store(false, Ordering::Relaxed);
    }
    worker.join().unwrap()
}

#[test]
fn a_worker_that_was_woken_keeps_no_connection_to_what_left() {
    loom::model(|| assert_eq!(keep_as_news_comes(true), 0));
}

#[test]
fn that_holds_because_endpoints_are_unlisted_before_the_snapshot_is_published() {
    let kept = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    loom::model({
        let kept = kept.clone();
        move || {
            kept.fetch_max(keep_as_news_comes(false), Ordering::Relaxed);
        }
    });
    assert_eq!(kept.load(Ordering::Relaxed), 2, "the other way round they would stay");
}
