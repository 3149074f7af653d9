//! How often one request is tried: what is left of its tries, its body for the next one, and the pause before it.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    Local,
    call::{AttemptError, Outbound},
    cluster::Cluster,
    exchange::ExchangeError,
    policy::Policy,
    replay::Replay,
    retry::Reason,
};
use crate::{body::Body, model::message::Response};

/// The tries of one request.
pub(super) struct Tries<'c> {
    cluster: &'c Cluster,
    policy: &'c Policy,
    local: &'c Local,
    /// Whether it may be sent again though something of it was sent.
    repeats: bool,
    replay: Option<Replay>,
    made: u32,
    /// Whether connections that were kept are trusted: once one was found closed, others may be as dead.
    kept: bool,
}

impl<'c> Tries<'c> {
    /// None was made yet. The request's body is kept from here on, where it may be needed again.
    pub fn new(
        cluster: &'c Cluster,
        policy: &'c Policy,
        local: &'c Local,
        request: &mut Outbound,
        now: Instant,
    ) -> Self {
        let rules = &policy.retry;
        let mut repeats = rules.repeats(&request.method);
        // Over HTTP/2 an instance may say that it did nothing of a request: then any is sent again.
        let keeps = repeats || cluster.transport.protocol.is_http2();
        let replay = if keeps { Replay::of(&mut request.body, rules.max_body) } else { None };
        repeats &= replay.is_some() || request.body.is_empty();
        cluster.live().asked(local.worker, now);
        Self { cluster, policy, local, repeats, replay, made: 0, kept: true }
    }

    /// The rules of the request.
    pub fn policy(&self) -> &'c Policy {
        self.policy
    }

    /// Whether the request may be sent again though something of it was sent.
    pub fn repeats(&self) -> bool {
        self.repeats
    }

    /// The request's body from its beginning, where it was kept.
    pub fn kept_body(&self) -> Option<Body> {
        self.replay.as_ref()?.again()
    }

    /// Whether connections that were kept are of use.
    pub fn trusts_kept(&self) -> bool {
        self.kept
    }

    /// Since when the whole of a body has been here that was still to come at first.
    pub fn whole(&self) -> Option<Instant> {
        self.replay.as_ref()?.ended()
    }

    /// Whether the answer is one that another instance may have a better one for.
    pub fn is_bad(&self, answer: &Response<Body>) -> bool {
        self.repeats && self.policy.retry.is_bad(answer.status, &answer.fields)
    }

    /// The pause before the next try, for which the request is made ready, where it ends before the time that is `left`
    /// does; `None`: that was the last.
    pub fn again(
        &mut self,
        after: Option<&AttemptError>,
        request: &mut Outbound,
        now: Instant,
        left: Duration,
    ) -> Option<Duration> {
        let rules = &self.policy.retry;
        let (reason, unsent) = match after {
            None => (Reason::Status, false),
            Some(AttemptError::Dial(_)) => (Reason::Connect, true),
            Some(AttemptError::Refused(_)) => (Reason::RefusedStream, true),
            Some(AttemptError::Stale(_) | AttemptError::Lost(_)) => (Reason::Reset, false),
            Some(AttemptError::Exchange(ExchangeError::ReadTimeout(_))) => (Reason::Timeout, false),
            Some(AttemptError::Exchange(_)) => return None,
        };
        // A kept connection that was closed already was no try: nobody has seen the request.
        let stale = matches!(after, Some(AttemptError::Stale(_))) && self.kept;
        if matches!(after, Some(AttemptError::Stale(_) | AttemptError::Lost(_))) {
            self.kept = false;
        }
        if !stale {
            self.made += 1;
            let covered = reason == Reason::Status || rules.covers(reason);
            if self.made >= rules.attempts || !covered {
                return None;
            }
        }
        match &self.replay {
            _ if !unsent && !self.repeats => return None,
            Some(replay) => request.body = replay.again()?,
            None => {}
        }
        let pause = if stale { Duration::ZERO } else { rules.pause(self.made, self.local.draw()) };
        let live = self.cluster.live();
        let free = stale || reason == Reason::Connect;
        (pause < left && live.retries(rules, self.local.worker, now, reason, free)).then_some(pause)
    }
}
