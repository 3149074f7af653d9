//! What the token may not do. Consul leaves what may not be read out of its answers, as if it were not there: it has to be
//! asked to tell the two apart.

use std::fmt;

use reqwest::Method;
use serde::{Deserialize, Serialize};

use super::{
    client::Client,
    error::{Error, Kind},
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
    ///
    /// Source: `/v1/internal/acl/authorize`, which Consul's own UI asks.
    pub async fn denied(&self, rights: &[Right]) -> Vec<Right> {
        let mut denied = Vec::new();
        for some in rights.chunks(AT_ONCE) {
            let asked: Vec<_> = some.iter().map(Right::asked).collect();
            let _permit = self.permit().await;
            let told = self
                .send(Method::POST, "/v1/internal/acl/authorize", Some(&asked))
                .await
                .and_then(|body| serde_json::from_slice::<Vec<Told>>(&body).map_err(|error| Error::Body(error.into())));
            // Without ACLs there is nothing to say, and that is an answer, to all that is asked.
            let is_off = told.as_ref().is_err_and(|error| error.kind() == Kind::Status(401));
            let answered = told.as_ref().map_or_else(|error| matches!(error.kind(), Kind::Status(..500)), |_| true);
            self.observed("acl_authorize", answered);
            let told = told.unwrap_or_default();
            denied.extend(some.iter().zip(told).filter(|(_, told)| !told.allow).map(|(right, _)| right.clone()));
            if is_off {
                break;
            }
        }
        denied
    }
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
