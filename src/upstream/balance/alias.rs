//! Draws members as often as their weights say, whatever their number. Source: Walker's alias method as Vose builds it.

use std::sync::Arc;

use super::view::View;
use crate::{
    model::random::{Draws, place},
    upstream::cluster::Member,
};

/// Members to draw from; those with a weight of 0 are not among them.
#[derive(Debug, Default)]
pub struct Alias(Vec<Slot>);

/// A draw that falls here means `own` up to `keep`, and `other` beyond it.
#[derive(Clone, Copy, Debug)]
struct Slot {
    keep: u32,
    own: u32,
    other: u32,
}

/// Draws that may fall on members that cannot be had, before all are looked through.
const DRAWS: usize = 8;

impl Alias {
    /// Puts the members together.
    #[must_use]
    pub fn new(members: &[Arc<Member>]) -> Self {
        let listed = (0_u32..).zip(members).filter(|(_, member)| member.weight > 0);
        let (own, weights): (Vec<u32>, Vec<u64>) = listed.map(|(i, member)| (i, u64::from(member.weight))).unzip();
        let (count, total) = (weights.len() as u64, weights.iter().sum::<u64>());
        let mut slots: Vec<_> = own.iter().map(|&own| Slot { keep: u32::MAX, own, other: own }).collect();
        // One division in place of one for each member, of whom there may be ten thousand.
        let reciprocal = u64::MAX / total.max(1);
        // In units that make `total` the mean, so that all is in whole numbers.
        let mut left: Vec<u64> = weights.iter().map(|weight| weight * count).collect();
        let (mut small, mut large): (Vec<usize>, Vec<usize>) =
            (0..left.len()).filter(|&i| left[i] != total).partition(|&i| left[i] < total);
        while let (Some(poor), Some(&rich)) = (small.pop(), large.last()) {
            let keep = (u128::from(left[poor]) * u128::from(reciprocal)) >> 32;
            slots[poor] = Slot { keep: u32::try_from(keep).unwrap_or(u32::MAX), other: own[rich], ..slots[poor] };
            left[rich] -= total - left[poor];
            if left[rich] <= total {
                large.pop();
                if left[rich] < total {
                    small.push(rich);
                }
            }
        }
        Self(slots)
    }

    /// A member, by weight.
    #[inline]
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the lower half")]
    pub fn draw(&self, draw: u64) -> Option<usize> {
        let slot = self.0.get(place(draw, self.0.len()))?;
        // The upper bits have chosen the slot, so the lower ones are still any.
        Some(if draw as u32 <= slot.keep { slot.own } else { slot.other } as usize)
    }

    /// A member that may be picked, by weight.
    #[inline]
    #[must_use]
    pub fn first(&self, view: &View<'_>, draws: &mut Draws) -> Option<usize> {
        for _ in 0..DRAWS {
            let member = self.draw(draws.next())?;
            if view.is_usable(member) && (view.slow_start.is_none() || !view.yields(member, draws.next())) {
                return Some(member);
            }
        }
        view.any(draws.next())
    }

    /// Any other member that may be picked, if chance finds one soon.
    #[inline]
    #[must_use]
    pub fn second(&self, first: usize, view: &View<'_>, draws: &mut Draws) -> Option<usize> {
        if self.0.len() < 2 {
            return None;
        }
        let last = self.0.len() - 1;
        let stand_in = self.0[last].own as usize;
        for _ in 0..DRAWS {
            // Among all but the last, which stands in for the first one where that is drawn: so all others are as likely.
            let other = self.0[place(draws.next(), last)].own as usize;
            let other = if other == first { stand_in } else { other };
            if view.is_usable(other) && (view.slow_start.is_none() || !view.yields(other, draws.next())) {
                return Some(other);
            }
        }
        None
    }

    /// All members.
    pub fn members(&self) -> impl ExactSizeIterator<Item = usize> {
        self.0.iter().map(|slot| slot.own as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::balance::stage::members;

    fn shares(weights: &[u32]) -> Vec<f64> {
        let alias = Alias::new(&members(weights));
        let mut draws = Draws::seeded(7);
        let mut counts = vec![0_u32; weights.len()];
        for _ in 0..100_000 {
            counts[alias.draw(draws.next()).unwrap()] += 1;
        }
        counts.into_iter().map(|count| f64::from(count) / 100_000.0).collect()
    }

    #[test]
    fn members_are_drawn_as_often_as_their_weights_say() {
        for weights in [&[1, 1, 1][..], &[3, 1], &[1, 0, 2], &[5], &[1, 10, 100, 1000], &[u32::MAX, u32::MAX, 1]] {
            let total: f64 = weights.iter().copied().map(f64::from).sum();
            for (share, &weight) in shares(weights).into_iter().zip(weights) {
                let want = f64::from(weight) / total;
                // Four standard deviations of so many draws.
                let bound = 4.0 * (want * (1.0 - want) / 100_000.0).sqrt() + 1e-9;
                assert!((share - want).abs() <= bound, "{share} instead of {want} of {weights:?}");
            }
        }
    }

    #[test]
    fn nobody_is_drawn_where_nobody_has_weight() {
        assert_eq!(Alias::new(&members(&[0, 0])).draw(1), None);
        assert_eq!(Alias::new(&[]).draw(1), None);
    }
}
