//! All services and their instances, as last told. Whole lists come in; what differs comes out.

use std::collections::{BTreeMap, HashMap};

use super::{
    instance::{AddressError, Health, Instance},
    name::{InstanceId, ServiceName},
};

/// One service's full list, as a source tells it. Seeing one twice changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    /// The service, by lictor's name for it.
    pub service: ServiceName,
    /// Every instance that a connection could be made to, in whatever health.
    pub instances: Vec<Instance>,
    /// Instances that no connection can be made to, and why.
    pub rejected: Vec<Rejected>,
}

/// An instance that was registered with an address of no use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// What Consul calls it.
    pub id: InstanceId,
    /// Why it is of no use.
    pub why: AddressError,
}

/// What a source last said of one service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    /// By address, then id, so that two equal lists compare equal in whatever order they came.
    pub instances: Vec<Instance>,
    /// Instances of no use.
    pub rejected: Vec<Rejected>,
}

/// One difference between what was known and what is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The service it is about.
    pub service: ServiceName,
    /// The instance it is about.
    pub instance: InstanceId,
    /// What happened to it.
    pub kind: Kind,
}

/// What happened to an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It was not there before.
    Joined(Health),
    /// It is not there any more.
    Left,
    /// Its health changed, and perhaps more.
    Health(Health, Health),
    /// Its address, weight, tags or metadata changed.
    Changed,
    /// It was told with an address of no use.
    Rejected(AddressError),
}

/// All services and their instances.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    services: BTreeMap<ServiceName, Members>,
}

impl Topology {
    /// Takes one service's full list in. Nothing in the answer: nothing changed.
    /// The second value tells whether this service was never told of before.
    pub fn apply(&mut self, update: Update) -> (Vec<Difference>, bool) {
        let Update { service, mut instances, mut rejected } = update;
        instances.sort_by(|a, b| (&a.address, &a.id).cmp(&(&b.address, &b.id)));
        instances.dedup_by(|a, b| a.address == b.address && a.id == b.id);
        rejected.sort_by(|a, b| a.id.cmp(&b.id));
        let fresh = Members { instances, rejected };
        let first = !self.services.contains_key(&service);
        let known = self.services.entry(service.clone()).or_default();
        if *known == fresh {
            return (Vec::new(), first);
        }
        let differences = compare(&service, known, &fresh);
        *known = fresh;
        (differences, first)
    }

    /// Forgets a service that nobody wants any more.
    pub fn forget(&mut self, service: &ServiceName) -> bool {
        self.services.remove(service).is_some()
    }

    /// What is known of one service; `None` when no source has told of it yet.
    #[must_use]
    pub fn members(&self, service: &ServiceName) -> Option<&Members> {
        self.services.get(service)
    }
}

fn compare(service: &ServiceName, old: &Members, new: &Members) -> Vec<Difference> {
    // Two nodes may each register an instance under the same id: the address tells them apart.
    let key = |i: &Instance| (i.id.clone(), i.address.clone());
    let before: HashMap<_, _> = old.instances.iter().map(|i| (key(i), i)).collect();
    let after: HashMap<_, _> = new.instances.iter().map(|i| (key(i), i)).collect();
    let difference =
        |instance: &InstanceId, kind| Difference { service: service.clone(), instance: instance.clone(), kind };
    let mut all = Vec::new();
    for gone in old.instances.iter().filter(|i| !after.contains_key(&key(i))) {
        all.push(difference(&gone.id, Kind::Left));
    }
    for now in &new.instances {
        match before.get(&key(now)) {
            None => all.push(difference(&now.id, Kind::Joined(now.health))),
            Some(was) if was.health != now.health => {
                all.push(difference(&now.id, Kind::Health(was.health, now.health)));
            }
            Some(was) if *was != now => all.push(difference(&now.id, Kind::Changed)),
            Some(_) => {}
        }
    }
    for bad in new.rejected.iter().filter(|r| !old.rejected.contains(r)) {
        all.push(difference(&bad.id, Kind::Rejected(bad.why.clone())));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::instance::Address;

    fn instance(id: &str, port: u32, health: Health) -> Instance {
        Instance {
            id: id.into(),
            address: Address::new("10.0.0.1", port).unwrap(),
            health,
            weight: 1,
            tags: Vec::new(),
            meta: BTreeMap::new(),
            datacenter: "dc1".into(),
            create_index: 0,
        }
    }

    fn update(instances: Vec<Instance>) -> Update {
        Update { service: "web".into(), instances, rejected: Vec::new() }
    }

    fn kinds(differences: &[Difference]) -> Vec<(String, Kind)> {
        differences.iter().map(|d| (d.instance.to_string(), d.kind.clone())).collect()
    }

    #[test]
    fn a_list_seen_twice_in_another_order_changes_nothing() {
        let mut topology = Topology::default();
        let (a, b) = (instance("a", 1, Health::Passing), instance("b", 2, Health::Passing));
        assert_eq!(topology.apply(update(vec![a.clone(), b.clone()])).0.len(), 2);
        assert_eq!(topology.apply(update(vec![b, a])), (vec![], false));
    }

    #[test]
    fn an_empty_first_list_is_news_of_the_service() {
        let mut topology = Topology::default();
        assert_eq!(topology.apply(update(vec![])), (vec![], true));
        assert_eq!(topology.apply(update(vec![])), (vec![], false));
        assert!(topology.members(&"web".into()).is_some());
    }

    #[test]
    fn joining_leaving_and_changing_are_told_apart() {
        let mut topology = Topology::default();
        let (a, b, c) =
            (instance("a", 1, Health::Passing), instance("b", 2, Health::Passing), instance("c", 3, Health::Passing));
        topology.apply(update(vec![a, b.clone(), c.clone()]));
        let b = Instance { health: Health::Critical, ..b };
        let c = Instance { weight: 7, ..c };
        let d = instance("d", 4, Health::Warning);
        let (told, _) = topology.apply(update(vec![b, c, d]));
        assert_eq!(
            kinds(&told),
            [
                ("a".into(), Kind::Left),
                ("b".into(), Kind::Health(Health::Passing, Health::Critical)),
                ("c".into(), Kind::Changed),
                ("d".into(), Kind::Joined(Health::Warning)),
            ]
        );
    }

    #[test]
    fn a_moved_instance_leaves_and_joins() {
        let mut topology = Topology::default();
        topology.apply(update(vec![instance("a", 1, Health::Passing)]));
        let (told, _) = topology.apply(update(vec![instance("a", 2, Health::Passing)]));
        assert_eq!(kinds(&told), [("a".into(), Kind::Left), ("a".into(), Kind::Joined(Health::Passing))]);
    }

    #[test]
    fn a_rejected_instance_is_told_once() {
        let mut topology = Topology::default();
        let rejected = vec![Rejected { id: "x".into(), why: AddressError::Port(0) }];
        let told = Update { service: "web".into(), instances: vec![], rejected };
        assert_eq!(kinds(&topology.apply(told.clone()).0), [("x".into(), Kind::Rejected(AddressError::Port(0)))]);
        assert_eq!(topology.apply(told), (vec![], false));
    }
}
