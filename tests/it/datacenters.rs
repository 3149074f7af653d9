//! Several datacenters of one service, told by two real agents that are joined: the next one is used while those before it
//! have nobody to pick, and what one of them says is no business of the other.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use serde_json::Value;

use crate::support::{Consul, FakeConsul, Fault, Gateway, Origin, now, until};

/// The service `web` in these datacenters.
fn web(datacenters: &str) -> String {
    format!("[services.web]\ndatacenters = {datacenters}\n[[routes]]\nmatch.path = \"/web\"\nservice = \"web\"\n")
}

const BOTH: &str = "[\"dc1\", \"dc2\"]";

/// Waits until a request is answered by this one.
async fn until_by(gateway: &Gateway, name: &str) {
    until(&format!("an answer of {name}"), || async { (gateway.get("/web").await.text == name).then_some(()) }).await;
}

/// What is told of an instance.
async fn told(gateway: &Gateway, id: &str) -> Value {
    let topology = gateway.admin("/api/topology").await.json();
    let instances = topology["services"]["web"]["instances"].as_array().unwrap();
    instances.iter().find(|instance| instance["id"] == id).unwrap_or_else(|| panic!("no {id} in {topology}")).clone()
}

fn causes(gateway: &Gateway, kind: &str) -> Vec<String> {
    gateway.events(kind).iter().map(|event| event["cause"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn the_next_datacenter_is_used_while_the_first_has_nobody_and_not_a_moment_longer() {
    let dc1 = Consul::start_in("dc1").await;
    let dc2 = dc1.start_beside("dc2").await;
    let (a, b) = (Origin::start("a").await, Origin::start("b").await);
    dc1.register_checked("web", "a", a.address).await;
    dc2.register_checked("web", "b", b.address).await;
    let gateway = Gateway::start(&dc1, &web(BOTH)).await;
    until("both to be known", || async {
        let topology = gateway.admin("/api/topology").await.json();
        (topology["services"]["web"]["instances"].as_array()?.len() == 2).then_some(())
    })
    .await;
    for _ in 0..20 {
        assert_eq!(gateway.get("/web").await.text, "a");
    }
    let (first, second) = (told(&gateway, "a").await, told(&gateway, "b").await);
    assert_eq!((&first["datacenter"], &first["usable"]), (&"dc1".into(), &true.into()));
    assert_eq!((&second["datacenter"], &second["usable"]), (&"dc2".into(), &false.into()));
    assert_eq!(second["reason"], "datacenter `dc1` is preferred, and has somebody to pick");

    dc1.check("a", "fail").await;
    until_by(&gateway, "b").await;
    assert_eq!(
        (&told(&gateway, "b").await["usable"], &told(&gateway, "a").await["usable"]),
        (&true.into(), &false.into())
    );
    assert_eq!(gateway.get("/health").await.status, 200);
    dc1.check("a", "pass").await;
    until_by(&gateway, "a").await;

    dc1.deregister("a").await;
    until_by(&gateway, "b").await;
    dc1.register_checked("web", "a", a.address).await;
    until_by(&gateway, "a").await;

    let out = post(&gateway, "/api/services/web/instances/a/drain").await;
    assert!(out.is_success(), "{out}");
    assert_eq!(gateway.get("/web").await.text, "b");
    assert!(post(&gateway, "/api/services/web/instances/a/restore").await.is_success());
    assert_eq!(gateway.get("/web").await.text, "a");

    let moved = causes(&gateway, "datacenter_changed");
    let starts: Vec<_> = moved.iter().map(|cause| &cause[..5]).collect();
    assert_eq!(starts, ["`dc2`", "`dc1`", "`dc2`", "`dc1`", "`dc2`", "`dc1`"], "{moved:?}");
    // Nothing is left where no datacenter has anybody.
    dc1.deregister("a").await;
    dc2.deregister("b").await;
    gateway.until_status("/web", 503).await;
}

async fn post(gateway: &Gateway, path: &str) -> reqwest::StatusCode {
    crate::support::client().post(format!("http://{}{path}", gateway.admin)).send().await.unwrap().status()
}

#[tokio::test]
async fn a_datacenter_that_cannot_be_reached_keeps_its_list_and_the_other_its_news() {
    let dc1 = Consul::start_in("dc1").await;
    let mut dc2 = dc1.start_beside("dc2").await;
    let (a, b, c) = (Origin::start("a").await, Origin::start("b").await, Origin::start("c").await);
    dc1.register("web", "a", a.address).await;
    dc2.register("web", "b", b.address).await;
    let gateway = Gateway::start(&dc1, &web(BOTH)).await;
    until("both to be known", || async {
        let topology = gateway.admin("/api/topology").await.json();
        (topology["services"]["web"]["instances"].as_array()?.len() == 2).then_some(())
    })
    .await;

    dc2.kill().await;
    let failed = gateway.until_event("consul_failed").await;
    assert!(failed["cause"].as_str().unwrap().starts_with("datacenter `dc2`: "), "{failed}");
    // The news of the first is in force, and the second is used though its servers are dead.
    dc1.deregister("a").await;
    until_by(&gateway, "b").await;
    dc1.register("web", "c", c.address).await;
    until_by(&gateway, "c").await;
    dc1.deregister("c").await;
    until_by(&gateway, "b").await;
    assert_eq!(gateway.admin("/readyz").await.status, 200);

    dc2.restart().await;
    dc1.until_known("dc2").await;
    dc2.register("web", "c", c.address).await;
    until_by(&gateway, "c").await;
    assert_eq!(causes(&gateway, "consul_returned"), ["datacenter `dc2` answers again"]);
    let told = causes(&gateway, "consul_failed");
    assert!(told.iter().all(|cause| cause.starts_with("datacenter `dc2`: ")), "{told:?}");
}

#[tokio::test]
async fn a_datacenter_that_is_not_there_delays_neither_readiness_nor_news() {
    let consul = Consul::start_in("dc1").await;
    let (a, b) = (Origin::start("a").await, Origin::start("b").await);
    consul.register("web", "a", a.address).await;
    let config = "datacenters = [\"dc1\", \"nowhere\"]\n[[routes]]\nmatch.path = \"/";
    let config = format!(
        "[services.web]\n{config}web\"\nservice = \"web\"\n[services.empty]\n{config}empty\"\nservice = \"empty\"\n"
    );
    let gateway = Gateway::start(&consul, &config).await;
    assert_eq!(gateway.get("/web").await.text, "a");
    // Nobody is there, and it cannot be told whether there is anybody elsewhere.
    assert_eq!(gateway.get("/empty").await.status, 503);
    let failed = gateway.until_event("consul_failed").await;
    assert!(failed["cause"].as_str().unwrap().contains("datacenter `nowhere`: "), "{failed}");
    for _ in 0..3 {
        consul.register("empty", "b", b.address).await;
        gateway.until_status("/empty", 200).await;
        consul.deregister("b").await;
        gateway.until_status("/empty", 503).await;
    }
    assert_eq!(gateway.events("consul_failed").len(), 1);
}

#[tokio::test]
async fn a_start_goes_on_without_a_first_datacenter_that_hangs_and_says_so() {
    let dc1 = Consul::start_in("dc1").await;
    let dc2 = dc1.start_beside("dc2").await;
    let (a, b) = (Origin::start("a").await, Origin::start("b").await);
    dc1.register("web", "a", a.address).await;
    dc2.register("web", "b", b.address).await;
    // The agent of the first one takes what the other passes on to it, and says nothing.
    dc2.stop();
    let gateway =
        Gateway::start_unready(&format!("[consul]\naddress = \"{}\"\n", dc1.address()), &web("[\"dc2\", \"dc1\"]"))
            .await;
    gateway.until_ready().await;
    assert_eq!(gateway.get("/web").await.text, "a");
    let want = "the first topology is known, but for what datacenter `dc2` has, which has not answered within 5s";
    assert_eq!(causes(&gateway, "ready"), [want]);
    dc2.resume();
    until_by(&gateway, "b").await;
}

#[tokio::test]
async fn a_start_goes_on_with_nothing_where_the_agent_itself_hangs() {
    let consul = FakeConsul::start(7, &[]).await;
    consul.fault(Fault::Silence);
    let section = format!("[consul]\naddress = \"{}\"\n", consul.address());
    let gateway = Gateway::start_unready(&section, &web(BOTH)).await;
    let started = now();
    until("more than it waits for one datacenter", || async {
        assert_eq!(gateway.admin("/readyz").await.status, 503);
        (started.elapsed().as_secs() >= 7).then_some(())
    })
    .await;
    assert_eq!(gateway.get("/web").await.status, 503);
}

#[tokio::test]
async fn the_age_is_that_of_the_datacenter_that_has_been_silent_for_longest() {
    let dc1 = Consul::start_in("dc1").await;
    let mut dc2 = dc1.start_beside("dc2").await;
    let a = Origin::start("a").await;
    dc1.register("web", "a", a.address).await;
    let section = format!("[consul]\naddress = \"{}\"\nwait = \"1s\"\n", dc1.address());
    let gateway = Gateway::start_unready(&section, &web(BOTH)).await;
    gateway.until_ready().await;
    let age = async || gateway.metric("lictor_topology_age_seconds").await.unwrap();
    dc2.kill().await;
    gateway.until_event("consul_failed").await;
    until("an age that no answer of the first one ends", || async { (age().await > 4.0).then_some(()) }).await;
    // Nobody wants to know of it any more.
    gateway.configure(&web("[\"dc1\"]"));
    until("the age of the first one", || async { (age().await < 2.5).then_some(()) }).await;
}

#[tokio::test]
async fn open_circuits_of_the_first_datacenter_send_requests_to_the_next_until_one_closes() {
    let dc1 = Consul::start_in("dc1").await;
    let dc2 = dc1.start_beside("dc2").await;
    let fails = Arc::new(AtomicBool::new(true));
    let answer = |fails: Arc<AtomicBool>| {
        Origin::answering(move |_| {
            let (status, text) = if fails.load(Relaxed) { (500, "failed") } else { (200, "first") };
            format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{text}", text.len()).into_bytes()
        })
    };
    let bad = [answer(fails.clone()).await, answer(fails.clone()).await, answer(fails.clone()).await];
    for (id, origin) in ["x", "y", "z"].into_iter().zip(&bad) {
        dc1.register("web", id, origin.address).await;
    }
    let good = Origin::start("second").await;
    dc2.register("web", "b", good.address).await;
    let config = web(BOTH) + "[services.web.breaker]\nopen = '1s'\nmax_open = '1s'\n";
    let gateway = Gateway::start(&dc1, &config).await;
    until("all to be known", || async {
        let topology = gateway.admin("/api/topology").await.json();
        (topology["services"]["web"]["instances"].as_array()?.len() == 4).then_some(())
    })
    .await;

    until("three open circuits", || async {
        gateway.get("/web").await;
        (gateway.events("circuit_opened").len() >= 3).then_some(())
    })
    .await;
    until_by(&gateway, "second").await;
    assert!(causes(&gateway, "datacenter_changed")[0].starts_with("`dc2` is used"));
    fails.store(false, Relaxed);
    until_by(&gateway, "first").await;
    until("nobody but the first", || async {
        let all = [gateway.get("/web").await.text, gateway.get("/web").await.text, gateway.get("/web").await.text];
        all.iter().all(|text| text == "first").then_some(())
    })
    .await;
    assert!(causes(&gateway, "datacenter_changed")[1].starts_with("`dc1` has somebody to pick again"));
}

#[tokio::test]
async fn services_that_share_queries_do_so_in_each_datacenter() {
    let dc1 = Consul::start_in("dc1").await;
    let dc2 = dc1.start_beside("dc2").await;
    let (a, b) = (Origin::start("a").await, Origin::start("b").await);
    for n in 0..12 {
        dc1.register_tagged(&format!("s{n}"), &format!("s{n}-a"), a.address, &[]).await;
        dc2.register_tagged(&format!("s{n}"), &format!("s{n}-b"), b.address, &[]).await;
    }
    let tables = (0..12).map(|n| {
        let route = format!("[[routes]]\nmatch.path = \"/s{n}\"\nservice = \"s{n}\"\n");
        format!("[services.s{n}]\ndatacenters = {BOTH}\n{route}")
    });
    let config: String = tables.collect();
    let section = format!("[consul]\naddress = \"{}\"\nmax_watches = 9\n", dc1.address());
    let gateway = Gateway::start_unready(&section, &config).await;
    gateway.until_ready().await;
    until("every instance", || async {
        let topology = gateway.admin("/api/topology").await.json();
        let services = topology["services"].as_object()?;
        let known = services.values().map(|service| service["instances"].as_array().map_or(0, Vec::len)).sum::<usize>();
        (known == 24).then_some(())
    })
    .await;
    for n in [0, 5, 11] {
        let path = format!("/s{n}");
        let answers = async |want: &str| {
            until(&format!("{want} at {path}"), || async { (gateway.get(&path).await.text == want).then_some(()) })
                .await;
        };
        answers("a").await;
        dc1.deregister(&format!("s{n}-a")).await;
        answers("b").await;
        dc2.deregister(&format!("s{n}-b")).await;
        gateway.until_status(&path, 503).await;
        dc2.register_tagged(&format!("s{n}"), "back", b.address, &[]).await;
        answers("b").await;
        dc2.deregister("back").await;
        gateway.until_status(&path, 503).await;
        let watches = gateway.metric("lictor_consul_watches").await.unwrap();
        assert!(watches <= 9.0, "{watches} blocking queries");
    }
}

#[tokio::test]
async fn a_reload_may_prefer_another_datacenter_or_leave_one_out() {
    let dc1 = Consul::start_in("dc1").await;
    let dc2 = dc1.start_beside("dc2").await;
    let (a, b) = (Origin::start("a").await, Origin::start("b").await);
    dc1.register_tagged("web", "a", a.address, &[]).await;
    dc2.register_tagged("web", "b", b.address, &[]).await;
    let gateway = Gateway::start(&dc1, &web(BOTH)).await;
    until_by(&gateway, "a").await;
    for (datacenters, want) in [("[\"dc2\", \"dc1\"]", "b"), (BOTH, "a"), ("[\"dc2\"]", "b"), ("[]", "a"), (BOTH, "a")]
    {
        gateway.configure(&web(datacenters));
        until_by(&gateway, want).await;
    }
    gateway.configure(&web("[\"dc1\"]"));
    until("the other one to be forgotten", || async {
        let topology = gateway.admin("/api/topology").await.json();
        (topology["services"]["web"]["instances"].as_array()?.len() == 1).then_some(())
    })
    .await;
    assert_eq!(gateway.get("/web").await.text, "a");
}

#[tokio::test]
async fn what_each_datacenter_had_said_is_on_disk_and_stays_there_while_one_is_away() {
    let mut dc1 = Consul::start_in("dc1").await;
    let mut dc2 = dc1.start_beside("dc2").await;
    let (a, b) = (Origin::start("a").await, Origin::start("b").await);
    dc1.register("web", "a", a.address).await;
    dc2.register("web", "b", b.address).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("topology.json");
    let section = format!("[consul]\naddress = \"{}\"\nsnapshot = \"{}\"\n", dc1.address(), file.display());
    let has = async |words: &[&str]| {
        until(&format!("{words:?} in the snapshot"), || async {
            let text = std::fs::read_to_string(&file).ok()?;
            words.iter().all(|word| text.contains(word)).then_some(())
        })
        .await;
    };
    let mut gateway = Gateway::start_unready(&section, &web(BOTH)).await;
    has(&["\"id\":\"a\"", "\"id\":\"b\""]).await;
    gateway.signal("TERM");
    assert!(gateway.ended().await.success());

    // One is away for good: what it had said is kept beside the news of the other.
    dc2.kill().await;
    let mut gateway = Gateway::start_unready(&section, &web(BOTH)).await;
    gateway.until_ready().await;
    dc1.register("web", "new", a.address).await;
    has(&["\"id\":\"new\"", "\"id\":\"b\""]).await;
    assert_eq!(gateway.admin("/api/topology").await.json()["source"], "snapshot");
    gateway.signal("TERM");
    assert!(gateway.ended().await.success());

    dc1.kill().await;
    let gateway = Gateway::start_unready(&section, &web(BOTH)).await;
    gateway.until_ready().await;
    assert_eq!(gateway.get("/web").await.text, "a");
    let told = told(&gateway, "b").await;
    assert_eq!((&told["datacenter"], &told["usable"]), (&"dc2".into(), &false.into()));
}
