//! How instances are picked, from outside: every policy before real services, and who comes grows slowly.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use http::Method;
use serde_json::json;
use tokio::{io::AsyncWriteExt, sync::watch};

use crate::support::{Consul, Gateway, Origin, until};

/// Who answers so many requests, each on a connection of its own.
async fn answers(gateway: &Gateway, path: &str, headers: &[(&str, &str)], count: usize) -> BTreeMap<String, usize> {
    let mut answers = BTreeMap::new();
    let headers = [headers, &[("connection", "close")]].concat();
    for _ in 0..count {
        let answer = gateway.send(Method::GET, path, &headers, "").await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        *answers.entry(answer.text).or_default() += 1;
    }
    answers
}

async fn three(consul: &Consul) -> [Origin; 3] {
    let origins = [Origin::start("a").await, Origin::start("b").await, Origin::start("c").await];
    for (origin, id) in origins.iter().zip(["a", "b", "c"]) {
        consul.register("web", id, origin.address).await;
    }
    origins
}

#[tokio::test]
async fn each_policy_uses_all_instances_and_a_reload_changes_it() {
    let consul = Consul::start().await;
    let _origins = three(&consul).await;
    let gateway = Gateway::start(&consul, "[http]\nworkers = 2\n").await;
    gateway.until_usable("web", 3).await;
    assert_eq!(gateway.admin("/api/config").await.json()["defaults"]["balance"], "p2c_ewma");
    assert_eq!(answers(&gateway, "/api/v1/web/", &[], 60).await.len(), 3);

    for balance in ["least_request", "round_robin", "random", "consistent_hash"] {
        gateway.configure(&format!("[http]\nworkers = 2\n[defaults]\nbalance = \"{balance}\"\nhash = \"path\"\n"));
        until(balance, || async {
            (gateway.admin("/api/config").await.json()["defaults"]["balance"] == balance).then_some(())
        })
        .await;
        let mut answers_ = BTreeMap::new();
        for i in 0..60 {
            let path = format!("/api/v1/web/{i}");
            answers_.append(&mut answers(&gateway, &path, &[], 1).await);
        }
        assert_eq!(answers_.len(), 3, "{balance}: {answers_:?}");
    }
}

#[tokio::test]
async fn a_key_stays_with_its_instance_whatever_it_is_read_from() {
    let consul = Consul::start().await;
    let origins = three(&consul).await;
    let config = |hash: &str| format!("[services.web]\nbalance = \"consistent_hash\"\nhash = \"{hash}\"\n");
    let proxies = "[http]\ntrusted_proxies = [\"127.0.0.0/8\"]\nworkers = 2\n";
    let gateway = Gateway::start(&consul, &(proxies.to_owned() + &config("ip"))).await;
    gateway.until_usable("web", 3).await;
    for (hash, field, value) in [
        ("ip", "x-forwarded-for", "192.0.2.N"),
        ("header:x-user", "x-user", "user-N"),
        ("cookie:session", "cookie", "other=1; session=N"),
    ] {
        gateway.configure(&(proxies.to_owned() + &config(hash)));
        until(hash, || async {
            (gateway.admin("/api/config").await.json()["services"]["web"]["hash"] == hash).then_some(())
        })
        .await;
        let mut homes = BTreeMap::new();
        for n in 0..20 {
            let value = value.replace('N', &n.to_string());
            let of_one = answers(&gateway, "/api/v1/web/", &[(field, &value)], 3).await;
            assert_eq!(of_one.len(), 1, "{hash} {value}: {of_one:?}");
            homes.extend(of_one);
        }
        assert!(homes.len() > 1, "{hash}: {homes:?}");
    }

    // The session of an instance that has left goes to one other, those of the others stay.
    let home = async |n: usize| {
        let cookie = format!("session={n}");
        answers(&gateway, "/api/v1/web/", &[("cookie", cookie.as_str())], 1).await.into_keys().next().unwrap()
    };
    let mut before = Vec::new();
    for n in 0..20 {
        before.push(home(n).await);
    }
    consul.deregister("a").await;
    gateway.until_usable("web", 2).await;
    for (n, before) in before.iter().enumerate() {
        let after = home(n).await;
        assert!(after == *before || before == "a", "{before} became {after}");
    }
    drop(origins);
}

#[tokio::test]
async fn an_instance_that_fails_fast_gets_hardly_anything() {
    let consul = Consul::start().await;
    let good = Origin::start("good").await;
    let bad = Origin::answering(|_| b"HTTP/1.1 500 Broken\r\ncontent-length: 0\r\n\r\n".to_vec()).await;
    consul.register("web", "good", good.address).await;
    consul.register("web", "bad", bad.address).await;
    let gateway = Gateway::start(&consul, "[http]\nworkers = 2\n").await;
    gateway.until_usable("web", 2).await;
    for _ in 0..60 {
        gateway.send(Method::GET, "/api/v1/web/", &[("connection", "close")], "").await;
    }
    // Once for each worker, and once more where the good one was slow by chance.
    assert!(bad.count() <= 6, "{} of 60", bad.count());
}

#[tokio::test]
async fn what_was_observed_survives_new_weights_and_tags() {
    let consul = Consul::start().await;
    let origin = Origin::start("a").await;
    consul.register("web", "a", origin.address).await;
    let gateway = Gateway::start(&consul, "").await;
    gateway.until_usable("web", 1).await;
    let instance = async || gateway.admin("/api/topology").await.json()["services"]["web"]["instances"][0].clone();
    assert_eq!(instance().await["latency_seconds"], serde_json::Value::Null);
    assert_eq!(instance().await["in_flight"], 0);
    gateway.get("/api/v1/web/").await;
    let before = instance().await;
    assert!(before["latency_seconds"].as_f64() > Some(0.0), "{before}");

    let registration = json!({
        "ID": "a", "Name": "web", "Address": origin.address.ip(), "Port": origin.address.port(),
        "Tags": ["lictor", "blue"], "Meta": { "version": "2" }, "Weights": { "Passing": 7, "Warning": 1 },
    });
    consul.put("/v1/agent/service/register", &registration).await;

    let after = until("the new weight", || async {
        let instance = instance().await;
        (instance["weight"] == 7 && instance["tags"] == json!(["lictor", "blue"])).then_some(instance)
    })
    .await;
    assert_eq!((&after["latency_seconds"], &after["since"]), (&before["latency_seconds"], &before["since"]));
}

#[tokio::test]
async fn what_is_under_way_and_kept_connections_survive_every_kind_of_change() {
    let consul = Consul::start().await;
    let (go, wait) = watch::channel(false);
    let connections = Arc::new(AtomicUsize::new(0));
    let origin = Origin::serving({
        let connections = connections.clone();
        move |mut connection| {
            connections.fetch_add(1, Relaxed);
            let mut wait = wait.clone();
            async move {
                while let Some(got) = connection.request().await {
                    if got.line().contains("slow") {
                        let _ = wait.wait_for(|go| *go).await;
                    }
                    connection.stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\na").await.unwrap();
                }
            }
        }
    })
    .await;
    let register = async |weight: u32, tag: &str| {
        let registration = json!({
            "ID": "a", "Name": "web", "Address": origin.address.ip(), "Port": origin.address.port(),
            "Tags": ["lictor", tag], "Weights": { "Passing": weight, "Warning": 1 },
        });
        consul.put("/v1/agent/service/register", &registration).await;
    };
    register(1, "green").await;
    let gateway = Gateway::start(&consul, "[http]\nworkers = 1\n").await;
    gateway.until_usable("web", 1).await;
    let instance = async || {
        let topology = gateway.admin("/api/topology").await.json();
        let instances = topology["services"]["web"]["instances"].as_array().unwrap().clone();
        instances.into_iter().find(|instance| instance["id"] == "a").unwrap()
    };

    let changes = async {
        until("the request", || async { (origin.count() == 1).then_some(()) }).await;
        assert_eq!(gateway.get("/api/v1/web/").await.text, "a");
        let before = instance().await;
        assert!(before["in_flight"] == 1 && before["latency_seconds"].is_number(), "{before}");

        register(7, "blue").await;
        until("the new weight", || async { (instance().await["weight"] == 7).then_some(()) }).await;
        let other = Origin::start("b").await;
        consul.register("web", "b", other.address).await;
        gateway.until_usable("web", 2).await;
        consul.deregister("b").await;
        gateway.until_usable("web", 1).await;
        gateway.configure("[http]\nworkers = 1\n[defaults]\nbalance = \"random\"\nslow_start = \"1s\"\n");
        until("the other policy", || async {
            (gateway.admin("/api/config").await.json()["defaults"]["balance"] == "random").then_some(())
        })
        .await;

        let after = instance().await;
        for observed in ["in_flight", "latency_seconds", "since"] {
            assert_eq!(after[observed], before[observed], "{observed}");
        }
        assert_eq!(gateway.get("/api/v1/web/").await.text, "a");
        assert_eq!(connections.load(Relaxed), 2, "the one that was kept was not used again");
        go.send_replace(true);
    };
    let (slow, ()) = tokio::join!(gateway.get("/api/v1/web/slow"), changes);
    assert_eq!(slow.text, "a");
}

#[tokio::test]
async fn an_instance_that_comes_grows_slowly_and_those_of_the_start_do_not() {
    let consul = Consul::start().await;
    let (a, b, c) = (Origin::start("a").await, Origin::start("b").await, Origin::start("c").await);
    consul.register("web", "a", a.address).await;
    consul.register("web", "b", b.address).await;
    let config = "[defaults]\nbalance = \"round_robin\"\nslow_start = \"1h\"\n";
    let gateway = Gateway::start(&consul, config).await;
    gateway.until_usable("web", 2).await;
    assert_eq!(answers(&gateway, "/api/v1/web/", &[], 20).await, [("a".into(), 10), ("b".into(), 10)].into());

    consul.register("web", "c", c.address).await;
    gateway.until_usable("web", 3).await;
    let grown = answers(&gateway, "/api/v1/web/", &[], 100).await;
    // A tenth of its weight is one request in twenty-one.
    assert!(grown.get("c").is_none_or(|&n| n < 20) && grown["a"].abs_diff(grown["b"]) < 10, "{grown:?}");

    // One that is alone is not spared, however new.
    consul.deregister("a").await;
    consul.deregister("b").await;
    gateway.until_usable("web", 1).await;
    assert_eq!(answers(&gateway, "/api/v1/web/", &[], 5).await, [("c".into(), 5)].into());
}
