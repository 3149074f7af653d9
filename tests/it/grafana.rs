//! Dashboards: every panel says what it shows, and every query of it has data from a loaded gateway that a real Prometheus
//! scrapes. Alert rules are `alerts.rs`.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use serde_json::json;
use tokio::task::JoinSet;

use crate::support::{
    Consul, Gateway, Origin, PATIENCE, Prometheus,
    dashboards::{Dashboard, selectors},
    now, until,
};

/// Names of metrics, those that a histogram is made of among them.
type Names = BTreeSet<String>;

#[test]
fn every_panel_says_what_it_shows_and_how_it_is_measured() {
    let dashboards = Dashboard::all();
    let files: Vec<_> = dashboards.iter().map(|dashboard| dashboard.file.as_str()).collect();
    assert_eq!(files, ["lictor-consul.json", "lictor-overview.json", "lictor-service.json"]);
    let faults: Vec<_> = dashboards.iter().flat_map(Dashboard::faults).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn what_a_dashboard_lacks_is_named() {
    let asks = |uid: &str, expr: &str| json!([{ "datasource": { "uid": uid }, "expr": expr }]);
    let place = |x: u64| json!({ "x": x, "y": 0, "w": 4, "h": 4 });
    let good = json!({
        "id": 1, "type": "stat", "title": "Good", "description": "d", "datasource": { "uid": "$datasource" },
        "fieldConfig": { "defaults": { "unit": "s" } }, "gridPos": place(0),
        "targets": asks("$datasource", "rate(a[$__rate_interval])"),
    });
    let with = |changes: serde_json::Value| {
        let mut panel = good.clone();
        panel.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        panel
    };
    let dashboard = json!({
        "uid": "other", "id": 7, "title": "t", "templating": { "list": [{ "type": "query", "name": "q" }, { "name": "v" }] },
        "panels": [
            good,
            with(json!({ "id": 2, "title": "Bare", "description": " ", "fieldConfig": {}, "gridPos": place(4) })),
            with(json!({ "title": "Twin", "gridPos": place(8), "datasource": { "uid": "abc" } })),
            with(json!({ "id": 4, "title": "Fixed", "gridPos": place(11), "targets": asks("$datasource", "rate(a[5m])") })),
            with(json!({ "id": 5, "title": "Idle", "gridPos": place(16), "targets": [] })),
        ],
    });
    let faults = Dashboard::new("bad.json", &dashboard.to_string()).faults();
    assert_eq!(
        faults,
        [
            "bad.json: its `uid` is not the name of its file",
            "bad.json: it has an `id`, which is another one in each Grafana",
            "bad.json: no title or no description",
            "bad.json: its first variable is not `datasource`",
            "bad.json: the variable `v` does not ask `${datasource}`",
            "bad.json: the panel `Bare` has no description",
            "bad.json: the panel `Bare` has no unit",
            "bad.json: the panel `Twin` has the id of another one, or none",
            "bad.json: the panel `Twin` does not ask `${datasource}`",
            "bad.json: the panel `Fixed` looks back over `5m` in place of `$__rate_interval`: rate(a[5m])",
            "bad.json: the panel `Idle` asks for nothing",
            "bad.json: the panels `Twin` and `Fixed` lie over each other",
        ]
    );
}

#[tokio::test]
async fn every_query_of_every_panel_has_data_and_every_rule_can_be_evaluated() {
    let mut consul = Consul::start().await;
    let good = Origin::start("good").await;
    let bad = Origin::answering(|got| {
        // GET is tried again, POST is not.
        let status = if got.line().starts_with("GET") { 503 } else { 500 };
        format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n").into_bytes()
    })
    .await;
    for (service, id, address) in
        [("web", "web-1", good.address), ("web", "web-2", bad.address), ("users", "users-1", good.address)]
    {
        consul.register(service, id, address).await;
    }
    let rules = "[defaults]\nbalance = 'round_robin'\nbreaker = { open = '1s', max_open = '1s' }\n";
    let gateway = Gateway::start(&consul, rules).await;
    gateway.until_usable("web", 2).await;
    let prometheus = Prometheus::start(&[&gateway]).await;
    let mut load = JoinSet::new();
    load.spawn(ask_on(gateway.address));
    until("a retry and an open circuit", || async {
        let retried = gateway.metric_sum("lictor_retry_total", "").await > 0.0;
        (retried && !gateway.events("circuit_opened").is_empty()).then_some(())
    })
    .await;
    // Its absence is in the dashboards too, and takes nothing away.
    consul.kill().await;
    until("a request to Consul that failed", || async {
        (gateway.metric_sum("lictor_consul_request_total", r#"outcome="error""#).await > 0.0).then_some(())
    })
    .await;

    let names = names(&gateway.admin("/metrics").await.text);
    let mut faults = vec!["nothing was asked yet".to_owned()];
    let started = now();
    while !faults.is_empty() && started.elapsed() < PATIENCE * 3 {
        tokio::time::sleep(Duration::from_millis(500)).await; // one scrape
        faults.clear();
        for dashboard in Dashboard::all() {
            faults.extend(asked_in_vain(&dashboard, &prometheus, &names).await);
        }
        faults.extend(rules_in_vain(&prometheus, &names).await);
    }
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
    load.shutdown().await;
}

#[tokio::test]
async fn a_query_without_data_or_of_an_unknown_metric_is_named() {
    let gateway = Gateway::fixed("").await;
    let prometheus = Prometheus::start(&[&gateway]).await;
    until("the first scrape", || async {
        (!prometheus.query("lictor_build_info").await.unwrap().is_empty()).then_some(())
    })
    .await;
    let panels: Vec<_> = [
        ("Good", "lictor_build_info", "{{instance}} {{version}}"),
        ("Misspelt", "lictor_requests_total or vector(0)", ""),
        ("Foreign", "up", ""),
        ("Broken", "sum(lictor_build_info", ""),
        ("Empty", "lictor_build_info > 1", ""),
        ("Hidden", "lictor_build_info{version=\"}\"} or vector(0)", ""),
        ("Nameless", "sum(lictor_build_info)", "{{instance}}"),
        ("Endless", "sum(lictor_build_info) / 0", ""),
    ]
    .iter()
    .map(|(title, expr, legend)| json!({ "title": title, "targets": [{ "expr": expr, "legendFormat": legend }] }))
    .collect();
    let nowhere = json!([{
        "type": "query", "name": "where", "query": { "query": "label_values(lictor_build_info{a=\"b\"}, instance)" },
    }]);
    let text = json!({ "panels": panels, "templating": { "list": nowhere } }).to_string();
    let names = names(&gateway.admin("/metrics").await.text);

    let faults = asked_in_vain(&Dashboard::new("bad.json", &text), &prometheus, &names).await;

    let starts = [
        "bad.json: the variable `where` has no values",
        "bad.json: Misspelt: there is no metric `lictor_requests_total`",
        "bad.json: Foreign: names no metric of the gateway",
        "bad.json: Broken: ",
        "bad.json: Empty: no data",
        "bad.json: Hidden: no series is like `lictor_build_info{version=\"}\"}`",
        "bad.json: Nameless: its legend names `instance`, which an answer lacks",
        "bad.json: Endless: no number",
    ];
    assert_eq!(faults.len(), starts.len(), "{faults:#?}");
    for (fault, start) in faults.iter().zip(starts) {
        assert!(fault.starts_with(start), "{fault}");
    }
}

/// Asks on and on, for what succeeds, what fails and what is not there.
async fn ask_on(gateway: SocketAddr) {
    let client = crate::support::client();
    let url = |path: &str| format!("http://{gateway}{path}");
    loop {
        for request in [
            client.get(url("/api/v1/web/1")),
            client.post(url("/api/v1/web/")),
            client.get(url("/api/v1/users/1")),
            client.get(url("/nowhere")),
        ] {
            request.send().await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The names in Prometheus' text format.
fn names(metrics: &str) -> Names {
    let types = metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let parts = |(name, kind): (&str, &str)| match kind {
        "histogram" => ["_bucket", "_count", "_sum"].map(|part| format!("{name}{part}")).to_vec(),
        _ => vec![name.to_owned()],
    };
    types.flat_map(parts).collect()
}

/// What is wrong with a dashboard's queries, as Grafana would send them with `All` chosen everywhere.
async fn asked_in_vain(dashboard: &Dashboard, prometheus: &Prometheus, names: &Names) -> Vec<String> {
    let mut faults = Vec::new();
    let mut chosen = vec![("$__rate_interval".to_owned(), "10s".to_owned())];
    for (name, selector, label) in dashboard.variables() {
        match prometheus.label_values(&replaced(&selector, &chosen), &label).await {
            Ok(values) if values.is_empty() => {
                faults.push(format!("{}: the variable `{name}` has no values: {selector}", dashboard.file));
            }
            Ok(values) => {
                let values: Vec<_> = values.iter().map(|value| quoted(value)).collect();
                chosen.push((format!("${name}"), format!("({})", values.join("|"))));
            }
            Err(error) => faults.push(format!("{}: the variable `{name}`: {error}", dashboard.file)),
        }
    }
    for query in dashboard.queries() {
        let expr = replaced(&query.expr, &chosen);
        if let Some(what) = in_vain(&expr, &query.legend, prometheus, names).await {
            faults.push(format!("{}: {what}: {expr}", query.place));
        }
    }
    faults
}

async fn in_vain(expr: &str, legend: &[String], prometheus: &Prometheus, names: &Names) -> Option<String> {
    let answer = match prometheus.query(expr).await {
        Ok(answer) => answer,
        Err(error) => return Some(error),
    };
    let asked = selectors(expr, ours);
    if asked.is_empty() {
        return Some("names no metric of the gateway".into());
    }
    if let Some(what) = unknown(&asked, prometheus, names).await {
        return Some(what);
    }
    if answer.is_empty() {
        return Some("no data".into());
    }
    if !answer.iter().any(|sample| sample.value.is_finite()) {
        return Some("no number".into());
    }
    let lacked = legend.iter().find(|label| answer.iter().any(|sample| !sample.labels.contains_key(*label)))?;
    Some(format!("its legend names `{lacked}`, which an answer lacks"))
}

/// A metric that is not there, or one without a series that the query could mean: `or vector(0)` would hide both.
async fn unknown(selectors: &[String], prometheus: &Prometheus, names: &Names) -> Option<String> {
    for selector in selectors {
        let name = selector.split('{').next().unwrap_or_default();
        if !names.contains(name) {
            return Some(format!("there is no metric `{name}`"));
        }
        if prometheus.query(selector).await.is_ok_and(|series| series.is_empty()) {
            return Some(format!("no series is like `{selector}`"));
        }
    }
    None
}

/// What is wrong with the alert rules, as Prometheus has them.
async fn rules_in_vain(prometheus: &Prometheus, names: &Names) -> Vec<String> {
    let alerts = prometheus.alerts().await;
    assert!(alerts.len() >= 7, "{alerts:#?}");
    let mut faults = Vec::new();
    for alert in alerts {
        let (name, expr) = (alert["name"].as_str().unwrap(), alert["query"].as_str().unwrap());
        if alert["health"] != "ok" {
            faults.push(format!("{name}: {}", alert["lastError"]));
        }
        if let Some(what) = unknown(&selectors(expr, ours), prometheus, names).await {
            faults.push(format!("{name}: {what}"));
        }
    }
    faults
}

fn ours(name: &str) -> bool {
    name.starts_with("lictor_") || name.starts_with("process_")
}

fn replaced(text: &str, chosen: &[(String, String)]) -> String {
    chosen.iter().fold(text.to_owned(), |text, (variable, value)| text.replace(variable, value))
}

/// A value within a regular expression within a string of `PromQL`.
fn quoted(value: &str) -> String {
    let escape = |letter: char| match letter {
        letter if letter.is_alphanumeric() || "_-/: ".contains(letter) => letter.to_string(),
        letter => format!("\\\\{letter}"),
    };
    value.chars().map(escape).collect()
}
