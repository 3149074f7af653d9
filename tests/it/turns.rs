//! Whose turn it is: `round_robin` over all workers, by Consul's weights.

use std::collections::BTreeMap;

use http::Method;
use serde_json::json;

use crate::support::{Consul, Gateway, Origin};

const EXACT: &str = "[http]\nworkers = 2\n[defaults]\nbalance = \"round_robin\"\n";

/// Each request on a connection of its own, so that all workers get some.
async fn answers(gateway: &Gateway, count: usize) -> BTreeMap<String, usize> {
    let mut answers = BTreeMap::new();
    for _ in 0..count {
        let answer = gateway.send(Method::GET, "/api/v1/web/", &[("connection", "close")], "").await;
        assert_eq!(answer.status, 200);
        *answers.entry(answer.text).or_default() += 1;
    }
    answers
}

#[tokio::test]
async fn turns_are_exact_over_all_workers_and_a_third_instance_shares_at_once() {
    let consul = Consul::start().await;
    let (a, b, c) = (Origin::start("a").await, Origin::start("b").await, Origin::start("c").await);
    consul.register("web", "a", a.address).await;
    consul.register("web", "b", b.address).await;
    let gateway = Gateway::start(&consul, EXACT).await;
    gateway.until_usable("web", 2).await;
    assert_eq!(answers(&gateway, 40).await, [("a".into(), 20), ("b".into(), 20)].into());

    consul.register("web", "c", c.address).await;
    gateway.until_usable("web", 3).await;
    assert_eq!(answers(&gateway, 60).await, [("a".into(), 20), ("b".into(), 20), ("c".into(), 20)].into());
}

#[tokio::test]
async fn weights_are_those_of_consul_in_the_health_of_the_moment() {
    let consul = Consul::start().await;
    let (a, b) = (Origin::start("a").await, Origin::start("b").await);
    for (id, address, passing) in [("a", a.address, 3), ("b", b.address, 1)] {
        let registration = json!({
            "ID": id, "Name": "web", "Address": address.ip(), "Port": address.port(), "Tags": ["lictor"],
            "Weights": { "Passing": passing, "Warning": 1 }, "Check": { "TTL": "1h", "Status": "passing" },
        });
        consul.put("/v1/agent/service/register", &registration).await;
    }
    let gateway = Gateway::start(&consul, EXACT).await;
    gateway.until_usable("web", 2).await;
    assert_eq!(answers(&gateway, 40).await, [("a".into(), 30), ("b".into(), 10)].into());

    consul.check("a", "warn").await;
    crate::support::until("the weight of a warning", || async {
        let topology = gateway.admin("/api/topology").await.json();
        let instances = topology["services"]["web"]["instances"].as_array()?.clone();
        instances.iter().any(|i| i["id"] == "a" && i["weight"] == 1).then_some(())
    })
    .await;
    assert_eq!(answers(&gateway, 40).await, [("a".into(), 20), ("b".into(), 20)].into());
}

#[tokio::test]
async fn an_instance_that_refuses_connections_costs_no_request() {
    let consul = Consul::start().await;
    let (a, gone) = (Origin::start("a").await, Origin::start("gone").await);
    let nobody = gone.address;
    drop(gone);
    consul.register("web", "a", a.address).await;
    consul.register("web", "gone", nobody).await;
    let gateway = Gateway::start(&consul, "").await;
    gateway.until_usable("web", 2).await;

    for method in [Method::GET, Method::POST] {
        for _ in 0..4 {
            let answer = gateway.send(method.clone(), "/api/v1/web/", &[], "").await;
            assert_eq!((answer.status.as_u16(), answer.text.as_str()), (200, "a"));
        }
    }
    let series =
        format!(r#"lictor_upstream_request_total{{service="web",instance="{nobody}",outcome="connect_error"}}"#);
    assert!(gateway.metric(&series).await >= Some(1.0), "{}", gateway.admin("/metrics").await.text);
}
