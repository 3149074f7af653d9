//! The same key goes to the same member, as long as that one is there and not overloaded; when one of n members leaves
//! or comes, about 1/n of the keys move. No others do up to [`ALL`] ÷ [`PLACES`] members that are as heavy; else about as
//! many more, never half of them.
//!
//! Members lie at many places of a ring each, and a key has the next one on it. One that has more than its part of all
//! requests under way gives to who comes next.
//! Sources: Karger, "Consistent Hashing and Random Trees"; Mirrokni, "Consistent Hashing with Bounded Loads".

use std::sync::Arc;

use super::{Policy, View, key::hash};
use crate::{
    model::random::{GOLDEN, mix, place},
    upstream::cluster::Member,
};

/// The ring.
#[derive(Debug)]
pub struct ConsistentHash {
    /// Places in order: the upper half of each is where it is, the lower one is its member. A line of memory holds eight,
    /// so that a look-up among many, which are in no near cache, seldom needs two of them.
    points: Vec<u64>,
    /// For each part of the ring, the first place in it or after it.
    parts: Vec<u32>,
    /// The sum of the weights.
    weight: u64,
}

/// Places of a member of usual weight, where there are not too many members for that.
const PLACES: usize = 512;
/// All places, beyond which members get fewer, …
const ALL: usize = 65_536;
/// … but not fewer than this.
const FEWEST: usize = 16;
/// Places to a part, on average. Fewer would need more memory for the parts than for the places.
const PART: usize = 4;
/// The most that a member may have under way, in quarters of what the weights would give it.
const BOUND: u128 = 5;
/// So few requests under way are never too many: else not even two with one key would go the same way.
const FREE: u64 = 4;

impl Policy for ConsistentHash {
    fn build(members: &[Arc<Member>]) -> Self {
        let weighty: Vec<_> = (0_u32..).zip(members).filter(|(_, member)| member.weight > 0).collect();
        let weight: u64 = weighty.iter().map(|(_, member)| u64::from(member.weight)).sum();
        let count = weighty.len().max(1);
        // Nothing here goes in steps, such as powers of two: at a step the places of all would double, and half of the
        // keys would move because one member left.
        let all = count * (ALL / count).clamp(FEWEST, PLACES);
        let mut points = Vec::with_capacity(all + count);
        for (i, member) in weighty {
            let start = hash(member.endpoint.key.address.to_string().as_bytes());
            let mine = (u64::from(member.weight) * all as u64 / weight).max(1);
            let at = |k: u64| mix(start.wrapping_add(k.wrapping_mul(GOLDEN))) & UPPER;
            points.extend((0..mine).map(|k| at(k) | u64::from(i)));
        }
        points.sort_unstable();
        let count = points.len().div_ceil(PART);
        let mut parts = Vec::with_capacity(count);
        for (at, &point) in (0_u32..).zip(&points) {
            let reached = place(point & UPPER, count);
            parts.resize(parts.len().max(reached + 1), at);
        }
        // None begins after the last place: there the ring begins anew.
        parts.resize(count, u32::try_from(points.len()).unwrap_or(u32::MAX));
        Self { points, parts, weight }
    }

    #[inline]
    fn pick(&self, view: &View<'_>) -> Option<usize> {
        let key = view.ask.key.unwrap_or_else(|| view.draws().next());
        let first = self.find(key);
        let (early, late) = self.points.split_at(first);
        let mut spare = None;
        for &point in late.iter().chain(early) {
            #[expect(clippy::cast_possible_truncation, reason = "the lower half")]
            let member = point as u32 as usize;
            if spare == Some(member) || !view.is_usable(member) {
                continue;
            }
            // A new member takes its keys one by one, each once.
            let yields = view.slow_start.is_some() && view.yields(member, mix(key));
            if !yields && !self.is_full(view, member) {
                return Some(member);
            }
            spare = spare.or(Some(member));
        }
        spare
    }
}

impl ConsistentHash {
    /// The first place at or after the key's. The part of the ring tells where to look.
    #[inline]
    fn find(&self, key: u64) -> usize {
        let key = key & UPPER;
        let Some(&start) = self.parts.get(place(key, self.parts.len())) else { return 0 };
        let start = start as usize;
        let at = self.points[start..].iter().position(|&point| point >= key);
        at.map_or(0, |at| start + at)
    }

    #[inline]
    fn is_full(&self, view: &View<'_>, member: usize) -> bool {
        let member = &view.members[member];
        let under_way = member.loads().in_flight();
        // What the service has in all, with this request, is looked at only where it matters.
        under_way >= FREE && {
            let all = view.live.cells.in_flight();
            u128::from(under_way) * 4 * u128::from(self.weight) >= BOUND * u128::from(all) * u128::from(member.weight)
        }
    }
}

/// The half of a place, or of a key, that says where on the ring it is.
const UPPER: u64 = !0 << 32;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::upstream::balance::{Balance, stage::Stage};

    const KEYS: u64 = 20_000;

    fn homes(stage: &Stage) -> Vec<String> {
        (0..KEYS).map(|key| stage.address(stage.pick_key(hash(&key.to_be_bytes())).unwrap())).collect()
    }

    fn moved(before: &[String], after: &[String]) -> f64 {
        let moved = before.iter().zip(after).filter(|(before, after)| before != after).count();
        f64::from(u32::try_from(moved).unwrap()) / 20_000.0
    }

    #[test]
    fn keys_are_shared_by_weight() {
        for weights in [&[1, 1, 1][..], &[3, 1], &[100, 50, 50], &[1; 20]] {
            let stage = Stage::new(Balance::ConsistentHash, weights);
            let homes = homes(&stage);
            let total: u32 = weights.iter().sum();
            for (i, &weight) in weights.iter().enumerate() {
                let share = moved(&homes, &vec![stage.address(i); homes.len()]);
                let want = f64::from(weight) / f64::from(total);
                assert!(((1.0 - share) / want - 1.0).abs() < 0.25, "{} instead of {want} of {weights:?}", 1.0 - share);
            }
        }
    }

    #[test]
    fn when_one_of_n_leaves_its_keys_alone_move() {
        for n in [2, 3, 10, 100] {
            let all = Stage::new(Balance::ConsistentHash, &vec![1; n]);
            let mut weights = vec![1; n];
            weights[n / 2] = 0;
            let rest = Stage::new(Balance::ConsistentHash, &weights);
            let (before, after) = (homes(&all), homes(&rest));
            let gone = all.address(n / 2);
            assert!(before.iter().zip(&after).all(|(before, after)| before == after || *before == gone), "{n}");
            let share = moved(&before, &after);
            assert!(share * f64::from(u32::try_from(n).unwrap()) < 1.35, "{share} of {n}");
            // The same, seen the other way: one that comes takes its part and moves nothing else.
            assert!(share > 0.0);
        }
    }

    #[test]
    fn however_many_there_are_and_however_heavy_no_step_moves_half_of_the_keys() {
        let heavy_among_many = [&[10][..], &[1; 19]].concat();
        for weights in [&[2, 1, 1][..], &[8, 1, 1, 1, 1], &heavy_among_many, &[1; 17], &[1; 129], &[1; 257]] {
            let (count, total) = (f64::from(u32::try_from(weights.len()).unwrap()), weights.iter().sum::<u32>());
            let before = homes(&Stage::new(Balance::ConsistentHash, weights));
            for leaver in [0, weights.len() - 1] {
                let mut rest = weights.to_vec();
                rest[leaver] = 0;
                let after = homes(&Stage::new(Balance::ConsistentHash, &rest));
                let part = (f64::from(weights[leaver]) / f64::from(total)).max(1.0 / count);
                let share = moved(&before, &after);
                // Its own keys, and as many others at most; and places lie by chance.
                assert!(share < 2.4 * part, "{share} with {part} of {weights:?}");
            }
        }
    }

    #[test]
    fn a_key_whose_member_cannot_be_had_goes_to_one_other_and_comes_back() {
        let stage = Stage::new(Balance::ConsistentHash, &[1; 5]);
        for key in 0..200 {
            let key = mix(key);
            let home = stage.pick_key(key).unwrap();
            stage.drain(home);
            let other = stage.pick_key(key).unwrap();
            assert!(other != home && stage.pick_key(key) == Some(other));
            stage.restore(home);
            assert_eq!(stage.pick_key(key), Some(home));
        }
    }

    #[test]
    fn nobody_gets_far_more_than_its_part_of_what_is_under_way_even_with_one_key() {
        for (weights, count) in [(&[1, 1, 1, 1][..], 100_u32), (&[3, 1], 80)] {
            let stage = Stage::new(Balance::ConsistentHash, weights);
            let total: u32 = weights.iter().sum();
            let mut permits = Vec::new();
            let mut under_way = vec![0_u32; weights.len()];
            for _ in 0..count {
                let member = stage.pick_key(42).unwrap();
                permits.push(stage.admit(member, 0));
                under_way[member] += 1;
            }
            for (&n, &weight) in under_way.iter().zip(weights) {
                let most = 1.25 * f64::from(count) * f64::from(weight) / f64::from(total);
                assert!(f64::from(n) <= most.ceil(), "{under_way:?} of {weights:?}");
            }
            drop(permits);
            let home = stage.pick_key(42);
            let _few: Vec<_> = (0..3).map(|_| stage.admit(home.unwrap(), 0)).collect();
            assert_eq!(stage.pick_key(42), home);
        }
    }

    #[test]
    fn requests_without_a_key_go_anywhere() {
        let stage = Stage::new(Balance::ConsistentHash, &[1, 1, 1]);
        assert!(stage.shares(10_000).iter().all(|share| (share - 1.0 / 3.0).abs() < 0.1));
    }

    #[test]
    fn a_new_member_takes_its_keys_one_by_one() {
        let grown = Stage::new(Balance::ConsistentHash, &[1, 1, 1]);
        let end = homes(&grown);
        let mut last = 0.0;
        let mut before: Option<Vec<String>> = None;
        for percent in [0, 30, 60, 100] {
            let mut stage = Stage::new(Balance::ConsistentHash, &[1, 1, 1]);
            stage.grow(2, Duration::from_secs(100), Duration::from_secs(percent));
            let now = homes(&stage);
            let share = 1.0 - moved(&now, &vec![stage.address(2); now.len()]);
            assert!(share > last, "{share} after {last}");
            last = share;
            // Who has moved to it stays with it.
            let new = stage.address(2);
            let back = |before: &Vec<String>| before.iter().zip(&now).any(|(was, is)| *was == new && *is != new);
            assert!(!before.as_ref().is_some_and(back));
            before = Some(now);
        }
        assert_eq!(before, Some(end));
    }

    #[test]
    fn a_ring_without_members_gives_nobody() {
        assert_eq!(Stage::new(Balance::ConsistentHash, &[]).pick_key(1), None);
        assert_eq!(Stage::new(Balance::ConsistentHash, &[0]).pick_key(1), None);
    }
}
