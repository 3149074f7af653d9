//! What a request costs between its pick and its end, on two threads that share a service and an instance: entry, circuit,
//! permit and report.

use std::{
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use criterion::{Criterion, criterion_group, criterion_main};
use lictor::bench::Admission;

const THREADS: usize = 2;

/// The time of so many requests on each thread: that of the slower one.
#[expect(clippy::disallowed_methods, reason = "it is the wall clock that is measured")]
fn admitted(admission: &Admission, requests: u64) -> Duration {
    let barrier = Barrier::new(THREADS);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|worker| {
                let barrier = &barrier;
                scope.spawn(move || {
                    let mut admit = admission.on(worker);
                    barrier.wait();
                    let begun = Instant::now();
                    for _ in 0..requests {
                        admit();
                    }
                    begun.elapsed()
                })
            })
            .collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()).max().unwrap_or_default()
    })
}

fn admit(criterion: &mut Criterion) {
    let admission = Admission::new(THREADS);
    criterion.bench_function("circuit/admit_and_report_on_two_threads", |bencher| {
        bencher.iter_custom(|requests| admitted(&admission, requests));
    });
}

criterion_group!(benches, admit);
criterion_main!(benches);
