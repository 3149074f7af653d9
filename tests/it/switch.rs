//! Instances that an operator takes out and puts back.

use http::Method;
use tokio::{io::AsyncWriteExt, sync::watch};

use crate::support::{Consul, Gateway, Origin, client, gateway::Answer, until};

/// POST on the admin listener.
async fn post(gateway: &Gateway, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = client().post(format!("http://{}{path}", gateway.admin));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    Answer { status, headers, text: response.text().await.unwrap() }
}

fn switch(id: &str, verb: &str) -> String {
    format!("/api/services/web/instances/{id}/{verb}")
}

#[tokio::test]
async fn a_drained_instance_finishes_what_it_has_and_gets_nothing_until_it_is_restored() {
    let consul = Consul::start().await;
    let (go, wait) = watch::channel(false);
    let slow = Origin::serving(move |mut connection| {
        let mut wait = wait.clone();
        async move {
            while connection.request().await.is_some() {
                let _ = wait.wait_for(|go| *go).await;
                connection.stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nslow").await.unwrap();
            }
        }
    })
    .await;
    let other = Origin::start("other").await;
    consul.register("web", "slow", slow.address).await;
    let gateway = Gateway::start(&consul, "[http]\nworkers = 2\n[defaults]\nbalance = \"round_robin\"\n").await;
    gateway.until_usable("web", 1).await;
    let under_way = gateway.get("/api/v1/web/");
    let drained = async {
        until("the request", || async { (slow.count() == 1).then_some(()) }).await;
        consul.register("web", "other", other.address).await;
        gateway.until_usable("web", 2).await;

        let answer = post(&gateway, &switch("slow", "drain"), &[]).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(
            answer.json(),
            serde_json::json!({ "service": "web", "instance": "slow", "draining": true, "in_flight": 1 })
        );
        assert_eq!(gateway.usable("web").await, ["other"]);
        let topology = gateway.admin("/api/topology").await.json();
        let told = topology["services"]["web"]["instances"].as_array().unwrap();
        let told = told.iter().find(|instance| instance["id"] == "slow").unwrap();
        assert!(told["reason"].as_str().unwrap().contains("draining"), "{told}");
        assert_eq!((&told["in_flight"], &told["health"]), (&1.into(), &"passing".into()));
        for (state, count) in [("draining", 1.0), ("available", 1.0), ("unhealthy", 0.0)] {
            let series = format!(r#"lictor_instances{{service="web",state="{state}"}}"#);
            gateway.until_metric(&series, count).await;
        }
        let event = gateway.until_event("instance_drained").await;
        assert_eq!((&event["service"], &event["instance"]), (&"web".into(), &"slow".into()));
        for _ in 0..10 {
            assert_eq!(gateway.get("/api/v1/web/").await.text, "other");
        }
        go.send_replace(true);
    };
    let (finished, ()) = tokio::join!(under_way, drained);
    assert_eq!(finished.text, "slow");

    // News of the instance changes nothing of it.
    consul.register_tagged("web", "slow", slow.address, &["lictor", "new"]).await;
    until("the new tag", || async { gateway.admin("/api/topology").await.text.contains("\"new\"").then_some(()) })
        .await;
    assert_eq!(gateway.usable("web").await, ["other"]);

    assert_eq!(post(&gateway, &switch("slow", "restore"), &[]).await.status, 200);
    gateway.until_event("instance_restored").await;
    assert_eq!(gateway.usable("web").await.len(), 2);
    until("an answer", || async { (gateway.get("/api/v1/web/").await.text == "slow").then_some(()) }).await;
}

#[tokio::test]
async fn who_takes_over_the_address_of_a_drained_one_is_in_once_that_one_is_deregistered() {
    let consul = Consul::start().await;
    let origin = Origin::start("o").await;
    // The first by name and the last.
    for (old, new) in [("o1", "o1-new"), ("z1", "a-new")] {
        consul.register("web", old, origin.address).await;
        let gateway = Gateway::start(&consul, "").await;
        gateway.until_usable("web", 1).await;
        assert_eq!(post(&gateway, &switch(old, "drain"), &[]).await.status, 200);
        consul.register("web", new, origin.address).await;
        until("both", || async { gateway.admin("/api/topology").await.text.contains(new).then_some(()) }).await;
        assert!(gateway.usable("web").await.is_empty());
        consul.deregister(old).await;
        gateway.until_usable("web", 1).await;
        assert_eq!(gateway.usable("web").await, [new]);
        assert_eq!(gateway.get("/api/v1/web/").await.text, "o");
        consul.deregister(new).await;
    }
}

/// Registers `web` under its own name on nodes, one at each address, as agents do that are told no other id.
async fn on_nodes(consul: &Consul, nodes: &[(&str, &Origin)]) {
    for (node, origin) in nodes {
        consul.register_many(node, &[("web".into(), "web".into(), origin.address)]).await;
    }
}

#[tokio::test]
async fn of_several_instances_with_one_id_the_one_at_an_address_is_taken_out_and_the_id_alone_takes_out_none() {
    let consul = Consul::start().await;
    let (a, b, c) = (Origin::start("a").await, Origin::start("b").await, Origin::start("c").await);
    on_nodes(&consul, &[("n1", &a), ("n2", &b), ("n3", &c)]).await;
    let gateway = Gateway::start(&consul, "[defaults]\nbalance = \"round_robin\"\n").await;
    gateway.until_usable("web", 3).await;
    for verb in ["drain", "restore", "reset"] {
        let answer = post(&gateway, &switch("web", verb), &[]).await;
        assert_eq!((answer.status.as_u16(), answer.header("content-type")), (409, "application/problem+json"));
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!([&a, &b, &c].iter().all(|one| detail.contains(&format!("`{}`", one.address))), "{detail}");
        assert!(detail.contains("by its address"), "{detail}");
    }
    assert_eq!(gateway.usable("web").await.len(), 3);
    let unknown = post(&gateway, &switch("wob", "drain"), &[]).await;
    let detail = unknown.json()["detail"].as_str().unwrap().to_owned();
    assert!(unknown.status == 404 && detail.contains(&a.address.to_string()), "{detail}");

    let at = b.address.to_string();
    let answer = post(&gateway, &switch(&at, "drain"), &[]).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["instance"]), (200, &at.clone().into()), "{}", answer.text);
    assert!(gateway.until_event("instance_drained").await["cause"].as_str().unwrap().contains(&at));
    for _ in 0..12 {
        let answer = gateway.get("/api/v1/web/").await;
        assert!(answer.status == 200 && answer.text != "b", "{}", answer.text);
    }
    assert_eq!(b.count(), 0);

    // One on another node comes and goes, and takes nothing with it.
    consul.deregister_on("n3", "web").await;
    gateway.until_usable("web", 1).await;
    on_nodes(&consul, &[("n4", &c)]).await;
    gateway.until_usable("web", 2).await;
    // News of the one that is out, or another address of it, is no reason to put it back.
    let moved = Origin::start("b").await;
    on_nodes(&consul, &[("n2", &moved)]).await;
    let topology = || async { gateway.admin("/api/topology").await.text };
    until("the new address", || async { topology().await.contains(&moved.address.to_string()).then_some(()) }).await;
    assert_eq!(gateway.usable("web").await.len(), 2);
    assert_eq!(post(&gateway, &switch(&at, "restore"), &[]).await.status, 404);
    assert_eq!(post(&gateway, &switch(&moved.address.to_string(), "restore"), &[]).await.status, 200);
    assert_eq!(gateway.usable("web").await.len(), 3);
}

#[tokio::test]
async fn a_drained_instance_that_is_registered_anew_elsewhere_stays_out_until_it_is_restored() {
    let consul = Consul::start().await;
    let (old, new, newer) = (Origin::start("old").await, Origin::start("new").await, Origin::start("newer").await);
    let other = Origin::start("other").await;
    consul.register("web", "c1", old.address).await;
    consul.register("web", "c2", other.address).await;
    let gateway = Gateway::start(&consul, "[defaults]\nbalance = \"round_robin\"\n").await;
    gateway.until_usable("web", 2).await;
    assert_eq!(post(&gateway, &switch("c1", "drain"), &[]).await.status, 200);

    let topology = || async { gateway.admin("/api/topology").await.text };
    let nowhere = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    for (address, told) in [
        (new.address, new.address.to_string()),
        // In between it is at an address of no use.
        (nowhere, "port `0`".to_owned()),
        (newer.address, newer.address.to_string()),
    ] {
        consul.register("web", "c1", address).await;
        until(&told, || async { topology().await.contains(&told).then_some(()) }).await;
        assert_eq!(gateway.usable("web").await, ["c2"], "{told}");
    }
    for _ in 0..6 {
        assert_eq!(gateway.get("/api/v1/web/").await.text, "other");
    }
    assert!(gateway.events("instance_restored").is_empty());
    assert_eq!(post(&gateway, &switch("c1", "restore"), &[]).await.status, 200);
    assert_eq!(gateway.usable("web").await.len(), 2);
    consul.register("web", "c1", old.address).await;
    until("the first address", || async { topology().await.contains(&old.address.to_string()).then_some(()) }).await;
    assert_eq!(gateway.usable("web").await.len(), 2);
}

#[tokio::test]
async fn where_all_are_drained_there_is_no_instance() {
    let (a, b) = (Origin::start("a").await, Origin::start("b").await);
    let config = format!(
        "[services.web]\ninstances = [\"{}\", \"{}\"]\n[[routes]]\nmatch = {{ path = \"/{{*rest}}\" }}\nservice = \"web\"\n",
        a.address, b.address
    );
    let gateway = Gateway::fixed(&config).await;
    for origin in [&a, &b] {
        assert_eq!(post(&gateway, &switch(&origin.address.to_string(), "drain"), &[]).await.status, 200);
    }
    let answer = gateway.get("/x").await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (503, "1"));
    let health = gateway.get("/health").await;
    assert_eq!((health.status.as_u16(), &health.json()["services"]["web"]), (503, &"unhealthy".into()));

    // A new configuration, and even another protocol, is no reason to put them back.
    gateway.configure(&config.replace("[services.web]", "[services.web]\nprotocol = \"h2c\""));
    until("h2c", || async {
        (gateway.admin("/api/config").await.json()["services"]["web"]["protocol"] == "h2c").then_some(())
    })
    .await;
    assert!(gateway.usable("web").await.is_empty());
    assert_eq!(post(&gateway, &switch(&a.address.to_string(), "restore"), &[]).await.status, 200);
    assert_eq!(gateway.usable("web").await, [a.address.to_string()]);
}

#[tokio::test]
async fn what_is_not_there_is_named_and_what_is_there_too() {
    let gateway = Gateway::fixed("[services.web]\ninstances = [\"127.0.0.1:9\"]\n").await;
    for (path, said) in [
        ("/api/services/wen/instances/127.0.0.1:9/drain", "there is no service `wen`; there is `web`"),
        ("/api/services/web/instances/x/restore", "`web` has no instance `x`; there is `127.0.0.1:9`"),
    ] {
        let answer = post(&gateway, path, &[]).await;
        assert_eq!((answer.status.as_u16(), answer.header("content-type")), (404, "application/problem+json"));
        assert_eq!(answer.json()["detail"], said);
    }
    for path in ["/api/services/%ff/instances/x/drain", "/api/services/web/instances/%ff/reset"] {
        let answer = post(&gateway, path, &[]).await;
        assert_eq!((answer.status.as_u16(), answer.header("content-type")), (400, "application/problem+json"));
        assert!(answer.json()["detail"].as_str().unwrap().contains("UTF-8"), "{}", answer.text);
    }
    let got = gateway.admin("/api/services/web/instances/x/drain").await;
    assert_eq!(got.status, 405);
    assert!(got.json()["detail"].as_str().unwrap().contains("POST"));
}

#[tokio::test]
async fn a_request_from_elsewhere_changes_nothing() {
    let web = "[services.web]\ninstances = [\"127.0.0.1:9\"]\n";
    let path = switch("127.0.0.1:9", "drain");
    let gateway = Gateway::fixed(web).await;
    for field in [
        ("origin", "https://evil.example"),
        ("origin", "null"),
        ("sec-fetch-site", "cross-site"),
        ("host", "evil.example"),
    ] {
        let answer = post(&gateway, &path, &[field]).await;
        assert_eq!(answer.status, 403, "{field:?}");
        assert!(answer.json()["detail"].as_str().unwrap().contains(field.1), "{}", answer.text);
    }
    assert_eq!(gateway.usable("web").await.len(), 1);
    let own = format!("http://{}", gateway.admin);
    let answer = post(&gateway, &path, &[("origin", &own), ("sec-fetch-site", "same-origin")]).await;
    assert_eq!(answer.status, 200);

    let gateway = Gateway::fixed(&format!("[admin]\ntoken = \"op3rator\"\n{web}")).await;
    let bearer = ("authorization", "Bearer op3rator");
    assert_eq!(post(&gateway, &path, &[]).await.status, 401);
    assert_eq!(post(&gateway, &path, &[bearer, ("host", "evil.example")]).await.status, 403);
    assert_eq!(post(&gateway, &path, &[bearer]).await.status, 200);
}

#[tokio::test]
async fn a_listener_that_others_can_reach_takes_changes_with_a_token_alone() {
    let web = "[services.web]\ninstances = [\"127.0.0.1:9\"]\n";
    let path = switch("127.0.0.1:9", "drain");
    for (token, field, status) in [
        ("", ("x", "y"), 403),
        ("token = \"t\"\n", ("x", "y"), 401),
        ("token = \"t\"\n", ("authorization", "Bearer t"), 200),
    ] {
        let gateway = Gateway::fixed(&format!("[admin]\nlisten = \"0.0.0.0:0\"\n{token}{web}")).await;
        let url = format!("http://127.0.0.1:{}{path}", gateway.admin.port());
        let answer = client().request(Method::POST, url).header(field.0, field.1).send().await.unwrap();
        assert_eq!(answer.status(), status, "{token}");
        if status == 403 {
            let problem: serde_json::Value = answer.json().await.unwrap();
            assert!(problem["detail"].as_str().unwrap().contains("`token`"), "{problem}");
        }
    }
}
