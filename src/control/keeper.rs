//! Keeps what Consul has said on disk, for a start without it. What the file looks like is `discovery::saved`.

use std::{path::PathBuf, sync::Arc, time::SystemTime};

use tokio::{
    select,
    sync::oneshot,
    task::spawn_blocking,
    time::{Duration, sleep},
};

use super::wants;
use crate::{
    config::{Config, Origin},
    discovery::{
        Query,
        saved::{self, Asked, Document, Kept, List, Lists, Saved},
    },
    model::name::{Datacenter, ServiceName},
    state::{Reader, Snapshot, Source},
    telemetry::{
        events::{Event, Events},
        metrics::Metrics,
    },
};

/// Keeps one file.
pub struct Keeper {
    path: PathBuf,
    reader: Reader,
    metrics: Arc<Metrics>,
    events: Arc<Events>,
    /// What was written last.
    written: Option<Vec<u8>>,
    /// Why the last one could not be written.
    failed: Option<String>,
}

/// Reads what an earlier run has kept, and says where to keep it from now on: nowhere, where the file is not ours.
#[must_use]
pub fn open(config: &Config, events: &Events) -> (Option<Saved>, Option<PathBuf>) {
    let Some(consul) = &config.consul else { return (None, None) };
    let Some(path) = consul.snapshot.clone() else { return (None, None) };
    match Saved::read(&path, &asked(consul)) {
        Ok(saved) => (saved, Some(path)),
        Err(error) => {
            events.publish(Event::new("snapshot_refused", error.to_string()));
            (None, error.is_ours().then_some(path))
        }
    }
}

impl Keeper {
    /// Keeps what is known in this file.
    #[must_use]
    pub fn new(path: PathBuf, reader: Reader, metrics: Arc<Metrics>, events: Arc<Events>) -> Self {
        Self { path, reader, metrics, events, written: None, failed: None }
    }

    /// Writes what changes, and once more at the end.
    pub async fn run(mut self, mut end: oneshot::Receiver<()>) {
        loop {
            let failed = self.failed.is_some();
            select! {
                biased;
                _ = &mut end => break,
                more = self.reader.changed() => if !more { break },
                () = sleep(RETRY), if failed => {}
            }
            // What follows within this is one change.
            select! {
                _ = &mut end => break,
                () = sleep(INTERVAL) => {}
            }
            self.keep(false).await;
        }
        // Consul may have said since that nothing has changed.
        self.keep(true).await;
    }

    async fn keep(&mut self, anyhow: bool) {
        let world = self.reader.load();
        // What is not from Consul is no news to the file, and what is not whole must not take the place of what is.
        if world.source == Source::Fixed || !world.keeps || !is_whole(&world) {
            return;
        }
        let at = SystemTime::now() - self.metrics.topology_age().unwrap_or_default();
        let (path, before) = (self.path.clone(), self.written.take());
        let task = spawn_blocking(move || {
            let body = lists(&world).encode().map_err(|error| (None, error))?;
            if anyhow || before.as_ref() != Some(&body) {
                saved::write(&path, at, &body).map_err(|error| (before, error))?;
            }
            Ok(body)
        });
        match task.await {
            Ok(Ok(body)) => {
                self.written = Some(body);
                self.failed = None;
            }
            Ok(Err((before, error))) => {
                self.written = before;
                let cause = format!("`{}` cannot be written: {error}", self.path.display());
                if self.failed.as_ref() != Some(&cause) {
                    self.events.publish(Event::new("snapshot_failed", cause.clone()));
                }
                self.failed = Some(cause);
            }
            Err(error) => tracing::error!(%error, "the snapshot was not written"),
        }
    }
}

/// Whose lists are asked for.
fn asked(consul: &crate::config::Consul) -> Asked {
    Asked { datacenter: consul.datacenter.clone(), namespace: consul.namespace.clone() }
}

/// Whether Consul has told which services there are, and the list of one of them at least.
fn is_whole(world: &Snapshot) -> bool {
    let catalog = world.config.expose.is_none() || world.carriers.is_some();
    let wants = world.clusters.keys().any(|service| query(&world.config, service).is_some());
    let told = world.clusters.keys().any(|service| !told(world, service).is_empty());
    catalog && (told || !wants)
}

fn lists(world: &Snapshot) -> Lists {
    let services = world.clusters.iter().filter_map(|(service, cluster)| {
        let query = query(&world.config, service)?;
        let all = || cluster.members.iter().flat_map(|member| member.instances.iter());
        let list = |datacenter: Option<Datacenter>| {
            let here = all().filter(|instance| datacenter.as_ref().is_none_or(|d| d.as_str() == instance.datacenter));
            let instances = here.map(Kept::new).collect();
            List { query: query.clone(), datacenter, instances }
        };
        Some(told(world, service).into_iter().map(list).collect::<Vec<_>>())
    });
    let mut services: Vec<_> = services.flatten().collect();
    services.sort_unstable_by(|a, b| (&a.query, &a.datacenter).cmp(&(&b.query, &b.datacenter)));
    Lists {
        asked: world.config.consul.as_ref().map(asked).unwrap_or_default(),
        index: world.index,
        tag: world.config.expose.as_ref().map(|expose| expose.tag.clone()),
        carriers: world.carriers.as_deref().cloned().unwrap_or_default(),
        services,
        document: world.config.stored.as_ref().map(|stored| Document {
            key: stored.key.clone(),
            // It was read as TOML, so nothing is lost.
            text: String::from_utf8_lossy(&stored.text).into_owned(),
        }),
    }
}

/// The lists of a service that have been told.
fn told(world: &Snapshot, service: &ServiceName) -> Vec<Option<Datacenter>> {
    let mut lists = wants::lists(&world.config, service);
    lists.retain(|list| !world.untold.contains(&(service.clone(), list.clone())));
    lists
}

/// What Consul is asked about a service; nothing where it comes from elsewhere.
fn query(config: &Config, service: &ServiceName) -> Option<Query> {
    match config.services.get(service).map(|service| &service.origin) {
        Some(Origin::Consul { name, tag, .. }) => Some(Query { consul: name.clone(), tag: tag.clone() }),
        Some(Origin::Fixed(_) | Origin::Dns(_)) => None,
        None => {
            Some(Query { consul: service.to_string(), tag: config.expose.as_ref().map(|expose| expose.tag.clone()) })
        }
    }
}

const INTERVAL: Duration = Duration::from_secs(1);
const RETRY: Duration = Duration::from_secs(30);
