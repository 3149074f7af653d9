//! Every metric, declared once: name, kind, labels, help. The control plane counts here; what the request path counts
//! is in `cells` and read by `series` when somebody asks for the text.

use std::{sync::Arc, time::Duration};

use prometheus::{IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder, core::Desc, proto::MetricType};

use super::{
    cells::{Gauge, RouteCells, ServiceCells},
    instance::InstanceCells,
    series::{Series, Shared},
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
    /// What is running; always 1.
    BUILD_INFO: GAUGE[version] = "lictor_build_info";
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
    /// Requests answered.
    REQUEST: COUNTER[service, route, method, status] = "lictor_request_total";
    /// Seconds from the first byte of a request to the last byte of its answer, or its abort.
    REQUEST_DURATION: HISTOGRAM[service, route] = "lictor_request_duration_seconds";
    /// Seconds since Consul last answered.
    TOPOLOGY_AGE: GAUGE[] = "lictor_topology_age_seconds";
    /// Changes of a service's instances.
    TOPOLOGY_UPDATE: COUNTER[service, kind] = "lictor_topology_update_total";
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
    consul_request: IntCounterVec,
    consul_watches: IntGauge,
    instances: IntGaugeVec,
    reload: IntCounterVec,
    reload_success: IntGauge,
    topology_update: IntCounterVec,
}

impl Metrics {
    /// Metrics of a gateway with so many workers, that of the process among them.
    #[must_use]
    pub fn new(workers: usize) -> Arc<Self> {
        let metrics = Self::bare(workers);
        #[cfg(target_os = "linux")]
        register(&metrics.registry, prometheus::process_collector::ProcessCollector::for_self());
        Arc::new(metrics)
    }

    fn bare(workers: usize) -> Self {
        let registry = Registry::new();
        let series = Arc::new(Series::new(workers));
        register(&registry, Shared(Arc::clone(&series)));
        counters(&registry, &BUILD_INFO, IntGaugeVec::new).with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let metrics = Self {
            consul_request: counters(&registry, &CONSUL_REQUEST, IntCounterVec::new),
            consul_watches: counters(&registry, &CONSUL_WATCHES, IntGaugeVec::new).with_label_values::<&str>(&[]),
            instances: counters(&registry, &INSTANCES, IntGaugeVec::new),
            reload: counters(&registry, &CONFIG_RELOAD, IntCounterVec::new),
            reload_success: counters(&registry, &CONFIG_RELOAD_SUCCESS, IntGaugeVec::new)
                .with_label_values::<&str>(&[]),
            topology_update: counters(&registry, &TOPOLOGY_UPDATE, IntCounterVec::new),
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
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_else(|error| {
            tracing::error!(%error, "metrics cannot be written");
            String::new()
        })
    }

    /// The cells of a route. Two routes with equal labels share them.
    #[must_use]
    pub fn route(&self, service: &str, route: &str) -> Arc<RouteCells> {
        self.series.route(service, route)
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

    /// Consul has answered just now.
    pub fn consul_answered(&self) {
        self.series.age.answered();
    }

    /// What is in force was known so long ago, and Consul has not answered since.
    pub fn topology_known_since(&self, ago: Duration) {
        self.series.age.known(ago);
    }

    /// Since when what is known of Consul may be out of date; `None` without Consul.
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

    /// Drops what was counted of a service that nobody wants any more. Its cells go with their owners.
    pub fn forget_service(&self, service: &ServiceName) {
        // An error means that there was no such series.
        for state in STATES {
            _ = self.instances.remove_label_values(&[service.as_str(), state]);
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
mod tests {
    use http::{Method, StatusCode};

    use super::*;
    use crate::telemetry::cells::Outcome;

    fn lines<'t>(text: &'t str, start: &str) -> Vec<&'t str> {
        text.lines().filter(|line| line.starts_with(start)).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn all_metrics_are_written_as_prometheus_reads_them() {
        let metrics = Metrics::bare(2);
        let (route, service) = (metrics.route("users", "/u/{id}"), metrics.service("users"));
        let (instance, listener) = (metrics.instance("users", "10.0.0.7:8002"), metrics.listener("http"));
        route.count(0, &Method::GET, StatusCode::OK, Duration::from_millis(2));
        route.count(1, &Method::GET, StatusCode::OK, Duration::from_secs(45));
        route.count(1, &Method::POST, StatusCode::BAD_GATEWAY, Duration::from_micros(500));
        service.enter(1);
        service.took(0, Duration::from_millis(25));
        instance.outcome(0, Outcome::Success, Duration::from_millis(25));
        instance.outcome(1, Outcome::Timeout, Duration::from_secs(1));
        listener.up(0);
        metrics.consul_configured(true);
        metrics.consul_answered();
        tokio::time::advance(Duration::from_millis(1500)).await;
        metrics.consul_request("health_service", true);
        metrics.consul_watches().set(3);
        metrics.topology_update(&"users".into(), "joined");
        metrics.instances(&"users".into(), "available", 2);
        metrics.reload(false);
        let want = include_str!("golden.txt").replace("VERSION", env!("CARGO_PKG_VERSION"));
        assert_eq!(metrics.render(), want);
    }

    #[test]
    fn every_metric_is_named_and_explained_as_prometheus_wants() {
        for metric in ALL {
            let counter = metric.kind == MetricType::COUNTER;
            assert_eq!(metric.name.ends_with("_total"), counter, "{}", metric.name);
            assert!(metric.name.starts_with("lictor_") && metric.help().ends_with('.'), "{}", metric.name);
        }
    }

    #[test]
    fn the_process_is_among_the_metrics() {
        let text = Metrics::new(1).render();
        for name in ["process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"] {
            assert_eq!(lines(&text, name).len(), 1, "{name}");
        }
    }

    #[test]
    fn label_values_are_escaped() {
        let metrics = Metrics::bare(1);
        let _gauge = metrics.listener("a\"b\\c\nd");
        assert_eq!(lines(&metrics.render(), "lictor_conn"), [r#"lictor_connections{listener="a\"b\\c\nd"} 0"#]);
    }

    #[test]
    fn routes_with_equal_labels_are_one_series() {
        let metrics = Metrics::bare(1);
        let (one, other) = (metrics.route("users", "r"), metrics.route("users", "r"));
        one.count(0, &Method::GET, StatusCode::OK, Duration::ZERO);
        other.count(0, &Method::GET, StatusCode::OK, Duration::ZERO);
        drop(one);
        assert_eq!(
            lines(&metrics.render(), "lictor_request_total"),
            [r#"lictor_request_total{service="users",route="r",method="GET",status="200"} 2"#]
        );
    }

    #[test]
    fn series_leave_with_what_they_describe() {
        let metrics = Metrics::bare(1);
        let before = metrics.render();
        let cells =
            (metrics.route("s", "r"), metrics.service("s"), metrics.instance("s", "a:1"), metrics.listener("l"));
        cells.0.count(0, &Method::GET, StatusCode::OK, Duration::ZERO);
        cells.1.took(0, Duration::ZERO);
        cells.2.outcome(0, Outcome::Success, Duration::ZERO);
        let name = ServiceName::from("s");
        for state in STATES {
            metrics.instances(&name, state, 1);
        }
        for kind in UPDATES {
            metrics.topology_update(&name, kind);
        }
        assert_eq!(metrics.render().matches("service=\"s\"").count(), 1 + 18 + 1 + 18 + 5 + 5 + 3);
        drop(cells);
        metrics.forget_service(&name);
        assert_eq!(metrics.render(), before);
    }

    #[test]
    fn what_was_never_used_has_no_counts_but_a_known_service_has_nothing_in_flight() {
        let metrics = Metrics::bare(1);
        let _cells = (metrics.route("s", "r"), metrics.service("s"), metrics.instance("s", "a:1"));
        let text = metrics.render();
        let of_s: Vec<_> = text.lines().filter(|line| line.contains("service=\"s\"")).collect();
        assert_eq!(of_s, [r#"lictor_in_flight{service="s"} 0"#]);
    }

    #[tokio::test(start_paused = true)]
    async fn age_counts_from_the_last_answer_of_a_consul_that_there_is() {
        let metrics = Metrics::bare(1);
        assert_eq!(metrics.topology_age(), None);
        metrics.consul_configured(true);
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(metrics.topology_age(), Some(Duration::from_secs(5)));
        metrics.consul_answered();
        assert_eq!(metrics.topology_age(), Some(Duration::ZERO));
        metrics.consul_configured(false);
        assert_eq!(lines(&metrics.render(), "lictor_topology_age_seconds"), [""; 0]);
    }

    #[test]
    fn reloads_are_counted_and_the_last_one_shown() {
        let metrics = Metrics::bare(1);
        let shown = || lines(&metrics.render(), "lictor_config_reload").join(" ");
        let of = |success: u8, error: u8, total: u8| {
            format!(
                "lictor_config_reload_success {success} lictor_config_reload_total{{outcome=\"error\"}} {error} \
                 lictor_config_reload_total{{outcome=\"success\"}} {total}"
            )
        };
        assert_eq!(shown(), of(1, 0, 0));
        metrics.reload(false);
        assert_eq!(shown(), of(0, 1, 0));
        metrics.reload(true);
        assert_eq!(shown(), of(1, 1, 1));
    }
}
