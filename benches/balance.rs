//! What a pick costs, for each policy with few members and with many, and what a change of one instance costs among ten
//! thousand: in a hundred services, all in one, and told in another order than that of their addresses.

use std::{hint::black_box, time::Duration};

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use lictor::bench::{Members, World};

/// The program's own, which is part of what a change costs.
#[global_allocator]
static MEMORY: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn pick(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("balance/pick");
    let quick = Members::POLICIES.map(|policy| (policy, policy, Duration::ZERO));
    // Where instances let wait, what time has taken of that is worked out.
    let slow = [("p2c_ewma of slow ones", "p2c_ewma", Duration::from_millis(50))];
    for (name, policy, took) in quick.into_iter().chain(slow) {
        for count in [3, 1000] {
            let members = Members::new(policy, count, took);
            let mut draw = 0;
            group.bench_function(BenchmarkId::new(name, count), |bencher| {
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
    for (name, services, instances) in
        [("in 100 services", 100, 100), ("in one", 1, 10_000), ("in no order", 1, 10_000)]
    {
        let world = World::new(services, instances);
        let mut version = 0;
        group.bench_function(name, |bencher| {
            let next = || {
                version += 1;
                let update = world.update(version);
                if name == "in no order" { update.shuffled() } else { update }
            };
            bencher.iter_batched(next, |update| world.tell(update), BatchSize::PerIteration);
        });
    }
    group.finish();
}

criterion_group!(benches, pick, rebuild);
criterion_main!(benches);
