//! The member with the fewest requests under way for its weight, over all workers: of a few members the least of all,
//! of many the lesser of two.
//! Source of the choice of two: Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing".

use std::sync::Arc;

use super::{Policy, View, alias::Alias, view::is_lighter};
use crate::upstream::cluster::Member;

/// Draws one by weight, and moves on to who has less to do.
#[derive(Debug)]
pub struct LeastRequest(Alias);

/// So many members are all looked at.
const FEW: usize = 4;

impl Policy for LeastRequest {
    fn build(members: &[Arc<Member>]) -> Self {
        Self(Alias::new(members))
    }

    #[inline]
    fn pick(&self, view: &View<'_>) -> Option<usize> {
        let mut draws = view.draws();
        let first = self.0.first(view, &mut draws)?;
        let load = |member: usize| (view.members[member].loads().in_flight(), view.weight(member));
        if self.0.members().len() > FEW {
            let lighter = |&other: &usize| is_lighter(load(other), load(first));
            return self.0.second(first, view, &mut draws).filter(lighter).or(Some(first));
        }
        // The first one is among them, but it is not lighter than itself.
        let all = self.0.members().filter(|&member| view.is_usable(member));
        let least = all.fold((first, load(first)), |least, other| {
            let load = load(other);
            if is_lighter(load, least.1) { (other, load) } else { least }
        });
        Some(least.0)
    }
}

#[cfg(test)]
mod tests {
    use crate::upstream::balance::{Balance, stage::Stage};

    #[test]
    fn one_after_the_other_they_get_their_share() {
        let stage = Stage::new(Balance::LeastRequest, &[3, 1, 0]);
        assert_eq!(stage.shares(40_000), [0.75, 0.25, 0.0]);
    }

    #[test]
    fn who_is_busy_gets_nothing_whoever_keeps_it_busy() {
        let stage = Stage::new(Balance::LeastRequest, &[1, 1, 1]);
        let _busy = [stage.admit(0, 0), stage.admit(1, 1)];
        assert_eq!(stage.shares(1000), [0.0, 0.0, 1.0]);
    }

    #[test]
    fn requests_under_way_are_shared_by_weight() {
        for (weights, want) in [(&[3, 1][..], &[30, 10][..]), (&[1, 1, 1, 1], &[10; 4]), (&[1; 8], &[5; 8])] {
            let stage = Stage::new(Balance::LeastRequest, weights);
            let under_way = stage.crowd(40);
            for (is, want) in under_way.iter().zip(want) {
                let bound = if weights.len() > super::FEW { 2 } else { 1 };
                assert!(is.abs_diff(*want) <= bound, "{under_way:?} instead of {want:?}");
            }
        }
    }
}
