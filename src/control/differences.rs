//! What is told of each difference between what was known and what a source tells.

use super::Control;
use crate::{
    config::Origin,
    model::{
        instance::Health,
        name::ServiceName,
        topology::{Difference, Kind},
    },
    telemetry::events::Event,
};

impl Control {
    /// Counts it and tells of it.
    pub(super) fn report(&self, difference: &Difference) {
        let Difference { service, instance, kind } = difference;
        let (event, count, cause) = match kind {
            Kind::Joined(health) => ("instance_joined", Some("joined"), self.origin_of(service, *health)),
            Kind::Left => ("instance_left", Some("left"), "no longer registered".to_owned()),
            Kind::Health(was, is) => {
                ("instance_changed", Some("changed"), format!("{} became {}", was.as_str(), is.as_str()))
            }
            Kind::Changed => ("instance_changed", Some("changed"), "registered anew with other data".to_owned()),
            Kind::Rejected(why) => ("instance_rejected", None, why.to_string()),
        };
        if let Some(kind) = count {
            self.metrics.topology_update(service, kind);
        }
        self.events.publish(Event::new(event, cause).service(service).instance(instance));
    }

    /// Where one that joins comes from.
    fn origin_of(&self, service: &ServiceName, health: Health) -> String {
        match self.config.services.get(service).map(|service| &service.origin) {
            Some(Origin::Fixed(_)) => "listed in the configuration".into(),
            Some(Origin::Dns(_)) => "found in DNS".into(),
            Some(Origin::Consul { .. }) | None => format!("registered, {}", health.as_str()),
        }
    }
}
