//! Which member gets the next request. A policy is a file here and a line in the list below; it is built with its
//! cluster and holds no observations: those are on the endpoints.

mod alias;
mod key;
mod view;

#[cfg(test)]
pub mod stage;

pub use key::HashKey;
pub use view::{Ask, View};

use std::sync::Arc;

use super::cluster::Member;

/// A way to choose.
trait Policy: Sized {
    /// Gets ready for these members. Those with a weight of 0 are never to be picked.
    fn build(members: &[Arc<Member>]) -> Self;

    /// The member for this request; `None` where none may be picked.
    fn pick(&self, view: &View<'_>) -> Option<usize>;
}

macro_rules! policies {
    ($($(#[$doc:meta])* $word:ident: $name:ident,)*) => {
        $(mod $word;)*

        /// How an instance is picked.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Balance {
            $($(#[$doc])* $name,)*
        }

        impl Balance {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The word for it in the configuration.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($word),)*
                }
            }
        }

        /// A policy, ready for the members of one cluster.
        #[derive(Debug)]
        pub enum Balancer {
            $($(#[$doc])* $name($word::$name),)*
        }

        impl Balancer {
            /// The policy of this name, made ready for these members.
            #[must_use]
            pub fn new(balance: Balance, members: &[Arc<Member>]) -> Self {
                match balance {
                    $(Balance::$name => Self::$name(Policy::build(members)),)*
                }
            }

            /// The member for this request; `None` where none may be picked.
            #[inline]
            #[must_use]
            pub fn pick(&self, view: &View<'_>) -> Option<usize> {
                match self {
                    $(Self::$name(policy) => policy.pick(view),)*
                }
            }
        }
    };
}

policies! {
    /// By a key of the request: the same key, the same instance.
    consistent_hash: ConsistentHash,
    /// The one with the fewest requests under way.
    least_request: LeastRequest,
    /// Of two, the one that is likely to answer sooner.
    p2c_ewma: P2cEwma,
    /// Any.
    random: Random,
    /// One after the other.
    round_robin: RoundRobin,
}

/// A word that is no policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected `consistent_hash`, `least_request`, `p2c_ewma`, `random` or `round_robin`")]
pub struct UnknownBalance;

impl std::str::FromStr for Balance {
    type Err = UnknownBalance;

    fn from_str(word: &str) -> Result<Self, UnknownBalance> {
        Self::ALL.iter().copied().find(|balance| balance.as_str() == word).ok_or(UnknownBalance)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{stage::Stage, *};
    use crate::telemetry::cells::Outcome;

    #[test]
    fn every_policy_is_read_as_it_is_written_and_named_where_another_is() {
        for &balance in Balance::ALL {
            assert_eq!(balance.as_str().parse(), Ok(balance));
            assert!(UnknownBalance.to_string().contains(&format!("`{}`", balance.as_str())));
        }
        assert_eq!("p2c".parse::<Balance>(), Err(UnknownBalance));
    }

    #[test]
    fn every_policy_gives_members_their_share_by_weight() {
        for &balance in Balance::ALL {
            for weights in [&[1, 1, 1][..], &[5, 3, 2], &[10, 1, 0, 4], &[1, 2, 3, 4, 5, 6, 7, 8], &[2; 50]] {
                let stage = Stage::new(balance, weights);
                let total: f64 = weights.iter().copied().map(f64::from).sum();
                let counts = stage.counts(50_000);
                for (&weight, &count) in weights.iter().zip(&counts) {
                    let part = f64::from(weight) / total;
                    let (want, is) = (50_000.0 * part, f64::from(count));
                    let bound = match balance {
                        Balance::RoundRobin => 2.0,
                        // Where places lie is chance as well: of about 512 a member for usual weight.
                        Balance::ConsistentHash => 0.3 * want,
                        // Four and a half standard deviations.
                        _ => 4.5 * (want * (1.0 - part)).sqrt(),
                    };
                    assert!((is - want).abs() <= bound, "{balance:?}: {is} instead of {want} of {weights:?}");
                }
            }
        }
    }

    #[test]
    fn every_policy_picks_in_the_first_datacenter_that_has_somebody() {
        for &balance in Balance::ALL {
            let stage = Stage::in_datacenters(balance, &[2, 0, 2, 0]);
            let serials = |members: &[usize]| members.iter().map(|&n| stage.serial(n)).collect::<Vec<_>>();
            let shares = stage.shares(1000);
            assert!(shares[0] == 0.0 && shares[1] > 0.2 && shares[2] == 0.0, "{balance:?} {shares:?}");
            // Where all of them were tried, the others are next.
            assert_eq!(stage.pick(&serials(&[1])), Some(3), "{balance:?}");
            assert!(matches!(stage.pick(&serials(&[1, 3])), Some(0 | 2)), "{balance:?}");
            assert_eq!(stage.pick(&serials(&[0, 1, 2, 3])), None, "{balance:?}");
            stage.drain(1);
            stage.drain(3);
            let shares = stage.shares(1000);
            assert!(shares[0] > 0.2 && shares[2] > 0.2, "{balance:?} {shares:?}");
            stage.restore(3);
            assert!(stage.shares(1000)[3] > 0.99, "{balance:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_circuit_is_probed_by_the_next_request_and_by_one_that_failed_only_where_nobody_else_is_left() {
        for &balance in Balance::ALL {
            let stage = Stage::new(balance, &[1, 1, 1]);
            for _ in 0..5 {
                stage.answer(0, Duration::from_millis(1), Outcome::Failure).await;
            }
            let serials = |members: &[usize]| members.iter().map(|&n| stage.serial(n)).collect::<Vec<_>>();
            assert_ne!(stage.pick(&[]), Some(0), "{balance:?}");
            tokio::time::advance(Duration::from_secs(6)).await;
            assert_eq!(stage.pick(&[]), Some(0), "{balance:?}");
            assert_eq!(stage.pick(&serials(&[1])), Some(2), "{balance:?}");
            assert_eq!(stage.pick(&serials(&[1, 2])), Some(0), "{balance:?}");
        }
    }
}
