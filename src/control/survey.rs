//! What Consul and DNS have of what a configuration needs, asked once: `lictor check --live`. This file asks how the agent
//! is and what the KV adds; `services` looks at each service, `exposed` at those that route themselves, `names` asks DNS.

mod datacenters;
mod exposed;
mod names;
mod services;

use std::fmt::{self, Display};

use crate::{
    config::{self, Config, Consul, Sources, Stored},
    consul::{
        Client, Error, Right,
        wire::{Catalog, Services, kv::Kv},
    },
    model::line,
};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// As it should be.
    Fine,
    /// Worth a look.
    Warning,
    /// Something that is configured or registered is not served.
    Error,
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The key or service it is about, what was expected, what came, and what to do.
    pub text: String,
}

impl Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.severity {
            Severity::Fine => "ok",
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        write!(f, "{word}: {}", self.text)
    }
}

/// All that was found, in order.
#[derive(Debug, Default)]
pub struct Report {
    /// One by one.
    pub findings: Vec<Finding>,
}

impl Report {
    /// How many there are of this severity.
    #[must_use]
    pub fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity).count()
    }

    /// Adds an error that is not Consul's.
    pub fn error(&mut self, about: impl Display, text: impl Display) {
        self.add(Severity::Error, about, text);
    }

    fn fine(&mut self, about: impl Display, text: impl Display) {
        self.add(Severity::Fine, about, text);
    }

    fn warning(&mut self, about: impl Display, text: impl Display) {
        self.add(Severity::Warning, about, text);
    }

    fn add(&mut self, severity: Severity, about: impl Display, text: impl Display) {
        self.line(severity, &format!("{about}: {text}"));
    }

    /// Consul's names and tags are whatever somebody registered.
    fn line(&mut self, severity: Severity, text: &str) {
        self.findings.push(Finding { severity, text: line::one(text).into_owned() });
    }
}

/// Asks all there is to ask. What is found so far stands in the report, also where this is not awaited to its end. Without
/// a client, Consul is left out.
pub async fn survey(sources: &Sources, config: Config, client: Option<&Client>, report: &mut Report) {
    if config.consul.is_none() {
        report.fine("consul.address", "it is empty, so there is no Consul to ask");
    }
    let config = match (config.consul.clone(), client) {
        (Some(consul), Some(client)) => ask(sources, config, &consul, client, report).await,
        _ => config,
    };
    names::look(&config, report).await;
    for doubt in config::doubts(sources, config.stored.as_ref()) {
        report.line(Severity::Warning, &doubt.to_string());
    }
}

/// Asks Consul. Gives back the configuration with what the KV has to say.
async fn ask(sources: &Sources, config: Config, consul: &Consul, client: &Client, report: &mut Report) -> Config {
    if !agent(consul, client, report).await {
        return config;
    }
    let Some(catalog) = catalog(consul, client, report).await else { return config };
    let config = document(sources, config, consul, client, report).await;
    services::look(&config, &catalog, client, report).await;
    datacenters::look(&config, client, report).await;
    config
}

/// Whether the agent can be asked.
async fn agent(consul: &Consul, client: &Client, report: &mut Report) -> bool {
    let address = &consul.address;
    if let Err(error) = client.is_led().await {
        let hint = match &error {
            Error::NoLeader => "wait for an election to end, or see `consul operator raft list-peers`",
            Error::Unreachable(_) => "is the agent running, and is this its address?",
            Error::Timeout(_) | Error::Broken(_) => "is it an agent, and is it well?",
            _ => "is it Consul that answers there?",
        };
        report.error("consul.address", format!("asked at `{address}`: {}; {hint}", error.causes()));
        return false;
    }
    report.fine("consul.address", format!("the agent at `{address}` answers, and the cluster has a leader"));
    let Some(datacenter) = &consul.datacenter else { return true };
    match client.datacenters().await {
        Ok(known) if known.contains(datacenter) => true,
        Ok(known) => {
            let list = known.join("`, `");
            report
                .error("consul.datacenter", format!("`{datacenter}` is not known to the agent, which knows `{list}`"));
            false
        }
        Err(error) => {
            report.error("consul.datacenter", format!("the agent does not say which it knows: {}", error.causes()));
            false
        }
    }
}

/// Which services there are, so far as the token may see them.
async fn catalog(consul: &Consul, client: &Client, report: &mut Report) -> Option<Services> {
    match client.once(&Catalog::question(), &Catalog).await {
        Ok(services) => Some(services),
        Err(Error::Status { code: 403, text }) if text.contains("ACL not found") => {
            report
                .error(token(consul), format!("Consul does not know this token (`{text}`); make one, or set another"));
            None
        }
        Err(error) => {
            report.error("consul", format!("the catalog cannot be read: {}", error.causes()));
            None
        }
    }
}

/// The configuration with what the KV has to say.
async fn document(sources: &Sources, config: Config, consul: &Consul, client: &Client, report: &mut Report) -> Config {
    let Some(key) = &consul.config else { return config };
    let right = Right::Key(key.name.clone());
    let text = match client.once(&Kv::question(&key.name), &Kv).await {
        Ok(Some(text)) => text,
        Ok(None) => {
            report.fine("consul.config", format!("the KV has no document `{}`, so there is none to add", key.name));
            return config;
        }
        Err(Error::Status { code: 403, .. }) => {
            let lacks = lacks(consul, &right, "so what the KV may have to add is left out");
            let severity = if key.is_written { Severity::Error } else { Severity::Warning };
            report.add(severity, "consul.config", format!("{lacks}, or set `consul.config = \"\"`"));
            return config;
        }
        Err(error) => {
            report.error("consul.config", format!("`{}` cannot be read: {}", key.name, error.causes()));
            return config;
        }
    };
    let stored = Stored { key: key.name.clone(), text };
    match config::load_with(sources, Some(&stored)) {
        Ok(merged) => {
            report.fine("consul.config", format!("{stored} holds, and is checked with the rest"));
            merged
        }
        Err(problems) => {
            for line in problems.to_string().lines() {
                report.line(Severity::Error, line);
            }
            config
        }
    }
}

/// What is missing, what comes of it, and what to do.
fn lacks(consul: &Consul, right: &Right, so: &str) -> String {
    let none = consul.token.is_none() && consul.token_file.is_none();
    let who = if none { "none is set, and without one Consul refuses" } else { "the token lacks" };
    format!("{who} {right}, {so}; add `{}` to its policy", right.rule())
}

/// The key that the token comes from.
fn token(consul: &Consul) -> &'static str {
    if consul.token_file.is_some() { "consul.token_file" } else { "consul.token" }
}
