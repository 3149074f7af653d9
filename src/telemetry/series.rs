//! The series of living routes, services, instances and listeners, read out of their cells when metrics are asked for.
//! Cells are held weakly: what nobody counts in any more has no series.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use prometheus::{
    core::{Collector, Desc},
    proto::{self, LabelPair, Metric, MetricFamily},
};

use super::{
    age::Age,
    cells::{Gauge, RouteCells, ServiceCells},
    circuit::CircuitCells,
    histogram::{Bounds, Sum},
    instance::InstanceCells,
    metrics::{self, Declared},
    window::{Counts, WindowCells},
};
use crate::roster::Roster;

/// All living cells.
#[derive(Debug)]
pub struct Series {
    workers: usize,
    bounds: Arc<Bounds>,
    routes: Living<(String, String), RouteCells>,
    services: Living<String, ServiceCells>,
    instances: Living<(String, String), InstanceCells>,
    circuits: Living<(String, String), CircuitCells>,
    listeners: Living<String, Gauge>,
    pub(super) age: Age,
    descs: Vec<Desc>,
}

impl Series {
    pub(super) fn new(workers: usize, bounds: Bounds) -> Self {
        Self {
            workers,
            bounds: bounds.into(),
            routes: Living::default(),
            services: Living::default(),
            instances: Living::default(),
            circuits: Living::default(),
            listeners: Living::default(),
            age: Age::default(),
            descs: READ_HERE.iter().map(Declared::desc).collect(),
        }
    }

    pub(super) fn route(&self, service: &str, route: &str) -> Arc<RouteCells> {
        self.routes.adopt((service.into(), route.into()), || RouteCells::new(self.workers, self.bounds.clone()))
    }

    pub(super) fn service(&self, service: &str) -> Arc<ServiceCells> {
        self.services.adopt(service.into(), || ServiceCells::new(self.workers, self.bounds.clone()))
    }

    pub(super) fn instance(&self, service: &str, address: &str) -> Arc<InstanceCells> {
        self.instances.adopt((service.into(), address.into()), || InstanceCells::new(self.workers))
    }

    pub(super) fn circuit(&self, service: &str, address: &str) -> Arc<CircuitCells> {
        self.circuits.replace((service.into(), address.into()), CircuitCells::new(self.workers))
    }

    pub(super) fn window(&self) -> WindowCells {
        WindowCells::new(self.workers)
    }

    pub(super) fn listener(&self, name: &str) -> Arc<Gauge> {
        self.listeners.adopt(name.into(), || Gauge::new(self.workers))
    }

    pub(super) fn answered(&self) -> HashMap<String, Counts> {
        let mut services = HashMap::<String, Counts>::new();
        for ((service, _), cells) in self.routes.all() {
            let sum = services.entry(service).or_default();
            for (_, status, count) in cells.sums().iter() {
                sum.requests += count;
                sum.failures += if status / 100 == 5 { count } else { 0 };
            }
        }
        services
    }
}

/// What the registry holds.
pub struct Shared(pub Arc<Series>);

impl Collector for Shared {
    fn desc(&self) -> Vec<&Desc> {
        self.0.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.0.collect()
    }
}

impl Series {
    fn collect(&self) -> Vec<MetricFamily> {
        let [mut requests, mut durations] = [Family::new(&metrics::REQUEST), Family::new(&metrics::REQUEST_DURATION)];
        for ((service, route), cells) in self.routes.all() {
            for (method, status, count) in cells.sums().iter() {
                requests.counter(&[&service, &route, method, &status.to_string()], count);
            }
            durations.histogram(&[&service, &route], &cells.took_sum(), &self.bounds);
        }
        let [mut in_flight, mut took] = [Family::new(&metrics::IN_FLIGHT), Family::new(&metrics::UPSTREAM_DURATION)];
        for (service, cells) in self.services.all() {
            in_flight.gauge(&[&service], float(cells.in_flight()));
            took.histogram(&[&service], &cells.took_sum(), &self.bounds);
        }
        let mut outcomes = Family::new(&metrics::UPSTREAM_REQUEST);
        for ((service, address), cells) in self.instances.all() {
            for (outcome, count) in cells.outcomes().into_iter().flatten() {
                outcomes.counter(&[&service, &address, outcome.as_str()], count);
            }
        }
        let mut circuits = Family::new(&metrics::CIRCUIT_STATE);
        for ((service, address), cells) in self.circuits.all() {
            circuits.gauge(&[&service, &address], float(cells.shown()));
        }
        let mut connections = Family::new(&metrics::CONNECTIONS);
        for (listener, gauge) in self.listeners.all() {
            connections.gauge(&[&listener], float(gauge.value()));
        }
        let mut age = Family::new(&metrics::TOPOLOGY_AGE);
        if let Some(seconds) = self.age.read() {
            age.gauge(&[], seconds.as_secs_f64());
        }
        [circuits, requests, durations, in_flight, took, outcomes, connections, age].map(|f| f.0).into()
    }
}

/// What `collect` tells of.
const READ_HERE: [Declared; 8] = [
    metrics::CIRCUIT_STATE,
    metrics::CONNECTIONS,
    metrics::IN_FLIGHT,
    metrics::REQUEST,
    metrics::REQUEST_DURATION,
    metrics::TOPOLOGY_AGE,
    metrics::UPSTREAM_DURATION,
    metrics::UPSTREAM_REQUEST,
];

/// Cells by label values.
#[derive(Debug)]
struct Living<K, V>(Mutex<Roster<K, V>>);

impl<K: Clone + Eq + Hash, V> Living<K, V> {
    fn adopt(&self, key: K, make: impl FnOnce() -> V) -> Arc<V> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).adopt(key, make)
    }

    fn replace(&self, key: K, cells: V) -> Arc<V> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).replace(key, cells)
    }

    fn all(&self) -> Vec<(K, Arc<V>)> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.forget_dead();
        all.living().map(|(key, cells)| (key.clone(), cells)).collect()
    }
}

impl<K: Eq + Hash, V> Default for Living<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

/// A metric with its series.
struct Family(MetricFamily, &'static [&'static str]);

impl Family {
    fn new(declared: &Declared) -> Self {
        let mut family = MetricFamily::default();
        family.set_name(declared.name.into());
        family.set_help(declared.help().into());
        family.set_field_type(declared.kind);
        Self(family, declared.labels)
    }

    fn counter(&mut self, values: &[&str], count: u64) {
        let mut counter = proto::Counter::default();
        counter.set_value(float(count));
        self.add(values, |metric| metric.set_counter(counter));
    }

    fn gauge(&mut self, values: &[&str], value: f64) {
        let mut gauge = proto::Gauge::default();
        gauge.set_value(value);
        self.add(values, |metric| metric.set_gauge(gauge));
    }

    /// A histogram, if anything was ever counted in it.
    fn histogram(&mut self, values: &[&str], sum: &Sum, bounds: &Bounds) {
        if sum.count() == 0 {
            return;
        }
        let bucket = |(bound, count): (Duration, u64)| {
            let mut bucket = proto::Bucket::default();
            bucket.set_upper_bound(bound.as_secs_f64());
            bucket.set_cumulative_count(count);
            bucket
        };
        let mut histogram = proto::Histogram::default();
        histogram.set_bucket(sum.cumulative(bounds).map(bucket).collect());
        histogram.set_sample_count(sum.count());
        histogram.set_sample_sum(sum.total().as_secs_f64());
        self.add(values, |metric| metric.set_histogram(histogram));
    }

    fn add(&mut self, values: &[&str], set: impl FnOnce(&mut Metric)) {
        let pair = |(&name, &value): (&&str, &&str)| {
            let mut pair = LabelPair::default();
            pair.set_name(name.into());
            pair.set_value(value.into());
            pair
        };
        let mut metric = Metric::from_label(self.1.iter().zip(values).map(pair).collect());
        set(&mut metric);
        self.0.mut_metric().push(metric);
    }
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus has no other numbers")]
fn float(count: u64) -> f64 {
    count as f64
}
