//! The state machine by tables: no clock runs here, and chance is given. Apart from `breaker`, which `tests/loom.rs`
//! includes as it is.

use std::time::Duration;

use http::StatusCode;
use tokio::time::Instant;

use super::breaker::{Breaker, BreakerRules, Cause, Moment, State};
use crate::{
    model::units::Share,
    telemetry::{cells::Outcome, window::Counts},
};

const S: Duration = Duration::from_secs(1);
const NONE: Counts = Counts { requests: 0, failures: 0 };

struct Stage {
    breaker: Breaker,
    rules: BreakerRules,
    start: Instant,
    place: bool,
}

impl Stage {
    fn new(rules: BreakerRules) -> Self {
        Self { breaker: Breaker::default(), rules, start: Instant::now(), place: true }
    }

    fn at(&self, millis: u64) -> Instant {
        self.start + Duration::from_millis(millis)
    }

    fn fail(&mut self, millis: u64, recent: Counts) -> Option<Cause> {
        let at = Moment { now: self.at(millis), draw: u64::MAX };
        let place = self.place;
        self.breaker.failed(&self.rules, recent, Outcome::Failure, at, || place)
    }

    /// How long the circuit is still open.
    fn left(&self, millis: u64) -> Option<Duration> {
        let State::Open(until) = self.breaker.state() else { return None };
        Some(until - self.at(millis))
    }
}

#[test]
fn failures_in_a_row_open_it_and_a_success_between_them_does_not_let_it() {
    let mut stage = Stage::new(BreakerRules::default());
    for _ in 0..4 {
        assert_eq!(stage.fail(0, NONE), None);
    }
    assert!(stage.breaker.is_marked());
    assert_eq!(stage.breaker.succeeded(), None);
    assert!(!stage.breaker.is_marked());
    for _ in 0..4 {
        assert_eq!(stage.fail(0, NONE), None);
    }
    assert_eq!(stage.fail(0, NONE), Some(Cause::Consecutive(5, Outcome::Failure)));
    assert_eq!(stage.left(0), Some(5 * S));
    // What was under way when it opened says nothing more.
    assert_eq!((stage.fail(0, NONE), stage.breaker.succeeded()), (None, None));
    assert_eq!(stage.left(0), Some(5 * S));
}

#[test]
fn a_rate_of_failures_opens_it_once_there_are_enough_requests() {
    for (requests, failures, opens) in
        [(19, 19, false), (20, 9, false), (20, 10, true), (21, 10, false), (1000, 500, true), (0, 0, false)]
    {
        let mut stage = Stage::new(BreakerRules { consecutive: 0, ..BreakerRules::default() });
        let cause = stage.fail(0, Counts { requests, failures });
        assert_eq!(cause.is_some(), opens, "{failures} of {requests}");
    }
}

#[test]
fn one_request_decides_when_the_time_is_over_and_not_before() {
    let mut stage = Stage::new(BreakerRules { consecutive: 1, ..BreakerRules::default() });
    stage.fail(0, NONE);
    assert_eq!(stage.breaker.probe(stage.at(4999)), None);
    assert_eq!(stage.breaker.probe(stage.at(5000)), Some(Cause::Due));
    assert_eq!(stage.breaker.probe(stage.at(9000)), None, "exactly one");
    assert_eq!(stage.breaker.succeeded(), Some(Cause::Proven));
    assert_eq!(stage.breaker.state(), State::Closed);
}

#[test]
fn each_failed_probe_doubles_the_time_less_some_chance_up_to_the_most() {
    let mut stage = Stage::new(BreakerRules { consecutive: 1, ..BreakerRules::default() });
    stage.fail(0, NONE);
    let mut at = 0;
    for whole in [10_u32, 20, 40, 60, 60, 60] {
        at += u64::try_from(stage.left(at).unwrap().as_millis()).unwrap() + 1;
        assert_eq!(stage.breaker.probe(stage.at(at)), Some(Cause::Due));
        assert_eq!(stage.fail(at, NONE), Some(Cause::ProbeFailed(Outcome::Failure)));
        let left = stage.left(at).unwrap();
        assert!(left <= whole * S && left >= whole * S * 4 / 5, "{left:?} of {whole} s");
    }
    at += 60_000;
    stage.breaker.probe(stage.at(at));
    stage.breaker.succeeded();
    stage.fail(at, NONE);
    assert_eq!(stage.left(at), Some(5 * S), "a success makes it begin anew");
}

#[test]
fn a_probe_that_was_given_up_leaves_the_decision_to_the_next() {
    let mut stage = Stage::new(BreakerRules { consecutive: 1, ..BreakerRules::default() });
    assert_eq!(stage.breaker.left(stage.at(0)), None);
    stage.fail(0, NONE);
    stage.breaker.probe(stage.at(5000));
    assert_eq!(stage.breaker.left(stage.at(6000)), Some(Cause::ProbeLeft));
    assert_eq!(stage.breaker.probe(stage.at(6000)), Some(Cause::Due));
}

#[test]
fn without_a_place_it_stays_closed_and_opens_at_the_next_failure_once_there_is_one() {
    let mut stage = Stage::new(BreakerRules { consecutive: 2, ..BreakerRules::default() });
    stage.place = false;
    for _ in 0..3 {
        assert_eq!(stage.fail(0, NONE), None);
    }
    assert_eq!(stage.breaker.state(), State::Closed);
    stage.place = true;
    assert_eq!(stage.fail(0, NONE), Some(Cause::Consecutive(4, Outcome::Failure)));
}

#[test]
fn by_hand_it_is_closed_from_any_state() {
    let mut stage = Stage::new(BreakerRules { consecutive: 2, ..BreakerRules::default() });
    stage.fail(0, NONE);
    assert_eq!(stage.breaker.reset(), None);
    assert!(!stage.breaker.is_marked());
    stage.fail(0, NONE);
    stage.fail(0, NONE);
    assert_eq!(stage.breaker.reset(), Some(Cause::Reset));
    stage.fail(0, NONE);
    stage.fail(0, NONE);
    stage.breaker.probe(stage.at(5000));
    assert_eq!(stage.breaker.reset(), Some(Cause::Reset));
    assert_eq!(stage.breaker.state(), State::Closed);
}

#[test]
fn so_many_may_be_open_at_once() {
    for (share, members, places) in [
        (Share::HALF, 1, 1),
        (Share::HALF, 3, 1),
        (Share::HALF, 4, 2),
        (Share::NONE, 9, 0),
        (Share::new(1.0).unwrap(), 9, 9),
    ] {
        let rules = BreakerRules { max_ejected: share, ..BreakerRules::default() };
        assert_eq!(rules.places(members), places, "{share} of {members}");
    }
}

#[test]
fn an_answer_counts_by_its_status() {
    let rules = BreakerRules::default();
    for (status, failed) in
        [(200, false), (304, false), (404, false), (429, false), (500, true), (501, false), (503, true), (505, false)]
    {
        let outcome = rules.judge(StatusCode::from_u16(status).unwrap());
        assert_eq!(outcome == Outcome::Failure, failed, "{status}");
    }
    let rules = BreakerRules { failure_status: vec![429], ..rules };
    assert_eq!(rules.judge(StatusCode::TOO_MANY_REQUESTS), Outcome::Failure);
    assert_eq!(rules.judge(StatusCode::BAD_GATEWAY), Outcome::Success);
}
