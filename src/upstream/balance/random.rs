//! Any member, as often as its weight says.

use std::sync::Arc;

use super::{Policy, View, alias::Alias};
use crate::upstream::cluster::Member;

/// Draws and looks at nothing else.
#[derive(Debug)]
pub struct Random(Alias);

impl Policy for Random {
    fn build(members: &[Arc<Member>]) -> Self {
        Self(Alias::new(members))
    }

    #[inline]
    fn pick(&self, view: &View<'_>) -> Option<usize> {
        self.0.first(view, &mut view.draws())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::upstream::balance::{Balance, stage::Stage};

    #[test]
    fn members_get_their_share_and_those_tried_before_get_nothing() {
        let stage = Stage::new(Balance::Random, &[3, 1, 0]);
        assert_eq!(stage.shares(40_000), [0.75, 0.25, 0.0]);
        assert_eq!(stage.pick(&[stage.serial(0)]), Some(1));
        assert_eq!(stage.pick(&[stage.serial(1)]), Some(0));
        stage.drain(0);
        assert_eq!(stage.shares(1000), [0.0, 1.0, 0.0]);
        stage.drain(1);
        assert_eq!(stage.pick(&[]), None);
    }
    #[test]
    fn a_new_member_grows_from_a_tenth_to_all_of_its_weight() {
        let mut stage = Stage::new(Balance::Random, &[1, 1, 2]);
        for (percent, share) in [(0, 0.1), (25, 0.325), (50, 0.55), (75, 0.775), (100, 1.0), (500, 1.0)] {
            let mut stage = Stage::new(Balance::Random, &[1, 1, 2]);
            stage.grow(2, Duration::from_secs(100), Duration::from_secs(percent));
            let (is, want) = (stage.shares(40_000)[2], 2.0 * share / (2.0 + 2.0 * share));
            assert!((is - want).abs() < 0.015, "{is} instead of {want} at {percent} %");
        }
        // However new it is, it is there for who finds no other.
        stage.grow(2, Duration::from_secs(100), Duration::ZERO);
        stage.drain(0);
        stage.drain(1);
        assert_eq!(stage.shares(1000), [0.0, 0.0, 1.0]);
    }
}
