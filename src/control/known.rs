//! How much is known: what counts as an answer at the start, and which lists nobody has told yet.

use std::{collections::BTreeSet, sync::Arc};

use super::{Control, wants::lists};
use crate::{
    config::{Origin, Service},
    consul,
    discovery::Part,
    model::{
        instance::Instance,
        name::{Datacenter, ServiceName},
        topology::{ListName, Members},
    },
    telemetry::events::Event,
};

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
            self.catalog_answered = true;
            self.document_answered |= part == Part::Agent;
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
                self.answered.insert((service, datacenter.cloned()));
            }
        }
    }

    /// Every wanted service answered once, and so did the catalog where tags expose services, and the KV that may have
    /// more configuration.
    pub(super) fn is_first_topology_known(&self) -> bool {
        if self.config.consul.is_none() {
            return true;
        }
        let catalog = self.config.expose.is_none() || self.catalog_answered;
        let services = self.config.services.keys().cloned().chain(self.exposures.services());
        catalog && !self.awaits_document() && services.into_iter().all(|service| self.is_answered(&service))
    }

    /// Whether the document in the KV is waited for: not where nothing else is, unless somebody asked for it.
    fn awaits_document(&self) -> bool {
        let key = self.config.consul.as_ref().and_then(|consul| consul.config.as_ref());
        let of_consul = |service: &Service| matches!(service.origin, Origin::Consul { .. });
        key.is_some_and(|key| {
            key.is_written || self.config.expose.is_some() || self.config.services.values().any(of_consul)
        }) && !self.document_answered
    }

    /// Whether a service's lists are known, as far as requests have need of them: once a datacenter has somebody to pick,
    /// those behind it need not be waited for.
    fn is_answered(&self, service: &ServiceName) -> bool {
        for list in lists(&self.config, service) {
            let name = (service.clone(), list);
            if !self.answered.contains(&name) {
                return false;
            }
            if name.1.is_some_and(|datacenter| self.has_somebody(service, &datacenter)) {
                return true;
            }
        }
        true
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
