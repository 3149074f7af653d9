//! An operator takes an instance out, puts it back, or closes its circuit. The switch itself is on the circuit, where
//! picks see it at once; who is out, whatever is built anew, is kept by `drained.rs`.

use std::{collections::HashMap, sync::Arc};

use tokio::sync::oneshot;

use super::{Control, Dirty};
use crate::{
    model::{
        instance::Address,
        name::{InstanceId, ServiceName},
    },
    telemetry::events::Event,
    upstream::cluster::{Cluster, Member},
};

/// What an operator wants of an instance.
#[derive(Debug)]
pub struct Switch {
    /// The service.
    pub service: ServiceName,
    /// One of its instances, by its ID or its address as text. Those that share its address go with it.
    pub instance: InstanceId,
    /// What is to be done.
    pub turn: Turn,
    /// Told once it is in force: how many requests the instance has under way.
    pub done: oneshot::Sender<Result<u64, Unknown>>,
}

/// What may be done with an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It finishes what it has and gets nothing new.
    Drain,
    /// It is as if nobody had taken it out.
    Restore,
    /// Its circuit is closed, and what was seen of its failures forgotten.
    Reset,
}

/// It is not known which instance is meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    /// Nor such a service.
    #[error("there is no service `{0}`; {1}")]
    Service(ServiceName, Known),
    /// The service has others.
    #[error("`{0}` has no instance `{1}`; {2}")]
    Instance(ServiceName, InstanceId, Known),
    /// Several have this ID, at different addresses.
    #[error("several instances of `{0}` have the id `{1}`, so it is not enough; name one by its address: {2}")]
    Ambiguous(ServiceName, InstanceId, Known),
    /// It is registered with an address of no use.
    #[error("`{0}` gets nothing: {1}")]
    Rejected(InstanceId, String),
}

/// What there is, for people who look for something else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known(Vec<String>);

/// More than these would be a list that nobody reads.
const SHOWN: usize = 10;

impl std::fmt::Display for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() {
            return f.write_str("there is none at present");
        }
        write!(f, "there is `{}`", self.0[..self.0.len().min(SHOWN)].join("`, `"))?;
        match self.0.len().checked_sub(SHOWN) {
            None | Some(0) => Ok(()),
            Some(more) => write!(f, " and {more} more"),
        }
    }
}

/// Somebody who waits until what was done is in force.
pub type Waiting = (oneshot::Sender<Result<u64, Unknown>>, Result<u64, Unknown>);

/// Tells those who wait. Who has gone meanwhile has what was asked for all the same.
pub fn tell(waiting: &mut Vec<Waiting>) {
    for (done, result) in waiting.drain(..) {
        let _ = done.send(result);
    }
}

impl Control {
    /// Turns the switch of an instance.
    pub(super) fn switch(&mut self, switch: Switch, dirty: &mut Dirty) {
        let Switch { service, instance, turn, done } = switch;
        let result = self.turn(&service, &instance, turn);
        if let Ok((_, true)) = &result {
            dirty.services.insert(service);
        }
        self.waiting.push((done, result.map(|(under_way, _)| under_way)));
    }

    /// The requests under way, and whether anything was changed that clusters are built of.
    fn turn(&mut self, service: &ServiceName, instance: &InstanceId, turn: Turn) -> Result<(u64, bool), Unknown> {
        let Some(cluster) = self.clusters.get(service).cloned() else {
            let mut known: Vec<_> = self.clusters.keys().map(ToString::to_string).collect();
            known.sort();
            return Err(Unknown::Service(service.clone(), Known(known)));
        };
        let member = meant(&cluster, instance)?;
        let is_called = member.instances.iter().any(|one| one.id == *instance);
        let changed = match turn {
            Turn::Drain => {
                let named = member.instances.iter().filter(|one| !is_called || one.id == *instance);
                self.rosters.drained.drain(service, named);
                member.endpoint.set_draining(true)
            }
            Turn::Restore => {
                self.rosters.drained.restore(service, &member.endpoint.key.address);
                member.endpoint.set_draining(false)
            }
            Turn::Reset => {
                member.endpoint.circuit().reset(cluster.live());
                false
            }
        };
        let under_way = member.endpoint.cells().in_flight();
        if changed {
            let address = &member.endpoint.address;
            let (kind, cause) = if turn == Turn::Drain {
                let cause = format!("taken out by hand at `{address}`; {under_way} requests are still under way");
                ("instance_drained", cause)
            } else {
                ("instance_restored", format!("put back by hand at `{address}`"))
            };
            let id = if is_called { instance } else { &member.instances[0].id };
            self.events.publish(Event::new(kind, cause).service(service).instance(id));
        }
        Ok((under_way, changed))
    }
}

/// The one that has this ID, or is at this address.
fn meant<'c>(cluster: &'c Cluster, instance: &InstanceId) -> Result<&'c Arc<Member>, Unknown> {
    let is_called = |member: &&Arc<Member>| member.instances.iter().any(|one| one.id == *instance);
    let called: Vec<_> = cluster.members.iter().filter(is_called).collect();
    match called[..] {
        [one] => return Ok(one),
        [] => (),
        _ => {
            let addresses = called.iter().map(|member| member.endpoint.address.to_string()).collect();
            return Err(Unknown::Ambiguous(cluster.service.clone(), instance.clone(), Known(addresses)));
        }
    }
    let address = address(instance.as_str());
    let there =
        address.and_then(|address| cluster.members.iter().find(|member| member.endpoint.key.address == address));
    if let Some(there) = there {
        return Ok(there);
    }
    if let Some(rejected) = cluster.rejected.iter().find(|rejected| rejected.id == *instance) {
        return Err(Unknown::Rejected(instance.clone(), rejected.why.to_string()));
    }
    Err(Unknown::Instance(cluster.service.clone(), instance.clone(), Known(names(cluster))))
}

/// `HOST:PORT`.
fn address(text: &str) -> Option<Address> {
    let (host, port) = text.rsplit_once(':')?;
    Address::new(host, port.parse().ok()?).ok()
}

/// What each instance can be named by: its ID where that is enough, else its address.
fn names(cluster: &Cluster) -> Vec<String> {
    let mut places: HashMap<&InstanceId, Vec<&str>> = HashMap::new();
    let all = || cluster.members.iter().flat_map(|member| member.instances.iter().map(move |one| (member, &one.id)));
    for (member, id) in all() {
        let places = places.entry(id).or_default();
        if places.last() != Some(&&*member.endpoint.address) {
            places.push(&member.endpoint.address);
        }
    }
    let name = |(member, id): (&Arc<Member>, &InstanceId)| {
        if places[id].len() > 1 { member.endpoint.address.to_string() } else { id.to_string() }
    };
    let mut names: Vec<_> = all().map(name).collect();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_are_cut() {
        let known = |count: usize| Known((0..count).map(|n| n.to_string()).collect()).to_string();
        assert_eq!(known(0), "there is none at present");
        assert_eq!(known(2), "there is `0`, `1`");
        assert!(known(10).ends_with("`9`") && known(12).ends_with("`9` and 2 more"));
    }
}
