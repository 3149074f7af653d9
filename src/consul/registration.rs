//! Puts a service of ours into the agent, with a check that we pass ourselves.
//!
//! Source: Consul's agent API, services and checks (`/v1/agent/service/register`, `/v1/agent/check/update`).

use std::time::Duration;

use reqwest::Method;
use serde::Serialize;

use super::{client::Client, error::Error};
use crate::model::path::encode_segment;

/// What the agent is told of us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// Unique at this agent.
    pub id: String,
    /// The service's name.
    pub name: String,
    /// Where we are reached; `None`: where the agent's node is.
    pub address: Option<String>,
    /// Our port.
    pub port: u16,
    /// Our tags.
    pub tags: Vec<String>,
    /// The check fails by itself when it has not been passed for so long.
    pub ttl: Duration,
    /// After so long in failure the agent forgets us.
    pub forget_after: Duration,
}

/// How we say that we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The check passes.
    Passing,
    /// It fails, for this reason.
    Critical(&'static str),
}

impl Standing {
    fn status(self) -> &'static str {
        match self {
            Self::Passing => "passing",
            Self::Critical(_) => "critical",
        }
    }

    /// The same text each time: the agent tells its servers of every other one.
    fn output(self) -> &'static str {
        match self {
            Self::Passing => "ready",
            Self::Critical(why) => why,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Service<'a> {
    #[serde(rename = "ID")]
    id: &'a str,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<&'a str>,
    port: u16,
    tags: &'a [String],
    check: Check<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Check<'a> {
    #[serde(rename = "CheckID")]
    id: String,
    name: &'static str,
    #[serde(rename = "TTL")]
    ttl: String,
    status: &'a str,
    deregister_critical_service_after: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Update {
    status: &'static str,
    output: &'static str,
}

impl Client {
    /// Registers, in place of what had the same id.
    ///
    /// # Errors
    /// The agent did not take it.
    pub async fn register(&self, registration: &Registration, standing: Standing) -> Result<(), Error> {
        let duration = |duration: Duration| format!("{}ms", duration.as_millis());
        let service = Service {
            id: &registration.id,
            name: &registration.name,
            address: registration.address.as_deref(),
            port: registration.port,
            tags: &registration.tags,
            check: Check {
                id: check(&registration.id),
                name: "ready to serve",
                ttl: duration(registration.ttl),
                status: standing.status(),
                deregister_critical_service_after: duration(registration.forget_after),
            },
        };
        self.put("agent_service_register", "/v1/agent/service/register", Some(&service)).await?;
        // The agent keeps the standing of a check that it knows already.
        self.stand(&registration.id, standing).await
    }

    /// Says how we are; to be said again before `ttl` is over.
    ///
    /// # Errors
    /// The agent did not take it, which may be since it does not know us any more.
    pub async fn stand(&self, id: &str, standing: Standing) -> Result<(), Error> {
        let path = format!("/v1/agent/check/update/{}", encode_segment(&check(id)));
        let update = Update { status: standing.status(), output: standing.output() };
        self.put("agent_check_update", &path, Some(&update)).await
    }

    /// Takes us out.
    ///
    /// # Errors
    /// The agent did not do it.
    pub async fn deregister(&self, id: &str) -> Result<(), Error> {
        let path = format!("/v1/agent/service/deregister/{}", encode_segment(id));
        self.put("agent_service_deregister", &path, None::<&()>).await
    }

    async fn put(&self, endpoint: &'static str, path: &str, document: Option<&impl Serialize>) -> Result<(), Error> {
        let _permit = self.permit().await;
        let told = self.send(Method::PUT, path, document).await;
        self.observed(endpoint, told.is_ok());
        told.map(|_| ())
    }
}

/// As the agent itself names the check of a service that has one.
fn check(id: &str) -> String {
    format!("service:{id}")
}
