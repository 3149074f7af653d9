//! Whom a limit lets in: apart from `entries`, which `tests/loom.rs` includes as it is.

use std::{
    sync::{
        Barrier,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    thread,
};

use super::entries::Entries;

#[test]
fn a_small_limit_is_kept_to_the_last_request_whichever_worker_has_them() {
    let entries = Entries::new(3);
    for worker in [0, 0, 2, 1, 0] {
        assert!(entries.enter(worker, 5));
    }
    assert!([0, 1, 2].iter().all(|&worker| !entries.enter(worker, 5)));
    entries.leave(2);
    assert!(entries.enter(1, 5) && !entries.enter(2, 5));
    assert_eq!(entries.count(), 5);
    // Another limit holds from the next request on.
    assert!(entries.enter(2, 6) && !entries.enter(0, 6) && !entries.enter(1, 2));
}

#[test]
fn a_large_limit_is_kept_to_the_last_request_though_another_worker_has_claimed_ahead() {
    let entries = Entries::new(2);
    assert!(entries.enter(1, 1024));
    assert_eq!((0..2000).filter(|_| entries.enter(0, 1024)).count(), 1023);
    assert!(!entries.enter(1, 1024));
    (0..100).for_each(|_| entries.leave(0));
    assert_eq!((0..2000).filter(|_| entries.enter(1, 1024)).count(), 100);
    assert_eq!(entries.count(), 1024);
}

#[test]
fn what_is_carried_over_counts_once_when_its_entry_is_given_back() {
    let entries = Entries::new(1);
    assert!(entries.enter(0, 1));
    entries.carry(0);
    entries.leave(0);
    assert_eq!(entries.count(), 1);
    assert!(!entries.enter(0, 1));
    entries.leave(0);
    assert!(entries.enter(0, 1));
}

#[test]
fn no_limit_is_passed_by_workers_that_all_enter_at_once() {
    let (entries, barrier) = (Entries::new(4), Barrier::new(4));
    // Those who were let in: the cells, read one after the other while others change them, may add up to more.
    let inside = AtomicU64::new(0);
    for most in [1, 7, 300] {
        thread::scope(|scope| {
            for worker in 0..4 {
                let (entries, barrier, inside) = (&entries, &barrier, &inside);
                scope.spawn(move || {
                    barrier.wait();
                    for _ in 0..2_000 {
                        let mine = (0..most).take_while(|_| entries.enter(worker, most));
                        let mine = mine.inspect(|_| assert!(inside.fetch_add(1, SeqCst) < most, "of {most}")).count();
                        for _ in 0..mine {
                            inside.fetch_sub(1, SeqCst);
                            entries.leave(worker);
                        }
                    }
                });
            }
        });
        assert_eq!(entries.count(), 0);
    }
}
