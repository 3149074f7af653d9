//! What stands around the gateway in the demo: Consul, two instances of each sample service, Prometheus where there is one,
//! and the calls to try.

use std::env;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::agent::{Agent, registration};
use super::sample::{self, Sample, Store};
use super::scraper::Scraper;

/// Consul and the sample services, as far as they have been set up.
pub struct Stage {
    consul: SocketAddr,
    first_port: u16,
    agent: Option<Agent>,
    registered: Vec<String>,
    /// The demo does without, so that a failure is told and no more.
    scraper: anyhow::Result<Option<Scraper>>,
    services: JoinSet<io::Result<()>>,
    stop: CancellationToken,
}

impl Stage {
    /// An empty stage: `open` fills it, `close` clears it, however far `open` came.
    pub fn new(consul: SocketAddr, first_port: u16) -> Self {
        Self {
            consul,
            first_port,
            agent: None,
            registered: Vec::new(),
            scraper: Ok(None),
            services: JoinSet::new(),
            stop: CancellationToken::new(),
        }
    }

    /// Reaches Consul, or starts one; starts the services and registers them.
    ///
    /// # Errors
    /// When Consul is missing, does not come up or refuses, or no port is free.
    pub async fn open(&mut self) -> anyhow::Result<()> {
        let agent = self.agent.insert(Agent::reach(self.consul).await?);
        let mut ports = self.first_port..self.first_port.saturating_add(PORTS);
        for sample in Sample::ALL {
            let store = Arc::new(Store::new(sample));
            for _ in 0..INSTANCES {
                let listener = bind(&mut ports).await.with_context(|| {
                    format!("no port for the sample services: {} to {} are taken", self.first_port, ports.end - 1)
                })?;
                let address = listener.local_addr()?;
                let name = sample.instance(address.port());
                self.services.spawn(sample::serve(listener, Arc::clone(&store), &name, self.stop.clone())?);
                // Noted first: an answer that got lost may still have been a yes.
                self.registered.push(name);
                agent.register(sample, address).await?;
            }
        }
        let mut jobs = vec![("lictor", SocketAddr::from((Ipv4Addr::LOCALHOST, ADMIN)), "/metrics")];
        if agent.is_own() {
            jobs.push(("consul", self.consul, "/v1/agent/metrics?format=prometheus"));
        }
        self.scraper = Scraper::start(&jobs).await;
        Ok(())
    }

    /// Deregisters and ends what `open` started; an agent that was there before stays.
    pub async fn close(mut self) {
        if let Ok(Some(scraper)) = self.scraper {
            scraper.end().await;
        }
        if let Some(agent) = self.agent {
            for id in &self.registered {
                // What cannot be deregistered is taken out by Consul itself once its check has failed.
                if agent.deregister(id).await.is_err() {
                    break;
                }
            }
            agent.end().await;
        }
        self.stop.cancel();
        let _ = timeout(sample::GRACE, async { while self.services.join_next().await.is_some() {} }).await;
    }

    /// Where the gateway finds Consul.
    pub fn consul(&self) -> String {
        format!("http://{}", self.consul)
    }

    /// What there is and what to try, for a gateway that listens on `port`.
    pub fn calls(&self, port: u16) -> String {
        let admin = ADMIN;
        let lictor = program();
        let consul = self.consul();
        let kept =
            if self.agent.as_ref().is_some_and(Agent::is_own) { "started here" } else { "was running, and stays" };
        let third = SocketAddr::from((Ipv4Addr::LOCALHOST, BY_HAND));
        let (id, register) = (Sample::Users.instance(BY_HAND), registration(Sample::Users, third));
        format!(
            "
lictor    http://localhost:{port}   admin http://localhost:{admin}
Consul    {consul} ({kept})
services  {services}
{metrics}

Try it; x-instance tells who answered:

  curl -i localhost:{port}/api/v1/users/1
  curl localhost:{port}/api/v1/users
  curl 'localhost:{port}/api/v1/experiments?user_id=1'
  curl localhost:{port}/api/v1/metrics -d '{{\"name\":\"loss\",\"value\":0.2}}'
  curl localhost:{port}/api/v1/auth/login -d '{{\"username\":\"alice\",\"password\":\"secret\"}}'
  curl localhost:{port}/api/v1/auth/verify -H 'authorization: Bearer demo-1-alice'
  curl localhost:{port}/health
  curl localhost:{admin}/api/topology
  curl localhost:{admin}/metrics
{query}
A third instance of users, from another terminal in this directory, shares the load as soon as Consul knows it:

  {lictor} demo users --listen {third} &
  curl -X PUT {consul}/v1/agent/service/register -d '{register}'
  for i in 1 2 3 4 5 6; do curl -si localhost:{port}/api/v1/users/1 | grep x-instance; done

and gets nothing more once Consul forgets it:

  curl -X PUT {consul}/v1/agent/service/deregister/{id}
  kill %1

Ctrl-C ends and deregisters all of this.

",
            services = self.registered.join(" "),
            metrics = self.metrics(),
            query = self.query(port),
        )
    }

    /// Where metrics are to be seen.
    fn metrics(&self) -> String {
        match &self.scraper {
            Ok(Some(scraper)) if scraper.has_pages() => format!("metrics   {}/graph", scraper.url()),
            Ok(Some(scraper)) => format!("metrics   {} (Prometheus' API; without its pages)", scraper.url()),
            Ok(None) => format!(
                "metrics   http://localhost:{ADMIN}/metrics (with Prometheus on the PATH, or fetched by scripts/prometheus, \
                 it would scrape them)"
            ),
            Err(error) => format!("metrics   http://localhost:{ADMIN}/metrics (Prometheus did not come up: {error:#})"),
        }
    }

    /// How Prometheus is asked, where there is one.
    fn query(&self, port: u16) -> String {
        let Ok(Some(scraper)) = &self.scraper else { return String::new() };
        format!(
            "
Prometheus scrapes all of it every five seconds. With something to count, for a while and from another terminal,

  while sleep 0.1; do curl -s -o /dev/null localhost:{port}/api/v1/users/1; done

it tells, after a quarter of a minute, the requests by service in a second; and at once the instances by state:

  curl -s {url}/api/v1/query --data-urlencode 'query=sum by (service) (rate(lictor_request_total[1m]))'
  curl -s {url}/api/v1/query --data-urlencode 'query=lictor_instances'

A Grafana that has {url} as a source of data shows grafana/dashboards/*.json.
",
            url = scraper.url()
        )
    }
}

async fn bind(ports: &mut std::ops::Range<u16>) -> io::Result<TcpListener> {
    loop {
        let port = ports.next().ok_or(io::ErrorKind::AddrInUse)?;
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            bound => return bound,
        }
    }
}

/// This program, as one would type it here.
fn program() -> String {
    let Ok(program) = env::current_exe() else { return "lictor".into() };
    let here = env::current_dir().unwrap_or_default();
    program.strip_prefix(&here).unwrap_or(&program).display().to_string()
}

/// From here on, ports are tried for the sample services.
pub const FIRST_PORT: u16 = 8101;
const PORTS: u16 = 90;
const BY_HAND: u16 = 8199;
const INSTANCES: usize = 2;
/// Where the gateway's admin side is, unless it is told otherwise.
const ADMIN: u16 = 9901;

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    async fn free_address() -> SocketAddr {
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap()
    }

    async fn get(url: &str) -> (reqwest::header::HeaderMap, Value) {
        let response = reqwest::Client::builder().no_proxy().build().unwrap().get(url).send().await.unwrap();
        (response.headers().clone(), response.json().await.unwrap())
    }

    async fn ports_in_consul(consul: &str, service: &str) -> Vec<u16> {
        let (_, instances) = get(&format!("{consul}/v1/health/service/{service}?passing&tag=lictor")).await;
        let ports = instances.as_array().unwrap().iter().map(|instance| &instance["Service"]["Port"]);
        ports.map(|port| u16::try_from(port.as_u64().unwrap()).unwrap()).collect()
    }

    fn provide_tls() {
        // Another test may have been first.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    }

    #[tokio::test]
    async fn the_stage_is_served_from_consul_and_can_be_set_twice_in_a_row() {
        provide_tls();
        let (consul, first) = (free_address().await, free_address().await.port());
        for _ in 0..2 {
            let mut stage = Stage::new(consul, first);
            stage.open().await.unwrap();
            for sample in Sample::ALL {
                let ports = ports_in_consul(&stage.consul(), sample.name()).await;
                assert_eq!(ports.len(), INSTANCES, "{sample:?}");
                for port in ports {
                    let (headers, health) = get(&format!("http://127.0.0.1:{port}/health")).await;
                    assert_eq!(headers["x-instance"], sample.instance(port));
                    assert_eq!(health["status"], "healthy");
                }
            }
            let port = ports_in_consul(&stage.consul(), "users").await[0];
            for path in ["/1", "/api/v1/users/1"] {
                let (_, user) = get(&format!("http://127.0.0.1:{port}{path}")).await;
                assert_eq!(user["username"], "alice", "{path}");
            }
            stage.close().await;
            TcpListener::bind(consul).await.expect("its own agent has ended");
        }
    }

    #[tokio::test]
    async fn an_agent_that_was_there_stays_and_is_left_as_it_was() {
        provide_tls();
        let (consul, first) = (free_address().await, free_address().await.port());
        let there = Agent::reach(consul).await.unwrap();
        let mut stage = Stage::new(consul, first);
        stage.open().await.unwrap();
        assert!(stage.calls(8000).contains("was running, and stays"));

        stage.close().await;

        let (_, services) = get(&format!("{}/v1/agent/services", there.url())).await;
        assert_eq!(services, serde_json::json!({}));
        there.end().await;
    }

    #[tokio::test]
    async fn something_else_in_place_of_consul_is_named() {
        provide_tls();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let other = sample::serve(listener, Arc::new(Store::new(Sample::Users)), "other", CancellationToken::new());
        let mut serving = JoinSet::new();
        serving.spawn(other.unwrap());

        let mut stage = Stage::new(address, 8101);
        let error = stage.open().await.unwrap_err();
        stage.close().await;

        assert_eq!(error.to_string(), format!("what answers on http://{address} is no Consul that can be used"));
    }

    #[tokio::test]
    async fn taken_ports_are_passed_over_until_there_are_no_more() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = bind(&mut (port..port + 1)).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
