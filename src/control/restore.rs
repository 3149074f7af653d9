//! What an earlier run has saved, in force until Consul has told it anew.

use std::{collections::BTreeSet, time::SystemTime};

use super::{Control, Dirty, wanted};
use crate::{
    discovery::{
        Change,
        saved::{Saved, Told},
    },
    model::name::ServiceName,
    state::Source,
    telemetry::events::Event,
};

/// What is in force and was not told by Consul yet.
#[derive(Debug)]
pub struct Restored {
    at: SystemTime,
    /// Which services there are.
    catalog: bool,
    /// The lists of these.
    services: BTreeSet<ServiceName>,
}

impl Control {
    /// Puts in force what was saved, as far as it is wanted now.
    pub(super) fn restore(&mut self, saved: Saved, dirty: &mut Dirty) {
        let (at, index) = (saved.at, saved.lists.index);
        let told = saved.tell(&wanted(&self.config));
        let restored = Restored { at, catalog: told.exposed.is_some(), services: told.services().cloned().collect() };
        if restored.is_over() {
            return;
        }
        let Told { exposed, lists } = told;
        let instances: usize = lists.iter().map(|update| update.instances.len()).sum();
        let cause = format!(
            "until Consul answers, what it had said at {} is in force: {} services with {instances} instances",
            humantime::format_rfc3339_seconds(at),
            restored.services.len(),
        );
        self.events.publish(Event::new("snapshot_restored", cause));
        self.index = index;
        if let Some(Change::Exposed { services, clashes, .. }) = exposed {
            self.exposed(services, clashes, dirty);
        }
        for update in lists {
            self.told(update, dirty);
        }
        self.metrics.topology_known_since(at.elapsed().unwrap_or_default());
        self.restored = Some(restored);
    }

    /// Consul has told the list of a service, or which services there are.
    pub(super) fn told_anew(&mut self, service: Option<&ServiceName>) {
        let Some(restored) = &mut self.restored else { return };
        match service {
            Some(service) => drop(restored.services.remove(service)),
            None => restored.catalog = false,
        }
    }

    /// Where what is in force comes from. Says so once all that was restored has been told anew, or is wanted no more.
    pub(super) fn origin(&mut self) -> Source {
        if self.config.consul.is_none() {
            return Source::Fixed;
        }
        let (config, exposures) = (&self.config, &self.exposures);
        let Some(restored) = &mut self.restored else { return Source::Consul };
        restored.services.retain(|name| config.services.contains_key(name) || exposures.contains(name));
        restored.catalog &= config.expose.is_some();
        if !restored.is_over() {
            return Source::Snapshot(restored.at);
        }
        self.restored = None;
        self.events.publish(Event::new("snapshot_superseded", "Consul has told anew all that the snapshot had"));
        Source::Consul
    }
}

impl Restored {
    fn is_over(&self) -> bool {
        !self.catalog && self.services.is_empty()
    }
}
