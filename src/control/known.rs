//! How much is known: what counts as an answer at the start, and of which services nobody has told yet.

use std::{collections::BTreeSet, sync::Arc};

use super::Control;
use crate::{
    config::{Origin, Service},
    consul,
    discovery::Part,
    model::name::ServiceName,
    telemetry::events::Event,
};

impl Control {
    /// What was told stays. An answer, if only an error, is enough not to wait for a better one at the start.
    pub(super) fn failed(&mut self, part: Part, error: &consul::Error) {
        let event = Event::new("consul_failed", error.causes());
        self.events.publish(if let Part::Service(service) = &part { event.service(service) } else { event });
        if !error.reachable() {
            return;
        }
        match part {
            // While it has no leader nothing else is asked, so this is the answer to all.
            Part::Agent => {
                self.catalog_answered = true;
                self.document_answered = true;
                self.answered.extend(self.config.services.keys().cloned());
            }
            Part::Catalog => self.catalog_answered = true,
            Part::Checks => {}
            Part::Shared => {
                self.answered.extend(self.config.services.keys().cloned().chain(self.exposures.services()));
            }
            Part::Service(service) => drop(self.answered.insert(service)),
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
        catalog && !self.awaits_document() && services.into_iter().all(|service| self.answered.contains(&service))
    }

    /// Whether the document in the KV is waited for: not where nothing else is, unless somebody asked for it.
    fn awaits_document(&self) -> bool {
        let key = self.config.consul.as_ref().and_then(|consul| consul.config.as_ref());
        let of_consul = |service: &Service| matches!(service.origin, Origin::Consul { .. });
        key.is_some_and(|key| {
            key.is_written || self.config.expose.is_some() || self.config.services.values().any(of_consul)
        }) && !self.document_answered
    }

    /// Services of which nobody has told the list yet.
    pub(super) fn untold(&self) -> Arc<BTreeSet<ServiceName>> {
        self.clusters
            .keys()
            .filter(|service| self.topology.members(service).is_none())
            .cloned()
            .collect::<BTreeSet<_>>()
            .into()
    }
}
