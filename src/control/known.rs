//! How much is known: what counts as an answer at the start, and which lists nobody has told yet.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use super::{Control, wants::lists};
use crate::{
    config::{Origin, Service},
    consul,
    discovery::Part,
    model::{
        instance::Instance,
        name::{Datacenter, ServiceName},
        topology::{ListName, Members},
        units::Time,
    },
    telemetry::events::Event,
};

/// What has been answered, if only by an error.
#[derive(Debug, Default)]
pub struct Answers {
    /// Lists of services.
    pub lists: BTreeSet<ListName>,
    /// Which services expose themselves.
    pub catalog: bool,
    /// Whether the KV has a document.
    pub document: bool,
    /// Whether a datacenter that has said nothing by now is waited for no more.
    pub is_late: bool,
}

impl Control {
    /// What was told stays. An answer, if only an error, is enough not to wait for a better one at the start.
    pub(super) fn failed(&mut self, part: Part, datacenter: Option<&Datacenter>, error: &consul::Error) {
        let causes = error.causes();
        let cause = datacenter.map_or(causes.clone(), |there| format!("datacenter `{there}`: {causes}"));
        let event = Event::new("consul_failed", cause);
        self.events.publish(if let Part::Service(service) = &part { event.service(service) } else { event });
        let hangs = matches!(error, consul::Error::Timeout(_));
        let counts = error.reachable() || (hangs && datacenter.is_some());
        if !counts {
            return;
        }
        if datacenter.is_none() && matches!(part, Part::Agent | Part::Catalog) {
            self.answers.catalog = true;
            self.answers.document |= part == Part::Agent;
        }
        let whose: Vec<_> = match part {
            // While there is no leader nothing else is asked, so this is the answer to all.
            Part::Agent => self.config.services.keys().cloned().collect(),
            Part::Shared => self.config.services.keys().cloned().chain(self.exposures.services()).collect(),
            Part::Service(service) => vec![service],
            Part::Catalog | Part::Checks => return,
        };
        for service in whose {
            let all = lists(&self.config, &service);
            // That it hangs may be the agent's fault. But whoever comes first has been answered for then.
            let counts = !hangs || all.first().is_none_or(|first| first.as_ref() != datacenter);
            if counts && all.iter().any(|list| list.as_ref() == datacenter) {
                self.answers.lists.insert((service, datacenter.cloned()));
            }
        }
    }

    /// Nobody wants to know of it any more.
    pub(super) fn forget(&mut self, service: &ServiceName) {
        self.topology.forget(service);
        self.answers.lists.retain(|(known, _)| known != service);
        self.metrics.forget_service(service);
    }

    /// Every wanted service answered once, and so did the catalog where tags expose services, and the KV that may have
    /// more configuration.
    pub(super) fn is_first_topology_known(&self) -> bool {
        if self.config.consul.is_none() {
            return true;
        }
        let catalog = self.config.expose.is_none() || self.answers.catalog;
        let services = self.config.services.keys().cloned().chain(self.exposures.services());
        catalog && !self.awaits_document() && services.into_iter().all(|service| self.is_answered(&service))
    }

    /// Whether the document in the KV is waited for: not where nothing else is, unless somebody asked for it.
    fn awaits_document(&self) -> bool {
        let key = self.config.consul.as_ref().and_then(|consul| consul.config.as_ref());
        let of_consul = |service: &Service| matches!(service.origin, Origin::Consul { .. });
        key.is_some_and(|key| {
            key.is_written || self.config.expose.is_some() || self.config.services.values().any(of_consul)
        }) && !self.answers.document
    }

    /// Whether a service's lists are known, as far as requests have need of them: once a datacenter has somebody to pick,
    /// those behind it need not be waited for, and after some time neither is one that says nothing, where another has told.
    fn is_answered(&self, service: &ServiceName) -> bool {
        let lists = lists(&self.config, service);
        let told = self.topology.members(service).map(|members| &members.lists);
        let may_lack = self.answers.is_late && told.is_some_and(|told| lists.iter().any(|list| told.contains(list)));
        for list in lists {
            let name = (service.clone(), list);
            if !self.answers.lists.contains(&name) {
                if may_lack {
                    continue;
                }
                return false;
            }
            if name.1.is_some_and(|datacenter| self.has_somebody(service, &datacenter)) {
                return true;
            }
        }
        true
    }

    /// What the start goes on with, and without which datacenters.
    pub(super) fn readiness(&self) -> String {
        let awaited = |service: &ServiceName| {
            let all = lists(&self.config, service);
            // Those behind one that has somebody to pick are not waited for.
            let first = all.iter().flatten().position(|list| self.has_somebody(service, list)).unwrap_or(all.len());
            let lacks = |list: &Option<Datacenter>| !self.answers.lists.contains(&(service.clone(), list.clone()));
            all.into_iter().take(first).filter(lacks).flatten().collect::<Vec<_>>()
        };
        let silent: BTreeSet<_> = self.config.services.keys().flat_map(awaited).collect();
        if !self.answers.is_late || silent.is_empty() {
            return "the first topology is known".to_owned();
        }
        let list = silent.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        format!(
            "the first topology is known, but for what datacenter {list} has, which has not answered within {}",
            Time(PATIENCE)
        )
    }

    fn has_somebody(&self, service: &ServiceName, datacenter: &Datacenter) -> bool {
        let accept = self.config.services.get(service).map(|table| &table.policy.accept);
        let accepts = |i: &Instance| i.weight > 0 && accept.is_some_and(|accept| accept.contains(&i.health));
        let mut all = self.topology.members(service).into_iter().flat_map(Members::instances);
        all.any(|instance| instance.datacenter == datacenter.as_str() && accepts(instance))
    }

    /// Lists that nobody has told yet.
    pub(super) fn untold(&self) -> Arc<BTreeSet<ListName>> {
        let untold = self.clusters.keys().flat_map(|service| {
            let told = self.topology.members(service).map(|members| &members.lists);
            let is_untold = move |list: &Option<Datacenter>| told.is_none_or(|told| !told.contains(list));
            lists(&self.config, service).into_iter().filter(is_untold).map(|list| (service.clone(), list))
        });
        untold.collect::<BTreeSet<_>>().into()
    }
}

/// How long a start waits for a datacenter that says nothing, not even that it cannot be reached.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
