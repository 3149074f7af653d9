//! A look-up among ten thousand routes costs no more than twice one among a hundred, for the same traffic: a hundred
//! paths, spread over all routes. `every` asks for each route in turn, which shows what the memory behind them costs.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use lictor::bench::Routes;

const ASKED: usize = 100;

fn find(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("route/find");
    for (name, count, asked) in [("some", 100, ASKED), ("some", 10_000, ASKED), ("every", 10_000, 10_000)] {
        let routes = Routes::new(count);
        // Out of order, since clients come in no order.
        let paths: Vec<_> =
            (0..asked).map(|i| format!("/api/v1/service-{}/users/7", i * (count / asked) * 7919 % count)).collect();
        assert!(paths.iter().all(|path| routes.find(path)));
        let mut next = paths.iter().cycle();
        group.bench_function(BenchmarkId::new(name, count), |bencher| {
            bencher.iter(|| next.next().map(|path| routes.find(black_box(path))));
        });
    }
    group.finish();
}

criterion_group!(benches, find);
criterion_main!(benches);
