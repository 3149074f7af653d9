//! Configuration out of Consul's KV: a layer over the files, followed by every gateway, refused whole where it does not hold.

use std::path::Path;

use crate::{
    rights::{TOKEN, start},
    support::{Consul, Gateway, Origin, now, until},
};

const KEY: &str = "lictor/config";

fn serving(origin: &Origin, path: &str) -> String {
    let address = origin.address;
    format!(
        "[services.kv]\ninstances = [\"{address}\"]\n[[routes]]\nname = \"kv\"\nmatch.path = \"{path}\"\nservice = \"kv\"\n"
    )
}

/// Waits for an event of this kind whose cause has all these words.
async fn until_told(gateway: &Gateway, kind: &str, words: &[&str]) {
    until(&format!("{kind} with {words:?}"), || async {
        let said = |cause: &str| words.iter().all(|word| cause.contains(word));
        gateway.events(kind).iter().any(|event| event["cause"].as_str().is_some_and(said)).then_some(())
    })
    .await;
}

async fn until_refused(gateway: &Gateway, words: &[&str]) {
    until_told(gateway, "reload_refused", words).await;
}

async fn until_reloaded(gateway: &Gateway, words: &str) {
    until_told(gateway, "reloaded", &[words]).await;
}

#[tokio::test]
async fn a_document_is_in_force_by_itself_at_every_gateway_and_no_longer_once_it_is_deleted() {
    let consul = Consul::start().await;
    let (a, b) = (Origin::start("a").await, Origin::start("b").await);
    let gateways = [Gateway::start(&consul, "").await, Gateway::start(&consul, "").await];
    for gateway in &gateways {
        assert_eq!(gateway.get("/one").await.status, 404);
        assert_eq!(gateway.metric(r#"lictor_config_reload_total{outcome="success"}"#).await, Some(0.0));
    }

    consul.set(KEY, &serving(&a, "/one")).await;
    for gateway in &gateways {
        assert_eq!(gateway.until_status("/one", 200).await.text, "a");
        assert_eq!(gateway.admin("/api/config").await.json()["routes"][0]["name"], "kv");
        let event = gateway.until_event("reloaded").await;
        assert!(event["cause"].as_str().unwrap().contains("KV lictor/config"), "{event}");
        assert_eq!(gateway.metric(r#"lictor_config_reload_total{outcome="success"}"#).await, Some(1.0));
    }

    consul.set(KEY, &serving(&b, "/two")).await;
    for gateway in &gateways {
        assert_eq!(gateway.until_status("/two", 200).await.text, "b");
        assert_eq!(gateway.get("/one").await.status, 404);
    }

    consul.unset(KEY).await;
    for gateway in &gateways {
        gateway.until_status("/two", 404).await;
        until_reloaded(gateway, "KV lictor/config was deleted").await;
    }

    // One that is there already is in force as soon as a gateway is ready.
    consul.set(KEY, &serving(&a, "/three")).await;
    let late = Gateway::start(&consul, "").await;
    assert_eq!(late.get("/three").await.text, "a");
}

#[tokio::test]
async fn one_that_does_not_hold_is_refused_with_its_lines_and_the_last_stays_in_force() {
    let consul = Consul::start().await;
    let a = Origin::start("a").await;
    let gateway = Gateway::start(&consul, "").await;
    consul.set(KEY, &serving(&a, "/one")).await;
    gateway.until_status("/one", 200).await;

    let large = "#".repeat(400 << 10);
    for (text, words) in [
        ("[http]\nlisten = \n", ["KV lictor/config:2: not TOML", ""]),
        ("[http]\nkeep_alive = \"5s\"\nlisen = \"\"\n", ["KV lictor/config:3 http.lisen: unknown key", "`listen`"]),
        ("\n[services.kv]\ninstances = [\"nowhere\"]", ["KV lictor/config:3 services.kv.instances[0]", "nowhere"]),
        ("[consul]\ntoken = \"s3cret\"\n", ["KV lictor/config:2 consul.token: lictor needs it to find", "a file"]),
        ("consul.tls.ca = \"x\"\n", ["KV lictor/config:1 consul.tls:", "a file"]),
        ("[admin]\nlisten = \"0.0.0.0:0\"\ntoken = \"s3cret\"\n", ["KV lictor/config:1 admin: this is for", "a file"]),
        ("http.workers = 7\n", ["KV lictor/config:1 http.workers: this is for", "a file"]),
        (&format!("{large}\nx = 1"), ["KV lictor/config:2 x: unknown key", ""]),
    ] {
        consul.set(KEY, text).await;
        until_refused(&gateway, &words).await;
        assert_eq!(gateway.get("/one").await.text, "a", "{text}");
        assert_eq!(gateway.metric("lictor_config_reload_success").await, Some(0.0));
    }
    assert!(!gateway.log().iter().any(|line| line.to_string().contains("s3cret")));
    assert_eq!(gateway.metric(r#"lictor_config_reload_total{outcome="error"}"#).await, Some(8.0));

    consul.set(KEY, &serving(&a, "/two")).await;
    gateway.until_status("/two", 200).await;
    assert_eq!(gateway.metric("lictor_config_reload_success").await, Some(1.0));
}

#[tokio::test]
async fn it_is_over_the_files_and_under_variables_and_flags_and_files_are_read_again_below_it() {
    let consul = Consul::start().await;
    let (a, b) = (Origin::start("a").await, Origin::start("b").await);
    let gateway = Gateway::start(&consul, &serving(&a, "/one")).await;
    assert_eq!(gateway.get("/one").await.text, "a");

    // The route by its name, and one key of a table.
    consul
        .set(KEY, &format!("[services.kv]\ninstances = [\"{}\"]\n[defaults]\ntimeout.read = \"7s\"\n", b.address))
        .await;
    until("the document", || async { (gateway.get("/one").await.text == "b").then_some(()) }).await;

    gateway.configure(&(serving(&a, "/two") + "[defaults]\ntimeout = { read = \"3s\", connect = \"2s\" }\n"));
    assert_eq!(gateway.until_status("/two", 200).await.text, "b");
    let timeout = gateway.admin("/api/config").await.json()["defaults"]["timeout"].clone();
    assert_eq!((timeout["read"].as_str(), timeout["connect"].as_str()), (Some("7s"), Some("2s")));
    gateway.signal("HUP");
    until_reloaded(&gateway, "SIGHUP").await;
    assert_eq!(gateway.get("/two").await.text, "b");

    // A document that is refused keeps no file from being taken, and is taken with the file that it needs.
    consul.set(KEY, "[[routes]]\nname = \"x\"\nmatch.path = \"/x\"\nservice = \"kv\"\nlimits = 1\n").await;
    until_refused(&gateway, &["KV lictor/config:5 routes[1].limits"]).await;
    gateway.configure(&serving(&a, "/three"));
    assert_eq!(gateway.until_status("/three", 200).await.text, "b");
    until_reloaded(&gateway, "KV lictor/config is still refused").await;
    assert_eq!(gateway.metric("lictor_config_reload_success").await, Some(0.0));

    // A file that does not hold keeps out what is told meanwhile, until it is mended.
    gateway.configure("nonsense");
    until_refused(&gateway, &["lictor.toml:1"]).await;
    consul.set(KEY, &serving(&b, "/four")).await;
    until("another refusal", || async { (gateway.events("reload_refused").len() >= 3).then_some(()) }).await;
    gateway.configure(&serving(&a, "/five"));
    assert_eq!(gateway.until_status("/four", 200).await.text, "b");
    assert_eq!(gateway.metric("lictor_config_reload_success").await, Some(1.0));
}

#[tokio::test]
async fn a_document_that_the_files_cannot_do_without_stays_in_force_though_it_was_deleted() {
    let consul = Consul::start().await;
    let a = Origin::start("a").await;
    consul.register_tagged("web", "w", a.address, &["v2"]).await;
    let gateway = Gateway::start(&consul, "").await;
    consul.set(KEY, "[services.two]\ntag = \"v2\"\n").await;
    gateway.until_event("reloaded").await;
    // Two tables of one service hold only with different tags.
    let tables = "[services.one]\nconsul = \"web\"\n[services.two]\nconsul = \"web\"\n";
    gateway.configure(&format!("{tables}[[routes]]\nmatch.path = \"/two\"\nservice = \"two\"\n"));
    assert_eq!(gateway.until_status("/two", 200).await.text, "a");

    consul.unset(KEY).await;
    until_refused(&gateway, &["lictor.toml:", "`web` is the service of the table `one` already"]).await;
    gateway.signal("HUP");
    until_reloaded(&gateway, "is gone, but the files do not hold without it").await;
    assert_eq!(gateway.get("/two").await.text, "a");
    assert_eq!(gateway.metric("lictor_config_reload_success").await, Some(0.0));

    gateway.configure("");
    gateway.until_status("/two", 404).await;
    assert_eq!(gateway.metric("lictor_config_reload_success").await, Some(1.0));
}

#[tokio::test]
async fn nothing_that_it_may_say_waits_for_a_restart() {
    let consul = Consul::start().await;
    let gateway = Gateway::start(&consul, "").await;
    consul
        .set(KEY, "[http]\nmax_connections = 77\n[consul]\nmax_watches = 9\n[telemetry.log]\nlevel = \"debug\"\n")
        .await;
    let event = gateway.until_event("reloaded").await;
    assert!(!event["cause"].as_str().unwrap().contains("restart"), "{event}");
    let shown = until("the document in force", || async {
        let shown = gateway.admin("/api/config").await.json();
        (shown["consul"]["max_watches"] == 9).then_some(shown)
    })
    .await;
    assert_eq!((&shown["http"]["max_connections"], &shown["telemetry"]["log"]["level"]), (&77.into(), &"debug".into()));
}

#[tokio::test]
async fn another_key_is_followed_where_one_is_named_and_none_where_it_is_empty() {
    let consul = Consul::start().await;
    let a = Origin::start("a").await;
    consul.set(KEY, &serving(&a, "/usual")).await;
    consul.set("teams/a b/gate", &serving(&a, "/other")).await;
    let section = |key: &str| format!("[consul]\naddress = \"{}\"\nconfig = \"{key}\"\n", consul.address());
    let other = Gateway::start_unready(&section("teams/a b/gate"), "").await;
    other.until_ready().await;
    assert_eq!(other.get("/other").await.text, "a");
    assert_eq!(other.get("/usual").await.status, 404);

    let none = Gateway::start_unready(&section(""), "").await;
    none.until_ready().await;
    assert_eq!(none.get("/usual").await.status, 404);
    assert!(none.metric_sum("lictor_consul_request_total", "endpoint=\"kv\"").await < 1.0);
    assert_eq!(none.admin("/api/config").await.json()["consul"]["config"], "");
}

const SERVICES: &str = r#"service_prefix "" { policy = "read" } node_prefix "" { policy = "read" }"#;

#[tokio::test]
async fn a_token_that_may_not_read_it_makes_no_noise_unless_it_was_asked_for_or_in_force() {
    let consul = start(SERVICES).await;
    let a = Origin::start("a").await;
    consul.register("web", "a", a.address).await;
    consul.set(KEY, &serving(&a, "/one")).await;
    let section = format!("[consul]\naddress = \"{}\"\ntoken = \"{TOKEN}\"\nwait = \"1s\"\n", consul.address());
    let quiet = Gateway::start_unready(&section, "").await;
    quiet.until_ready().await;
    quiet.until_status("/api/v1/web/", 200).await;
    let asked = Gateway::start_unready(&format!("{section}config = \"{KEY}\"\n"), "").await;
    asked.until_ready().await;
    let event = asked.until_event("config_failed").await;
    let cause = event["cause"].as_str().unwrap();
    assert!(cause.contains("KV lictor/config") && cause.contains("`key:read` on `lictor/config`"), "{cause}");
    let errors = "endpoint=\"kv\",outcome=\"error\"";
    until("a 403", || async { (quiet.metric_sum("lictor_consul_request_total", errors).await >= 1.0).then_some(()) })
        .await;
    assert!(quiet.events("config_failed").is_empty() && quiet.events("consul_failed").is_empty());
    assert_eq!(quiet.get("/one").await.status, 404);

    // With the right all have it, and keep it when they lose it again.
    consul.replace_policy("ours", &format!("{SERVICES} key_prefix \"lictor/\" {{ policy = \"read\" }}")).await;
    for gateway in [&quiet, &asked] {
        let started = now();
        while gateway.get("/one").await.status != 200 {
            assert!(started.elapsed().as_secs() < 120, "the right is not noticed");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
    consul.replace_policy("ours", SERVICES).await;
    quiet.until_event("config_failed").await;
    assert_eq!(quiet.get("/one").await.text, "a");
}

async fn kept(consul: &Consul, file: &Path) -> Gateway {
    let section = format!("[consul]\naddress = \"{}\"\nsnapshot = \"{}\"\n", consul.address(), file.display());
    Gateway::start_unready(&section, "[services.web]\n").await
}

#[tokio::test]
async fn a_start_without_consul_has_the_document_that_the_snapshot_has() {
    let mut consul = Consul::start().await;
    let (a, b) = (Origin::start("a").await, Origin::start("b").await);
    consul.register("web", "w", a.address).await;
    let document = serving(&a, "/one") + "[http]\nmax_connections = 77\n";
    consul.set(KEY, &document).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("topology.json");
    let mut first = kept(&consul, &file).await;
    first.until_status("/one", 200).await;
    first.signal("TERM");
    first.ended().await;
    consul.kill().await;

    let gateway = kept(&consul, &file).await;
    let restored = gateway.until_event("config_restored").await;
    assert!(restored["cause"].as_str().unwrap().contains("KV lictor/config"), "{restored}");
    assert_eq!(gateway.get("/one").await.text, "a");
    assert_eq!(gateway.admin("/api/config").await.json()["http"]["max_connections"], 77);

    // The agent comes back empty, and that is news too.
    consul.restart().await;
    gateway.until_status("/one", 404).await;
    assert_eq!(gateway.admin("/api/config").await.json()["http"]["max_connections"], 10_000);
    consul.set(KEY, &serving(&b, "/two")).await;
    assert_eq!(gateway.until_status("/two", 200).await.text, "b");
}

#[tokio::test]
async fn without_consul_a_start_does_not_wait_for_the_document() {
    let mut consul = Consul::start().await;
    consul.kill().await;
    let a = Origin::start("a").await;
    let section = format!("[consul]\naddress = \"{}\"\n[expose]\ntag = \"\"\n", consul.address());
    let gateway = Gateway::start_unready(&section, &serving(&a, "/one")).await;
    gateway.until_ready().await;
    assert_eq!(gateway.get("/one").await.text, "a");
    consul.restart().await;
    consul.set(KEY, "[[routes]]\nname = \"more\"\nmatch.path = \"/more\"\nservice = \"kv\"\n").await;
    assert_eq!(gateway.until_status("/more", 200).await.text, "a");
}
