//! Which members are new, which endpoints stay the same ones, and who stays taken out.

use std::time::Duration;

use super::*;
use crate::{
    config::Sources,
    discovery::fixed,
    model::{
        instance::{Address, AddressError, Health},
        topology::{Rejected, Topology, Update},
    },
};

struct Stage {
    config: Config,
    rosters: Rosters,
    metrics: Arc<Metrics>,
    events: Arc<Events>,
    before: Option<Cluster>,
    start: Instant,
    /// What instances are called behind their addresses.
    suffix: &'static str,
    /// What is told at addresses of no use.
    rejected: Vec<Rejected>,
}

impl Stage {
    fn new() -> Self {
        let sources = Sources { files: Vec::new(), sets: vec!["services.s.consul=s".into()] };
        let config = config::load_from(&sources, &BTreeMap::new()).unwrap();
        let (rosters, metrics) = (Rosters::default(), Metrics::new(1));
        let (events, start) = (Events::new(), Instant::now());
        Self { config, rosters, metrics, events, before: None, start, suffix: "", rejected: Vec::new() }
    }

    /// Tells of instances by their last octet, and which of them are critical. Answers since which second each of
    /// them is new.
    fn tell(&mut self, second: u64, instances: &[u8], critical: &[u8]) -> Vec<Option<u64>> {
        let service = ServiceName::from("s");
        let address = |&n: &u8| Address::Ip(([10, 0, 0, n], 80).into());
        let mut told = fixed::update(&service, &instances.iter().map(address).collect::<Vec<_>>(), &[]).instances;
        for (instance, n) in told.iter_mut().zip(instances) {
            instance.id = format!("{}{}", instance.id, self.suffix).as_str().into();
            instance.health = if critical.contains(n) { Health::Critical } else { Health::Passing };
        }
        self.build(second, told)
    }

    /// The same of any instances.
    fn build(&mut self, second: u64, told: Vec<Instance>) -> Vec<Option<u64>> {
        let service = ServiceName::from("s");
        let mut topology = Topology::default();
        let rejected = self.rejected.clone();
        topology.apply(Update { service: service.clone(), datacenter: None, instances: told, rejected });
        let told = topology.members(&service).unwrap();
        let before = self.before.take();
        let rules = rules(&self.config, &service, None, before.as_ref());
        let now = self.start + Duration::from_secs(second);
        let built = cluster(rules, told, before.as_ref(), &mut self.rosters, (&self.metrics, &self.events), now);
        let since = |came: Instant| came.duration_since(self.start).as_secs();
        let came = built.members.iter().map(|member| member.came.map(since)).collect();
        self.before = Some(built);
        came
    }

    /// An operator takes a member out, of whose instances the one with this ID was named.
    fn drain(&mut self, member: usize, id: &str) {
        let member = self.before.as_ref().unwrap().members[member].clone();
        let named = member.instances.iter().filter(|instance| instance.id.as_str() == id);
        self.rosters.drained.drain(&"s".into(), named);
        member.endpoint.set_draining(true);
    }
}

#[test]
fn who_comes_or_becomes_usable_beside_others_is_new_and_nobody_else() {
    let mut stage = Stage::new();
    assert_eq!(stage.tell(1, &[1, 2], &[]), [None, None]);
    assert_eq!(stage.tell(2, &[1, 2, 3], &[]), [None, None, Some(2)]);
    assert_eq!(stage.tell(3, &[1, 2, 3], &[]), [None, None, Some(2)]);
    stage.tell(4, &[1, 2, 3], &[2]);
    assert_eq!(stage.tell(5, &[1, 2, 3], &[]), [None, Some(5), Some(2)]);
    // Those that stay are what it is new beside, though new themselves.
    assert_eq!(stage.tell(6, &[2, 3, 4], &[]), [Some(5), Some(2), Some(6)]);
    assert_eq!(stage.tell(7, &[8, 9], &[]), [None, None]);
}

#[test]
fn endpoints_survive_and_an_instance_that_was_taken_out_stays_out_however_it_is_spoken_to() {
    let mut stage = Stage::new();
    stage.tell(1, &[1, 2], &[]);
    let endpoints = |stage: &Stage| -> Vec<_> {
        stage.before.iter().flat_map(|c| c.members.iter().map(|m| (m.endpoint.clone(), m.weight))).collect()
    };
    let before = endpoints(&stage);
    stage.drain(0, "10.0.0.1:80");
    stage.tell(2, &[1, 2, 3], &[]);
    let after = endpoints(&stage);
    assert!(Arc::ptr_eq(&before[0].0, &after[0].0) && Arc::ptr_eq(&before[1].0, &after[1].0));
    assert_eq!(after.iter().map(|(_, weight)| *weight).collect::<Vec<_>>(), [0, 1, 1]);
    assert_eq!(census(stage.before.as_ref().unwrap())[..2], [("draining", 1), ("unhealthy", 0)]);
    let text = stage.metrics.render();
    assert!(text.contains("lictor_instances{service=\"s\",state=\"available\"} 2"), "{text}");

    let sets = ["services.s.consul=s", "services.s.protocol=h2c"].map(String::from).into();
    stage.config = config::load_from(&Sources { files: Vec::new(), sets }, &BTreeMap::new()).unwrap();
    stage.tell(3, &[1, 2, 3], &[]);
    let other = endpoints(&stage);
    assert!((0..3).all(|n| Arc::ptr_eq(after[n].0.circuit(), other[n].0.circuit())));
    assert!(!Arc::ptr_eq(&after[0].0, &other[0].0) && other[0].0.is_draining() && !other[1].0.is_draining());

    stage.suffix = "-next";
    stage.tell(4, &[1, 2, 3], &[]);
    let next = endpoints(&stage);
    assert!(next.iter().all(|(endpoint, weight)| !endpoint.is_draining() && *weight == 1), "others at their places");
    assert!((0..3).all(|n| !Arc::ptr_eq(next[n].0.circuit(), other[n].0.circuit())));
}

#[test]
fn who_shares_the_address_of_one_that_was_taken_out_is_out_with_it_until_that_one_is_deregistered() {
    // Whether the one that is taken out is the first by name or not.
    for (taken_out, other) in [("o1", "o1-new"), ("z1", "a-new")] {
        let mut stage = Stage::new();
        let one = fixed::update(&"s".into(), &[Address::Ip(([10, 0, 0, 1], 80).into())], &[]).instances.remove(0);
        let tell = |stage: &mut Stage, second, ids: &[&str]| {
            stage.build(second, ids.iter().map(|&id| Instance { id: id.into(), ..one.clone() }).collect());
            let member = stage.before.as_ref().unwrap().members[0].clone();
            (member.weight > 0, member.endpoint.clone())
        };
        tell(&mut stage, 1, &[taken_out]);
        stage.drain(0, taken_out);
        assert!(!tell(&mut stage, 2, &[taken_out]).0);
        assert!(!tell(&mut stage, 3, &[taken_out, other]).0, "{other}");
        assert!(tell(&mut stage, 4, &[other]).0, "{other} without {taken_out}");
        assert!(tell(&mut stage, 5, &[taken_out, other]).0, "a new registration of {taken_out}");

        // While a request keeps what was of it alive, too.
        let _kept = tell(&mut stage, 6, &[taken_out]);
        stage.drain(0, taken_out);
        stage.build(7, Vec::new());
        assert!(tell(&mut stage, 8, &[taken_out]).0, "a new registration of {taken_out}");

        stage.drain(0, taken_out);
        stage.rosters.drained.restore(&"s".into(), &one.address);
        assert!(tell(&mut stage, 9, &[taken_out, other]).0, "{taken_out} was put back");
    }
}

#[test]
fn who_was_taken_out_stays_out_wherever_it_is_registered_and_nobody_else_with_its_id_is() {
    // Where `w` is told, by the last octet, and the index of each registration; at 0 it is of no use. The first of the
    // first list is taken out.
    type Lists = &'static [&'static [(u8, u64)]];
    let cases: &[(Lists, &[u8], &str)] = &[
        (&[&[(1, 5)], &[(2, 5)]], &[2], "it has moved"),
        (&[&[(1, 5)], &[(2, 9)]], &[2], "registered anew, and nobody saw it leave"),
        (&[&[(1, 5)], &[(1, 9)]], &[1], "the same where it was"),
        (&[&[(1, 5)], &[], &[(1, 9)]], &[], "it was seen to leave"),
        (&[&[(1, 5)], &[(0, 5)], &[(2, 5)]], &[2], "of no use in between"),
        (&[&[(1, 5)], &[(1, 5), (2, 9)]], &[1], "another one comes"),
        (&[&[(1, 5)], &[(1, 5), (2, 9)], &[(2, 9)]], &[], "another one comes, and it leaves"),
        (&[&[(1, 5), (2, 6)], &[(2, 6), (3, 5)]], &[3], "of two it moves"),
        (&[&[(1, 5), (2, 6)], &[(1, 5), (3, 6)]], &[1], "of two the other moves"),
        (&[&[(1, 5), (2, 6)], &[(2, 6)]], &[], "of two it leaves"),
        (&[&[(1, 5), (2, 6)], &[(2, 6), (3, 9)]], &[], "of two it leaves as another one comes"),
        (&[&[(1, 5), (2, 6)], &[(0, 5), (2, 6)], &[(2, 6), (3, 5)]], &[3], "of two it is of no use in between"),
        (&[&[(1, 5), (2, 6)], &[(0, 6)], &[(2, 6)]], &[], "it leaves while the other is of no use"),
        (&[&[(1, 5), (2, 5)], &[(2, 5)]], &[], "both were registered at once"),
    ];
    let one = fixed::update(&"s".into(), &[Address::Ip(([10, 0, 0, 1], 80).into())], &[]).instances.remove(0);
    for (lists, want, what) in cases {
        let mut stage = Stage::new();
        for (second, list) in (0..).zip(*lists) {
            let (nowhere, there): (Vec<_>, Vec<_>) = list.iter().partition(|(n, _)| *n == 0);
            let bad = |_| Rejected { id: "w".into(), datacenter: String::new(), why: AddressError::Port(0) };
            stage.rejected = nowhere.into_iter().map(bad).collect();
            let at = |(n, create_index): (u8, u64)| {
                let address = Address::Ip(([10, 0, 0, n], 80).into());
                Instance { id: "w".into(), address, create_index, ..one.clone() }
            };
            stage.build(second, there.into_iter().map(at).collect());
            if second == 0 {
                stage.drain(0, "w");
            }
        }
        let members = &stage.before.as_ref().unwrap().members;
        assert!(members.iter().all(|member| (member.weight == 0) == member.endpoint.is_draining()), "{what}");
        let out = members.iter().filter(|member| member.endpoint.is_draining());
        let want: Vec<_> = want.iter().map(|n| format!("10.0.0.{n}:80")).collect();
        assert_eq!(out.map(|member| member.endpoint.address.to_string()).collect::<Vec<_>>(), want, "{what}");
    }
}

#[test]
fn of_two_nodes_that_swap_the_addresses_of_one_id_the_same_stays_out() {
    let one = fixed::update(&"s".into(), &[Address::Ip(([10, 0, 0, 1], 80).into())], &[]).instances.remove(0);
    let on = |node: &str, n: u8| {
        let address = Address::Ip(([10, 0, 0, n], 80).into());
        Instance { id: "w".into(), node: node.into(), address, create_index: 5, ..one.clone() }
    };
    let mut stage = Stage::new();
    stage.build(0, vec![on("a", 1), on("b", 2)]);
    stage.drain(0, "w");
    stage.build(1, vec![on("a", 2), on("b", 1)]);
    let members = &stage.before.as_ref().unwrap().members;
    let out: Vec<_> = members.iter().map(|member| (&*member.endpoint.address, member.endpoint.is_draining())).collect();
    assert_eq!(out, [("10.0.0.1:80", false), ("10.0.0.2:80", true)]);
}
