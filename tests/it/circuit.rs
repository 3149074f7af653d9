//! Circuits from outside: who fails gets nothing for a while, and everybody can see it.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use crate::support::{Consul, Gateway, Origin, client, gateway::Answer, until};

/// Answers 500 as long as there are failures left, then 200 with its name.
async fn failing(name: &'static str, failures: usize) -> (Origin, Arc<AtomicUsize>) {
    let left = Arc::new(AtomicUsize::new(failures));
    let counter = left.clone();
    let origin = Origin::answering(move |_| {
        let failed = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
        let (status, text) = if failed { (500, "failed") } else { (200, name) };
        format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{text}", text.len()).into_bytes()
    })
    .await;
    (origin, left)
}

async fn post(gateway: &Gateway, path: &str) -> Answer {
    let response = client().post(format!("http://{}{path}", gateway.admin)).send().await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    Answer { status, headers, text: response.text().await.unwrap() }
}

async fn told(gateway: &Gateway, id: &str) -> serde_json::Value {
    let topology = gateway.admin("/api/topology").await.json();
    let instances = topology["services"]["web"]["instances"].as_array().unwrap();
    instances.iter().find(|instance| instance["id"] == id).unwrap().clone()
}

const BREAKER: &str =
    "[http]\nworkers = 2\n[defaults]\nbalance = 'round_robin'\nbreaker = { open = '1s', max_open = '1s' }\n";

#[tokio::test]
async fn who_fails_five_times_gets_one_request_in_each_open_time_until_it_is_well() {
    let consul = Consul::start().await;
    let (bad, left) = failing("bad", usize::MAX).await;
    let good = Origin::start("good").await;
    consul.register("web", "bad", bad.address).await;
    consul.register("web", "good", good.address).await;
    let gateway = Gateway::start(&consul, BREAKER).await;
    gateway.until_usable("web", 2).await;

    let mut failed = 0;
    while gateway.events("circuit_opened").is_empty() {
        failed += usize::from(gateway.get("/api/v1/web/").await.status == 500);
        assert!(failed <= 5, "{failed} failures");
    }
    let shown = told(&gateway, "bad").await;
    assert_eq!((&shown["circuit"], &shown["usable"]), (&"open".into(), &false.into()));
    assert!(shown["reason"].as_str().unwrap().contains("circuit is open"), "{shown}");
    let state = format!(r#"lictor_circuit_state{{service="web",instance="{}"}}"#, bad.address);
    assert_eq!(gateway.metric(&state).await, Some(2.0));
    for (state, count) in [("ejected", 1.0), ("available", 1.0)] {
        let series = format!(r#"lictor_instances{{service="web",state="{state}"}}"#);
        assert_eq!(gateway.metric(&series).await, Some(count), "{series}");
    }
    let event = &gateway.events("circuit_opened")[0];
    assert_eq!((&event["service"], &event["instance"]), (&"web".into(), &"bad".into()));
    assert!(event["cause"].as_str().unwrap().starts_with("5 failures in a row"), "{event}");

    // One request decides each time, though two workers have many.
    until("two probes", || async {
        gateway.get("/api/v1/web/").await;
        (gateway.events("circuit_opened").len() >= 3).then_some(())
    })
    .await;
    assert_eq!(bad.count(), 4 + gateway.events("circuit_opened").len());

    left.store(0, Ordering::Relaxed);
    until("a closed circuit", || async {
        assert_ne!(gateway.get("/api/v1/web/").await.text, "failed");
        (!gateway.events("circuit_closed").is_empty()).then_some(())
    })
    .await;
    let before = bad.count();
    for _ in 0..10 {
        gateway.get("/api/v1/web/").await;
    }
    assert_eq!(bad.count(), before + 5);
}

#[tokio::test]
async fn once_the_open_time_is_over_metrics_say_what_health_says_though_nobody_asks_anything() {
    let consul = Consul::start().await;
    let (bad, _) = failing("bad", usize::MAX).await;
    consul.register("web", "bad", bad.address).await;
    let gateway = Gateway::start(&consul, BREAKER).await;
    gateway.until_usable("web", 1).await;
    while gateway.events("circuit_opened").is_empty() {
        gateway.get("/api/v1/web/").await;
    }
    let asked = bad.count();
    for (state, count) in [("available", 1.0), ("ejected", 0.0)] {
        gateway.until_metric(&format!(r#"lictor_instances{{service="web",state="{state}"}}"#), count).await;
    }
    assert_eq!(gateway.get("/health").await.json()["services"]["web"], "healthy");
    assert_eq!(told(&gateway, "bad").await["usable"], true);
    assert_eq!(bad.count(), asked);
}

#[tokio::test]
async fn with_all_circuits_open_nothing_is_sent_and_the_answer_says_when_to_come_again() {
    let consul = Consul::start().await;
    let (bad, _) = failing("bad", 5).await;
    consul.register("web", "bad", bad.address).await;
    let gateway = Gateway::start(&consul, "[defaults]\nbreaker = { open = '1h', max_open = '1h' }\n").await;
    gateway.until_usable("web", 1).await;
    for _ in 0..5 {
        assert_eq!(gateway.get("/api/v1/web/").await.status, 500);
    }

    let answer = gateway.get("/api/v1/web/").await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (503, "3600"), "{}", answer.text);
    assert_eq!(answer.header("content-type"), "application/problem+json");
    let problem = answer.json();
    assert_eq!((&problem["error"], &problem["service"]), (&"Service temporarily unavailable".into(), &"web".into()));
    assert_eq!(bad.count(), 5);
    assert_eq!(gateway.get("/health").await.json()["services"]["web"], "unhealthy");

    // Neither news of the instance nor another configuration closes it.
    let registration = serde_json::json!({
        "Name": "web", "ID": "bad", "Address": "127.0.0.1", "Port": bad.address.port(), "Tags": ["lictor", "new"],
        "Weights": { "Passing": 7, "Warning": 1 },
    });
    consul.put("/v1/agent/service/register", &registration).await;
    until("the news", || async { (told(&gateway, "bad").await["weight"] == 7).then_some(()) }).await;
    gateway.configure("[defaults]\nbreaker = { consecutive = 9, open = '2h', max_open = '2h' }\n");
    gateway.until_event("reloaded").await;
    assert_eq!((gateway.get("/api/v1/web/").await.status.as_u16(), bad.count()), (503, 5));

    let answer = post(&gateway, "/api/services/web/instances/bad/reset").await;
    assert_eq!(
        answer.json(),
        serde_json::json!({ "service": "web", "instance": "bad", "circuit": "closed", "in_flight": 0 })
    );
    assert_eq!(gateway.get("/api/v1/web/").await.text, "bad");
    assert_eq!(gateway.until_event("circuit_closed").await["cause"], "closed by hand");
    assert_eq!(post(&gateway, "/api/services/web/instances/other/reset").await.status, 404);
}

#[tokio::test]
async fn which_answers_are_failures_can_be_said_and_those_of_clients_are_none() {
    let consul = Consul::start().await;
    let origin = Origin::answering(|got| {
        let status = got.line().split(['/', ' ']).find(|part| part.len() == 3 && part.starts_with(['4', '5']));
        format!("HTTP/1.1 {} X\r\ncontent-length: 0\r\n\r\n", status.unwrap()).into_bytes()
    })
    .await;
    consul.register("web", "a", origin.address).await;
    let gateway = Gateway::start(&consul, "[defaults]\nbreaker = { failure_status = [418, 500] }\n").await;
    gateway.until_usable("web", 1).await;
    for status in ["404", "503", "429"] {
        for _ in 0..10 {
            assert_eq!(gateway.get(&format!("/api/v1/web/{status}")).await.status.as_str(), status);
        }
    }
    assert!(gateway.events("circuit_opened").is_empty());
    for _ in 0..5 {
        assert_eq!(gateway.get("/api/v1/web/418").await.status, 418);
    }
    assert_eq!(gateway.get("/api/v1/web/418").await.status, 503);
}

#[tokio::test]
async fn no_change_of_what_consul_or_the_configuration_says_opens_closes_or_resets_a_circuit() {
    let consul = Consul::start().await;
    let (bad, _) = failing("bad", usize::MAX).await;
    let tagged = async |tags: &[&str]| consul.register_tagged("web", "bad", bad.address, tags).await;
    tagged(&["lictor"]).await;
    let rules = |more: &str| format!("[defaults]\nbreaker = {{ open = '1h', max_open = '1h' }}\n{more}\n");
    let gateway = Gateway::start(&consul, &rules("")).await;
    gateway.until_usable("web", 1).await;
    let changes = async |turn: usize| {
        let tag = format!("turn-{turn}");
        tagged(&["lictor", &tag]).await;
        until("the tags", || async { (told(&gateway, "bad").await["tags"][1] == tag.as_str()).then_some(()) }).await;
        let (balance, health) = (["random", "round_robin"][turn % 2], ["critical", "warning"][turn % 2]);
        gateway.configure(&rules(&format!(
            "balance = '{balance}'\naccept = ['passing', '{health}']\nmax_in_flight = 9{turn}"
        )));
        let key = |config: &serde_json::Value| config["defaults"]["balance"] == balance;
        until("the reload", || async { key(&gateway.admin("/api/config").await.json()).then_some(()) }).await;
        // Another instance comes and goes.
        consul.register("web", "other", bad.address).await;
        consul.deregister("other").await;
        gateway.until_usable("web", usize::from(turn == 0)).await;
    };
    for _ in 0..4 {
        assert_eq!(gateway.get("/api/v1/web/").await.status, 500);
    }
    changes(0).await;
    assert_eq!(told(&gateway, "bad").await["circuit"], "closed");
    // The fifth in a row, though so much has changed since the first.
    assert_eq!(gateway.get("/api/v1/web/").await.status, 500);
    let event = gateway.until_event("circuit_opened").await;
    assert!(event["cause"].as_str().unwrap().starts_with("5 failures in a row"), "{event}");
    changes(1).await;
    assert_eq!(told(&gateway, "bad").await["circuit"], "open");
    assert_eq!(gateway.get("/api/v1/web/").await.status, 503);
    assert_eq!((gateway.events("circuit_opened").len(), gateway.events("circuit_closed").len()), (1, 0));
    assert_eq!(bad.count(), 5);
}
