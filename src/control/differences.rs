//! What is told of each difference between what was known and what a source tells.

use std::collections::HashMap;

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
    /// Counts them and tells of them, and why those left that have gone nowhere else.
    pub(super) fn report(&self, differences: &[Difference], gone: &str) {
        let others = differences.iter().filter(|difference| difference.kind != Kind::Left);
        let others: HashMap<_, _> = others.map(|difference| (&difference.instance, &difference.kind)).collect();
        for difference in differences {
            let left = match others.get(&difference.instance) {
                Some(Kind::Joined(_)) => "its id is registered at another address now".to_owned(),
                Some(Kind::Rejected(why)) => format!("no longer at an address of use: {why}"),
                _ => gone.to_owned(),
            };
            self.tell(difference, left);
        }
    }

    /// Why an instance is missing where a source tells of a service.
    pub(super) fn absence(&self, service: &ServiceName) -> String {
        let tag = match self.config.services.get(service).map(|table| &table.origin) {
            Some(Origin::Fixed(_)) => return "no longer in `instances`".to_owned(),
            Some(Origin::Dns(_)) => return "no longer among what DNS answers".to_owned(),
            Some(Origin::Consul { tag, .. }) => tag.as_ref(),
            None => self.config.expose.as_ref().map(|expose| &expose.tag),
        };
        let without = tag.map(|tag| format!(", or without the tag `{tag}`")).unwrap_or_default();
        format!("no longer registered{without}")
    }

    fn tell(&self, difference: &Difference, left: String) {
        let Difference { service, instance, kind } = difference;
        let (event, count, cause) = match kind {
            Kind::Joined(health) => ("instance_joined", Some("joined"), self.origin_of(service, *health)),
            Kind::Left => ("instance_left", Some("left"), left),
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
