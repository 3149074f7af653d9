//! The gateway registers itself in a real Consul: there while it runs, passing while it is ready, gone when it drains.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::support::{Consul, Gateway, Origin, PATIENCE, until};

/// A gateway that registers itself so, beside what else it is told.
async fn start(consul: &Consul, register: &str, more: &str) -> Gateway {
    let section = format!("[consul]\naddress = \"{}\"\nregister = {{ {register} }}\n", consul.address());
    Gateway::start_unready(&section, more).await
}

/// What the agent knows by this id.
async fn service(consul: &Consul, id: &str) -> Option<Value> {
    consul.get("/v1/agent/services").await.get(id).cloned()
}

/// The ids of a service's instances and how their checks are, as Consul's clients see them.
async fn seen(consul: &Consul, name: &str) -> Vec<(String, String)> {
    let entries = consul.get(&format!("/v1/health/service/{name}")).await;
    let one = |entry: &Value| {
        let id = entry["Service"]["ID"].as_str().unwrap();
        let checks = entry["Checks"].as_array().unwrap();
        let own = checks.iter().find(|check| check["ServiceID"] == id).unwrap();
        (id.to_owned(), own["Status"].as_str().unwrap().to_owned())
    };
    entries.as_array().unwrap().iter().map(one).collect()
}

async fn until_seen(consul: &Consul, name: &str, want: &[(&str, &str)]) {
    let mut last = Vec::new();
    for _ in 0..PATIENCE.as_millis() / 20 {
        last = seen(consul, name).await;
        last.sort();
        if last.iter().map(|(id, status)| (id.as_str(), status.as_str())).eq(want.iter().copied()) {
            return;
        }
        sleep(Duration::from_millis(20)).await;
    }
    panic!("{name}: {last:?}, not {want:?}");
}

fn id(name: &str, port: u16) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    format!("{name}-{}-{port}", host.trim())
}

#[tokio::test]
async fn a_ready_gateway_is_registered_and_passes_until_it_drains() {
    let consul = Consul::start().await;
    let register = r#"name = "edge", address = "10.0.0.5", tags = ["blue"], check = "1s""#;
    let mut gateway = start(&consul, register, "[http]\ndrain_wait = \"3s\"\n").await;
    let id = id("edge", gateway.address.port());
    until_seen(&consul, "edge", &[(&id, "passing")]).await;

    let told = service(&consul, &id).await.unwrap();
    assert_eq!((&told["Service"], &told["Address"]), (&"edge".into(), &"10.0.0.5".into()));
    assert_eq!((&told["Port"], &told["Tags"]), (&gateway.address.port().into(), &json!(["blue"])));
    let checks = consul.get("/v1/agent/checks").await;
    assert_eq!(checks[format!("service:{id}")]["Type"], "ttl", "{checks}");
    // Longer than its time to live: somebody passes it.
    sleep(Duration::from_secs(2)).await;
    until_seen(&consul, "edge", &[(&id, "passing")]).await;

    gateway.signal("TERM");
    until("its end in Consul", || async { service(&consul, &id).await.is_none().then_some(()) }).await;
    // It is out before it stops to accept.
    assert_eq!(gateway.admin("/readyz").await.status, 503);
    assert_eq!(gateway.get("/health").await.status, 200);
    assert_eq!(gateway.ended().await.code(), Some(0));
    assert_eq!(gateway.events("deregistered").len(), 1);
}

#[tokio::test]
async fn an_agent_that_starts_again_is_told_again() {
    let mut consul = Consul::start().await;
    let gateway = start(&consul, r#"check = "1s""#, "").await;
    let id = id("lictor", gateway.address.port());
    until_seen(&consul, "lictor", &[(&id, "passing")]).await;
    // Where no address is told, clients take the agent's.
    assert_eq!(service(&consul, &id).await.unwrap()["Address"], "");

    consul.restart().await;
    until_seen(&consul, "lictor", &[(&id, "passing")]).await;

    consul.deregister(&id).await;
    gateway.until_event("registration_lost").await;
    until_seen(&consul, "lictor", &[(&id, "passing")]).await;
}

#[tokio::test]
async fn one_that_crashes_fails_its_check_by_itself() {
    let consul = Consul::start().await;
    let gateway = start(&consul, r#"check = "1s""#, "").await;
    let id = id("lictor", gateway.address.port());
    until_seen(&consul, "lictor", &[(&id, "passing")]).await;
    gateway.signal("KILL");
    until_seen(&consul, "lictor", &[(&id, "critical")]).await;
}

#[tokio::test]
async fn replicas_share_a_name_and_no_id() {
    let consul = Consul::start().await;
    let (one, two) = (start(&consul, r#"name = "edge""#, "").await, start(&consul, r#"name = "edge""#, "").await);
    let [a, b] = [&one, &two].map(|gateway| id("edge", gateway.address.port()));
    let mut want = [(a.as_str(), "passing"), (b.as_str(), "passing")];
    want.sort_unstable();
    until_seen(&consul, "edge", &want).await;
    one.signal("TERM");
    until_seen(&consul, "edge", &[(&b, "passing")]).await;
}

#[tokio::test]
async fn a_reload_changes_what_is_registered() {
    let consul = Consul::start().await;
    let gateway = Gateway::start(&consul, "").await;
    let port = gateway.address.port();
    gateway.configure("[consul.register]\nname = \"edge\"\nport = 81\n");
    until_seen(&consul, "edge", &[(&id("edge", 81), "passing")]).await;
    gateway.configure("[consul.register]\nname = \"front\"\ntags = [\"v2\"]\n");
    until_seen(&consul, "front", &[(&id("front", port), "passing")]).await;
    until_seen(&consul, "edge", &[]).await;
    gateway.configure("");
    until_seen(&consul, "front", &[]).await;
}

#[tokio::test]
async fn a_gateway_is_never_a_service_of_its_own() {
    let consul = Consul::start().await;
    let origin = Origin::start("a").await;
    consul.register("web", "web-1", origin.address).await;
    let gateway = start(&consul, "name = \"edge\"", "").await;
    gateway.until_usable("web", 1).await;
    until_seen(&consul, "edge", &[(&id("edge", gateway.address.port()), "passing")]).await;
    assert_eq!(gateway.get("/api/v1/edge/health").await.status, 404);

    // Neither by its tag, nor as a table's service: such a reload is refused, and changes nothing.
    gateway.configure("[consul.register]\ntags = [\"lictor\"]\n");
    let refused = gateway.until_event("reload_refused").await;
    assert!(refused["cause"].as_str().unwrap().contains("consul.register.tags"), "{refused}");
    gateway.configure("[services.loop]\nconsul = \"edge\"\n");
    until("the second refusal", || async { (gateway.events("reload_refused").len() == 2).then_some(()) }).await;
    assert_eq!(gateway.send(Method::GET, "/api/v1/web/", &[], "").await.text, "a");
}

#[tokio::test]
async fn a_token_without_the_right_is_told_once_and_tried_again() {
    let acls = "-hcl=acl { enabled = true, default_policy = \"deny\", tokens { master = \"root\" } }";
    let consul = Consul::start_as(&[&acls.replace(", ", "\n")], Some("root")).await;
    let read = r#"service_prefix "" { policy = "read" } node_prefix "" { policy = "read" }"#;
    until("a token", || async {
        // ACLs are there a moment after the leader.
        consul.try_put("/v1/acl/policy", &json!({ "Name": "ours", "Rules": read })).await.then_some(())
    })
    .await;
    let token = "22222222-2222-2222-2222-222222222222";
    consul.put("/v1/acl/token", &json!({ "SecretID": token, "Policies": [{ "Name": "ours" }] })).await;
    let register = "{ name = \"edge\", check = \"1s\" }";
    let section = format!("[consul]\naddress = \"{}\"\ntoken = \"{token}\"\nregister = {register}\n", consul.address());
    let gateway = Gateway::start_unready(&section, "").await;
    gateway.until_ready().await;
    let failed = gateway.until_event("registration_failed").await;
    assert!(failed["cause"].as_str().unwrap().contains("`service:write` on `edge`"), "{failed}");
    // The name that was refused does not stand in the way of the right one.
    gateway.configure("[consul.register]\nname = \"lictor\"\n");
    gateway.until_event("reloaded").await;

    consul.replace_policy("ours", &format!("{read} service \"lictor\" {{ policy = \"write\" }}")).await;
    gateway.until_event("registered").await;
    until_seen(&consul, "lictor", &[(&id("lictor", gateway.address.port()), "passing")]).await;
    assert_eq!(gateway.events("registration_failed").len(), 1, "{:?}", gateway.events("registration_failed"));
}

#[tokio::test]
async fn one_that_is_not_ready_yet_fails_its_check() {
    let consul = Consul::start().await;
    // A name server that connects and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let servers = silent.local_addr().unwrap();
    let far = format!("[services.far]\ndns = \"far.example:80\"\n[dns]\nservers = [\"{servers}\"]\n");
    let gateway = start(&consul, r#"check = "1s""#, &far).await;
    let id = id("lictor", gateway.address.port());
    until_seen(&consul, "lictor", &[(&id, "critical")]).await;
    let checks = consul.get("/v1/agent/checks").await;
    assert_eq!(checks[format!("service:{id}")]["Output"], "the first topology is not known yet");
    // That nobody is there is an answer.
    drop(silent);
    until_seen(&consul, "lictor", &[(&id, "passing")]).await;
}

#[tokio::test]
async fn an_agent_that_hangs_does_not_hold_up_the_end() {
    let consul = Consul::start().await;
    let mut gateway = start(&consul, "check = \"1s\"", "").await;
    until_seen(&consul, "lictor", &[(&id("lictor", gateway.address.port()), "passing")]).await;
    consul.stop();
    gateway.signal("TERM");
    assert_eq!(gateway.ended().await.code(), Some(0));
    consul.resume();
}

#[tokio::test]
async fn the_agent_is_asked_to_forget_a_gateway_that_failed_for_ten_minutes() {
    // A real agent does not tell what it was asked for.
    let agent = Origin::answering(|_| b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}".to_vec()).await;
    let section =
        format!("[consul]\naddress = \"http://{}\"\nregister = {{ name = \"edge\", check = \"7s\" }}\n", agent.address);
    let _gateway = Gateway::start_unready(&section, "").await;
    let asked = until("a registration", || async {
        agent.got().into_iter().find(|got| got.line().starts_with("PUT /v1/agent/service/register "))
    })
    .await;
    let asked: Value = serde_json::from_slice(&asked.body).unwrap();
    assert_eq!(asked["Name"], "edge");
    assert_eq!(
        (&asked["Check"]["TTL"], &asked["Check"]["DeregisterCriticalServiceAfter"]),
        (&"7000ms".into(), &"600000ms".into())
    );
}
