//! For tests: a real agent in dev mode, on free ports.

use std::{net::TcpListener, path::PathBuf, process::Stdio, sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::{
    process::{Child, Command},
    time::{sleep, timeout},
};

use super::{Client, Consistency, Observe, Settings};

/// A real agent; it ends when this is dropped.
pub struct Real {
    /// The port of its HTTP API.
    pub port: u16,
    http: reqwest::Client,
    arguments: Vec<String>,
    child: Child,
}

impl Real {
    /// A new agent, once it has a leader.
    pub async fn start() -> Self {
        Self::with(Vec::new()).await
    }

    /// The same, with more arguments.
    pub async fn with(more: Vec<String>) -> Self {
        install();
        let ports = free_ports();
        let mut arguments: Vec<String> =
            ["agent", "-dev", "-log-level=err", "-bind=127.0.0.1", "-client=127.0.0.1"].map(str::to_owned).into();
        arguments.extend(["-dns-port=-1", "-grpc-port=-1", "-serf-wan-port=-1"].map(str::to_owned));
        arguments.push(format!("-http-port={}", ports[0]));
        arguments.push(format!("-server-port={}", ports[1]));
        arguments.push(format!("-serf-lan-port={}", ports[2]));
        arguments.extend(more);
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build().unwrap();
        let mut agent = Self { port: ports[0], http, child: spawn(&arguments), arguments };
        agent.until_leader().await;
        agent
    }

    /// Ends it, with all that it knows.
    pub async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }

    /// Starts it again, with nothing known.
    pub async fn restart(&mut self) {
        self.child = spawn(&self.arguments);
        self.until_leader().await;
    }

    /// Registers an instance without checks.
    pub async fn register(&self, service: &str, port: u16, tags: &[&str]) {
        let body = json!({ "ID": format!("{service}-{port}"), "Name": service, "Port": port, "Tags": tags });
        self.put("/v1/agent/service/register", &body).await;
    }

    /// Registers a check of an instance, which fails.
    pub async fn check(&self, instance: &str) {
        let body = json!({ "ID": format!("c-{instance}"), "Name": "c", "ServiceID": instance, "TTL": "60m" });
        self.put("/v1/agent/check/register", &body).await;
    }

    /// Sets the state of that check.
    pub async fn set(&self, instance: &str, status: &str) {
        self.put(&format!("/v1/agent/check/update/c-{instance}"), &json!({ "Status": status })).await;
    }

    /// Puts something to a path.
    pub async fn put(&self, path: &str, body: &Value) {
        let answer = self.http.put(format!("http://127.0.0.1:{}{path}", self.port)).json(body).send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.text().await.unwrap());
    }

    /// Starts it again where it has ended: while it is down, any connection of another test may have got one of its ports for a moment.
    async fn until_leader(&mut self) {
        let url = format!("http://127.0.0.1:{}/v1/status/leader", self.port);
        let led = async {
            loop {
                if let Ok(answer) = self.http.get(&url).send().await
                    && answer.text().await.is_ok_and(|text| text.len() > 4)
                {
                    return;
                }
                if self.child.try_wait().is_ok_and(|ended| ended.is_some()) {
                    self.child = spawn(&self.arguments);
                }
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(Duration::from_secs(30), led).await.expect("the Consul agent has no leader after 30 s");
    }
}

fn free_ports() -> Vec<u16> {
    let listeners: Vec<_> = (0..3).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect()
}

fn spawn(arguments: &[String]) -> Child {
    let mut command = Command::new(find());
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit()).kill_on_drop(true);
    command.spawn().expect("Consul can be started")
}

fn find() -> PathBuf {
    let named = std::env::var_os("CONSUL_BIN").filter(|name| !name.is_empty()).map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|directory| directory.join("consul"));
    let fetched = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(".tools/consul");
    let mut places = named.into_iter().chain(on_path).chain([fetched]);
    places
        .find(|place| place.is_file())
        .expect("this test needs a real Consul: `scripts/consul` fetches one, or set CONSUL_BIN")
}

/// TLS needs a provider, which `main` gives to the program.
pub fn install() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// Settings for an agent, with a short wait.
pub fn settings(address: impl Into<String>) -> Settings {
    Settings {
        address: address.into(),
        token: None,
        token_file: None,
        datacenter: None,
        namespace: None,
        ca: None,
        cert: None,
        key: None,
        consistency: Consistency::Stale,
        max_stale: Duration::from_secs(10),
        wait: Duration::from_mins(1),
    }
}

/// A client that nobody observes.
pub fn client(settings: Settings) -> Arc<Client> {
    struct Nobody;
    impl Observe for Nobody {
        fn request(&self, _: &'static str, _: bool) {}
        fn watches(&self, _: i64) {}
        fn follows(&self, _: bool) {}
        fn answered(&self) {}
        fn beside(&self) -> Arc<dyn Observe> {
            Arc::new(Self)
        }
    }
    install();
    Arc::new(Client::new(settings, Arc::new(Nobody)).unwrap())
}
