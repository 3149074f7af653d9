//! Every member in turn, as often as its weight says, exact over all workers: they share one cursor.

use std::sync::Arc;

use super::{Policy, View};
use crate::upstream::cluster::Member;

/// The order of turns: places that index the members.
#[derive(Debug, Default)]
pub struct RoundRobin(Vec<u32>);

/// The most places an order may have. Weights beyond it are scaled down.
const PLACES: u64 = 1024;

/// The golden ratio's fraction, in parts of 2^32.
const GOLDEN: u32 = 0x9e37_79b9;

/// Turns in a row that new members may leave out.
const YIELDED: usize = 32;

impl Policy for RoundRobin {
    fn build(members: &[Arc<Member>]) -> Self {
        Self::new(&members.iter().map(|member| member.weight).collect::<Vec<_>>())
    }

    #[inline]
    fn pick(&self, view: &View<'_>) -> Option<usize> {
        if self.0.is_empty() {
            return None;
        }
        if view.slow_start.is_some() {
            let mut draws = view.draws();
            // A turn that a new member leaves out is nobody's: given to who is next, it would be that one's gain.
            for _ in 0..YIELDED {
                let member = self.at(view.live.turn());
                if view.is_usable(member) && !view.yields(member, draws.next()) {
                    return Some(member);
                }
            }
        }
        self.pick_from(view.live.turn(), |member| view.is_usable(member))
    }
}

impl RoundRobin {
    /// Lays out the turns of members with `weights`; a weight of 0 gets none.
    fn new(weights: &[u32]) -> Self {
        let weights = scaled(weights);
        // Each member's turns lie evenly in the round. Where its first one lies steps by the golden ratio from
        // member to member, so that those with few turns do not stand together.
        let mut turns: Vec<(u64, u32)> = Vec::new();
        for (i, weight) in (0_u32..).zip(weights) {
            let offset = u64::from(i.wrapping_mul(GOLDEN));
            turns.extend((0..weight).map(|k| (((k << 32) + offset) / weight, i)));
        }
        turns.sort_unstable();
        let order = turns.into_iter().map(|(_, i)| i).collect();
        Self(order)
    }

    /// The member whose turn it is. There has to be one.
    #[expect(clippy::cast_possible_truncation, reason = "a remainder of a length fits usize")]
    fn at(&self, turn: u64) -> usize {
        self.0[(turn % self.0.len() as u64) as usize] as usize
    }

    /// The member whose turn it is, or the next in order that is `usable`.
    fn pick_from(&self, turn: u64, usable: impl Fn(usize) -> bool) -> Option<usize> {
        let places = self.0.len() as u64;
        let first = turn.checked_rem(places)?;
        #[expect(clippy::cast_possible_truncation, reason = "a remainder of a length fits usize")]
        let (late, early) = (&self.0[first as usize..], &self.0[..first as usize]);
        late.iter().chain(early).map(|&i| i as usize).find(|&i| usable(i))
    }
}

/// The same proportions in the smallest whole numbers, at most [`PLACES`] in all (or one for each).
fn scaled(weights: &[u32]) -> Vec<u64> {
    let divisor = weights.iter().copied().filter(|&w| w > 0).fold(0, gcd).max(1);
    let total: u64 = weights.iter().map(|&w| u64::from(w / divisor)).sum();
    let scale = |w: u32| {
        let w = u64::from(w / divisor);
        if total > PLACES && w > 0 { (w * PLACES / total).max(1) } else { w }
    };
    weights.iter().map(|&w| scale(w)).collect()
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::upstream::balance::{Balance, stage::Stage};

    fn turns(weights: &[u32], n: u64) -> Vec<usize> {
        let order = RoundRobin::new(weights);
        (0..n).filter_map(|turn| order.pick_from(turn, |_| true)).collect()
    }

    #[test]
    fn equal_members_come_once_in_each_round() {
        for n in [1_u32, 2, 3, 7, 100] {
            let round = turns(&vec![10; n as usize], u64::from(2 * n));
            let (first, second) = round.split_at(n as usize);
            let mut sorted = first.to_vec();
            sorted.sort_unstable();
            assert!(sorted.iter().copied().eq(0..n as usize), "{first:?}");
            assert_eq!(first, second);
        }
    }

    #[test]
    fn heavier_members_come_more_often_and_spread() {
        let round = turns(&[5, 1, 1], 7);
        assert_eq!([0, 1, 2].map(|m| round.iter().filter(|&&i| i == m).count()), [5, 1, 1]);
        assert!(!round.windows(2).any(|w| w[0] == w[1] && w[0] != 0), "{round:?}");
        // One heavy among many light ones never waits for all of them.
        let round = turns(&[[50].as_slice(), &[1; 50]].concat(), 100);
        let gap = round.split(|&i| i == 0).map(<[_]>::len).max();
        assert!(gap < Some(6), "{gap:?}");
    }

    #[test]
    fn a_weight_of_zero_gets_nothing() {
        assert_eq!(turns(&[0, 2], 3), [1, 1, 1]);
        assert!(turns(&[0, 0], 3).is_empty());
        assert!(turns(&[], 3).is_empty());
    }

    #[test]
    fn huge_weights_keep_their_proportion_within_the_places() {
        let order = RoundRobin::new(&[3_000_000, 1_000_001]);
        let places = order.0.len();
        assert!(places <= 1024, "{places}");
        let first = order.0.iter().filter(|&&i| i == 0).count();
        assert!(first.abs_diff(places * 3 / 4) <= 2, "{first} of {places}");
        assert_eq!(RoundRobin::new(&vec![7; 5000]).0.len(), 5000);
    }

    #[test]
    fn an_unusable_member_gives_its_turn_to_the_next() {
        let order = RoundRobin::new(&[1, 1, 1]);
        let (first, second) = (order.0[0] as usize, order.0[1] as usize);
        assert_eq!(order.pick_from(0, |i| i != first), Some(second));
        assert_eq!(order.pick_from(2, |i| i == first), Some(first));
        assert_eq!(order.pick_from(0, |_| false), None);
    }
    #[test]
    fn a_new_member_takes_from_all_others_alike() {
        let mut stage = Stage::new(Balance::RoundRobin, &[1, 1, 1]);
        stage.grow(2, Duration::from_secs(100), Duration::from_secs(50));
        let [first, second, new] = stage.shares(30_000)[..] else { panic!("three members") };
        // Half of its weight and a little: 0.55 of 2.55.
        assert!((new - 0.2157).abs() < 0.01 && (first - second).abs() < 0.01, "{first} {second} {new}");
    }
}
