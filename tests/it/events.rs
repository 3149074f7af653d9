//! What happens is told to whoever listens, each with its cause.

use std::collections::BTreeMap;

use http::Method;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use crate::support::{Consul, Gateway, Origin, PATIENCE, until};

/// One who listens to `/api/events`.
struct Listener {
    stream: TcpStream,
    text: String,
}

impl Listener {
    async fn start(gateway: &Gateway) -> Self {
        let mut stream = TcpStream::connect(gateway.admin).await.unwrap();
        stream.write_all(b"GET /api/events HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        Self { stream, text: String::new() }
    }

    /// Listens until each of these kinds was told, and gives all that was told of each.
    async fn until(&mut self, kinds: &[&str]) -> BTreeMap<String, Vec<Value>> {
        let mut buffer = [0; 4096];
        loop {
            let told = self.told();
            let Some(missing) = kinds.iter().find(|kind| !told.contains_key(**kind)) else { return told };
            let read = timeout(PATIENCE, self.stream.read(&mut buffer)).await;
            let read = read.unwrap_or_else(|_| panic!("waited for {missing}: {:?}", told.keys())).unwrap();
            self.text.push_str(&String::from_utf8_lossy(&buffer[..read]));
        }
    }

    /// Listens until this kind was told so many times.
    async fn until_count(&mut self, kind: &str, count: usize) {
        let mark = format!("\"kind\":\"{kind}\"");
        let mut buffer = [0; 4096];
        while self.text.matches(&mark).count() < count {
            let read = timeout(PATIENCE, self.stream.read(&mut buffer)).await;
            let read = read.unwrap_or_else(|_| panic!("waited for more of {kind}")).unwrap();
            self.text.push_str(&String::from_utf8_lossy(&buffer[..read]));
        }
    }

    fn told(&self) -> BTreeMap<String, Vec<Value>> {
        let mut told = BTreeMap::<_, Vec<Value>>::new();
        // What has not come whole is read the next time.
        let events =
            self.text.lines().filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok());
        for event in events {
            told.entry(event["kind"].as_str().unwrap().to_owned()).or_default().push(event);
        }
        told
    }
}

#[tokio::test]
async fn topology_circuits_reloads_conflicts_and_switches_are_told_each_with_its_cause() {
    let consul = Consul::start().await;
    let gateway = Gateway::start(&consul, "").await;
    let mut listener = Listener::start(&gateway).await;

    // Topology, and a claim that another service has made before.
    let origin = Origin::start("a").await;
    consul.register_checked("web", "web-1", origin.address).await;
    gateway.until_usable("web", 1).await;
    let claim = ["lictor", "lictor.path=/api/v1/web/{*rest}"];
    consul.register_tagged("late", "late-1", origin.address, &claim).await;
    consul.check("web-1", "warn").await;
    let told = listener.until(&["instance_joined", "route_exposed", "instance_changed", "route_conflict"]).await;
    assert!(told["route_conflict"][0]["cause"].as_str().unwrap().contains("`web`"), "{told:?}");
    assert_eq!(told["route_conflict"][0]["service"], "late");
    assert!(told["instance_changed"][0]["cause"].as_str().unwrap().contains("passing became warning"), "{told:?}");

    // Operators.
    for turn in ["drain", "restore"] {
        let url = format!("http://{}/api/services/web/instances/web-1/{turn}", gateway.admin);
        assert_eq!(crate::support::client().post(url).send().await.unwrap().status(), 200);
    }
    listener.until(&["instance_drained", "instance_restored"]).await;

    // Reloads.
    gateway.configure("[nonsense]\n");
    listener.until(&["reload_refused"]).await;
    gateway.configure("[services.dead]\ninstances = [\"127.0.0.1:1\"]\nbreaker = { consecutive = 1 }\n[[routes]]\nmatch = { path = \"/dead\" }\nservice = \"dead\"\n");
    listener.until(&["reloaded"]).await;

    // Circuits, by a POST to a port where nobody is, and by hand.
    until("the route", || async { (gateway.send(Method::POST, "/dead", &[], "x").await.status != 404).then_some(()) })
        .await;
    let told = listener.until(&["circuit_opened"]).await;
    assert_eq!(told["circuit_opened"][0]["service"], "dead");
    let id = gateway.admin("/api/topology").await.json()["services"]["dead"]["instances"][0]["id"].clone();
    let url = format!("http://{}/api/services/dead/instances/{}/reset", gateway.admin, id.as_str().unwrap());
    assert_eq!(crate::support::client().post(url).send().await.unwrap().status(), 200);
    listener.until(&["circuit_closed"]).await;

    consul.deregister("web-1").await;
    let told = listener.until(&["instance_left", "route_withdrawn"]).await;
    let mut ids: Vec<_> = told.values().flatten().map(|event| event["id"].as_u64().unwrap()).collect();
    ids.sort_unstable();
    assert!(ids.iter().enumerate().all(|(i, id)| *id == i as u64 + 1), "none is missed or told twice: {ids:?}");
    for event in told.values().flatten() {
        assert!(event["cause"].as_str().is_some_and(|cause| !cause.is_empty()) && event["at"].is_string(), "{event}");
    }
}

#[tokio::test]
async fn who_leaves_does_so_with_the_cause_that_is_known() {
    let consul = Consul::start().await;
    let (a, b) = (Origin::start("a").await, Origin::start("b").await);
    let gateway = Gateway::start(&consul, "").await;
    consul.register("web", "web-1", a.address).await;
    gateway.until_usable("web", 1).await;
    let nowhere = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let mut told = 0;
    for (address, tags, cause) in [
        (b.address, &["lictor"][..], "at another address"),
        (nowhere, &["lictor"], "no longer at an address of use"),
        (a.address, &["lictor"], ""),
        (a.address, &[], "tag"),
    ] {
        consul.register_tagged("web", "web-1", address, tags).await;
        if cause.is_empty() {
            gateway.until_usable("web", 1).await;
            continue;
        }
        told += 1;
        let left = until(cause, || async { gateway.events("instance_left").get(told - 1).cloned() }).await;
        assert!(left["cause"].as_str().unwrap().contains(cause), "{left}");
    }
}

#[tokio::test]
async fn a_listener_that_reads_nothing_holds_up_no_change_and_nobody_else() {
    let origin = Origin::start("a").await;
    let gateway = Gateway::fixed(&format!(
        "[services.web]\ninstances = [\"{}\"]\n[[routes]]\nmatch.path = \"/\"\nservice = \"web\"\n",
        origin.address
    ))
    .await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(2048).unwrap();
    let mut silent = socket.connect(gateway.admin).await.unwrap();
    silent.write_all(b"GET /api/events HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut listener = Listener::start(&gateway).await;
    let id = gateway.admin("/api/topology").await.json()["services"]["web"]["instances"][0]["id"].clone();
    let (client, turns) = (crate::support::client(), 400);
    let read = listener.until_count("instance_restored", turns);
    let switch = async {
        for _ in 0..turns {
            for turn in ["drain", "restore"] {
                let at = format!("http://{}/api/services/web/instances/{}/{turn}", gateway.admin, id.as_str().unwrap());
                assert_eq!(client.post(at).send().await.unwrap().status(), 200);
            }
        }
    };
    tokio::join!(read, switch);
    assert_eq!(gateway.get("/").await.text, "a");
    let ids: Vec<_> = listener.told().into_values().flatten().map(|event| event["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len() as u64, ids.into_iter().max().unwrap(), "all of them, once");
}

#[tokio::test]
async fn an_instance_of_the_configuration_is_said_to_be_listed_there() {
    let gateway = Gateway::fixed("[services.web]\ninstances = [\"127.0.0.1:1\"]\n").await;
    let joined = gateway.until_event("instance_joined").await;
    assert_eq!((&joined["service"], &joined["cause"]), (&"web".into(), &"listed in the configuration".into()));
}
