//! What an earlier run has saved, in force until Consul has told it anew.

use std::{collections::BTreeSet, time::SystemTime};

use super::{Control, Dirty, wanted, wants::lists};
use crate::{
    discovery::{
        Change,
        saved::{Saved, Told},
    },
    model::topology::ListName,
    state::Source,
    telemetry::events::Event,
};

/// What is in force and was not told by Consul yet.
#[derive(Debug)]
pub struct Restored {
    at: SystemTime,
    /// Which services there are.
    catalog: bool,
    /// These.
    lists: BTreeSet<ListName>,
}

impl Control {
    /// Puts in force what was saved, as far as it is wanted now.
    pub(super) fn restore(&mut self, saved: Saved, dirty: &mut Dirty) {
        let (at, index) = (saved.at, saved.lists.index);
        let told = saved.tell(&wanted(&self.config));
        let restored = Restored { at, catalog: told.exposed.is_some(), lists: told.names().collect() };
        if restored.is_over() {
            return;
        }
        let Told { exposed, lists } = told;
        let instances: usize = lists.iter().map(|update| update.instances.len()).sum();
        let cause = format!(
            "until Consul answers, what it had said at {} is in force: {} services with {instances} instances",
            humantime::format_rfc3339_seconds(at),
            restored.lists.iter().map(|(service, _)| service).collect::<BTreeSet<_>>().len(),
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

    /// Consul has told a list, or which services there are.
    pub(super) fn told_anew(&mut self, list: Option<&ListName>) {
        let Some(restored) = &mut self.restored else { return };
        match list {
            Some(list) => drop(restored.lists.remove(list)),
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
        restored.lists.retain(|(service, datacenter)| {
            let table = config.services.get(service);
            match datacenter {
                Some(datacenter) => table.is_some_and(|table| table.datacenters().contains(datacenter)),
                None => table.map_or_else(|| exposures.contains(service), |table| table.datacenters().is_empty()),
            }
        });
        restored.catalog &= config.expose.is_some();
        if !restored.is_over() {
            return Source::Snapshot(restored.at);
        }
        self.restored = None;
        self.events.publish(Event::new("snapshot_superseded", "Consul has told anew all that the snapshot had"));
        Source::Consul
    }
}

impl Control {
    /// Whether what is in force is worth keeping. A datacenter that is away, and is only where the others have nothing to
    /// pick, does not hold the news of the others back: what it had said is kept with theirs.
    pub(super) fn is_worth_keeping(&self) -> bool {
        let beside = |(service, datacenter): &ListName| lists(&self.config, service).first() != Some(datacenter);
        let restored = self.restored.as_ref();
        self.ready && restored.is_none_or(|restored| !restored.catalog && restored.lists.iter().all(beside))
    }
}

impl Restored {
    fn is_over(&self) -> bool {
        !self.catalog && self.lists.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use tokio::{
        sync::{mpsc, watch},
        task::JoinSet,
        time::{Duration, timeout},
    };

    use super::*;
    use crate::{
        config::{Sources, load_from},
        control::{News, nothing},
        discovery::{
            Query,
            saved::{List, Lists},
        },
        model::topology::Update,
        state::world,
        telemetry::{events::Events, metrics::Metrics},
    };

    #[tokio::test(start_paused = true)]
    async fn what_is_told_anew_is_worth_keeping_in_whatever_order_it_comes() {
        let sets = vec!["services.web.datacenters=[\"dc1\", \"dc2\"]".to_owned()];
        let config = Arc::new(load_from(&Sources { files: Vec::new(), sets }, &BTreeMap::new()).unwrap());
        let list = |datacenter: &str| {
            let query = Query { consul: "web".into(), tag: None };
            List { query, datacenter: Some(datacenter.into()), instances: Vec::new() }
        };
        let lists = Lists { tag: Some("lictor".into()), services: vec![list("dc1"), list("dc2")], ..Lists::default() };
        let first = || {
            let (service, datacenter) = ("web".into(), Some("dc1".into()));
            let update = Update { service, datacenter, instances: Vec::new(), rejected: Vec::new() };
            News::Told(Change::Instances { update, index: 1 })
        };
        let catalog = || {
            let (services, clashes) = (BTreeMap::new(), BTreeSet::new());
            News::Told(Change::Exposed { services, clashes, index: 1 })
        };
        for order in [[first(), catalog()], [catalog(), first()]] {
            let (writer, mut reader) = world(nothing(config.clone()));
            let (wanted, _wanting) = watch::channel(wanted(&config));
            let (news, absorbed) = mpsc::channel(2);
            let control = Control::new(&config, writer, wanted, Metrics::new(1), Events::new());
            let saved = Saved { at: SystemTime::now(), lists: lists.clone() };
            let mut tasks = JoinSet::new();
            tasks.spawn(control.run(Some(saved), absorbed));
            while !reader.load().ready {
                assert!(reader.changed().await);
            }
            for told in order {
                assert!(!reader.load().keeps);
                news.send(told).await.unwrap();
                // Each is taken in for itself.
                tokio::task::yield_now().await;
            }
            // The second datacenter is away, and the lists of the first are to be kept all the same.
            let keeps = async {
                while !reader.load().keeps {
                    assert!(reader.changed().await);
                }
            };
            timeout(Duration::from_mins(1), keeps).await.unwrap();
        }
    }
}
