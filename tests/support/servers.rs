//! Three servers of Consul, of which a majority is needed for a leader.

use std::process::Stdio;

use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::{client, consul, until};

/// The servers. End with the test.
pub struct Servers {
    folder: TempDir,
    ports: Vec<[u16; 3]>,
    children: Vec<Option<Child>>,
    http: reqwest::Client,
}

impl Servers {
    /// Starts three and waits until they have a leader.
    pub async fn start() -> Self {
        let ports: Vec<_> = (0..3).map(|_| consul::free_ports()).collect();
        let children = vec![None, None, None];
        let mut servers = Self { folder: tempfile::tempdir().unwrap(), ports, children, http: client() };
        for which in 0..3 {
            servers.run(which);
        }
        servers.until_leader().await;
        servers
    }

    /// Starts one of them again, with what it knows.
    pub fn run(&mut self, which: usize) {
        let [api, server, gossip] = self.ports[which];
        let mut command = Command::new(consul::program());
        command
            .args(["agent", "-server", "-bootstrap-expect=3", "-log-level=err", "-bind=127.0.0.1", "-client=127.0.0.1"])
            .args([format!("-http-port={api}"), format!("-server-port={server}"), format!("-serf-lan-port={gossip}")])
            .args(["-serf-wan-port=-1", "-dns-port=-1", "-grpc-port=-1", "-disable-host-node-id"])
            .args(["-hcl=performance { raft_multiplier = 1 }", "-retry-interval=1s"])
            .args([
                format!("-node=server-{which}"),
                format!("-data-dir={}", self.folder.path().join(which.to_string()).display()),
            ]);
        for [_, _, other] in &self.ports {
            command.arg(format!("-retry-join=127.0.0.1:{other}"));
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        self.children[which] = Some(command.spawn().unwrap());
    }

    /// Ends one of them at once.
    pub async fn kill(&mut self, which: usize) {
        if let Some(mut child) = self.children[which].take() {
            child.kill().await.unwrap();
        }
    }

    /// Waits until the first of them knows a leader.
    pub async fn until_leader(&self) {
        until("a leader of three servers", || async {
            let url = self.address() + "/v1/status/leader";
            let leader = self.http.get(url).send().await.ok()?.text().await.ok()?;
            (leader.len() > 4).then_some(())
        })
        .await;
    }

    /// The address of the first.
    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports[0][0])
    }

    /// Puts a document to the first, once it takes it.
    pub async fn put(&self, path: &str, body: &serde_json::Value) {
        until(path, || async {
            let answer = self.http.put(self.address() + path).json(body).send().await.ok()?;
            answer.status().is_success().then_some(())
        })
        .await;
    }
}
