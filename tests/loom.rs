//! What workers share, in every order in which their steps can fall: loom goes through all of them.
//! Run alone by `cargo test --test loom`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

/// Stands where `crowd` looks for its atomics.
mod atomic {
    pub use loom::sync::atomic::{AtomicUsize, Ordering};
}

#[path = "../src/edge/crowd.rs"]
mod crowd;

use std::sync::Arc;

use loom::{
    model,
    sync::{
        Arc as Shared, Condvar, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use crowd::Crowd;

#[test]
fn workers_that_accept_at_once_give_nobody_more_than_one_connection_over_another() {
    // Nobody is there yet, or who is sits at these workers.
    for before in [&[][..], &[0, 0], &[1], &[0, 1, 1]] {
        model(move || {
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
    model(|| {
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
    model(|| assert_eq!(keep_as_news_comes(true), 0));
}

#[test]
fn that_holds_because_endpoints_are_unlisted_before_the_snapshot_is_published() {
    let kept = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    model({
        let kept = kept.clone();
        move || {
            kept.fetch_max(keep_as_news_comes(false), Ordering::Relaxed);
        }
    });
    assert_eq!(kept.load(Ordering::Relaxed), 2, "the other way round they would stay");
}
