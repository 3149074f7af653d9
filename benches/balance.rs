//! What a pick costs, for each policy with few members and with many, and what a change of one instance costs among ten
//! thousand: in a hundred services, and all in one.

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use lictor::bench::{Members, World};

fn pick(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("balance/pick");
    for policy in Members::POLICIES {
        for count in [3, 1000] {
            let members = Members::new(policy, count);
            let mut draw = 0;
            group.bench_function(BenchmarkId::new(policy, count), |bencher| {
                bencher.iter(|| {
                    draw += 1;
                    members.pick(black_box(draw))
                });
            });
        }
    }
    group.finish();
}

fn rebuild(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("balance/rebuild");
    for (services, instances) in [(100, 100), (1, 10_000)] {
        let world = World::new(services, instances);
        let mut version = 0;
        group.bench_function(BenchmarkId::new("services", services), |bencher| {
            let next = || {
                version += 1;
                world.update(version)
            };
            bencher.iter_batched(next, |update| world.tell(update), BatchSize::PerIteration);
        });
    }
    group.finish();
}

criterion_group!(benches, pick, rebuild);
criterion_main!(benches);
