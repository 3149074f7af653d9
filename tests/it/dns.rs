//! Instances out of DNS, as Consul's own DNS port tells them.

use std::net::SocketAddr;

use serde_json::json;

use crate::support::{Consul, Gateway, Origin, consul::free_ports, until};

/// An agent with a DNS port.
async fn start() -> (Consul, u16) {
    let [port] = free_ports();
    (Consul::start_with(&[&format!("-dns-port={port}")]).await, port)
}

/// A gateway that knows no Consul but its DNS.
async fn follow(port: u16, name: &str) -> Gateway {
    let route = "[[routes]]\nmatch.path = \"/\"\nservice = \"web\"\n";
    Gateway::fixed(&format!("[dns]\nservers = [\"127.0.0.1:{port}\"]\n[services.web]\ndns = \"{name}\"\n{route}")).await
}

#[tokio::test]
async fn every_srv_record_is_an_instance_and_a_name_that_is_gone_has_none() {
    let (consul, port) = start().await;
    let gateway = follow(port, "_web._tcp.service.consul").await;
    gateway.until_status("/", 503).await;
    // Over UDP there would be three.
    let mut origins = Vec::new();
    for n in 0..5 {
        let origin = Origin::start(&format!("o{n}")).await;
        consul.register_tagged("web", &format!("o{n}"), origin.address, &["tcp"]).await;
        origins.push(origin);
    }
    gateway.until_usable("web", 5).await;
    let mut told = gateway.usable("web").await;
    told.sort();
    let mut want: Vec<_> = origins.iter().map(|origin| origin.address.to_string()).collect();
    want.sort();
    assert_eq!(told, want);
    assert_eq!(gateway.get("/").await.status, 200);

    for n in 1..5 {
        consul.deregister(&format!("o{n}")).await;
    }
    gateway.until_usable("web", 1).await;
    assert_eq!(gateway.get("/").await.text, "o0");
    consul.deregister("o0").await;
    gateway.until_usable("web", 0).await;
    gateway.until_status("/", 503).await;
    assert!(gateway.events("dns_failed").is_empty());
}

#[tokio::test]
async fn every_address_of_a_host_is_an_instance() {
    let (consul, port) = start().await;
    let origin = Origin::start("a").await;
    let own = origin.address.port();
    for (id, address) in [("a", "127.0.0.1"), ("b", "127.0.0.2"), ("c", "127.0.0.3"), ("d", "127.0.0.4"), ("e", "::1")]
    {
        // Another port: a host's addresses say nothing of one.
        consul.register("web", id, SocketAddr::new(address.parse().unwrap(), 1)).await;
    }
    let gateway = follow(port, &format!("web.service.consul:{own}")).await;
    gateway.until_usable("web", 5).await;
    let mut told = gateway.usable("web").await;
    told.sort();
    let ips = ["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4"];
    let want: Vec<_> = ips.iter().map(|ip| format!("{ip}:{own}")).chain([format!("[::1]:{own}")]).collect();
    assert_eq!(told, want);
    for id in ["b", "c", "d", "e"] {
        consul.deregister(id).await;
    }
    gateway.until_usable("web", 1).await;
    assert_eq!(gateway.get("/").await.text, "a");
}

#[tokio::test]
async fn a_server_that_is_away_or_refuses_takes_nothing_away() {
    let (mut consul, port) = start().await;
    let origin = Origin::start("a").await;
    consul.register("web", "a", origin.address).await;
    let gateway = follow(port, "web.service.consul").await;
    gateway.until_usable("web", 1).await;

    consul.stop();
    let failed = gateway.until_event("dns_failed").await;
    assert_eq!(failed["service"], "web");
    assert!(failed["cause"].as_str().unwrap().contains("web.service.consul"), "{failed}");
    assert_eq!(gateway.get("/").await.text, "a");
    consul.resume();
    gateway.until_event("dns_returned").await;

    consul.kill().await;
    until("a second failure", || async { (gateway.events("dns_failed").len() > 1).then_some(()) }).await;
    assert_eq!(gateway.get("/").await.text, "a");
    // It comes back empty, and that is an answer.
    consul.restart().await;
    gateway.until_usable("web", 0).await;
}

#[tokio::test]
async fn beside_consul_a_name_that_nobody_resolves_does_not_hold_up_readiness() {
    let (consul, port) = start().await;
    let (a, b) = (Origin::start("a").await, Origin::start("b").await);
    consul.register("web", "a", a.address).await;
    let dns = format!("[dns]\nservers = [\"127.0.0.1:{port}\"]\n");
    // Consul refuses what is not in its domain.
    let tables = "[services.other]\ndns = \"other.example.\"\n[services.late]\ndns = \"late.service.consul\"\n";
    let gateway = Gateway::start(&consul, &format!("{dns}{tables}")).await;
    gateway.until_usable("web", 1).await;
    consul.register_tagged("late", "b", b.address, &[]).await;
    gateway.until_usable("late", 1).await;
    let failed = gateway.until_event("dns_failed").await;
    assert_eq!(failed["service"], "other");
}

#[tokio::test]
async fn without_consul_denied_networks_hold_for_fixed_instances_and_for_those_of_dns() {
    let origin = Origin::start("a").await;
    let port = origin.address.port();
    let tables = format!(
        "[services.fixed]\ninstances = ['127.0.0.1:{port}', '[::1]:{port}']\n[services.named]\ninstances = ['localhost:{port}']\n\
         [services.found]\ndns = 'localhost:{port}'\n[[routes]]\nmatch.path = '/fixed'\nservice = 'fixed'\n\
         [[routes]]\nmatch.path = '/named'\nservice = 'named'\n[[routes]]\nmatch.path = '/found'\nservice = 'found'\n"
    );
    let deny = |list: &str| format!("[consul]\ndeny = {list}\n{tables}");
    let paths = ["/fixed", "/named", "/found"];
    let gateway = Gateway::fixed(&deny("['127.0.0.0/8', '::1']")).await;
    assert_eq!(gateway.admin("/api/config").await.json()["consul"]["deny"], json!(["127.0.0.0/8", "::1/128"]));
    let found = until("what DNS says", || async {
        let topology = gateway.admin("/api/topology").await.json();
        topology["services"]["found"]["instances"].as_array().filter(|found| !found.is_empty()).cloned()
    });
    assert!(found.await.iter().all(|instance| instance["usable"] == false));
    for path in paths {
        // What a name means is known only when it is dialed.
        let refused = if path == "/named" { 502 } else { 503 };
        assert_eq!(gateway.get(path).await.status, refused, "{path}");
    }
    assert_eq!(origin.count(), 0);

    gateway.configure(&deny("[]"));
    for path in paths {
        assert_eq!(gateway.until_status(path, 200).await.text, "a");
    }
    gateway.configure(&deny("['127.0.0.1', '::1']"));
    for path in ["/fixed", "/found"] {
        gateway.until_status(path, 503).await;
    }
}
