//! How connections spread over workers. Apart from `crowd`, so that `tests/loom.rs` can take that in.

use super::crowd::Crowd;

/// The most and the least that a worker has.
fn spread(crowd: &Crowd, workers: usize) -> (usize, usize) {
    let counts = (0..workers).map(|worker| crowd.of(worker));
    (counts.clone().max().unwrap(), counts.min().unwrap())
}

#[test]
fn however_badly_the_system_spreads_them_no_worker_has_half_more_than_another() {
    for workers in [2, 3, 8] {
        for connections in [8, 64, 1000] {
            // All at one, or by a hash that favours some.
            for accepts in [|_| 0, |n: usize| n * n % 7 % 2] {
                let crowd = Crowd::new(workers);
                let seats: Vec<_> = (0..connections).map(|n| crowd.seat(accepts(n))).collect();
                let (most, least) = spread(&crowd, workers);
                assert!(2 * most <= 3 * least, "{workers} workers, {connections} connections: {most}, {least}");
                assert_eq!(crowd.total(), seats.len());
            }
        }
    }
}

#[test]
fn what_has_ended_is_counted_down_and_its_worker_is_the_next() {
    let crowd = Crowd::new(2);
    let mut seats: Vec<_> = (0..8).map(|_| crowd.seat(0)).collect();
    seats.retain(|seat| seat.worker() == 0);
    assert_eq!((crowd.of(0), crowd.of(1), crowd.total()), (4, 0, 4));
    for _ in 0..4 {
        seats.push(crowd.seat(0));
    }
    assert_eq!((crowd.of(0), crowd.of(1)), (4, 4));
    seats.clear();
    assert_eq!((crowd.of(0), crowd.of(1), crowd.total()), (0, 0, 0));
}

#[test]
fn with_more_workers_than_are_looked_at_neighbours_pass_on_what_they_cannot_keep() {
    let crowd = Crowd::new(24);
    let seats: Vec<_> = (0..24 * 16).map(|n| crowd.seat(n % 3 * 8)).collect();
    let (most, least) = spread(&crowd, 24);
    assert!(least > 0 && most < seats.len() / 8, "{most}, {least}");
}

#[test]
fn one_worker_keeps_what_it_accepts() {
    let crowd = Crowd::new(1);
    let seats: Vec<_> = (0..3).map(|_| crowd.seat(0)).collect();
    assert!(seats.iter().all(|seat| seat.worker() == 0));
    assert_eq!(crowd.of(0), 3);
}
