//! The real agent of Consul, in dev mode, on free ports.

use std::{
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::Stdio,
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    process::{Child, Command},
    time::sleep,
};

use super::{PATIENCE, client_elsewhere, now, signal, until};

/// One agent, with nothing registered but itself. Ends with the test.
pub struct Consul {
    ports: [u16; 4],
    token: Option<String>,
    child: Option<Child>,
    http: reqwest::Client,
    flags: Vec<String>,
    /// Where it gossips with other datacenters, if it does.
    is_wide: bool,
}

impl Consul {
    /// Starts an agent and waits until it has a leader.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// The same, with more flags.
    pub async fn start_with(flags: &[&str]) -> Self {
        Self::start_as(flags, None).await
    }

    /// Starts the agent of a datacenter that others may be joined to.
    pub async fn start_in(datacenter: &str) -> Self {
        Self::launched(vec![format!("-datacenter={datacenter}")], None, true).await
    }

    /// Starts the agent of another datacenter, and waits until this one knows a way to it.
    pub async fn start_beside(&self, datacenter: &str) -> Self {
        let join = format!("-retry-join-wan=127.0.0.1:{}", self.ports[3]);
        let other = Self::launched(vec![format!("-datacenter={datacenter}"), join], None, true).await;
        self.until_known(datacenter).await;
        other
    }

    /// Waits until it knows a way to another datacenter.
    pub async fn until_known(&self, datacenter: &str) {
        until(&format!("a way to {datacenter}"), || async {
            let url = self.url(&format!("/v1/health/service/consul?dc={datacenter}"));
            let answer = self.http.get(url).send().await.ok()?;
            answer.status().is_success().then_some(())
        })
        .await;
    }

    /// The same, with a token that its own calls are made with.
    pub async fn start_as(flags: &[&str], token: Option<&str>) -> Self {
        let flags = flags.iter().map(ToString::to_string).collect();
        Self::launched(flags, token.map(ToOwned::to_owned), false).await
    }

    async fn launched(flags: Vec<String>, token: Option<String>, is_wide: bool) -> Self {
        let mut consul = Self { ports: free_ports(), token, child: None, http: client_elsewhere(), flags, is_wide };
        while !consul.launch().await {
            consul.ports = free_ports(); // somebody else was faster
        }
        consul
    }

    fn with_token(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        match &self.token {
            Some(token) => request.header("x-consul-token", token),
            None => request,
        }
    }

    /// Starts it again, empty, where it was: its indexes begin anew.
    pub async fn restart(&mut self) {
        self.kill().await;
        // A connection of another test may begin at one of the ports for a moment.
        let started = now();
        while !self.launch().await {
            assert!(started.elapsed() < PATIENCE, "Consul does not start again on its ports");
        }
    }

    /// Starts it and waits until it has a leader; false when it ends instead.
    async fn launch(&mut self) -> bool {
        let [api, server, gossip, wide] = self.ports;
        let wide = if self.is_wide { wide.to_string() } else { "-1".to_owned() };
        let mut agent = Command::new(program())
            .args(["agent", "-dev", "-log-level=err", "-bind=127.0.0.1", "-client=127.0.0.1"])
            .args([format!("-http-port={api}"), format!("-server-port={server}"), format!("-serf-lan-port={gossip}")])
            .args([&format!("-serf-wan-port={wide}"), "-dns-port=-1", "-grpc-port=-1"])
            .args(&self.flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let started = now();
        while !self.is_led().await {
            if agent.try_wait().unwrap().is_some() {
                return false;
            }
            assert!(started.elapsed() < PATIENCE, "waited in vain: a leader of Consul");
            sleep(Duration::from_millis(5)).await;
        }
        self.child = Some(agent);
        true
    }

    async fn is_led(&self) -> bool {
        let get = async |path| self.with_token(self.http.get(self.url(path))).send().await.ok()?.text().await.ok();
        // The agent's own node comes into the catalog a moment after the leader.
        let [leader, nodes] = [get("/v1/status/leader").await, get("/v1/catalog/nodes").await];
        [leader, nodes].iter().all(|told| told.as_ref().is_some_and(|told| told.len() > 4))
    }

    /// Ends it at once, as a crash would.
    pub async fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().await.unwrap();
        }
    }

    /// Lets it hang: it accepts connections and answers nothing.
    pub fn stop(&self) {
        signal(self.pid(), "STOP");
    }

    /// Lets it go on.
    pub fn resume(&self) {
        signal(self.pid(), "CONT");
    }

    fn pid(&self) -> u32 {
        self.child.as_ref().and_then(Child::id).unwrap()
    }

    /// Its address as the configuration takes it.
    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports[0])
    }

    fn url(&self, path: &str) -> String {
        self.address() + path
    }

    /// Registers `id` as an instance of `service` with the tag that exposes.
    pub async fn register(&self, service: &str, id: &str, address: SocketAddr) {
        self.register_tagged(service, id, address, &["lictor"]).await;
    }

    /// The same, with these tags alone.
    pub async fn register_tagged(&self, service: &str, id: &str, address: SocketAddr, tags: &[&str]) {
        let registration = json!({
            "ID": id, "Name": service, "Address": address.ip(), "Port": address.port(), "Tags": tags,
        });
        self.put("/v1/agent/service/register", &registration).await;
    }

    /// Registers with a check that [`Consul::check`] sets; it passes at first.
    pub async fn register_checked(&self, service: &str, id: &str, address: SocketAddr) {
        let registration = json!({
            "ID": id, "Name": service, "Address": address.ip(), "Port": address.port(), "Tags": ["lictor"],
            "Check": { "TTL": "1h", "Status": "passing" },
        });
        self.put("/v1/agent/service/register", &registration).await;
    }

    /// Sets the check of an instance: `pass`, `warn` or `fail`.
    pub async fn check(&self, id: &str, state: &str) {
        self.put(&format!("/v1/agent/check/{state}/service:{id}"), &Value::Null).await;
    }

    /// Registers many instances at once, by service and id, on a node that has no agent and no checks.
    pub async fn register_many(&self, node: &str, instances: &[(String, String, SocketAddr)]) {
        assert!(self.try_register_many(node, instances).await, "Consul refused");
    }

    /// Registers services `s0`, `s1` … with an instance at each of these addresses, on so many nodes, `n0` and on.
    pub async fn register_services(&self, services: usize, addresses: &[SocketAddr], nodes: usize) {
        for node in 0..nodes {
            let ours = (node..services).step_by(nodes);
            let instances = ours.flat_map(|n| {
                let named = move |(i, address): (usize, &SocketAddr)| (format!("s{n}"), format!("s{n}-{i}"), *address);
                addresses.iter().enumerate().map(named)
            });
            self.register_many(&format!("n{node}"), &instances.collect::<Vec<_>>()).await;
        }
    }

    /// Whether that was accepted.
    pub async fn try_register_many(&self, node: &str, instances: &[(String, String, SocketAddr)]) -> bool {
        let at = json!({ "Verb": "set", "Node": { "Node": node, "Address": "127.0.0.1" } });
        let mut operations = vec![json!({ "Node": at })];
        operations.extend(instances.iter().map(|(service, id, address)| {
            let service = json!({
                "ID": id, "Service": service, "Address": address.ip(), "Port": address.port(), "Tags": ["lictor"],
            });
            json!({ "Service": { "Verb": "set", "Node": node, "Service": service } })
        }));
        // The most that one transaction may have.
        for some in operations.chunks(64) {
            if !self.try_put("/v1/txn", &some.into()).await {
                return false;
            }
        }
        true
    }

    /// Sets a check of an instance of such a node, or of the node itself: `passing`, `warning` or `critical`.
    pub async fn check_on(&self, node: &str, id: &str, status: &str) {
        let check = json!({ "CheckID": format!("c:{id}"), "Name": "c", "ServiceID": id, "Status": status });
        let body = json!({ "Node": node, "Address": "127.0.0.1", "SkipNodeUpdate": true, "Check": check });
        self.put("/v1/catalog/register", &body).await;
    }

    /// Takes an instance of such a node away.
    pub async fn deregister_on(&self, node: &str, id: &str) {
        self.put("/v1/catalog/deregister", &json!({ "Node": node, "ServiceID": id })).await;
    }

    /// Takes an instance away.
    pub async fn deregister(&self, id: &str) {
        self.put(&format!("/v1/agent/service/deregister/{id}"), &Value::Null).await;
    }

    /// Has an ACL policy say something else.
    pub async fn replace_policy(&self, name: &str, rules: &str) {
        let policies = self.with_token(self.http.get(self.url("/v1/acl/policies"))).send().await.unwrap();
        let policies: Vec<Value> = policies.json().await.unwrap();
        let id = policies.iter().find(|policy| policy["Name"] == name).unwrap()["ID"].as_str().unwrap().to_owned();
        self.put(&format!("/v1/acl/policy/{id}"), &json!({ "ID": id, "Name": name, "Rules": rules })).await;
    }

    /// Has a token be unknown from now on.
    pub async fn forget_token(&self, secret: &str) {
        let own = self.http.get(self.url("/v1/acl/token/self")).header("x-consul-token", secret);
        let own: Value = own.send().await.unwrap().json().await.unwrap();
        let url = self.url(&format!("/v1/acl/token/{}", own["AccessorID"].as_str().unwrap()));
        assert!(self.with_token(self.http.delete(url)).send().await.unwrap().status().is_success());
    }

    /// Writes a key of the KV.
    pub async fn set(&self, key: &str, text: &str) {
        let request = self.with_token(self.http.put(self.url(&format!("/v1/kv/{key}")))).body(text.to_owned());
        assert!(request.send().await.unwrap().status().is_success(), "KV {key}");
    }

    /// Deletes a key of the KV.
    pub async fn unset(&self, key: &str) {
        let request = self.with_token(self.http.delete(self.url(&format!("/v1/kv/{key}"))));
        assert!(request.send().await.unwrap().status().is_success(), "KV {key}");
    }

    /// What a GET is answered with.
    pub async fn get(&self, path: &str) -> Value {
        self.with_token(self.http.get(self.url(path))).send().await.unwrap().json().await.unwrap()
    }

    /// Whether a PUT was accepted.
    pub async fn try_put(&self, path: &str, body: &Value) -> bool {
        let request = self.with_token(self.http.put(self.url(path))).json(body);
        request.send().await.is_ok_and(|answer| answer.status().is_success())
    }

    /// Any PUT of the agent's API; answers when Consul has acknowledged it.
    pub async fn put(&self, path: &str, body: &Value) {
        let request = self.with_token(self.http.put(self.url(path)));
        let request = if body.is_null() { request } else { request.json(body) };
        let answer = request.send().await.unwrap();
        let status = answer.status();
        assert!(status.is_success(), "PUT {path}: {status} {}", answer.text().await.unwrap_or_default());
    }
}

/// Ports that were free a moment ago.
pub fn free_ports<const N: usize>() -> [u16; N] {
    let held: [TcpListener; N] = std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    held.map(|listener| listener.local_addr().unwrap().port())
}

/// `make test` says which Consul it is, and fetches one where there is none.
pub fn program() -> PathBuf {
    let named = std::env::var_os("CONSUL_BIN").filter(|name| !name.is_empty()).map(PathBuf::from);
    let fetched = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.tools/consul"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|folder| folder.join("consul"));
    let mut places = named.into_iter().chain(on_path).chain([fetched]);
    places.find(|place| place.is_file()).expect("no Consul: `make setup` fetches one; or set CONSUL_BIN")
}
