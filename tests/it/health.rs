//! What Consul says of an instance's health, and what that does to its traffic.

use serde_json::Value;

use crate::support::{Consul, Gateway, Origin};

#[tokio::test]
async fn a_critical_instance_gets_nothing_and_a_warning_one_is_used() {
    let consul = Consul::start().await;
    let (a, b) = (Origin::start("a").await, Origin::start("b").await);
    consul.register_checked("web", "a", a.address).await;
    consul.register_checked("web", "b", b.address).await;
    let gateway = Gateway::start(&consul, "[defaults]\nbalance = \"round_robin\"\n").await;
    gateway.until_usable("web", 2).await;

    consul.check("a", "fail").await;
    gateway.until_usable("web", 1).await;
    for _ in 0..6 {
        assert_eq!(gateway.get("/api/v1/web/").await.text, "b");
    }

    consul.check("a", "warn").await;
    gateway.until_usable("web", 2).await;
    let mut texts = [gateway.get("/api/v1/web/").await.text, gateway.get("/api/v1/web/").await.text];
    texts.sort();
    assert_eq!(texts, ["a", "b"]);
}

#[tokio::test]
async fn a_service_without_a_usable_instance_is_503_with_retry_after() {
    let consul = Consul::start().await;
    let origin = Origin::start("a").await;
    consul.register_checked("web", "a", origin.address).await;
    let gateway = Gateway::start(&consul, "").await;
    assert_eq!(gateway.get("/health").await.status, 200);

    consul.check("a", "fail").await;

    let answer = gateway.until_status("/api/v1/web/", 503).await;
    assert_eq!(answer.header("retry-after"), "1");
    let problem = answer.json();
    assert_eq!((&problem["status"], &problem["service"]), (&503.into(), &"web".into()));
    assert_eq!(problem["request_id"], answer.header("x-request-id"));
    let health = gateway.get("/health").await;
    assert_eq!(health.status, 503);
    assert_eq!(health.text, r#"{"gateway":"healthy","services":{"web":"unhealthy"}}"#);
    let topology = gateway.admin("/api/topology").await.json();
    let instance = &topology["services"]["web"]["instances"][0];
    assert_eq!((&instance["usable"], &instance["health"]), (&false.into(), &"critical".into()));
    assert!(instance["reason"].as_str().unwrap().contains("critical"));
}

#[tokio::test]
async fn maintenance_of_a_service_or_its_node_takes_instances_out() {
    let consul = Consul::start().await;
    let (a, b) = (Origin::start("a").await, Origin::start("b").await);
    consul.register("web", "a", a.address).await;
    consul.register("web", "b", b.address).await;
    let gateway = Gateway::start(&consul, "").await;
    gateway.until_usable("web", 2).await;

    consul.put("/v1/agent/service/maintenance/a?enable=true&reason=test", &Value::Null).await;
    gateway.until_usable("web", 1).await;
    assert_eq!(gateway.usable("web").await, ["b"]);
    let topology = gateway.admin("/api/topology").await.json();
    let instances = topology["services"]["web"]["instances"].as_array().unwrap();
    assert!(instances.iter().any(|i| i["id"] == "a" && i["health"] == "maintenance"), "{topology}");

    consul.put("/v1/agent/maintenance?enable=true", &Value::Null).await;
    gateway.until_usable("web", 0).await;
    gateway.until_status("/api/v1/web/", 503).await;

    consul.put("/v1/agent/maintenance?enable=false", &Value::Null).await;
    consul.put("/v1/agent/service/maintenance/a?enable=false", &Value::Null).await;
    gateway.until_usable("web", 2).await;
}

#[tokio::test]
async fn accept_says_which_health_is_good_enough() {
    let consul = Consul::start().await;
    let origin = Origin::start("a").await;
    consul.register_checked("web", "a", origin.address).await;
    let config = "[services.web]\naccept = [\"passing\"]\n";
    let gateway = Gateway::start(&consul, config).await;
    gateway.until_usable("web", 1).await;

    consul.check("a", "warn").await;

    gateway.until_usable("web", 0).await;
    gateway.until_metric(r#"lictor_instances{service="web",state="unhealthy"}"#, 1.0).await;
}

#[tokio::test]
async fn instances_at_one_address_are_one_member_usable_when_any_of_them_is() {
    let consul = Consul::start().await;
    let origin = Origin::start("a").await;
    consul.register_checked("web", "a", origin.address).await;
    consul.register_checked("web", "b", origin.address).await;
    consul.check("b", "fail").await;
    let gateway = Gateway::start(&consul, "").await;

    gateway.until_usable("web", 2).await;

    assert_eq!(gateway.get("/api/v1/web/").await.text, "a");
    gateway.until_metric(r#"lictor_instances{service="web",state="available"}"#, 1.0).await;
    gateway.until_metric(r#"lictor_instances{service="web",state="unhealthy"}"#, 0.0).await;
}

#[tokio::test]
async fn one_id_on_two_nodes_at_one_address_is_one_member_usable_when_either_is() {
    // A host that has come back under another name, while its old node is not forgotten yet.
    let consul = Consul::start().await;
    let origin = Origin::start("a").await;
    let registered = [("web".to_owned(), "web".to_owned(), origin.address)];
    for (node, status) in [("a-old", "critical"), ("b-new", "passing")] {
        consul.register_many(node, &registered).await;
        consul.check_on(node, "", status).await;
    }
    let gateway = Gateway::start(&consul, "").await;
    gateway.until_usable("web", 2).await;
    assert_eq!(gateway.get("/api/v1/web/").await.text, "a");
    let topology = gateway.admin("/api/topology").await.json();
    let instances = topology["services"]["web"]["instances"].as_array().unwrap();
    let told: Vec<_> = instances.iter().map(|i| ["id", "node", "health"].map(|key| i[key].as_str().unwrap())).collect();
    assert_eq!(told, [["web", "a-old", "critical"], ["web", "b-new", "passing"]]);

    consul.check_on("b-new", "", "critical").await;
    gateway.until_status("/api/v1/web/", 503).await;
    consul.check_on("a-old", "", "passing").await;
    gateway.until_status("/api/v1/web/", 200).await;
    consul.deregister_on("b-new", "web").await;
    gateway.until_usable("web", 1).await;
    assert_eq!(gateway.get("/api/v1/web/").await.text, "a");
}

#[tokio::test]
async fn the_report_can_be_read_alone() {
    let gateway = Gateway::fixed("").await;
    let answer = gateway.send(http::Method::POST, "/health", &[], "x").await;
    assert_eq!((answer.status.as_u16(), answer.header("allow")), (405, "GET, HEAD"));
}

#[tokio::test]
async fn what_was_refused_is_counted_by_its_own_method() {
    let gateway = Gateway::fixed("").await;
    gateway.raw(b"no request\r\n\r\n").await;
    gateway.raw(b"TRACE / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    for (method, status) in [("_OTHER", 400), ("TRACE", 501)] {
        let series =
            format!(r#"lictor_request_total{{service="none",route="none",method="{method}",status="{status}"}}"#);
        gateway.until_metric(&series, 1.0).await;
    }
}

#[tokio::test]
async fn in_panic_critical_instances_are_used_as_long_as_there_is_no_other() {
    let consul = Consul::start().await;
    let (a, b) = (Origin::start("a").await, Origin::start("b").await);
    consul.register_checked("web", "a", a.address).await;
    consul.register_checked("web", "b", b.address).await;
    let gateway = Gateway::start(&consul, "[defaults]\npanic = true\nbalance = 'round_robin'\n").await;
    gateway.until_usable("web", 2).await;

    consul.check("a", "fail").await;
    gateway.until_usable("web", 1).await;
    consul.check("b", "fail").await;
    gateway.until_usable("web", 2).await;
    let mut texts = [gateway.get("/api/v1/web/").await.text, gateway.get("/api/v1/web/").await.text];
    texts.sort();
    assert_eq!(texts, ["a", "b"]);
    assert_eq!(gateway.get("/health").await.status, 200);
    let topology = gateway.admin("/api/topology").await.json();
    for instance in topology["services"]["web"]["instances"].as_array().unwrap() {
        assert_eq!((&instance["usable"], &instance["health"]), (&true.into(), &"critical".into()));
        assert!(instance["reason"].as_str().unwrap().contains("no other"), "{instance}");
    }
    for (state, count) in [("available", 2.0), ("unhealthy", 0.0)] {
        gateway.until_metric(&format!(r#"lictor_instances{{service="web",state="{state}"}}"#), count).await;
    }

    // One that is well has all of it again.
    consul.check("b", "pass").await;
    gateway.until_usable("web", 1).await;
    for _ in 0..4 {
        assert_eq!(gateway.get("/api/v1/web/").await.text, "b");
    }
    // What an operator took out, and what is in maintenance, is not used even so.
    consul.check("b", "fail").await;
    gateway.until_usable("web", 2).await;
    consul.put("/v1/agent/service/maintenance/a?enable=true", &Value::Null).await;
    gateway.until_usable("web", 1).await;
    assert_eq!(gateway.get("/api/v1/web/").await.text, "b");
}
