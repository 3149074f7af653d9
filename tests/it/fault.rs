//! Consul at its worst: the last known state stays, it is told once, and news comes when Consul is well again.

use crate::support::{Consul, FakeConsul, Fault, Gateway, Origin, now, until};

#[tokio::test]
async fn a_consul_that_was_killed_and_comes_back_empty_with_a_lower_index_is_believed() {
    let mut consul = Consul::start().await;
    let (a, b) = (Origin::start("a").await, Origin::start("b").await);
    for round in 0..5 {
        consul.register("filler", &format!("f{round}"), b.address).await;
    }
    consul.register("web", "a", a.address).await;
    let gateway = Gateway::start(&consul, "").await;
    assert_eq!(gateway.get("/api/v1/web/").await.text, "a");

    consul.kill().await;
    gateway.until_event("consul_failed").await;
    for _ in 0..3 {
        assert_eq!(gateway.get("/api/v1/web/").await.text, "a");
    }
    assert_eq!(gateway.admin("/readyz").await.status, 200);

    consul.restart().await;
    consul.register("web", "b", b.address).await;
    until("the news of the new Consul", || async { (gateway.get("/api/v1/web/").await.text == "b").then_some(()) })
        .await;
    gateway.until_status("/api/v1/filler/", 404).await;
    assert_eq!(gateway.events("consul_returned").len(), 1);
}

#[tokio::test]
async fn while_consul_hangs_all_is_served_and_then_the_news_comes() {
    let consul = Consul::start().await;
    let (a, b) = (Origin::start("a").await, Origin::start("b").await);
    consul.register("web", "a", a.address).await;
    let gateway = Gateway::start(&consul, "").await;

    consul.stop();
    let before = gateway.admin("/api/topology").await.json()["age_seconds"].as_f64().unwrap();
    until("a growing age", || async {
        assert_eq!(gateway.get("/api/v1/web/").await.text, "a");
        let age = gateway.admin("/api/topology").await.json()["age_seconds"].as_f64().unwrap();
        (age > before + 1.0).then_some(())
    })
    .await;
    consul.resume();

    consul.register("web", "b", b.address).await;
    gateway.until_usable("web", 2).await;
}

#[tokio::test]
async fn every_fault_leaves_the_last_known_state_in_force_and_is_told_once() {
    let (a, b) = (Origin::start("a").await, Origin::start("b").await);
    for fault in [
        Fault::Status(403, "Permission denied"),
        Fault::Status(429, "slow down"),
        Fault::Status(500, "No cluster leader"),
        Fault::NoIndex,
        Fault::BadIndex,
        Fault::Html,
        Fault::Null,
        Fault::HalfBody,
    ] {
        let consul = FakeConsul::start(7, &[("a", a.address)]).await;
        let section = format!("[consul]\naddress = \"{}\"\n", consul.address());
        let gateway = Gateway::start_unready(&section, "").await;
        gateway.until_ready().await;
        assert_eq!(gateway.get("/api/v1/web/").await.text, "a", "{fault:?}");

        consul.fault(fault);
        gateway.until_event("consul_failed").await;
        let (requests, started) = (consul.count(), now());
        until("some seconds of it", || async {
            assert_eq!(gateway.get("/api/v1/web/").await.text, "a", "{fault:?}");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            (started.elapsed().as_secs() >= 2).then_some(())
        })
        .await;
        let asked = consul.count() - requests;
        assert!(asked <= 12, "{asked} requests in two seconds: {fault:?}");
        // One for the agent, or one each for the catalog and the service.
        let told = gateway.events("consul_failed").len();
        assert!(told <= 2, "told {told} times: {fault:?}");
        let metrics = gateway.admin("/metrics").await.text;
        assert!(
            metrics.lines().any(|l| l.starts_with("lictor_consul_request_total") && l.contains("error")),
            "{fault:?}"
        );

        // Back with a lower index: it is a Consul that has begun anew.
        consul.tell(3, &[("b", b.address)]);
        until("the news", || async { (gateway.get("/api/v1/web/").await.text == "b").then_some(()) }).await;
    }
}

#[tokio::test]
async fn an_index_that_rises_for_nothing_makes_no_hot_loop_and_hides_no_news() {
    let (a, b) = (Origin::start("a").await, Origin::start("b").await);
    // With a query for each service, and with shared ones.
    for more in ["", "max_watches = 2\n"] {
        let consul = FakeConsul::start(7, &[("a", a.address)]).await;
        let section = format!("[consul]\naddress = \"{}\"\n{more}", consul.address());
        let gateway = Gateway::start_unready(&section, "").await;
        gateway.until_ready().await;
        gateway.until_status("/api/v1/web/", 200).await;
        consul.fault(Fault::Rising);
        let (requests, started) = (consul.count(), now());
        tokio::time::sleep(std::time::Duration::from_secs(4)).await;
        let (asked, took) = (consul.count() - requests, started.elapsed());
        println!("an index that rises for nothing: {asked} requests in {took:?}");
        assert!(asked <= 10 + 5 * usize::try_from(took.as_secs()).unwrap(), "{asked} requests in {took:?}");
        assert!(gateway.events("consul_failed").is_empty());
        consul.tell_on(&[("b", b.address)]);
        until("the news", || async { (gateway.get("/api/v1/web/").await.text == "b").then_some(()) }).await;
    }
}

#[tokio::test]
async fn before_consul_was_ever_reached_nothing_is_said_to_be_missing() {
    let origin = Origin::start("a").await;
    let consul = FakeConsul::start(7, &[("a", origin.address)]).await;
    consul.fault(Fault::Silence);
    let section = format!("[consul]\naddress = \"{}\"\n", consul.address());
    let gateway = Gateway::start_unready(&section, "").await;

    assert_eq!(gateway.admin("/livez").await.status, 200);
    assert_eq!(gateway.admin("/readyz").await.status, 503);
    let answer = gateway.get("/api/v1/web/").await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (503, "1"));
    assert_eq!(gateway.get("/health").await.status, 503);
    assert_eq!(gateway.admin("/api/topology").await.json()["age_seconds"], serde_json::Value::Null);
    assert_eq!(gateway.metric("lictor_topology_age_seconds").await, None);
    let status = ["status", "--over", "0s", "--admin", &format!("http://{}", gateway.admin)];
    let said = gateway.command(&status, &[]).await;
    assert!(said.out.contains("topology from consul, which has not answered yet\n"), "{said:?}");

    consul.fault(Fault::None);
    gateway.until_ready().await;
    assert!(gateway.metric("lictor_topology_age_seconds").await.is_some());
    assert_eq!(gateway.get("/api/v1/web/").await.status, 200);
    assert_eq!(gateway.get("/nothing").await.status, 404);
}

#[tokio::test]
async fn an_error_of_a_reachable_agent_counts_as_an_answer() {
    let consul = FakeConsul::start(7, &[]).await;
    consul.fault(Fault::Status(403, "Permission denied"));
    let section = format!("[consul]\naddress = \"{}\"\n", consul.address());
    let gateway = Gateway::start_unready(&section, "").await;

    gateway.until_ready().await;

    assert_eq!(gateway.get("/api/v1/web/").await.status, 404);
}
