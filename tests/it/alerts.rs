//! Prometheus' side: its configuration, the alert rules and what `/metrics` says, by the judgement of promtool.

use std::{collections::BTreeSet, fs};

use serde_json::Value;

use crate::support::{
    Consul, Gateway, Origin,
    prometheus::{promtool, root},
    until,
};

#[tokio::test]
async fn promtool_finds_configuration_and_rules_in_order() {
    for args in [
        &["check", "config", "prometheus/prometheus.yml"][..],
        &["check", "rules", "--lint=all", "--lint-fatal", "prometheus/rules/lictor.yml"],
        &["test", "rules", "prometheus/tests/lictor.yml"],
    ] {
        let (fine, said) = promtool(args, "").await;
        assert!(fine, "promtool {}: {said}", args.join(" "));
    }
}

#[tokio::test]
async fn promtool_finds_the_metrics_of_a_used_gateway_in_order() {
    let consul = Consul::start().await;
    let origin = Origin::start("a").await;
    consul.register("web", "web-1", origin.address).await;
    let gateway = Gateway::start(&consul, "").await;
    gateway.until_usable("web", 1).await;
    gateway.get("/api/v1/web/1").await;
    gateway.get("/nowhere").await;
    until("both requests among the metrics", || async {
        (gateway.metric_sum("lictor_request_total", "").await >= 2.0).then_some(())
    })
    .await;

    let (fine, said) = promtool(&["check", "metrics"], &gateway.admin("/metrics").await.text).await;
    assert!(fine && said.trim().is_empty(), "{said}");
    let (fine, said) = promtool(&["check", "metrics"], "# TYPE a_total gauge\na_total 1\n").await;
    assert!(!fine && said.contains("a_total"), "{said}");
}

#[test]
fn every_alert_says_what_to_do_and_is_shown_to_fire_and_not_to_fire() {
    let rules = yaml("prometheus/rules/lictor.yml");
    let rules = rules["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap());
    let mut alerts = BTreeSet::new();
    for rule in rules {
        let alert = rule["alert"].as_str().unwrap();
        assert!(alerts.insert(alert.to_owned()), "{alert} is there twice");
        for text in [&rule["annotations"]["summary"], &rule["annotations"]["description"]] {
            assert!(text.as_str().is_some_and(|text| text.len() > 20), "{alert}: {text}");
        }
        assert!(["page", "ticket"].contains(&rule["labels"]["severity"].as_str().unwrap()), "{alert}");
    }
    let tests = yaml("prometheus/tests/lictor.yml");
    let tests = tests["tests"].as_array().unwrap().iter().flat_map(|test| test["alert_rule_test"].as_array().unwrap());
    let (mut fires, mut rests) = (BTreeSet::new(), BTreeSet::new());
    for test in tests {
        let alert = test["alertname"].as_str().unwrap().to_owned();
        let expected = test["exp_alerts"].as_array().is_some_and(|alerts| !alerts.is_empty());
        if expected { &mut fires } else { &mut rests }.insert(alert);
    }
    assert_eq!((&fires, &rests), (&alerts, &alerts));
}

fn yaml(path: &str) -> Value {
    serde_saphyr::from_str(&fs::read_to_string(root(path)).unwrap()).unwrap_or_else(|error| panic!("{path}: {error}"))
}
