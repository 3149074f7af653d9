//! What it costs to count a request, on one thread and with another that counts at the same place; and to decide that the
//! trace of a request is not recorded.

use std::{
    hint::black_box,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::Duration,
};

use criterion::{Criterion, criterion_group, criterion_main};
use lictor::bench::{Counting, Lines, Marked};

#[global_allocator]
static MEMORY: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[expect(clippy::expect_used, reason = "a benchmark that cannot be made ready is none")]
fn count(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("telemetry/count");
    // By a thread of their own, as the control plane makes them: what is written beside them is no worker's.
    let made = || thread::spawn(|| Counting::new(2)).join().expect("it only makes");
    let cells = made();
    let took = Duration::from_micros(750);
    let mut count = cells.on(0);
    group.bench_function("one thread", |bencher| bencher.iter(|| count(black_box(took))));
    // What the second costs the first where they share nothing is the machine's: two threads of one core, or a lower clock.
    let apart = made();
    for (name, other) in [("two threads", &cells), ("two threads, nothing shared", &apart)] {
        let ends = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut count = other.on(1);
                while !ends.load(Relaxed) {
                    count(black_box(took));
                }
            });
            group.bench_function(name, |bencher| bencher.iter(|| count(black_box(took))));
            ends.store(true, Relaxed);
        });
    }
    group.finish();
}

/// The difference of the two is what the decision costs.
fn decide(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("telemetry/unsampled");
    let mut marked = Marked::new();
    group.bench_function("marks alone", |bencher| bencher.iter(|| black_box(&mut marked).reads_marks()));
    group.bench_function("marks and decision", |bencher| bencher.iter(|| black_box(&mut marked).samples()));
    group.finish();
}

/// Lines that come as fast as they can: what is more than the log takes is dropped, so it is a little too cheap.
fn tell(criterion: &mut Criterion) {
    let lines = Lines::new();
    let began = tokio::time::Instant::now();
    criterion.bench_function("telemetry/line", |bencher| bencher.iter(|| lines.tell(black_box(began))));
}

criterion_group!(benches, count, decide, tell);
criterion_main!(benches);
