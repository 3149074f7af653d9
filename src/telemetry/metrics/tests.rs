//! What stands in the text, and for how long.

use http::{Method, StatusCode};

use super::*;
use crate::telemetry::cells::Outcome;

fn lines<'t>(text: &'t str, start: &str) -> Vec<&'t str> {
    text.lines().filter(|line| line.starts_with(start)).collect()
}

#[tokio::test(start_paused = true)]
async fn all_metrics_are_written_as_prometheus_reads_them() {
    let metrics = Metrics::bare(2, Bounds::default());
    let (route, service) = (metrics.route("users", "/u/{id}"), metrics.service("users"));
    let (instance, listener) = (metrics.instance("users", "10.0.0.7:8002"), metrics.listener("http"));
    let circuit = metrics.circuit("users", "10.0.0.7:8002");
    route.count(0, &Method::GET, StatusCode::OK, Duration::from_millis(2));
    route.count(1, &Method::GET, StatusCode::OK, Duration::from_secs(45));
    route.count(1, &Method::POST, StatusCode::BAD_GATEWAY, Duration::from_micros(500));
    assert!(service.enter(1, 8));
    service.took(0, Duration::from_millis(25));
    instance.outcome(0, Outcome::Success, Duration::from_millis(25));
    instance.outcome(1, Outcome::Timeout, Duration::from_secs(1));
    listener.up(0);
    metrics.consul_configured(true);
    let contact = metrics.consul_contact();
    contact.follows(true);
    contact.answered();
    tokio::time::advance(Duration::from_millis(1500)).await;
    metrics.consul_request("health_service", true);
    metrics.consul_watches().set(3);
    metrics.topology_update(&"users".into(), "joined");
    metrics.instances(&"users".into(), "available", 2);
    circuit.show(2);
    metrics.circuit_transition(&"users".into(), "open");
    metrics.retry(&"users".into(), "reset");
    metrics.reload(false);
    let want = include_str!("../golden.txt").replace("VERSION", env!("CARGO_PKG_VERSION"));
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
    let metrics = Metrics::bare(1, Bounds::default());
    let _gauge = metrics.listener("a\"b\\c\nd");
    assert_eq!(lines(&metrics.render(), "lictor_conn"), [r#"lictor_connections{listener="a\"b\\c\nd"} 0"#]);
}

#[test]
fn routes_with_equal_labels_are_one_series() {
    let metrics = Metrics::bare(1, Bounds::default());
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
    let metrics = Metrics::bare(1, Bounds::default());
    let before = metrics.render();
    let cells = (metrics.route("s", "r"), metrics.service("s"), metrics.instance("s", "a:1"), metrics.listener("l"));
    let circuit = metrics.circuit("s", "a:1");
    cells.0.count(0, &Method::GET, StatusCode::OK, Duration::ZERO);
    cells.1.took(0, Duration::ZERO);
    cells.2.outcome(0, Outcome::Success, Duration::ZERO);
    let name = ServiceName::from("s");
    for state in STATES {
        metrics.instances(&name, state, 1);
    }
    for to in CIRCUITS {
        metrics.circuit_transition(&name, to);
    }
    for reason in RETRIES {
        metrics.retry(&name, reason);
    }
    for kind in UPDATES {
        metrics.topology_update(&name, kind);
    }
    assert_eq!(metrics.render().matches("service=\"s\"").count(), 1 + 18 + 1 + 18 + 5 + 5 + 3 + 3 + 1 + 5);
    drop((cells, circuit));
    metrics.forget_service(&name);
    assert_eq!(metrics.render(), before);
}

#[test]
fn what_was_never_used_has_no_counts_but_a_known_service_has_nothing_in_flight() {
    let metrics = Metrics::bare(1, Bounds::default());
    let _cells = (metrics.route("s", "r"), metrics.service("s"), metrics.instance("s", "a:1"));
    let text = metrics.render();
    let of_s: Vec<_> = text.lines().filter(|line| line.contains("service=\"s\"")).collect();
    assert_eq!(of_s, [r#"lictor_in_flight{service="s"} 0"#]);
}

#[tokio::test(start_paused = true)]
async fn age_counts_from_the_last_answer_of_a_consul_that_there_is() {
    let metrics = Metrics::bare(1, Bounds::default());
    assert_eq!(metrics.topology_age(), None);
    metrics.consul_configured(true);
    let contact = metrics.consul_contact();
    contact.follows(true);
    tokio::time::advance(Duration::from_secs(5)).await;
    assert_eq!(metrics.topology_age(), None, "it has never answered");
    contact.answered();
    assert_eq!(metrics.topology_age(), Some(Duration::ZERO));
    metrics.consul_configured(false);
    assert_eq!(lines(&metrics.render(), "lictor_topology_age_seconds"), [""; 0]);
}

#[test]
fn reloads_are_counted_and_the_last_one_shown() {
    let metrics = Metrics::bare(1, Bounds::default());
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

#[test]
fn a_new_circuit_is_shown_in_place_of_the_one_before() {
    let metrics = Metrics::bare(1, Bounds::default());
    let (old, new) = (metrics.circuit("s", "a:1"), metrics.circuit("s", "a:1"));
    old.show(2);
    let shown = || lines(&metrics.render(), "lictor_circuit_state").join(" ");
    assert_eq!(shown(), r#"lictor_circuit_state{service="s",instance="a:1"} 0"#);
    drop(new);
    assert_eq!(shown(), "");
}

#[test]
fn buckets_are_those_that_were_asked_for() {
    let bounds = Bounds::new(&[Duration::from_millis(1), Duration::from_secs(2)]).unwrap();
    let metrics = Metrics::bare(1, bounds);
    let cells = metrics.route("s", "r");
    cells.count(0, &Method::GET, StatusCode::OK, Duration::from_secs(1));
    let text = metrics.render();
    let shown: Vec<_> = lines(&text, "lictor_request_duration_seconds_bucket")
        .into_iter()
        .map(|line| line.rsplit_once("le=").unwrap().1)
        .collect();
    assert_eq!(shown, [r#""0.001"} 0"#, r#""2"} 1"#, r#""+Inf"} 1"#]);
}
