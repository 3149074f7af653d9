//! Of two members the one that is likely to answer sooner: by the time it lets wait (`telemetry/peak.rs`), by its
//! requests under way, by its weight. A worker goes by what it has seen itself.
//!
//! Where one clearly lets wait longer, time × (requests under way + 1) ÷ weight decides, as in Finagle's `p2cPeakEwma`.
//! Else requests under way decide, and where these do not either, the weights: else the one that is faster by a hair
//! would get everything.

use std::sync::Arc;

use super::{
    Policy, View,
    alias::Alias,
    view::{is_lighter, times},
};
use crate::{telemetry::instance::time, upstream::cluster::Member};

/// Draws one by weight, and moves on to who would answer sooner.
#[derive(Debug)]
pub struct P2cEwma(Alias);

/// What a member is likely to cost.
#[derive(Clone, Copy, Debug)]
struct Cost {
    /// Nanoseconds, an hour and little more at most.
    wait: u64,
    requests: u64,
    weight: u64,
}

/// Added to all waits: differences below some milliseconds are the network's and the scheduler's, not the instance's.
const NOISE: u64 = 5_000_000;
/// A wait that is longer by this factor is clearly longer.
const CLEAR: u64 = 2;
/// What one that has never answered is taken for while it has a request: until it answers it gets no second one, unless
/// all the others are slow or as new.
const UNKNOWN: u64 = 1_000_000_000;
/// More requests under way than this are as many, so that their products with waits are numbers.
const MANY: u64 = 1 << 20;

impl Policy for P2cEwma {
    fn build(members: &[Arc<Member>]) -> Self {
        Self(Alias::new(members))
    }

    #[inline]
    fn pick(&self, view: &View<'_>) -> Option<usize> {
        let mut draws = view.draws();
        let first = self.0.first(view, &mut draws)?;
        let Some(second) = self.0.second(first, view, &mut draws) else { return Some(first) };
        if let (Some(one), Some(other)) = (quick(view, second), quick(view, first)) {
            return Some(if is_lighter(one, other) { second } else { first });
        }
        let now = time(view.ask.now);
        let sooner = cost(view, second, now).is_below(&cost(view, first, now));
        Some(if sooner { second } else { first })
    }
}

/// The requests and the weight of a member, where these alone decide: what has let wait no longer than [`NOISE`] when it
/// was last heard of is not clearly slower than anything, however long ago that was. Most instances are like that, and a
/// pick between two of them needs neither the time nor what fades with it.
#[inline]
fn quick(view: &View<'_>, member: usize) -> Option<(u64, u64)> {
    let (requests, wait) = view.members[member].loads().last_known(view.ask.worker);
    let is_quick = wait.map_or(requests == 0, |nanos| nanos <= NOISE * (CLEAR - 1));
    is_quick.then(|| (requests.min(MANY), view.weight(member)))
}

#[inline]
fn cost(view: &View<'_>, member: usize, now: u64) -> Cost {
    let load = view.members[member].loads().known(view.ask.worker, now);
    let unknown = if load.in_flight == 0 { 0 } else { UNKNOWN };
    Cost { wait: load.wait.unwrap_or(unknown) + NOISE, requests: load.in_flight.min(MANY), weight: view.weight(member) }
}

impl Cost {
    #[inline]
    fn is_below(&self, other: &Self) -> bool {
        let clear = self.wait * CLEAR < other.wait || other.wait * CLEAR < self.wait;
        if clear {
            let (mine, its) = (self.wait * (self.requests + 1), other.wait * (other.requests + 1));
            times(mine, other.weight) < times(its, self.weight)
        } else {
            is_lighter((self.requests, self.weight), (other.requests, other.weight))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::advance;

    use super::*;
    use crate::{
        telemetry::cells::Outcome,
        upstream::balance::{Balance, stage::Stage},
    };

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn between_two_quick_ones_the_wait_decides_nothing_however_much_of_it_has_faded() {
        let waits = [0, 1, NOISE / 2, NOISE * (CLEAR - 1)].map(|wait| wait + NOISE);
        let costs = waits.into_iter().flat_map(|wait| {
            let of = move |(requests, weight)| Cost { wait, requests, weight };
            [(0, 1), (1, 1), (1, 3), (7, 3), (MANY, 2)].map(of)
        });
        let costs: Vec<_> = costs.collect();
        for one in &costs {
            for other in &costs {
                let lighter = is_lighter((one.requests, one.weight), (other.requests, other.weight));
                assert_eq!(one.is_below(other), lighter, "{one:?} {other:?}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn where_all_are_as_fast_they_get_their_share() {
        let stage = Stage::new(Balance::P2cEwma, &[3, 1, 0]);
        stage.answer(0, 2 * MS, Outcome::Success).await;
        stage.answer(1, 3 * MS, Outcome::Success).await;
        assert_eq!(stage.shares(40_000), [0.75, 0.25, 0.0]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_lets_wait_gets_nothing_until_others_are_busy_or_time_has_passed() {
        let stage = Stage::new(Balance::P2cEwma, &[1, 1]);
        stage.answer(0, 2 * MS, Outcome::Success).await;
        stage.answer(1, 100 * MS, Outcome::Success).await;
        assert_eq!(stage.shares(1000), [1.0, 0.0]);
        // 7 ms each and 105 ms: the sixteenth is served as soon by the slow one.
        let under_way = stage.crowd(30);
        assert!((1..=2).contains(&under_way[1]), "{under_way:?}");
        advance(Duration::from_mins(1)).await;
        assert!(stage.shares(1000)[1] > 0.3);
    }

    #[tokio::test(start_paused = true)]
    async fn failing_fast_attracts_nothing() {
        for outcome in [Outcome::Failure, Outcome::ConnectError, Outcome::Timeout] {
            let stage = Stage::new(Balance::P2cEwma, &[1, 1]);
            stage.answer(0, MS / 10, outcome).await;
            stage.answer(1, 50 * MS, Outcome::Success).await;
            assert_eq!(stage.shares(1000), [0.0, 1.0], "{outcome:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_does_not_land_on_who_has_never_answered() {
        let stage = Stage::new(Balance::P2cEwma, &[1, 1, 1]);
        stage.answer(0, 50 * MS, Outcome::Success).await;
        stage.answer(1, 50 * MS, Outcome::Success).await;
        let under_way = stage.crowd(20);
        assert_eq!(under_way[2], 1, "{under_way:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_where_nobody_has_answered_yet_is_shared_by_weight() {
        let stage = Stage::new(Balance::P2cEwma, &[2, 1, 1]);
        let under_way = stage.crowd(40);
        assert!(under_way[0].abs_diff(20) <= 3 && under_way[1].abs_diff(10) <= 3, "{under_way:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_goes_by_what_it_has_seen_itself() {
        let stage = Stage::new(Balance::P2cEwma, &[1, 1]);
        let _busy: Vec<_> = (0..10).map(|_| stage.admit(0, 1)).collect();
        stage.answer(0, 2 * MS, Outcome::Success).await;
        stage.answer(1, 100 * MS, Outcome::Success).await;
        assert_eq!(stage.shares(1000), [1.0, 0.0]);
    }
}
