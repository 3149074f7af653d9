//! The only writer of what requests see: takes in lists from discovery and documents from reload, one after the other.

mod compile;
mod differences;
mod drained;
mod exposure;
pub mod keeper;
mod known;
pub mod kv;
pub mod lookout;
pub mod registrar;
pub mod reload;
mod restore;
pub mod survey;
mod switch;
mod wants;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use tokio::{
    select,
    sync::{mpsc, watch},
    time::{Instant, sleep},
};

pub use switch::{Switch, Turn, Unknown};
pub use wants::wanted;

use crate::{
    config::{Config, Origin},
    discovery::{Change, Wanted, fixed, saved::Saved},
    model::{
        instance::Instance,
        name::ServiceName,
        topology::{Members, Rejected, Topology, Update},
    },
    route::RouteTable,
    state::{Snapshot, Source, Writer},
    telemetry::{
        events::{Event, Events},
        metrics::Metrics,
    },
    upstream::cluster::Clusters,
};
use compile::{Conflict, Rosters};
use exposure::Exposures;
use known::Answers;
use restore::Restored;

/// What the writer takes in.
#[derive(Debug)]
pub enum News {
    /// From a source.
    Told(Change),
    /// A configuration that holds, read again.
    Document(Box<Config>),
    /// The KV has said whether it has a document, or that it cannot say.
    Consulted,
    /// From an operator.
    Switch(Switch),
}

/// The writer.
pub struct Control {
    config: Arc<Config>,
    topology: Topology,
    exposures: Exposures,
    rosters: Rosters,
    clusters: Arc<Clusters>,
    routes: Arc<RouteTable>,
    conflicts: Vec<Conflict>,
    answers: Answers,
    /// Names in Consul that carry the tag.
    carriers: Option<Arc<BTreeSet<String>>>,
    restored: Option<Restored>,
    /// Operators whose switches are not in force yet.
    waiting: Vec<switch::Waiting>,
    ready: bool,
    keeps: bool,
    source: Source,
    version: u64,
    index: u64,
    writer: Writer,
    wanted: watch::Sender<Wanted>,
    metrics: Arc<Metrics>,
    events: Arc<Events>,
}

/// What a change makes it necessary to build again.
#[derive(Debug, Default)]
struct Dirty {
    services: BTreeSet<ServiceName>,
    routes: bool,
}

/// The world before anything is known.
#[must_use]
pub fn nothing(config: Arc<Config>) -> Snapshot {
    Snapshot {
        version: 0,
        index: 0,
        ready: false,
        source: if config.consul.is_some() { Source::Consul } else { Source::Fixed },
        carriers: None,
        keeps: false,
        untold: Arc::default(),
        config,
        routes: Arc::new(RouteTable::build(Vec::new())),
        clusters: Arc::default(),
    }
}

impl Control {
    /// A writer that knows a configuration and nothing else.
    #[must_use]
    pub fn new(
        config: &Arc<Config>,
        writer: Writer,
        wanted: watch::Sender<Wanted>,
        metrics: Arc<Metrics>,
        events: Arc<Events>,
    ) -> Self {
        Self {
            config: config.clone(),
            topology: Topology::default(),
            exposures: Exposures::default(),
            rosters: Rosters::default(),
            clusters: Arc::default(),
            routes: Arc::new(RouteTable::build(Vec::new())),
            conflicts: Vec::new(),
            answers: Answers::default(),
            carriers: None,
            restored: None,
            waiting: Vec::new(),
            ready: false,
            keeps: false,
            source: Source::Fixed,
            version: 0,
            index: 0,
            writer,
            wanted,
            metrics,
            events,
        }
    }

    /// Takes in what comes until nobody sends any more, after what was saved. A burst becomes one snapshot.
    pub async fn run(mut self, saved: Option<Saved>, mut news: mpsc::Receiver<News>) {
        let config = self.config.clone();
        let mut dirty = self.adopt(&config);
        if let Some(saved) = saved {
            self.restore(saved, &mut dirty);
        }
        self.publish(&mut dirty);
        let patience = sleep(known::PATIENCE);
        tokio::pin!(patience);
        loop {
            select! {
                first = news.recv() => match first {
                    Some(first) => self.absorb(first, &mut dirty),
                    None => return,
                },
                () = &mut patience, if !self.ready && !self.answers.is_late => self.answers.is_late = true,
            }
            while let Ok(more) = news.try_recv() {
                self.absorb(more, &mut dirty);
            }
            self.publish(&mut dirty);
            switch::tell(&mut self.waiting);
        }
    }

    fn absorb(&mut self, news: News, dirty: &mut Dirty) {
        match news {
            News::Told(Change::Instances { update, index, .. }) => {
                self.index = self.index.max(index);
                let list = (update.service.clone(), update.datacenter.clone());
                self.told_anew(Some(&list));
                self.answers.lists.insert(list);
                self.told(update, dirty);
            }
            News::Told(Change::Exposed { services, clashes, index }) => {
                self.index = self.index.max(index);
                self.told_anew(None);
                self.answers.catalog = true;
                self.exposed(services, clashes, dirty);
            }
            News::Told(Change::Unreadable { service, entries }) => {
                for entry in entries {
                    let event = Event::new("instance_rejected", format!("cannot be read: {}", entry.why));
                    self.events.publish(event.service(&service).instance(&entry.id.into()));
                }
            }
            News::Told(Change::Failed { part, datacenter, error }) => self.failed(part, datacenter.as_ref(), &error),
            News::Told(Change::Returned { datacenter }) => {
                let who =
                    datacenter.map_or_else(|| "Consul's agent".to_owned(), |there| format!("datacenter `{there}`"));
                self.events.publish(Event::new("consul_returned", format!("{who} answers again")));
            }
            News::Told(Change::Unresolved { service, why }) => {
                self.events.publish(Event::new("dns_failed", why).service(&service));
                self.answers.lists.insert((service, None));
            }
            News::Told(Change::Resolved { service }) => {
                self.events.publish(Event::new("dns_returned", "DNS answers again").service(&service));
            }
            News::Document(config) => {
                let more = self.adopt(&Arc::new(*config));
                dirty.services.extend(more.services);
                dirty.routes = true;
            }
            News::Consulted => self.answers.document = true,
            News::Switch(switch) => self.switch(switch, dirty),
        }
    }

    /// Takes a full list in. The same list again changes nothing.
    fn told(&mut self, update: Update, dirty: &mut Dirty) {
        let service = update.service.clone();
        if !self.is_known(&service) || !wants::lists(&self.config, &service).contains(&update.datacenter) {
            return; // told before its watch heard that it is wanted no more
        }
        let (instances, barred) = compile::barred(&self.config).sort(update.instances);
        let mut rejected = update.rejected;
        let refuse = |(instance, why): (Instance, _)| {
            let Instance { id, datacenter, .. } = instance;
            Rejected { id, datacenter, why }
        };
        rejected.extend(barred.into_iter().map(refuse));
        let (differences, first) = self.topology.apply(Update { instances, rejected, ..update });
        if differences.is_empty() && !first {
            return;
        }
        self.report(&differences, &self.absence(&service));
        dirty.routes |= self.derive(&service);
        dirty.services.insert(service);
    }

    /// Whether any configuration or exposure is about this service.
    fn is_known(&self, service: &ServiceName) -> bool {
        self.config.services.contains_key(service) || self.exposures.contains(service)
    }

    /// Reads a service's tags anew; true when that changes the routes.
    fn derive(&mut self, service: &ServiceName) -> bool {
        let Some(expose) = &self.config.expose else { return false };
        let Some(members) = self.topology.members(service) else { return false };
        self.exposures.derive(service, members, expose, &self.events)
    }

    /// Takes in which services expose themselves.
    fn exposed(&mut self, services: BTreeMap<String, ServiceName>, clashes: BTreeSet<String>, dirty: &mut Dirty) {
        let carriers: BTreeSet<_> = services.keys().chain(&clashes).cloned().collect();
        self.carriers = Some(carriers.into());
        let turnover = self.exposures.set(services.into_values().collect(), clashes, &self.events);
        for service in turnover.gone {
            dirty.routes = true;
            if !self.config.services.contains_key(&service) {
                let gone = self.topology.empty(&service);
                self.report(&gone, "its service is no longer exposed by the tag of `[expose]`");
                self.forget(&service);
                dirty.services.insert(service);
            }
        }
        for service in turnover.come {
            // A configured service may be known already.
            if self.derive(&service) {
                dirty.routes = true;
                dirty.services.insert(service); // the tags may say what it speaks
            }
        }
    }

    /// Puts a configuration in force.
    fn adopt(&mut self, config: &Arc<Config>) -> Dirty {
        let mut dirty = Dirty { routes: true, ..Dirty::default() };
        dirty.services.extend(self.config.services.keys().chain(config.services.keys()).cloned());
        dirty.services.extend(self.clusters.keys().cloned());
        // One that comes from elsewhere now keeps its members until they are told from there.
        let gone = |name: &&ServiceName| !config.services.contains_key(*name) && !self.exposures.contains(name);
        let gone: Vec<_> = self.config.services.keys().filter(gone).cloned().collect();
        self.config = config.clone();
        for service in gone {
            self.forget(&service);
        }
        for (service, table) in config.services.iter().filter(|(_, table)| !table.datacenters().is_empty()) {
            let gone = self.topology.confine(service, table.datacenters());
            self.report(&gone, "its datacenter is no longer configured");
        }
        if config.expose.is_none() {
            self.exposed(BTreeMap::new(), BTreeSet::new(), &mut dirty);
            self.carriers = None;
        }
        for (service, table) in &config.services {
            if let Origin::Fixed(addresses) = &table.origin {
                self.answers.lists.insert((service.clone(), None));
                self.told(fixed::update(service, addresses, &config.deny), &mut dirty);
            }
        }
        for service in self.exposures.services() {
            self.derive(&service);
        }
        self.metrics.consul_configured(config.consul.is_some());
        self.wanted.send_if_modified(|before| {
            let now = wanted(config);
            let changed = *before != now;
            *before = now;
            changed
        });
        dirty
    }

    /// Builds what changed and swaps the world, once for all that was absorbed.
    fn publish(&mut self, dirty: &mut Dirty) {
        let before = (self.ready, self.source, self.keeps);
        self.source = self.origin();
        self.ready |= self.source.is_restored() || self.is_first_topology_known();
        self.keeps = self.is_worth_keeping();
        if dirty.services.is_empty() && !dirty.routes && before == (self.ready, self.source, self.keeps) {
            return;
        }
        let begins = self.ready && !before.0;
        if begins {
            self.events.publish(Event::new("ready", self.readiness()));
        }
        if !dirty.services.is_empty() {
            self.build_clusters(&dirty.services);
        }
        if dirty.routes {
            self.build_routes();
        }
        if self.ready && (dirty.routes || begins) {
            // Not before, when who claims the same path may not be known yet.
            let losers = self.conflicts.iter().map(|conflict| &conflict.service).collect();
            self.exposures.tell(&losers, &self.events);
        }
        *dirty = Dirty::default();
        self.version += 1;
        self.writer.publish(Snapshot {
            version: self.version,
            index: self.index,
            ready: self.ready,
            source: self.source,
            carriers: self.carriers.clone(),
            keeps: self.keeps,
            untold: self.untold(),
            config: self.config.clone(),
            routes: self.routes.clone(),
            clusters: self.clusters.clone(),
        });
    }

    fn build_clusters(&mut self, services: &BTreeSet<ServiceName>) {
        let mut clusters = Clusters::clone(&self.clusters);
        let now = Instant::now();
        let nobody = Members::default();
        for service in services {
            let before = clusters.remove(service);
            if !self.is_known(service) {
                if let Some(gone) = before {
                    compile::dissolve(&gone);
                }
                self.rosters.drained.forget(service);
                self.metrics.forget_service(service);
                continue;
            }
            if before.is_none() {
                self.metrics.meet_service(service);
            }
            let told = self.topology.members(service).unwrap_or(&nobody);
            let rules = compile::rules(&self.config, service, self.exposures.protocol(service), before.as_deref());
            let seen = (&self.metrics, &self.events);
            let cluster = compile::cluster(rules, told, before.as_deref(), &mut self.rosters, seen, now);
            for (state, n) in compile::census(&cluster) {
                self.metrics.instances(service, state, n);
            }
            clusters.insert(service.clone(), Arc::new(cluster));
        }
        self.clusters = Arc::new(clusters);
    }

    fn build_routes(&mut self) {
        let (routes, conflicts) = compile::routes(&self.config, &self.exposures.claims(), &self.metrics);
        for conflict in conflicts.iter().filter(|c| !self.conflicts.contains(c)) {
            let cause = format!("`{}` is served by `{}`, which was registered first", conflict.path, conflict.winner);
            self.events.publish(Event::new("route_conflict", cause).service(&conflict.service));
        }
        self.conflicts = conflicts;
        self.routes = Arc::new(RouteTable::build(routes));
    }
}

/// Claims by service, as `compile` takes them.
type Claims = BTreeMap<ServiceName, compile::Claim>;
