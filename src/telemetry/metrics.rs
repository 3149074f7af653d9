//! Every metric, declared once: name, kind, labels, help. The control plane counts here; what the request path counts
//! is in `cells` and read by `series` when somebody asks for the text.

use std::{collections::HashMap, sync::Arc, time::Duration};

use prometheus::{
    IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder, core::Desc, proto::MetricType,
};

use super::{
    age::Contact,
    cells::{Gauge, RouteCells, ServiceCells},
    circuit::CircuitCells,
    histogram::Bounds,
    instance::InstanceCells,
    series::{Series, Shared},
    standing::{Standing, Standings},
    window::{Counts, WindowCells},
};
use crate::model::name::ServiceName;

/// What a metric is called and what it means.
#[derive(Debug)]
pub struct Declared {
    /// Its full name.
    pub name: &'static str,
    /// Counter, gauge or histogram.
    pub kind: MetricType,
    /// Its labels, in the order that values are given in.
    pub labels: &'static [&'static str],
    help: &'static str,
}

macro_rules! metrics {
    ($(#[doc = $help:literal] $id:ident: $kind:ident [$($label:ident),*] = $name:literal;)*) => {
        $(
            #[doc = $help]
            pub const $id: Declared = Declared {
                name: $name,
                kind: MetricType::$kind,
                labels: &[$(stringify!($label)),*],
                help: $help,
            };
        )*

        /// All of them but those of the process.
        #[cfg(test)]
        pub const ALL: &[Declared] = &[$($id),*];
    };
}

metrics! {
    /// Lines of the access log that were not written: its file did not take them, or not as fast as they came.
    ACCESS_LOG_DROPPED: COUNTER[] = "lictor_access_log_dropped_total";
    /// What is running; always 1.
    BUILD_INFO: GAUGE[version] = "lictor_build_info";
    /// How an instance's circuit is: 0 closed, 1 half-open, 2 open.
    CIRCUIT_STATE: GAUGE[service, instance] = "lictor_circuit_state";
    /// Changes of the circuits of a service, by what they came to be.
    CIRCUIT_TRANSITION: COUNTER[service, to] = "lictor_circuit_transition_total";
    /// Times the configuration was read again.
    CONFIG_RELOAD: COUNTER[outcome] = "lictor_config_reload_total";
    /// Whether the configuration as it was last read is in force.
    CONFIG_RELOAD_SUCCESS: GAUGE[] = "lictor_config_reload_success";
    /// Open client connections.
    CONNECTIONS: GAUGE[listener] = "lictor_connections";
    /// Requests to the Consul agent. A wait that timed out is a success.
    CONSUL_REQUEST: COUNTER[endpoint, outcome] = "lictor_consul_request_total";
    /// Blocking queries held at the Consul agent.
    CONSUL_WATCHES: GAUGE[] = "lictor_consul_watches";
    /// Requests under way to a service.
    IN_FLIGHT: GAUGE[service] = "lictor_in_flight";
    /// Instances of a service, by what may be done with them.
    INSTANCES: GAUGE[service, state] = "lictor_instances";
    /// Lines of the program's log that were not written: standard error did not take them, or not as fast as they came.
    LOG_DROPPED: COUNTER[] = "lictor_log_dropped_total";
    /// Requests answered.
    REQUEST: COUNTER[service, route, method, status] = "lictor_request_total";
    /// Seconds from the first byte of a request to the last byte of its answer, or its abort.
    REQUEST_DURATION: HISTOGRAM[service, route] = "lictor_request_duration_seconds";
    /// Tries of requests beyond the first, by what the one before came to.
    RETRY: COUNTER[service, reason] = "lictor_retry_total";
    /// Seconds since Consul last answered, in the datacenter where that is longest. Left out before it ever has.
    TOPOLOGY_AGE: GAUGE[] = "lictor_topology_age_seconds";
    /// Changes of a service's instances.
    TOPOLOGY_UPDATE: COUNTER[service, kind] = "lictor_topology_update_total";
    /// Spans that were not sent: the collector did not take them, or not as fast as they came.
    TRACE_DROPPED: COUNTER[] = "lictor_trace_dropped_total";
    /// Seconds from the first byte sent to an instance to the last byte of its answer, or its abort.
    UPSTREAM_DURATION: HISTOGRAM[service] = "lictor_upstream_duration_seconds";
    /// Requests to instances, by how they ended.
    UPSTREAM_REQUEST: COUNTER[service, instance, outcome] = "lictor_upstream_request_total";
}

/// All metrics of the gateway.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    series: Arc<Series>,
    access_log_dropped: IntCounter,
    circuit_transition: IntCounterVec,
    consul_request: IntCounterVec,
    consul_watches: IntGauge,
    instances: IntGaugeVec,
    log_dropped: IntCounter,
    reload: IntCounterVec,
    reload_success: IntGauge,
    retry: IntCounterVec,
    standings: Standings,
    topology_update: IntCounterVec,
    trace_dropped: IntCounter,
}

impl Metrics {
    /// Metrics of a gateway with so many workers, that of the process among them.
    #[must_use]
    pub fn new(workers: usize) -> Arc<Self> {
        Self::bounded(workers, Bounds::default())
    }

    /// The same, with these bounds of its histograms.
    #[must_use]
    pub fn bounded(workers: usize, bounds: Bounds) -> Arc<Self> {
        let metrics = Self::bare(workers, bounds);
        #[cfg(target_os = "linux")]
        register(&metrics.registry, super::process::Process::own());
        Arc::new(metrics)
    }

    fn bare(workers: usize, bounds: Bounds) -> Self {
        let registry = Registry::new();
        let series = Arc::new(Series::new(workers, bounds));
        register(&registry, Shared(Arc::clone(&series)));
        counters(&registry, &BUILD_INFO, IntGaugeVec::new).with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let instances = counters(&registry, &INSTANCES, IntGaugeVec::new);
        let metrics = Self {
            access_log_dropped: counters(&registry, &ACCESS_LOG_DROPPED, IntCounterVec::new)
                .with_label_values::<&str>(&[]),
            circuit_transition: counters(&registry, &CIRCUIT_TRANSITION, IntCounterVec::new),
            consul_request: counters(&registry, &CONSUL_REQUEST, IntCounterVec::new),
            consul_watches: counters(&registry, &CONSUL_WATCHES, IntGaugeVec::new).with_label_values::<&str>(&[]),
            standings: Standings::new(instances.clone()),
            instances,
            log_dropped: counters(&registry, &LOG_DROPPED, IntCounterVec::new).with_label_values::<&str>(&[]),
            reload: counters(&registry, &CONFIG_RELOAD, IntCounterVec::new),
            reload_success: counters(&registry, &CONFIG_RELOAD_SUCCESS, IntGaugeVec::new)
                .with_label_values::<&str>(&[]),
            retry: counters(&registry, &RETRY, IntCounterVec::new),
            topology_update: counters(&registry, &TOPOLOGY_UPDATE, IntCounterVec::new),
            trace_dropped: counters(&registry, &TRACE_DROPPED, IntCounterVec::new).with_label_values::<&str>(&[]),
            series,
            registry,
        };
        // A rate over a counter that comes into being at 1 misses the first event.
        for ok in [true, false] {
            metrics.reload.with_label_values(&[outcome(ok)]).reset();
        }
        // The gateway would not run had its first configuration been refused.
        metrics.reload_success.set(1);
        metrics
    }

    /// Everything in Prometheus' text format.
    #[must_use]
    pub fn render(&self) -> String {
        self.standings.refresh();
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_else(|error| {
            tracing::error!(%error, "metrics cannot be written");
            String::new()
        })
    }

    /// Counts lines of the access log that are lost.
    #[must_use]
    pub fn access_log_dropped(&self) -> &IntCounter {
        &self.access_log_dropped
    }

    /// Counts lines of the program's log that are lost.
    #[must_use]
    pub fn log_dropped(&self) -> &IntCounter {
        &self.log_dropped
    }

    /// Counts spans that are lost.
    #[must_use]
    pub fn trace_dropped(&self) -> &IntCounter {
        &self.trace_dropped
    }

    /// The cells of a route. Two routes with equal labels share them.
    #[must_use]
    pub fn route(&self, service: &str, route: &str) -> Arc<RouteCells> {
        self.series.route(service, route)
    }

    /// What each service's routes that are in force have answered, and how much of it with a status of 5xx.
    #[must_use]
    pub fn answered(&self) -> HashMap<String, Counts> {
        self.series.answered()
    }

    /// The cells of a service.
    #[must_use]
    pub fn service(&self, service: &str) -> Arc<ServiceCells> {
        self.series.service(service)
    }

    /// The cells of an instance, by its `address:port`.
    #[must_use]
    pub fn instance(&self, service: &str, address: &str) -> Arc<InstanceCells> {
        self.series.instance(service, address)
    }

    /// The cells of a new circuit of an instance, in place of those of an earlier one.
    #[must_use]
    pub fn circuit(&self, service: &str, address: &str) -> Arc<CircuitCells> {
        self.series.circuit(service, address)
    }

    /// Counts a change of a circuit: to one of [`CIRCUITS`].
    pub fn circuit_transition(&self, service: &ServiceName, to: &str) {
        debug_assert!(CIRCUITS.contains(&to), "{to}");
        self.circuit_transition.with_label_values(&[service.as_str(), to]).inc();
    }

    /// Counts of the last minute, for whoever decides by them.
    #[must_use]
    pub fn window(&self) -> WindowCells {
        self.series.window()
    }

    /// Counts one more try of a request, for one of [`RETRIES`].
    pub fn retry(&self, service: &ServiceName, reason: &str) {
        debug_assert!(RETRIES.contains(&reason), "{reason}");
        self.retry.with_label_values(&[service.as_str(), reason]).inc();
    }

    /// The open connections of a listener.
    #[must_use]
    pub fn listener(&self, name: &str) -> Arc<Gauge> {
        self.series.listener(name)
    }

    /// Counts a request to the Consul agent.
    pub fn consul_request(&self, endpoint: &str, ok: bool) {
        self.consul_request.with_label_values(&[endpoint, outcome(ok)]).inc();
    }

    /// Blocking queries held at the moment.
    #[must_use]
    pub fn consul_watches(&self) -> &IntGauge {
        &self.consul_watches
    }

    /// Says whether there is a Consul to be in touch with; without one there is no age.
    pub fn consul_configured(&self, configured: bool) {
        self.series.age.configured(configured);
    }

    /// When one more datacenter of Consul answers, for as long as this is held.
    #[must_use]
    pub fn consul_contact(&self) -> Arc<Contact> {
        self.series.age.contact()
    }

    /// What is in force was known so long ago, and Consul has not answered since.
    pub fn topology_known_since(&self, ago: Duration) {
        self.series.age.known(ago);
    }

    /// Since when what is known of Consul may be out of date; `None` without Consul, and before it has ever answered.
    #[must_use]
    pub fn topology_age(&self) -> Option<Duration> {
        self.series.age.read()
    }

    /// Counts a change of a service's instances: one of [`UPDATES`].
    pub fn topology_update(&self, service: &ServiceName, kind: &str) {
        debug_assert!(UPDATES.contains(&kind), "{kind}");
        self.topology_update.with_label_values(&[service.as_str(), kind]).inc();
    }

    /// Says how many instances of a service are in a state, one of [`STATES`].
    pub fn instances(&self, service: &ServiceName, state: &str, n: usize) {
        debug_assert!(STATES.contains(&state), "{state}");
        self.instances.with_label_values(&[service.as_str(), state]).set(i64::try_from(n).unwrap_or(i64::MAX));
    }

    /// Says how the circuits of a service's instances are: how many of these may be picked is worked out when it is asked for.
    pub fn standing(&self, service: &ServiceName, standing: Standing) {
        self.standings.set(service, standing);
    }

    /// Begins to count the events of a service, at zero: a rate over a counter that comes into being at 1 misses the first.
    pub fn meet_service(&self, service: &ServiceName) {
        for to in CIRCUITS {
            _ = self.circuit_transition.with_label_values(&[service.as_str(), to]);
        }
        for reason in RETRIES {
            _ = self.retry.with_label_values(&[service.as_str(), reason]);
        }
        for kind in UPDATES {
            _ = self.topology_update.with_label_values(&[service.as_str(), kind]);
        }
    }

    /// Drops what was counted of a service that nobody wants any more. Its cells go with their owners.
    pub fn forget_service(&self, service: &ServiceName) {
        // An error means that there was no such series.
        for state in STATES {
            _ = self.instances.remove_label_values(&[service.as_str(), state]);
        }
        for to in CIRCUITS {
            _ = self.circuit_transition.remove_label_values(&[service.as_str(), to]);
        }
        for reason in RETRIES {
            _ = self.retry.remove_label_values(&[service.as_str(), reason]);
        }
        for kind in UPDATES {
            _ = self.topology_update.remove_label_values(&[service.as_str(), kind]);
        }
    }

    /// Counts a reload, and whether its configuration is in force.
    pub fn reload(&self, ok: bool) {
        self.reload.with_label_values(&[outcome(ok)]).inc();
        self.reload_success.set(ok.into());
    }
}

/// What an instance may be counted as.
pub const STATES: [&str; 5] = ["available", "unhealthy", "ejected", "draining", "rejected"];

/// How a circuit may be.
pub const CIRCUITS: [&str; 3] = ["closed", "half_open", "open"];

/// What a request may be tried again after.
pub const RETRIES: [&str; 5] = ["connect", "reset", "refused_stream", "timeout", "status"];

/// What may happen to the instances of a service.
pub const UPDATES: [&str; 3] = ["joined", "left", "changed"];

impl Declared {
    /// What it means, in a sentence.
    #[must_use]
    pub fn help(&self) -> &'static str {
        self.help.trim_start()
    }

    #[expect(clippy::expect_used, reason = "names and labels are constants, and a test makes all of them")]
    pub(super) fn desc(&self) -> Desc {
        let labels = self.labels.iter().map(ToString::to_string).collect();
        Desc::new(self.name.into(), self.help().into(), labels, [].into()).expect("valid names")
    }
}

fn outcome(ok: bool) -> &'static str {
    if ok { "success" } else { "error" }
}

#[expect(clippy::expect_used, reason = "names and labels are constants, and a test makes all of them")]
fn counters<V: prometheus::core::Collector + Clone + 'static>(
    registry: &Registry,
    declared: &Declared,
    new: impl Fn(Opts, &[&str]) -> prometheus::Result<V>,
) -> V {
    let made = new(Opts::new(declared.name, declared.help()), declared.labels).expect("valid names");
    register(registry, made.clone());
    made
}

#[expect(clippy::expect_used, reason = "each name is registered once, and a test registers all")]
fn register(registry: &Registry, collector: impl prometheus::core::Collector + 'static) {
    registry.register(Box::new(collector)).expect("registered once");
}

#[cfg(test)]
mod tests;
