//! All services and their instances, as last told. Whole lists come in; what differs comes out.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem::take,
    sync::Arc,
};

use super::{
    instance::{AddressError, Health, Instance},
    name::{Datacenter, InstanceId, ServiceName},
};

/// One service's full list, as a source tells it. Seeing one twice changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    /// The service, by lictor's name for it.
    pub service: ServiceName,
    /// Whose list it is, where each datacenter tells one of its own; `None`: it is all that there is of the service.
    pub datacenter: Option<Datacenter>,
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
    /// The datacenter it is in; empty for a fixed one.
    pub datacenter: String,
    /// Why it is of no use.
    pub why: AddressError,
}

/// Which list of a service: that of a datacenter, or the only one.
pub type ListName = (ServiceName, Option<Datacenter>);

/// What its sources last said of one service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    /// Those at one address together, by address, then id, datacenter and node, so that two equal lists compare equal in whatever
    /// order they came. What is told again as it was stays the very same, so that whoever builds on it need not compare again.
    pub places: Vec<Arc<[Instance]>>,
    /// Instances of no use.
    pub rejected: Vec<Rejected>,
    /// Whose lists have been told.
    pub lists: BTreeSet<Option<Datacenter>>,
}

impl Members {
    /// All instances.
    pub fn instances(&self) -> impl Iterator<Item = &Instance> {
        self.places.iter().flat_map(|place| place.iter())
    }
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
    /// Takes a full list in. Nothing in the answer: nothing changed.
    /// The second value tells whether this list was never told before.
    pub fn apply(&mut self, update: Update) -> (Vec<Difference>, bool) {
        let Update { service, datacenter, mut instances, mut rejected } = update;
        let known = self.services.entry(service.clone()).or_default();
        if let Some(datacenter) = &datacenter {
            // The others have told of theirs. What is in none is from before there were any.
            let other = |theirs: &str| !theirs.is_empty() && theirs != datacenter.as_str();
            instances.extend(known.instances().filter(|instance| other(&instance.datacenter)).cloned());
            rejected.extend(known.rejected.iter().filter(|rejected| other(&rejected.datacenter)).cloned());
        }
        if known.lists.contains(&None) != datacenter.is_none() {
            known.lists.clear();
        }
        let first = known.lists.insert(datacenter);
        (known.put(&service, instances, rejected), first)
    }

    /// Takes all instances of a service away.
    pub fn empty(&mut self, service: &ServiceName) -> Vec<Difference> {
        self.services.get_mut(service).map(|known| known.put(service, Vec::new(), Vec::new())).unwrap_or_default()
    }

    /// Leaves of a service only what is in these datacenters.
    pub fn confine(&mut self, service: &ServiceName, datacenters: &[Datacenter]) -> Vec<Difference> {
        let Some(known) = self.services.get_mut(service) else { return Vec::new() };
        let is_in = |theirs: &str| theirs.is_empty() || datacenters.iter().any(|known| known.as_str() == theirs);
        let instances = known.instances().filter(|instance| is_in(&instance.datacenter)).cloned().collect();
        let rejected = known.rejected.iter().filter(|rejected| is_in(&rejected.datacenter)).cloned().collect();
        known.lists.retain(|list| list.as_ref().is_none_or(|list| datacenters.contains(list)));
        known.put(service, instances, rejected)
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

impl Members {
    /// Puts lists in force, and says what is other than before.
    fn put(
        &mut self,
        service: &ServiceName,
        mut instances: Vec<Instance>,
        mut rejected: Vec<Rejected>,
    ) -> Vec<Difference> {
        let order = |a: &Instance, b: &Instance| (&a.address, identity(a)).cmp(&(&b.address, identity(b)));
        // Where they are as they should be, of ten thousand, it costs one look at each.
        if !instances.is_sorted_by(|a, b| order(a, b).is_lt()) {
            // By keys of their own, which are a quarter of what would be moved about.
            instances.sort_by_cached_key(|instance| instance.address.clone());
            for place in instances.chunk_by_mut(|a, b| a.address == b.address) {
                place.sort_by(order);
            }
            instances.dedup_by(|a, b| order(a, b).is_eq());
        }
        rejected.sort_by(|a, b| (&a.id, &a.datacenter).cmp(&(&b.id, &b.datacenter)));
        let mut kinds = self.replace(&instances);
        for bad in rejected.iter().filter(|bad| !self.rejected.contains(bad)) {
            kinds.push((bad.id.clone(), Kind::Rejected(bad.why.clone())));
        }
        self.rejected = rejected;
        let difference = |(instance, kind)| Difference { service: service.clone(), instance, kind };
        kinds.into_iter().map(difference).collect()
    }

    /// Puts in force what is told, which is sorted, and says what is other than before: who left first. Both lists are
    /// gone through side by side, since there may be ten thousand of whom one has changed.
    fn replace(&mut self, told: &[Instance]) -> Vec<(InstanceId, Kind)> {
        let before = take(&mut self.places);
        self.places.reserve(before.len().max(told.len()));
        let mut before = before.into_iter().peekable();
        let (mut left, mut others) = (Vec::new(), Vec::new());
        for now in told.chunk_by(|a, b| a.address == b.address) {
            while let Some(gone) = before.next_if(|place| place[0].address < now[0].address) {
                left.extend(gone.iter().map(|instance| (instance.id.clone(), Kind::Left)));
            }
            let was = match before.next_if(|place| place[0].address == now[0].address) {
                Some(same) if *same == *now => {
                    self.places.push(same);
                    continue;
                }
                was => was,
            };
            let was = was.as_deref().unwrap_or_default();
            let is_gone = |instance: &&Instance| find(now, instance).is_none();
            left.extend(was.iter().filter(is_gone).map(|instance| (instance.id.clone(), Kind::Left)));
            for instance in now {
                let kind = match find(was, instance) {
                    None => Kind::Joined(instance.health),
                    Some(was) if was.health != instance.health => Kind::Health(was.health, instance.health),
                    Some(was) if was != instance => Kind::Changed,
                    Some(_) => continue,
                };
                others.push((instance.id.clone(), kind));
            }
            self.places.push(now.into());
        }
        left.extend(before.flat_map(|gone| gone.iter().map(|i| (i.id.clone(), Kind::Left)).collect::<Vec<_>>()));
        left.append(&mut others);
        left
    }
}

/// The same instance among those at one address.
fn find<'i>(place: &'i [Instance], wanted: &Instance) -> Option<&'i Instance> {
    place.binary_search_by(|instance| identity(instance).cmp(&identity(wanted))).ok().map(|at| &place[at])
}

/// What tells an instance from others at its address: an id is unique on its node alone.
fn identity(instance: &Instance) -> (&InstanceId, &str, &str) {
    (&instance.id, &instance.datacenter, &instance.node)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::instance::Address;

    fn instance(id: &str, port: u32, health: Health) -> Instance {
        Instance {
            id: id.into(),
            node: "n1".into(),
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
        Update { service: "web".into(), datacenter: None, instances, rejected: Vec::new() }
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
    fn what_is_told_again_as_it_was_stays_the_very_same() {
        let mut topology = Topology::default();
        let all: Vec<_> =
            ["a", "b", "c"].into_iter().zip(1..).map(|(id, n)| instance(id, n, Health::Passing)).collect();
        topology.apply(update(all.clone()));
        let before = topology.members(&"web".into()).unwrap().places.clone();
        let mut other = all;
        other[1].weight = 7;
        // A second one at the address of the last.
        other.push(Instance { id: "d".into(), ..other[2].clone() });
        let (told, _) = topology.apply(update(other));
        assert_eq!(kinds(&told), [("b".into(), Kind::Changed), ("d".into(), Kind::Joined(Health::Passing))]);
        let after = &topology.members(&"web".into()).unwrap().places;
        let same: Vec<_> = before.iter().zip(after).map(|(before, after)| Arc::ptr_eq(before, after)).collect();
        assert_eq!(same, [true, false, false]);
        assert_eq!(after[2].len(), 2);
    }

    #[test]
    fn one_id_on_two_nodes_at_one_address_is_two_instances() {
        let mut topology = Topology::default();
        let old = Instance { node: "a-old".into(), ..instance("a", 1, Health::Critical) };
        let new = Instance { node: "b-new".into(), ..instance("a", 1, Health::Passing) };
        let (told, _) = topology.apply(update(vec![new.clone(), old.clone()]));
        let joined = [Health::Critical, Health::Passing].map(|health| ("a".to_owned(), Kind::Joined(health)));
        assert_eq!(kinds(&told), joined);
        assert_eq!(topology.apply(update(vec![old.clone(), new.clone()])), (vec![], false));
        assert_eq!(topology.members(&"web".into()).unwrap().places, [Arc::from([old.clone(), new.clone()])]);

        let new = Instance { health: Health::Warning, ..new };
        let (told, _) = topology.apply(update(vec![old, new.clone()]));
        assert_eq!(kinds(&told), [("a".into(), Kind::Health(Health::Passing, Health::Warning))]);
        assert_eq!(kinds(&topology.apply(update(vec![new])).0), [("a".into(), Kind::Left)]);
    }

    #[test]
    fn each_datacenter_tells_its_own_list_and_touches_no_other() {
        let mut topology = Topology::default();
        let of = |datacenter: &str, ids: &[(&str, u32)]| {
            let make = |&(id, port): &(&str, u32)| Instance {
                datacenter: datacenter.into(),
                ..instance(id, port, Health::Passing)
            };
            Update { datacenter: Some(datacenter.into()), ..update(ids.iter().map(make).collect()) }
        };
        topology.apply(update(vec![instance("z", 9, Health::Passing)]));
        // The same id at the same address, registered in both.
        assert!(topology.apply(of("dc2", &[("a", 1), ("b", 2)])).1);
        let (told, first) = topology.apply(of("dc1", &[("a", 1)]));
        assert!(first);
        let gone = ("z".to_owned(), Kind::Left);
        assert_eq!(kinds(&told), [gone, ("a".into(), Kind::Joined(Health::Passing))]);
        assert_eq!(topology.apply(of("dc1", &[("a", 1)])), (vec![], false));
        let (told, _) = topology.apply(of("dc1", &[]));
        assert_eq!(kinds(&told), [("a".into(), Kind::Left)]);
        let left: Vec<_> = topology.members(&"web".into()).unwrap().instances().map(|i| i.id.to_string()).collect();
        assert_eq!(left, ["a", "b"]);
        assert_eq!(topology.confine(&"web".into(), &["dc2".into()]), []);
        assert_eq!(topology.confine(&"web".into(), &["dc1".into(), "dc3".into()]).len(), 2);
        assert!(topology.apply(of("dc2", &[])).1, "it was forgotten that it had told anything");
    }

    #[test]
    fn a_rejected_instance_is_told_once() {
        let mut topology = Topology::default();
        let rejected = vec![Rejected { id: "x".into(), datacenter: "dc1".into(), why: AddressError::Port(0) }];
        let told = Update { rejected, ..update(vec![]) };
        assert_eq!(kinds(&topology.apply(told.clone()).0), [("x".into(), Kind::Rejected(AddressError::Port(0)))]);
        assert_eq!(topology.apply(told), (vec![], false));
    }
}
