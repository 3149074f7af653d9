//! What a policy sees: the request that wants a member, the members, and how each of them is now.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    model::random::{Draws, place},
    upstream::{cluster::Member, service::Service},
};

/// A request that wants a member.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// The worker that it is on.
    pub worker: usize,
    /// Now.
    pub now: Instant,
    /// Any number: what is left to chance is drawn from it.
    pub draw: u64,
    /// What `consistent_hash` goes by; `None`: the request has nothing of the kind.
    pub key: Option<u64>,
    /// Serials of endpoints that had it before.
    pub tried: &'a [u64],
}

/// The members as this request may have them.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The request.
    pub ask: &'a Ask<'a>,
    /// The members.
    pub members: &'a [Arc<Member>],
    /// The live side of the service.
    pub live: &'a Service,
    /// How long new members take to grow; `None`: none is new.
    pub slow_start: Option<Duration>,
}

/// A member's full share, as [`View::share`] counts.
const FULL: u64 = 1 << 32;

impl View<'_> {
    /// Numbers of this request's own.
    #[inline]
    #[must_use]
    pub fn draws(&self) -> Draws {
        Draws::seeded(self.ask.draw)
    }

    /// Whether the member may be picked.
    #[inline]
    #[must_use]
    pub fn is_usable(&self, member: usize) -> bool {
        let (member, tried) = (&*self.members[member], self.ask.tried);
        // Hardly any request was tried before, so hardly any looks at endpoints.
        member.is_usable() && (tried.is_empty() || !tried.contains(&member.endpoint.serial))
    }

    /// Whether the member is new and leaves this request to others: the newer, the more draws it leaves.
    #[inline]
    #[must_use]
    pub fn yields(&self, member: usize, draw: u64) -> bool {
        self.slow_start.is_some_and(|whole| (draw >> 32) >= self.share(member, whole))
    }

    /// The part of the member's weight that is in force: a tenth when it comes, all once it has been here for `whole`.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a part of 2^32"
    )]
    fn share(&self, member: usize, whole: Duration) -> u64 {
        let Some(came) = self.members[member].came else { return FULL };
        let grown = self.ask.now.saturating_duration_since(came).as_secs_f64() / whole.as_secs_f64();
        if grown >= 1.0 { FULL } else { ((0.1 + 0.9 * grown) * FULL as f64) as u64 }
    }

    /// The weight in force, in parts of 2^16.
    #[inline]
    #[must_use]
    pub fn weight(&self, member: usize) -> u64 {
        let weight = u64::from(self.members[member].weight);
        self.slow_start.map_or(weight << 16, |whole| weight * (self.share(member, whole) >> 16))
    }

    /// Any member that may be picked, a new one only where there is no other. For when chance has found none.
    #[must_use]
    pub fn any(&self, draw: u64) -> Option<usize> {
        let count = self.members.len();
        let start = place(draw, count);
        let all = || (start..count).chain(0..start).filter(|&member| self.is_usable(member));
        let old = |&member: &usize| self.slow_start.is_none_or(|whole| self.share(member, whole) == FULL);
        all().find(old).or_else(|| all().next())
    }
}

/// Whether `one` has less to do than `other`, for its weight: without the request that is to come, and with it.
/// Where the two answers differ, nothing speaks for moving it: so it stays where the weights have drawn it.
/// Of each the requests under way and the weight.
#[inline]
#[must_use]
pub fn is_lighter(one: (u64, u64), other: (u64, u64)) -> bool {
    let ((n, weight), (m, measure)) = (one, other);
    let (now, limit) = (times(n, measure), times(m, weight));
    // Both are worked out: a branch between them would often be guessed wrong.
    (now < limit) & (now + u128::from(measure) < limit + u128::from(weight))
}

/// A product that does not overflow.
#[inline]
#[must_use]
pub fn times(one: u64, other: u64) -> u128 {
    u128::from(one) * u128::from(other)
}
