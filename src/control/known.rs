//! How much is known: what counts as an answer at the start, and of which services nobody has told yet.

use std::{collections::BTreeSet, sync::Arc};

use super::Control;
use crate::{consul, discovery::Part, model::name::ServiceName, telemetry::events::Event};

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

    /// Every wanted service answered once, and so did the catalog where tags expose services.
    pub(super) fn is_first_topology_known(&self) -> bool {
        if self.config.consul.is_none() {
            return true;
        }
        let catalog = self.config.expose.is_none() || self.catalog_answered;
        let services = self.config.services.keys().cloned().chain(self.exposures.services());
        catalog && services.into_iter().all(|service| self.answered.contains(&service))
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
