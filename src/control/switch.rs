//! An operator takes an instance out, puts it back, or closes its circuit. The switch itself is on the endpoint, so
//! whatever is built anew finds it there.

use tokio::sync::oneshot;

use super::{Control, Dirty};
use crate::{
    model::name::{InstanceId, ServiceName},
    telemetry::events::Event,
};

/// What an operator wants of an instance.
#[derive(Debug)]
pub struct Switch {
    /// The service.
    pub service: ServiceName,
    /// One of its instances. Those that share its address go with it.
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

/// There is no such instance.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    /// Nor such a service.
    #[error("there is no service `{0}`; {1}")]
    Service(ServiceName, Known),
    /// The service has others.
    #[error("`{0}` has no instance `{1}`; {2}")]
    Instance(ServiceName, InstanceId, Known),
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
        if let Some(rejected) = cluster.rejected.iter().find(|rejected| rejected.id == *instance) {
            return Err(Unknown::Rejected(instance.clone(), rejected.why.to_string()));
        }
        let (mut found, mut changed, mut under_way) = (false, false, 0);
        for member in cluster.members.iter().filter(|m| m.instances.iter().any(|i| i.id == *instance)) {
            found = true;
            changed |= match turn {
                Turn::Drain => {
                    self.rosters.drain(service, instance);
                    member.endpoint.set_draining(true)
                }
                Turn::Restore => {
                    self.rosters.restore(service, &member.instances);
                    member.endpoint.set_draining(false)
                }
                Turn::Reset => {
                    member.endpoint.circuit().reset(cluster.live());
                    false
                }
            };
            under_way += member.endpoint.cells().in_flight();
        }
        if !found {
            let known = cluster.members.iter().flat_map(|member| member.instances.iter());
            let known = known.map(|instance| instance.id.to_string()).collect();
            return Err(Unknown::Instance(service.clone(), instance.clone(), Known(known)));
        }
        if changed {
            let (kind, cause) = if turn == Turn::Drain {
                ("instance_drained", format!("taken out by hand; {under_way} requests are still under way"))
            } else {
                ("instance_restored", "put back by hand".to_owned())
            };
            self.events.publish(Event::new(kind, cause).service(service).instance(instance));
        }
        Ok((under_way, changed))
    }
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
