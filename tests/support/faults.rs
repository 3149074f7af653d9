//! A Consul that can be made to misbehave as the real one cannot: one service, a catalog, and a fault on demand.

use std::{net::SocketAddr, sync::Arc};

use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, sync::watch};

use super::{
    Origin,
    origin::{Connection, Got},
};

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// This status with this text.
    Status(u16, &'static str),
    /// A good body without `X-Consul-Index`.
    NoIndex,
    /// An index that is no number.
    BadIndex,
    /// 200 with a page for people.
    Html,
    /// 200 with `null`.
    Null,
    /// A body that breaks off in the middle.
    HalfBody,
    /// The connection is accepted and nothing is said.
    Silence,
}

/// What it tells while nothing is wrong.
#[derive(Clone, Debug)]
struct World {
    fault: Fault,
    index: u64,
    instances: Vec<(String, SocketAddr)>,
}

/// Tells of one service, `web`, which carries the tag that exposes.
pub struct FakeConsul {
    origin: Origin,
    world: Arc<watch::Sender<World>>,
}

impl FakeConsul {
    pub async fn start(index: u64, instances: &[(&str, SocketAddr)]) -> Self {
        let instances = instances.iter().map(|(id, address)| ((*id).to_owned(), *address)).collect();
        let world = Arc::new(watch::Sender::new(World { fault: Fault::None, index, instances }));
        let origin = Origin::serving({
            let world = world.clone();
            move |connection| serve(connection, world.subscribe())
        })
        .await;
        Self { origin, world }
    }

    pub fn address(&self) -> String {
        format!("http://{}", self.origin.address)
    }

    /// From now on this is wrong, also with the answers that are awaited.
    pub fn fault(&self, fault: Fault) {
        self.world.send_modify(|world| world.fault = fault);
    }

    /// All is well, and these are the instances.
    pub fn tell(&self, index: u64, instances: &[(&str, SocketAddr)]) {
        let instances = instances.iter().map(|(id, address)| ((*id).to_owned(), *address)).collect();
        self.world.send_replace(World { fault: Fault::None, index, instances });
    }

    /// Requests so far.
    pub fn count(&self) -> usize {
        self.origin.count()
    }
}

async fn serve(mut connection: Connection, mut world: watch::Receiver<World>) {
    while let Some(got) = connection.request().await {
        let asked = query(&got, "index").and_then(|index| index.parse().ok());
        // A blocking query: it waits until there is something else to say.
        let now = world.wait_for(|now| asked != Some(now.index) || now.fault != Fault::None).await;
        let Ok(now) = now.map(|now| now.clone()) else { return };
        if now.fault == Fault::Silence {
            let _ = world.wait_for(|now| now.fault != Fault::Silence).await;
            return;
        }
        if connection.stream.write_all(&answer(&got, &now)).await.is_err() || now.fault == Fault::HalfBody {
            return;
        }
    }
}

fn answer(got: &Got, world: &World) -> Vec<u8> {
    let path = got.line().split([' ', '?']).nth(1).unwrap();
    let body = good(path, world).to_string();
    // The leader is known whatever else is wrong, but where the fault says that there is none.
    let leader = path == "/v1/status/leader" && !matches!(world.fault, Fault::Status(500, _));
    let kv = path.starts_with("/v1/kv/");
    let (status, index, body) = match world.fault {
        // It has no document.
        Fault::None if kv => (404, Some(world.index.to_string()), String::new()),
        _ if leader => (200, None, body),
        Fault::None | Fault::HalfBody | Fault::Silence => (200, Some(world.index.to_string()), body),
        Fault::Status(status, text) => (status, None, text.to_owned()),
        Fault::NoIndex => (200, None, body),
        Fault::BadIndex => (200, Some("soon".to_owned()), body),
        Fault::Html => (200, Some("9".to_owned()), "<html>It works!</html>".to_owned()),
        Fault::Null => (200, Some("9".to_owned()), "null".to_owned()),
    };
    let index = index.map(|index| format!("x-consul-index: {index}\r\n")).unwrap_or_default();
    let sent = if world.fault == Fault::HalfBody && !leader { &body[..body.len() / 2] } else { &body };
    format!("HTTP/1.1 {status} X\r\n{index}content-length: {}\r\n\r\n{sent}", body.len()).into_bytes()
}

fn good(path: &str, world: &World) -> Value {
    match path {
        "/v1/status/leader" => json!("127.0.0.1:8300"),
        "/v1/catalog/services" => json!({ "consul": [], "web": ["lictor"] }),
        "/v1/internal/ui/nodes" => {
            let told = |(id, address): &(String, SocketAddr)| json!({ "ID": id, "Service": "web", "ModifyIndex": address.port() });
            json!([{ "Node": "n1", "Services": world.instances.iter().map(told).collect::<Vec<_>>() }])
        }
        "/v1/health/state/any" => json!([{ "Node": "n1", "CheckID": "serfHealth", "Status": "passing" }]),
        _ => world.instances.iter().map(|(id, address)| entry(id, *address)).collect(),
    }
}

/// As a real agent writes it, as far as anybody reads it.
fn entry(id: &str, address: SocketAddr) -> Value {
    json!({
        "Node": { "Node": "n1", "Address": "127.0.0.1", "Datacenter": "dc1", "Meta": {} },
        "Service": {
            "ID": id, "Service": "web", "Tags": ["lictor"], "Address": address.ip(), "Port": address.port(),
            "Meta": {}, "Weights": { "Passing": 1, "Warning": 1 }, "CreateIndex": 7, "ModifyIndex": 7,
        },
        "Checks": [{ "Node": "n1", "CheckID": "serfHealth", "Status": "passing", "ServiceID": "" }],
    })
}

fn query<'a>(got: &'a Got, name: &str) -> Option<&'a str> {
    let query = got.line().split(' ').nth(1)?.split_once('?')?.1;
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}
