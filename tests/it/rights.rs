//! Tokens that see less than there is: Consul leaves out what may not be read, and that is not the same as nothing.

use serde_json::{Value, json};

use crate::support::{Consul, Gateway, Origin, until};

const ACLS: &str = "-hcl=acl { enabled = true, default_policy = \"deny\", tokens { master = \"root\" } }";
pub const TOKEN: &str = "11111111-1111-1111-1111-111111111111";

/// An agent with a token of ours that may read what this says.
pub async fn start(rules: &str) -> Consul {
    let acls = ACLS.replace(", ", "\n");
    let consul = Consul::start_as(&[&acls], Some("root")).await;
    until("a token", || async {
        // ACLs are there a moment after the leader.
        consul.try_put("/v1/acl/policy", &json!({ "Name": "ours", "Rules": rules })).await.then_some(())
    })
    .await;
    consul.put("/v1/acl/token", &json!({ "SecretID": TOKEN, "Policies": [{ "Name": "ours" }] })).await;
    consul
}

async fn follow(consul: &Consul, max_watches: usize) -> Gateway {
    let section = format!("[consul]\naddress = \"{}\"\ntoken = \"{TOKEN}\"\nwait = \"1s\"\n", consul.address());
    let gateway =
        Gateway::start_unready(&format!("{section}max_watches = {max_watches}\n"), "[services.table]\n").await;
    gateway.until_ready().await;
    gateway
}

#[tokio::test]
async fn a_right_that_is_lost_takes_no_service_away_and_is_named() {
    let all = r#"service_prefix "" { policy = "read" } node_prefix "" { policy = "read" }"#;
    for (left, missing) in [
        (r#"node_prefix "" { policy = "read" }"#, "`service:read` on `"),
        (r#"service_prefix "" { policy = "read" }"#, "`node:read` on `"),
        (r#"service_prefix "x" { policy = "read" }"#, "`service:read` on `"),
    ] {
        // With queries of their own, and with shared ones.
        for max_watches in [64, 2] {
            let consul = start(all).await;
            let (a, b) = (Origin::start("a").await, Origin::start("b").await);
            consul.register("web", "a", a.address).await;
            consul.register("table", "t", a.address).await;
            let gateway = follow(&consul, max_watches).await;
            gateway.until_usable("web", 1).await;
            gateway.until_usable("table", 1).await;

            consul.replace_policy("ours", left).await;
            // News makes a difference be heard of where nothing would be asked for long.
            consul.register("other", "o", a.address).await;
            consul.register("web", "b", b.address).await;
            consul.register("table", "u", b.address).await;
            until(&format!("an event of {missing}, {max_watches}"), || async {
                let events = gateway.events("consul_failed");
                events
                    .iter()
                    .any(|event| event["cause"].as_str().is_some_and(|cause| cause.contains(missing)))
                    .then_some(())
            })
            .await;
            assert_eq!(gateway.get("/api/v1/web/").await.text, "a", "{missing} {max_watches}");
            assert_eq!(gateway.usable("table").await, ["t"], "{missing} {max_watches}");

            // With the right back, all is seen again.
            consul.replace_policy("ours", all).await;
            consul.register("web", "c", a.address).await;
            consul.register("table", "v", a.address).await;
            gateway.until_usable("web", 3).await;
            gateway.until_usable("table", 3).await;
        }
    }
}

#[tokio::test]
async fn what_is_deregistered_while_a_right_is_missing_is_gone_once_the_right_is_back() {
    let all = r#"service_prefix "" { policy = "read" } node_prefix "" { policy = "read" }"#;
    // With queries of their own, and with shared ones.
    for max_watches in [64, 2] {
        let consul = start(all).await;
        let a = Origin::start("a").await;
        consul.register("web", "a", a.address).await;
        consul.register("table", "t", a.address).await;
        let gateway = follow(&consul, max_watches).await;
        gateway.until_usable("web", 1).await;
        gateway.until_usable("table", 1).await;

        // All others stay in sight, so that no list of names tells anything new when the right is back.
        let denied = ["web", "table"].map(|name| format!(r#" service "{name}" {{ policy = "deny" }}"#)).concat();
        consul.replace_policy("ours", &format!("{all}{denied}")).await;
        consul.register("other", "o", a.address).await;
        let lacking = |about: &Value| {
            let events = gateway.events("consul_failed");
            events.iter().filter(|e| e["service"] == *about && e["cause"].as_str().unwrap().contains("lacks")).count()
        };
        // The lists of both, and which services there are.
        let all_lists = [json!("web"), json!("table"), Value::Null];
        for about in &all_lists {
            until(&format!("an event about {about}, {max_watches}"), async || (lacking(about) > 0).then_some(())).await;
        }
        consul.deregister("a").await;
        consul.deregister("t").await;
        assert_eq!((gateway.usable("web").await, gateway.usable("table").await), (vec!["a".into()], vec!["t".into()]));

        consul.replace_policy("ours", all).await;
        gateway.until_status("/api/v1/web/", 404).await;
        gateway.until_usable("table", 0).await;
        assert_eq!(all_lists.each_ref().map(lacking), [1; 3], "a condition is told once");
    }
}

#[tokio::test]
async fn a_token_that_consul_does_not_know_any_more_takes_nothing_away() {
    let consul = start(r#"service_prefix "" { policy = "read" } node_prefix "" { policy = "read" }"#).await;
    let a = Origin::start("a").await;
    consul.register("web", "a", a.address).await;
    let gateway = follow(&consul, 64).await;
    gateway.until_usable("web", 1).await;
    consul.forget_token(TOKEN).await;
    let event = gateway.until_event("consul_failed").await;
    assert!(event["cause"].as_str().unwrap().contains("403"), "{event}");
    assert_eq!(gateway.get("/api/v1/web/").await.text, "a");
}

#[tokio::test]
async fn what_is_really_gone_is_gone_with_acls_too() {
    let consul = start(r#"service_prefix "" { policy = "read" } node_prefix "" { policy = "read" }"#).await;
    let a = Origin::start("a").await;
    consul.register("web", "a", a.address).await;
    let gateway = follow(&consul, 64).await;
    gateway.until_usable("web", 1).await;
    consul.deregister("a").await;
    gateway.until_status("/api/v1/web/", 404).await;
    assert!(gateway.events("consul_failed").is_empty());
}

#[tokio::test]
async fn a_right_that_was_lost_between_two_runs_takes_no_service_of_the_snapshot_away() {
    let all = r#"service_prefix "" { policy = "read" } node_prefix "" { policy = "read" }"#;
    let consul = start(all).await;
    let origin = Origin::start("a").await;
    consul.register("web", "a", origin.address).await;
    let folder = tempfile::tempdir().unwrap();
    let section = format!(
        "[consul]\naddress = \"{}\"\ntoken = \"{TOKEN}\"\nsnapshot = \"{}\"\n",
        consul.address(),
        folder.path().join("topology.json").display()
    );
    let mut first = Gateway::start_unready(&section, "").await;
    first.until_usable("web", 1).await;
    first.signal("TERM");
    first.ended().await;

    consul.replace_policy("ours", r#"node_prefix "" { policy = "read" }"#).await;
    let gateway = Gateway::start_unready(&section, "").await;
    let failed = gateway.until_event("consul_failed").await;
    assert!(failed["cause"].as_str().unwrap().contains("`service:read` on `web`"), "{failed}");
    assert_eq!(gateway.get("/api/v1/web/").await.text, "a");
}
