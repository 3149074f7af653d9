//! What the token may not do. Consul leaves what may not be read out of its answers, as if it were not there: it has to be
//! asked to tell the two apart.

use std::{fmt, time::Duration};

use reqwest::Method;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use super::{
    client::{Client, Turn},
    error::{Error, Kind},
    jitter,
};

/// Something that is to be read, or written where it says so. A service or node without a name stands for all.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Right {
    /// A service, by its name in Consul.
    Service(String),
    /// A node.
    Node(String),
    /// A key in the KV.
    Key(String),
    /// A service that is to be registered, by its name.
    Register(String),
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Asked<'a> {
    resource: &'static str,
    segment: &'a str,
    access: &'static str,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Told {
    allow: bool,
}

impl Client {
    /// Those of these that the token may not read. None where Consul does not say, as without ACLs.
    pub async fn denied(&self, rights: &[Right]) -> Vec<Right> {
        those(self.allowed(rights, Turn::Free).await, false)
    }

    /// The same, once Consul says it.
    pub async fn surely_denied(&self, rights: &[Right]) -> Vec<Right> {
        loop {
            self.gate().well(None, self).await;
            let told = self.allowed(rights, Turn::Waits).await;
            if told.len() == rights.len() {
                return those(told, false);
            }
            sleep(jitter::about(INTERVAL)).await;
        }
    }

    /// Those of these that the token has by now, asked as what may well be for nothing. Told when all servers know it: one
    /// that does not yet may still leave out what may be read.
    pub async fn regained(&self, missing: &[Right]) -> Vec<Right> {
        self.gate().well(None, self).await;
        let regained = those(self.allowed(missing, Turn::Waits).await, true);
        if !regained.is_empty() {
            sleep(BEHIND).await;
        }
        regained
    }

    /// Which of these the token has, as far as Consul says. Without ACLs there is nothing to say, and that is an answer, to
    /// all that is asked.
    ///
    /// Source: `/v1/internal/acl/authorize`, which Consul's own UI asks.
    async fn allowed<'r>(&self, rights: &'r [Right], turn: Turn) -> Vec<(&'r Right, bool)> {
        let mut all = Vec::new();
        for some in rights.chunks(AT_ONCE) {
            let asked: Vec<_> = some.iter().map(Right::asked).collect();
            if turn == Turn::Waits {
                self.gate().budget.wait(1).await;
            }
            let _permit = self.permit().await;
            let told = self
                .send(Method::POST, "/v1/internal/acl/authorize", Some(&asked))
                .await
                .and_then(|body| serde_json::from_slice::<Vec<Told>>(&body).map_err(|error| Error::Body(error.into())));
            let answered = told.as_ref().map_or_else(|error| matches!(error.kind(), Kind::Status(..500)), |_| true);
            self.observed("acl_authorize", answered);
            match told {
                Ok(told) => all.extend(some.iter().zip(told).map(|(right, told)| (right, told.allow))),
                Err(error) if matches!(error.kind(), Kind::Status(401 | 404 | 405)) => {
                    return rights.iter().map(|right| (right, true)).collect();
                }
                Err(_) => {}
            }
        }
        all
    }
}

/// Those of which this was said.
fn those(told: Vec<(&Right, bool)>, allowed: bool) -> Vec<Right> {
    told.into_iter().filter(|(_, is)| *is == allowed).map(|(right, _)| right.clone()).collect()
}

impl Right {
    /// The rule that grants it, as it stands in a policy.
    #[must_use]
    pub fn rule(&self) -> String {
        let Asked { resource, segment, access } = self.asked();
        let all = if segment.is_empty() { "_prefix" } else { "" };
        format!("{resource}{all} \"{segment}\" {{ policy = \"{access}\" }}")
    }

    fn asked(&self) -> Asked<'_> {
        let (resource, segment) = match self {
            Self::Service(name) | Self::Register(name) => ("service", name),
            Self::Node(name) => ("node", name),
            Self::Key(name) => ("key", name),
        };
        let access = if matches!(self, Self::Register(_)) { "write" } else { "read" };
        Asked { resource, segment, access }
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(name) if name.is_empty() => f.write_str("`service:read`"),
            Self::Service(name) => write!(f, "`service:read` on `{name}`"),
            Self::Node(name) if name.is_empty() => f.write_str("`node:read`"),
            Self::Node(name) => write!(f, "`node:read` on `{name}`"),
            Self::Register(name) => write!(f, "`service:write` on `{name}`"),
            Self::Key(name) => write!(f, "`key:read` on `{name}`"),
        }
    }
}

/// Consul's limit of one question.
const AT_ONCE: usize = 64;
/// How long who does not answer is left alone.
const INTERVAL: Duration = Duration::from_secs(12);
/// How far behind servers may be.
const BEHIND: Duration = Duration::from_secs(2);
