//! What is told of each difference between what was known and what a source tells.

use super::Control;
use crate::{
    model::topology::{Difference, Kind},
    telemetry::events::Event,
};

impl Control {
    /// Counts it and tells of it.
    pub(super) fn report(&self, difference: &Difference) {
        let Difference { service, instance, kind } = difference;
        let (event, count, cause) = match kind {
            Kind::Joined(health) => ("instance_joined", Some("joined"), format!("registered, {}", health.as_str())),
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
}
