//! The configuration: defaults, files, environment and flags in layers, checked all at once. `load` is where to begin
//! to read; each section of the document has a file with what people write, what the rest of the program uses, and the
//! check between. Reading it again is `control`.

use std::{collections::BTreeMap, path::PathBuf};

use figment::value::{Dict, Tag, Value};
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::{
    check::{At, Check},
    environment::Variables,
    layers::{Layer, Merged},
    schema::Node,
    services::Services,
};
pub use self::{
    consul::{Consistency, Consul},
    dns::Dns,
    expose::Expose,
    http::Http,
    https::{Https, TlsFiles},
    listen::{Admin, Metrics},
    operators::Operators,
    register::Register,
    routes::Route,
    schema::{nearest, schema},
    services::{Origin, Service},
    sources::Sources,
    stored::Stored,
    telemetry::Telemetry,
};
use crate::{
    model::{
        name::ServiceName,
        problem::{Place, Problem, Problems},
    },
    upstream::policy::Policy,
};

mod breaker;
mod check;
mod consul;
mod dns;
mod environment;
mod expose;
mod file;
mod fit;
mod http;
mod https;
mod layers;
mod listen;
mod opened;
mod operators;
mod otel;
pub mod pem;
mod place;
mod policy;
mod register;
mod retry;
mod routes;
mod schema;
mod services;
mod sources;
mod stored;
mod telemetry;
#[cfg(test)]
mod tests;

/// TOML; every key may be left out.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Document {
    /// The public listener.
    pub http: http::Table,
    /// The public listener with TLS; left out: there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub https: Option<https::Table>,
    /// The listener for operators.
    pub admin: listen::AdminTable,
    /// A listener with metrics and probes alone.
    pub metrics: listen::MetricsTable,
    /// How Consul's agent is reached and asked.
    pub consul: consul::Table,
    /// Who is asked for names of services.
    pub dns: dns::Table,
    /// Services that route themselves.
    pub expose: expose::Table,
    /// The rules of every service that has no table, or leaves a key out.
    pub defaults: policy::Table,
    /// Services by name.
    pub services: BTreeMap<String, services::Table>,
    /// Which requests go to which service.
    pub routes: Vec<routes::Table>,
    /// What the program says of itself.
    pub telemetry: telemetry::Table,
}

impl Default for Document {
    fn default() -> Self {
        Self {
            http: http::Table::default(),
            https: None,
            admin: listen::AdminTable::default(),
            metrics: listen::MetricsTable::default(),
            consul: consul::Table::default(),
            dns: dns::Table::default(),
            expose: expose::Table::default(),
            defaults: policy::shown(&Policy::default()),
            services: BTreeMap::new(),
            routes: Vec::new(),
            telemetry: telemetry::Table::default(),
        }
    }
}

/// A configuration that holds: every value is checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The files it was read from.
    pub files: Vec<PathBuf>,
    /// The document in Consul's KV that is over them.
    pub stored: Option<Stored>,
    /// The public listener.
    pub http: Http,
    /// The public listener with TLS; `None`: there is none.
    pub https: Option<Https>,
    /// The operators' listener.
    pub admin: Admin,
    /// The listener of metrics and probes alone.
    pub metrics: Metrics,
    /// Consul; `None`: there is none.
    pub consul: Option<Consul>,
    /// Networks that no instance may be in, with Consul or without.
    pub deny: Vec<IpNet>,
    /// Who is asked for names.
    pub dns: Dns,
    /// How services expose themselves; `None`: they do not.
    pub expose: Option<Expose>,
    /// Policy of services without a table.
    pub defaults: Policy,
    /// Services by name.
    pub services: BTreeMap<ServiceName, Service>,
    /// Routes, in the order of the document.
    pub routes: Vec<Route>,
    /// Logs.
    pub telemetry: Telemetry,
}

/// The rules of a service, in the form of the document.
#[must_use]
pub fn policy_shown(policy: &Policy) -> serde_json::Value {
    serde_json::to_value(policy::shown(policy)).unwrap_or_default()
}

/// Reads, layers and checks, and opens what a start opens.
///
/// # Errors
/// Everything that is wrong.
pub fn load(sources: &Sources) -> Result<Config, Problems> {
    start(sources, &environment::variables())
}

/// For a gateway that runs: with the document in Consul's KV over the files, and without what is opened at the start alone.
///
/// # Errors
/// Everything that is wrong.
pub fn load_with(sources: &Sources, stored: Option<&Stored>) -> Result<Config, Problems> {
    load_of(sources, stored, &environment::variables())
}

/// As [`load_with`], without a document, and with the environment as an argument.
///
/// # Errors
/// Everything that is wrong.
pub fn load_from(sources: &Sources, variables: &Variables) -> Result<Config, Problems> {
    load_of(sources, None, variables)
}

/// What holds, and can hardly be meant. Nothing of what does not hold.
#[must_use]
pub fn doubts(sources: &Sources, stored: Option<&Stored>) -> Vec<Problem> {
    doubts_of(sources, stored, &environment::variables())
}

fn doubts_of(sources: &Sources, stored: Option<&Stored>, variables: &Variables) -> Vec<Problem> {
    checked(sources, stored, variables).map(|(_, check)| check.doubts()).unwrap_or_default()
}

fn load_of(sources: &Sources, stored: Option<&Stored>, variables: &Variables) -> Result<Config, Problems> {
    let (config, check) = checked(sources, stored, variables)?;
    check.end(config)
}

fn start(sources: &Sources, variables: &Variables) -> Result<Config, Problems> {
    let (config, check) = checked(sources, None, variables)?;
    if let Some(consul) = &config.consul {
        opened::judge(consul, &check.root().key("consul"));
    }
    check.end(config)
}

/// What was read, and what is wrong with it.
fn checked(sources: &Sources, stored: Option<&Stored>, variables: &Variables) -> Result<(Config, Check), Problems> {
    let merged = Merged::new(layers(sources, stored, variables)?);
    let mut root = merged.root.clone();
    let check = Check::new(merged);
    fit::fit(&mut root, Node::root(), &check.root());
    let document = check.root().take(root.deserialize::<Document>()).unwrap_or_default();
    let config = Config::check(&document, variables, &check.root());
    Ok((Config { files: sources.files.clone(), stored: stored.cloned(), ..config }, check))
}

fn layers(sources: &Sources, stored: Option<&Stored>, variables: &Variables) -> Result<Vec<Layer>, Problems> {
    let (layers, problems) = read(sources, stored, variables);
    if problems.is_empty() { Ok(layers) } else { Err(problems.into()) }
}

/// The layers that can be read, and why others cannot.
fn read(sources: &Sources, stored: Option<&Stored>, variables: &Variables) -> (Vec<Layer>, Vec<Problem>) {
    let mut problems = Vec::new();
    let mut over = Vec::new();
    for file in &sources.files {
        let source = file.display().to_string();
        match file::read(file) {
            Ok((values, lines)) => over.push(Layer { source, values, lines, ..Layer::default() }),
            Err(faults) => problems.extend(faults.into_iter().map(|fault| Problem {
                place: Place { source: source.clone(), line: fault.line, key: String::new() },
                message: fault.message,
            })),
        }
    }
    match stored.map(Stored::layer) {
        Some(Ok(layer)) => over.push(layer),
        Some(Err(faults)) => problems.extend(faults),
        None => {}
    }
    over.extend(environment::ours(variables));
    for flag in &sources.sets {
        match environment::set(flag) {
            Ok(layer) => over.push(layer),
            Err(problem) => problems.push(problem),
        }
    }
    let consuls = environment::consuls(variables, &over).unwrap_or_else(|problem| {
        problems.push(problem);
        Vec::new()
    });
    ([vec![defaults()], consuls, over].concat(), problems)
}

fn defaults() -> Layer {
    let value = Value::serialize(Document::default()).unwrap_or_else(|_| Value::Dict(Tag::Default, Dict::new()));
    let values = value.into_dict().unwrap_or_default();
    Layer { values, ..Layer::default() }
}

impl Config {
    fn check(document: &Document, variables: &Variables, at: &At<'_>) -> Self {
        let http = Http::check(&document.http, &at.key("http"));
        let admin = Admin::check(&document.admin, &at.key("admin"));
        let metrics = Metrics::check(&document.metrics, &at.key("metrics"));
        let https = document.https.as_ref().map(|table| {
            Https::check(table, document.http.trusted_proxies.as_deref().unwrap_or_default(), &at.key("https"))
        });
        let listeners = [("http", &http.listen), ("admin", &admin.listen), ("metrics", &metrics.listen)];
        let listeners = listeners.into_iter().chain(https.as_ref().map(|https| ("https", &https.listen)));
        listen::distinct(listeners.map(|(table, list)| (table, list.as_slice())), at);
        let consul = Consul::check(&document.consul, &at.key("consul"));
        let deny = consul::deny(&document.consul, &at.key("consul"));
        let dns = Dns::check(&document.dns, &at.key("dns"));
        // Without Consul there is nobody to expose anything.
        let expose = Expose::check(&document.expose, &at.key("expose")).filter(|_| consul.is_some());
        let defaults = policy::check(&document.defaults, &Policy::default(), &at.key("defaults"));
        let mut services = Services::check(&document.services, &defaults, consul.is_some(), &at.key("services"));
        let routes = routes::check(&document.routes, &mut services, http.health.as_deref(), &at.key("routes"));
        let telemetry = Telemetry::check(&document.telemetry, variables, &at.key("telemetry"));
        let services = services.known;
        if let Some(register) = consul.as_ref().and_then(|consul| consul.register.as_ref()) {
            let listens = !http.listen.is_empty() || https.as_ref().is_some_and(|https| !https.listen.is_empty());
            register.judge(listens, expose.as_ref(), services.iter(), &at.key("consul").key("register"));
        }
        if let Some(consul) = &consul {
            let datacenters = services.values().flat_map(Service::datacenters);
            consul.judge_watches(datacenters, &at.key("consul").key("max_watches"));
        }
        let (files, stored) = (Vec::new(), None);
        Self {
            files,
            stored,
            http,
            https,
            admin,
            metrics,
            consul,
            deny,
            dns,
            expose,
            defaults,
            services,
            routes,
            telemetry,
        }
    }

    /// The keys that a change to `next` cannot put in force without a restart.
    #[must_use]
    pub fn needs_restart(&self, next: &Self) -> Vec<&'static str> {
        let listen = |config: &Self| config.https.as_ref().map(|https| https.listen.clone());
        let keys = [
            ("https.listen", listen(self) != listen(next)),
            ("http.listen", self.http.listen != next.http.listen),
            ("http.workers", self.http.workers != next.http.workers),
            ("admin.listen", self.admin.listen != next.admin.listen),
            ("metrics.listen", self.metrics.listen != next.metrics.listen),
            ("metrics.buckets", self.metrics.buckets != next.metrics.buckets),
            ("telemetry.otlp", self.telemetry.otlp != next.telemetry.otlp),
            ("consul.address", self.consul.is_some() != next.consul.is_some()),
        ];
        let consul = self.consul.iter().zip(&next.consul).flat_map(|(consul, next)| consul.differences(next));
        keys.into_iter().filter_map(|(key, differs)| differs.then_some(key)).chain(consul).collect()
    }

    /// This configuration with those keys as they were at the start that cannot be changed since.
    #[must_use]
    pub fn held(mut self, started: &Self) -> Self {
        self.http.listen.clone_from(&started.http.listen);
        self.http.workers = started.http.workers;
        self.admin.listen.clone_from(&started.admin.listen);
        self.metrics.clone_from(&started.metrics);
        self.telemetry.otlp.clone_from(&started.telemetry.otlp);
        self.https = started.https.clone().map(|was| match self.https {
            Some(now) => Https { listen: was.listen, ..now },
            None => was,
        });
        self.consul = started.consul.clone().map(|was| match self.consul {
            Some(now) => Consul { max_watches: now.max_watches, register: now.register, ..was },
            None => was,
        });
        self
    }

    /// What is in force, in the form of the document, secrets masked.
    #[must_use]
    pub fn shown(&self) -> serde_json::Value {
        let consul = self.consul.as_ref().map_or_else(consul::Table::none, Consul::shown);
        let deny = self.deny.iter().map(ToString::to_string).collect();
        let document = Document {
            http: self.http.shown(),
            https: self.https.as_ref().map(Https::shown),
            admin: self.admin.shown(),
            metrics: self.metrics.shown(),
            consul: consul::Table { deny: Some(deny), ..consul },
            dns: self.dns.shown(),
            expose: Expose::shown(self.expose.as_ref()),
            defaults: policy::shown(&self.defaults),
            services: self.services.iter().map(|(name, service)| (name.to_string(), service.shown())).collect(),
            routes: self.routes.iter().map(Route::shown).collect(),
            telemetry: self.telemetry.shown(),
        };
        serde_json::to_value(document).unwrap_or_default()
    }
}
