//! Circuits as their service has them: places, probes, and who hears of it. Apart from `circuit`, which `tests/loom.rs`
//! includes as it is.

use std::{net::Ipv4Addr, sync::Arc, thread, time::Duration};

use tokio::time::Instant;

use super::{
    balance::stage::member,
    breaker::BreakerRules,
    circuit::{Circuit, Era},
    cluster::Member,
    service::{Seats, Service},
};
use crate::{
    model::{
        instance::{Health, Instance},
        units::Share,
    },
    telemetry::{cells::Outcome, events::Events, metrics::Metrics},
};

const S: Duration = Duration::from_secs(1);

struct Stage {
    service: Service,
    members: Vec<Member>,
    circuits: Vec<Arc<Circuit>>,
    metrics: Arc<Metrics>,
    events: Arc<Events>,
    rules: BreakerRules,
    /// Which datacenter each is in; nobody's, where there is one alone.
    ranks: Vec<u32>,
    start: Instant,
}

impl Stage {
    fn new(members: u8, rules: BreakerRules) -> Self {
        let (metrics, events) = (Metrics::new(2), Events::new());
        let service = Service::new("s".into(), &metrics, &events);
        let at = |n: u8| (Ipv4Addr::new(10, 0, 0, n), 80).into();
        let members: Vec<_> = (0..members).map(|n| member(&metrics, at(n), 1)).collect();
        let circuits = members.iter().map(|member| member.endpoint.circuit().clone()).collect();
        let (ranks, start) = (Vec::new(), Instant::now());
        let stage = Self { service, members, circuits, metrics, events, rules, ranks, start };
        stage.enlist(&[]);
        stage
    }

    /// The same, with each in a datacenter.
    fn in_datacenters(ranks: &[u32], rules: BreakerRules) -> Self {
        let stage = Self { ranks: ranks.to_vec(), ..Self::new(ranks.len().try_into().unwrap(), rules) };
        stage.enlist(&[]);
        stage
    }

    /// Says who the members are: all, but of those that are `out` none is let in.
    fn enlist(&self, out: &[usize]) {
        let seat = |(n, member): (usize, &Member)| {
            let health = if out.contains(&n) { Health::Critical } else { Health::Passing };
            let instance = Instance { health, ..member.instances[0].clone() };
            let mut seat = Member::new([instance].into(), member.endpoint.clone(), &[Health::Passing]);
            seat.rank = self.ranks.get(n).copied().unwrap_or(0);
            Arc::new(seat)
        };
        let members = self.members.iter().enumerate().map(seat).collect();
        let datacenters = if self.ranks.is_empty() { &[][..] } else { &["dc1", "dc2"] };
        self.service.enlist(Seats { members, datacenters: datacenters.iter().map(|&name| name.into()).collect() });
    }

    fn end(&self, n: usize, era: Era, outcome: Outcome, second: u32) {
        self.circuits[n].report(&self.service, &self.rules, 0, era, outcome, self.start + second * S);
    }

    fn enter(&self, n: usize, second: u32) -> Option<Era> {
        self.circuits[n].enter(&self.service, self.start + second * S)
    }

    fn fail(&self, n: usize, times: usize, second: u32) {
        for _ in 0..times {
            if let Some(era) = self.enter(n, second) {
                self.end(n, era, Outcome::Failure, second);
            }
        }
    }

    fn open(&self) -> Vec<usize> {
        (0..self.circuits.len()).filter(|&n| !self.circuits[n].is_closed()).collect()
    }

    fn told(&self) -> Vec<(&'static str, String)> {
        self.events.subscribe().0.iter().map(|event| (event.kind, event.cause.clone())).collect()
    }

    fn shown(&self, start: &str) -> Vec<String> {
        self.metrics.render().lines().filter(|line| line.starts_with(start)).map(str::to_owned).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn an_instance_whose_circuit_is_due_for_a_request_is_shown_as_available_though_none_comes() {
    let stage = Stage::new(2, BreakerRules { max_ejected: Share::new(1.0).unwrap(), ..BreakerRules::default() });
    let shown = || {
        let count = |line: &String| line.rsplit(' ').next().unwrap().parse::<usize>().unwrap();
        stage.shown("lictor_instances").iter().map(count).collect::<Vec<_>>()
    };
    stage.fail(0, 9, 0);
    stage.fail(1, 9, 0);
    assert_eq!(shown(), [0, 2], "available, ejected");
    tokio::time::advance(5 * S).await;
    assert_eq!(shown(), [2, 0]);
    let probe = stage.enter(0, 5).unwrap();
    assert_eq!(shown(), [1, 1], "one request decides, nobody else may be sent there");
    stage.end(0, probe, Outcome::Failure, 5);
    assert_eq!(shown(), [1, 1]);
    stage.service.enlist(Seats::default());
    stage.metrics.forget_service(&"s".into());
    assert!(shown().is_empty(), "nothing of a service that is gone comes back");
}

#[test]
fn a_circuit_that_opens_closes_or_is_probed_is_told_and_shown() {
    let stage = Stage::new(3, BreakerRules::default());
    stage.fail(1, 9, 0);
    assert_eq!(stage.open(), [1]);
    assert!(
        stage
            .shown("lictor_circuit_state")
            .contains(&r#"lictor_circuit_state{service="s",instance="10.0.0.1:80"} 2"#.into())
    );
    let instances = stage.shown("lictor_instances");
    assert_eq!(
        instances,
        [r#"lictor_instances{service="s",state="available"} 2"#, r#"lictor_instances{service="s",state="ejected"} 1"#]
    );
    assert!(!stage.service.is_probe_due(stage.start + 4 * S));
    assert!(stage.service.is_probe_due(stage.start + 5 * S));
    let probe = stage.enter(1, 5).unwrap();
    assert_eq!((stage.enter(1, 5), stage.service.is_probe_due(stage.start + 5 * S)), (None, false));
    stage.end(1, probe, Outcome::Success, 6);
    assert_eq!(stage.open(), [0; 0]);
    let told = stage.told();
    let kinds: Vec<_> = told.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds, ["circuit_opened", "circuit_half_open", "circuit_closed"]);
    assert!(told[0].1.starts_with("5 failures in a row, the last one a failure; open for"), "{told:?}");
    assert_eq!(
        stage.shown("lictor_circuit_transition_total"),
        ["closed", "half_open", "open"]
            .map(|to| format!(r#"lictor_circuit_transition_total{{service="s",to="{to}"}} 1"#))
    );
}

#[test]
fn what_was_let_in_before_a_change_says_nothing_after_it() {
    let stage = Stage::new(1, BreakerRules::default());
    let early: Vec<_> = (0..20).map(|_| stage.enter(0, 0).unwrap()).collect();
    stage.fail(0, 5, 0);
    stage.end(0, early[0], Outcome::Success, 1);
    stage.end(0, early[1], Outcome::Failure, 1);
    let probe = stage.enter(0, 5).unwrap();
    stage.end(0, early[2], Outcome::Success, 5);
    assert_eq!(stage.open(), [0]);
    stage.end(0, probe, Outcome::Success, 5);
    for era in &early[3..] {
        stage.end(0, *era, Outcome::Timeout, 6);
    }
    assert_eq!(stage.open(), [0; 0]);
}

#[test]
fn a_probe_whose_client_goes_away_makes_the_next_one_the_probe() {
    let stage = Stage::new(1, BreakerRules::default());
    stage.fail(0, 5, 0);
    let probe = stage.enter(0, 5).unwrap();
    stage.end(0, probe, Outcome::Cancelled, 7);
    let probe = stage.enter(0, 7).unwrap();
    stage.end(0, probe, Outcome::Timeout, 8);
    assert_eq!(stage.enter(0, 15), None, "a failed probe doubles the time, give or take a fifth");
    assert!(stage.enter(0, 18).is_some());
}

#[test]
fn a_probe_that_goes_on_for_long_need_not_end_to_close_the_circuit() {
    let stage = Stage::new(1, BreakerRules::default());
    stage.fail(0, 5, 0);
    let probe = stage.enter(0, 5).unwrap();
    let era = stage.circuits[0].prove(&stage.service, probe, stage.start + 5 * S).unwrap();
    assert_eq!(stage.open(), [0; 0]);
    // What comes of it later counts as that of any other.
    stage.end(0, era, Outcome::Failure, 60);
    stage.fail(0, 4, 60);
    assert_eq!(stage.open(), [0]);
}

#[test]
fn half_of_the_members_stay_and_one_that_leaves_makes_place() {
    let stage = Stage::new(4, BreakerRules::default());
    for n in 0..4 {
        stage.fail(n, 9, 0);
    }
    assert_eq!(stage.open(), [0, 1]);
    stage.fail(2, 1, 0);
    assert_eq!(stage.open(), [0, 1]);
    // One of those that are open is let in no more: of three, one may be open, and one is.
    stage.enlist(&[0]);
    stage.fail(2, 1, 0);
    assert_eq!(stage.open(), [0, 1]);
    stage.circuits[1].reset(&stage.service);
    stage.fail(2, 1, 0);
    assert_eq!(stage.open(), [0, 2]);
    stage.enlist(&[]);
    assert_eq!(stage.open(), [0, 2], "who comes back is as it was");
}

#[test]
fn what_cannot_be_picked_holds_no_place_and_is_none_of_those_that_a_share_is_of() {
    let rules = || BreakerRules { consecutive: 3, ..BreakerRules::default() };
    // An operator takes it out, and whether all was built anew since or not.
    for anew in [false, true] {
        let stage = Stage::new(2, rules());
        stage.fail(0, 3, 0);
        stage.members[0].endpoint.set_draining(true);
        if anew {
            stage.enlist(&[]);
        }
        stage.fail(1, 3, 0);
        assert_eq!(stage.open(), [0, 1], "{anew}");
    }
    // Consul's weight for its health is 0.
    let mut stage = Stage::new(2, rules());
    stage.fail(0, 3, 0);
    let weightless = Instance { weight: 0, ..stage.members[0].instances[0].clone() };
    stage.members[0].instances = [weightless].into();
    stage.enlist(&[]);
    stage.fail(1, 3, 0);
    assert_eq!(stage.open(), [0, 1]);

    // Of four, two may open; of the three that are left of them, one.
    let stage = Stage::new(4, rules());
    stage.members[3].endpoint.set_draining(true);
    stage.enlist(&[]);
    for n in 0..3 {
        stage.fail(n, 9, 0);
    }
    assert_eq!(stage.open(), [0]);
    // Where it comes back it holds its place again.
    stage.members[3].endpoint.set_draining(false);
    stage.enlist(&[]);
    stage.fail(1, 1, 0);
    assert_eq!(stage.open(), [0, 1]);
    stage.fail(2, 1, 0);
    assert_eq!(stage.open(), [0, 1]);
}

#[test]
fn all_of_a_datacenter_may_open_while_the_next_has_somebody_and_half_of_the_last() {
    let rules = BreakerRules { consecutive: 1, ..BreakerRules::default() };
    let stage = Stage::in_datacenters(&[0, 0, 0, 1, 1], rules.clone());
    for n in 0..3 {
        stage.fail(n, 1, 0);
    }
    assert_eq!(stage.open(), [0, 1, 2]);
    // What is open elsewhere takes no place away here.
    stage.fail(3, 1, 0);
    stage.fail(4, 1, 0);
    assert_eq!(stage.open(), [0, 1, 2, 3]);
    let moved: Vec<_> = stage.told().into_iter().filter(|(kind, _)| *kind == "datacenter_changed").collect();
    assert_eq!(moved.len(), 1, "{moved:?}");
    assert!(moved[0].1.starts_with("`dc2` is used"), "{moved:?}");
    // Who is behind waits for nothing while one before it is well.
    assert!(stage.service.is_probe_due(stage.start + 100 * S));
    for n in 0..3 {
        stage.circuits[n].reset(&stage.service);
    }
    assert!(!stage.service.is_probe_due(stage.start + 100 * S));
    assert_eq!(stage.told().last().map(|(kind, _)| *kind), Some("circuit_closed"));
    let back = stage.told().into_iter().rfind(|(kind, _)| *kind == "datacenter_changed").unwrap();
    assert!(back.1.starts_with("`dc1` has somebody to pick again"), "{back:?}");

    let none = BreakerRules { max_ejected: Share::NONE, ..rules };
    let stage = Stage::in_datacenters(&[0, 1], none);
    stage.fail(0, 100, 0);
    assert_eq!(stage.open(), [0; 0]);
}

#[test]
fn none_ever_opens_where_none_may_and_the_only_one_does_where_any_may() {
    let stage = Stage::new(2, BreakerRules { max_ejected: Share::NONE, ..BreakerRules::default() });
    stage.fail(0, 100, 0);
    assert_eq!(stage.open(), [0; 0]);
    let stage = Stage::new(1, BreakerRules::default());
    stage.fail(0, 5, 0);
    assert_eq!(stage.open(), [0]);
}

#[test]
fn a_rate_is_of_the_window_and_of_what_came_since_it_was_closed() {
    let rules = BreakerRules { consecutive: 0, ..BreakerRules::default() };
    let stage = Stage::new(1, rules);
    let pass = |outcome, times: u32, second| {
        for _ in 0..times {
            if let Some(era) = stage.enter(0, second) {
                stage.end(0, era, outcome, second);
            }
        }
    };
    pass(Outcome::Success, 100, 1);
    pass(Outcome::Failure, 19, 20);
    pass(Outcome::Cancelled, 9, 20);
    assert_eq!(stage.open(), [0; 0]);
    pass(Outcome::Failure, 1, 20);
    assert_eq!(stage.open(), [0]);
    pass(Outcome::Success, 1, 26);
    assert_eq!(stage.open(), [0; 0]);
    pass(Outcome::Success, 19, 27);
    pass(Outcome::Failure, 18, 27);
    assert_eq!(stage.open(), [0; 0]);
    pass(Outcome::Failure, 2, 27);
    assert_eq!(stage.open(), [0]);
}

#[test]
fn on_many_threads_exactly_one_gets_the_probe_and_no_place_is_given_twice() {
    for _ in 0..50 {
        let stage = Stage::new(4, BreakerRules { consecutive: 1, ..BreakerRules::default() });
        thread::scope(|scope| {
            for n in 0..4 {
                let stage = &stage;
                scope.spawn(move || stage.fail(n, 3, 0));
            }
        });
        assert_eq!(stage.open().len(), 2);
        let open = stage.open()[0];
        let probes: usize = thread::scope(|scope| {
            let asked: Vec<_> = (0..4).map(|_| scope.spawn(|| usize::from(stage.enter(open, 5).is_some()))).collect();
            asked.into_iter().map(|one| one.join().unwrap()).sum()
        });
        assert_eq!(probes, 1);
    }
}

#[test]
fn an_instance_that_has_left_is_told_of_no_more() {
    let stage = Stage::new(1, BreakerRules::default());
    stage.service.enlist(Seats::default());
    stage.fail(0, 5, 0);
    assert_eq!((stage.open(), stage.told().len()), (vec![0; 1], 0));
}
