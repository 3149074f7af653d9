//! Agents in real trouble: without a majority of servers, with few connections, hung, and gone, with shared queries in play.

use std::time::Duration;

use serde_json::json;

use crate::support::{Consul, Gateway, Origin, PATIENCE, Servers, now, until};

#[tokio::test]
async fn without_a_majority_of_servers_all_is_served_and_then_the_news_comes() {
    let mut servers = Servers::start().await;
    let (a, b) = (Origin::start("a").await, Origin::start("b").await);
    let register = |id: &'static str, origin: &Origin| json!({ "ID": id, "Name": "web", "Address": "127.0.0.1", "Port": origin.address.port(), "Tags": ["lictor"] });
    servers.put("/v1/agent/service/register", &register("a", &a)).await;
    // With queries of their own, with shared ones, and such that the leader has to answer.
    let mut gateways = Vec::new();
    for more in ["", "max_watches = 2\n", "consistency = \"default\"\n"] {
        let section = format!("[consul]\naddress = \"{}\"\nwait = \"2s\"\n{more}", servers.address());
        let gateway = Gateway::start_unready(&section, "[services.table]\nconsul = \"web\"\n").await;
        gateway.until_usable("table", 1).await;
        gateways.push(gateway);
    }
    servers.kill(1).await;
    servers.kill(2).await;
    gateways[2].until_event("consul_failed").await;
    for gateway in &gateways {
        assert_eq!(gateway.usable("table").await, ["a"]);
        assert_eq!(gateway.get("/api/v1/table/").await.text, "a");
        assert_eq!(gateway.admin("/readyz").await.status, 200);
    }
    servers.run(1);
    servers.until_leader().await;
    servers.put("/v1/agent/service/register", &register("b", &b)).await;
    for gateway in &gateways {
        gateway.until_usable("table", 2).await;
    }
}

#[tokio::test]
async fn an_agent_that_allows_eight_connections_is_followed_with_fewer() {
    let consul = Consul::start_with(&["-hcl=limits { http_max_conns_per_client = 8 }"]).await;
    let (a, b) = (Origin::start("a").await, Origin::start("b").await);
    let services: Vec<_> = (0..40).map(|n| (format!("s{n}"), format!("s{n}-a"), a.address)).collect();
    consul.register_many("n0", &services).await;
    // What is taken back keeps its place until the agent has waited it out.
    let gateway = Gateway::start(&consul, "[consul]\nwait = \"2s\"\n").await;
    for n in 0..40 {
        gateway.until_status(&format!("/api/v1/s{n}/"), 200).await;
    }
    let started = now();
    loop {
        let before = gateway.metric_sum("lictor_consul_request_total", "").await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        if gateway.metric_sum("lictor_consul_request_total", "").await - before <= 8.0 {
            break;
        }
        assert!(started.elapsed() < PATIENCE, "it is asked without end");
    }
    // The calls of this test come from another address, which has room of its own.
    for n in [0, 20, 39] {
        until("a place for this test's own call", || async {
            let one = [(format!("s{n}"), format!("s{n}-b"), b.address)];
            consul.try_register_many("n0", &one).await.then_some(())
        })
        .await;
        gateway.until_usable(&format!("s{n}"), 2).await;
    }
    assert_eq!(gateway.admin("/readyz").await.status, 200);
}

#[tokio::test]
async fn those_that_share_outlive_a_consul_that_is_killed_or_hangs() {
    let mut consul = Consul::start().await;
    let (a, b) = (Origin::start("a").await, Origin::start("b").await);
    let all = |origin: &Origin| {
        let at = origin.address;
        (0..20).map(|n| (format!("s{n}"), format!("s{n}"), at)).collect::<Vec<_>>()
    };
    consul.register_many("n0", &all(&a)).await;
    let section = format!("[consul]\naddress = \"{}\"\nmax_watches = 3\n", consul.address());
    let gateway = Gateway::start_unready(&section, "").await;
    for n in 0..20 {
        gateway.until_status(&format!("/api/v1/s{n}/"), 200).await;
    }

    consul.stop();
    for n in 0..20 {
        assert_eq!(gateway.get(&format!("/api/v1/s{n}/")).await.text, "a");
    }
    consul.resume();
    consul.register_many("n0", &all(&b)).await;
    for n in 0..20 {
        until("the news", || async { (gateway.get(&format!("/api/v1/s{n}/")).await.text == "b").then_some(()) }).await;
    }

    consul.kill().await;
    gateway.until_event("consul_failed").await;
    for n in 0..20 {
        assert_eq!(gateway.get(&format!("/api/v1/s{n}/")).await.text, "b");
    }
    consul.restart().await;
    consul.register_many("n0", &all(&a)[..15]).await;
    for n in 0..20 {
        let path = format!("/api/v1/s{n}/");
        if n < 15 {
            until("the news", || async { (gateway.get(&path).await.text == "a").then_some(()) }).await;
        } else {
            gateway.until_status(&path, 404).await;
        }
    }
}
