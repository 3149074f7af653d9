//! Consul's side of the demo: the agent that is there already, or one in dev mode of our own; registering in it.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::{Sample, found};

/// An agent of Consul, reached at one address.
pub struct Agent {
    http: Client,
    url: String,
    own: Option<Own>,
}

/// The agent that we started ourselves.
struct Own {
    child: Child,
    log: Log,
    _reading: JoinSet<()>,
}

/// The last lines that an agent wrote.
type Log = Arc<Mutex<VecDeque<String>>>;

impl Agent {
    /// The agent that answers on `address`, else a new one in dev mode, once it has a leader.
    ///
    /// # Errors
    /// When something else answers there, Consul is not to be found, or it does not come up in time.
    pub async fn reach(address: SocketAddr) -> anyhow::Result<Self> {
        // No proxy of the environment: the agent is on this machine.
        let http = Client::builder().no_proxy().timeout(Duration::from_secs(5)).build()?;
        let mut agent = Self { http, url: format!("http://{address}"), own: None };
        match agent.leader().await {
            Ok(_) => {}
            Err(error) if error.downcast_ref().is_some_and(reqwest::Error::is_connect) => {
                agent.own = Some(start(address).await?);
            }
            Err(error) => {
                return Err(error.context(format!("what answers on {} is no Consul that can be used", agent.url)));
            }
        }
        agent.until_leader().await?;
        Ok(agent)
    }

    /// Where its HTTP API is.
    #[cfg(test)]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Whether it was started here, and ends with the demo.
    pub fn is_own(&self) -> bool {
        self.own.is_some()
    }

    /// Registers one instance, healthy from the start so that it is served at once.
    ///
    /// # Errors
    /// When the agent refuses or does not answer.
    pub async fn register(&self, sample: Sample, address: SocketAddr) -> anyhow::Result<()> {
        self.put("/v1/agent/service/register", Some(&registration(sample, address))).await
    }

    /// Takes one instance away.
    ///
    /// # Errors
    /// When the agent refuses or does not answer.
    pub async fn deregister(&self, id: &str) -> anyhow::Result<()> {
        self.put(&format!("/v1/agent/service/deregister/{id}"), None).await
    }

    /// Ends the agent if it is our own.
    pub async fn end(self) {
        if let Some(mut own) = self.own {
            let _ = own.child.kill().await;
        }
    }

    async fn put(&self, path: &str, body: Option<&Value>) -> anyhow::Result<()> {
        let url = format!("{}{path}", self.url);
        let request = self.http.put(&url);
        let request = if let Some(body) = body { request.json(body) } else { request };
        let response = request.send().await?;
        let status = response.status();
        if !status.is_success() {
            let text = response.text().await.unwrap_or_default();
            bail!("Consul answered {status} to `PUT {url}`: {}", text.trim());
        }
        Ok(())
    }

    /// The address of the leader, if there is one yet.
    async fn leader(&self) -> anyhow::Result<Option<String>> {
        let response = self.http.get(format!("{}/v1/status/leader", self.url)).send().await?;
        match response.status() {
            StatusCode::OK => Ok(Some(response.json::<String>().await?).filter(|leader| !leader.is_empty())),
            // An agent that is still starting.
            StatusCode::INTERNAL_SERVER_ERROR => Ok(None),
            status => bail!("`/v1/status/leader` is answered with {status}"),
        }
    }

    async fn until_leader(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_LIMIT;
        loop {
            if let Ok(Some(_)) = self.leader().await {
                return Ok(());
            }
            if let Some(own) = &mut self.own
                && let Some(status) = own.child.try_wait()?
            {
                bail!("the Consul agent ended ({status}); its last words:\n{}", last_words(&own.log));
            }
            if Instant::now() >= deadline {
                let words = self.own.as_ref().map(|own| last_words(&own.log)).unwrap_or_default();
                bail!("Consul on {} has no leader after {} s\n{words}", self.url, START_LIMIT.as_secs());
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
}

/// What is sent to register one instance, also by hand.
pub fn registration(sample: Sample, address: SocketAddr) -> Value {
    json!({
        "ID": sample.instance(address.port()),
        "Name": sample.name(),
        "Address": address.ip(),
        "Port": address.port(),
        "Tags": ["lictor"],
        "Check": {
            "HTTP": format!("http://{address}/health"),
            "Interval": "10s",
            "Status": "passing",
            "DeregisterCriticalServiceAfter": "1m",
        },
    })
}

async fn start(address: SocketAddr) -> anyhow::Result<Own> {
    let program = found("CONSUL_BIN", "consul")
        .context("no Consul: `make demo` fetches one into .tools/; else set CONSUL_BIN or put `consul` on the PATH")?;
    // The ports between agents are of no use here, and Consul's usual ones may be taken.
    let (server, gossip) = (free_port().await?, free_port().await?);
    let mut child = Command::new(&program)
        .args(["agent", "-dev", "-log-level=warn", "-bind=127.0.0.1"])
        .arg(format!("-client={}", address.ip()))
        .arg(format!("-http-port={}", address.port()))
        .arg(format!("-server-port={server}"))
        .arg(format!("-serf-lan-port={gossip}"))
        .args(["-serf-wan-port=-1", "-dns-port=-1", "-grpc-port=-1"])
        // Else it has no metrics in Prometheus' format.
        .args(["-hcl", r#"telemetry { prometheus_retention_time = "1m" disable_hostname = true }"#])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        // Ctrl-C in a terminal must not reach it: it has to be there until all is deregistered.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot start Consul as `{}`", program.display()))?;
    let log = Log::default();
    let mut reading = JoinSet::new();
    if let Some(out) = child.stdout.take() {
        let mut lines = BufReader::new(out).lines();
        let log = Arc::clone(&log);
        reading.spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
                log.truncate(KEPT_LINES - 1);
                log.push_front(line);
            }
        });
    }
    Ok(Own { child, log, _reading: reading })
}

async fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?.local_addr()?.port())
}

fn last_words(log: &Log) -> String {
    let lines = log.lock().unwrap_or_else(PoisonError::into_inner);
    lines.iter().rev().map(|line| ["  ", line, "\n"].concat()).collect()
}

/// Where Consul's HTTP API usually is.
pub const DEFAULT: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 8500));
const START_LIMIT: Duration = Duration::from_secs(20);
const KEPT_LINES: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    /// As Python's `consul.agent.service.register(name, address, port, check = Check.http(…, interval = "10s"))` sends it,
    /// with what makes it served at once and what takes it out when the demo crashed.
    #[test]
    fn a_sample_is_registered_with_its_address_and_a_check_by_http_every_ten_seconds() {
        for (address, url) in
            [("127.0.0.1:8101", "http://127.0.0.1:8101/health"), ("[::1]:8101", "http://[::1]:8101/health")]
        {
            let address: SocketAddr = address.parse().unwrap();
            let told = registration(Sample::Users, address);
            assert_eq!((&told["Name"], &told["ID"]), (&"users".into(), &Sample::Users.instance(8101).into()));
            assert_eq!((&told["Address"], &told["Port"]), (&address.ip().to_string().into(), &8101.into()));
            assert_eq!((&told["Check"]["HTTP"], &told["Check"]["Interval"]), (&url.into(), &"10s".into()));
        }
    }
}
