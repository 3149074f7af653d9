//! `[consul]`: how the agent is reached and asked. Consul's own variables are `environment`.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use http::Uri;
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    check::At,
    listen,
    register::{self, Register},
};
use crate::model::{
    name::Datacenter,
    units::{Secret, Time},
};

/// How Consul's agent is reached and asked.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Table {
    /// `http://HOST:PORT`, `https://HOST:PORT` or `unix:///PATH`; "": no Consul, and fixed services alone.
    #[schemars(extend("examples" = ["http://127.0.0.1:8500"]))]
    pub address: Option<String>,
    /// The ACL token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
    /// A file with the token, read again when it changes; wins over `token`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// The datacenter that is asked for; left out: the agent's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub datacenter: Option<String>,
    /// The namespace that is asked for (Consul Enterprise).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// TLS to the agent.
    pub tls: TlsTable,
    /// Which servers may answer: any, or the leader, or a leader that first makes sure that it still is.
    #[schemars(extend("enum" = ["stale", "default", "consistent"]))]
    pub consistency: Option<String>,
    /// How far behind the leader a stale answer may be.
    #[schemars(with = "Option<Time>")]
    pub max_stale: Option<String>,
    /// How long one blocking query may wait for a change; between 1s and 10m.
    #[schemars(with = "Option<Time>")]
    pub wait: Option<String>,
    /// The most blocking queries that are held at once, at least 2; services beyond it share two of them.
    #[schemars(range(min = 2))]
    pub max_watches: Option<u32>,
    /// The file with the last known topology, for a start while Consul is away; left out: `topology.json` in systemd's
    /// `$STATE_DIRECTORY` where that is set, else none; "": none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("examples" = ["/var/lib/lictor/topology.json"]))]
    pub snapshot: Option<PathBuf>,
    /// The key in Consul's KV with more configuration, in TOML, over the files; "": none.
    #[schemars(extend("examples" = ["lictor/config"]))]
    pub config: Option<String>,
    /// Networks that no instance may be in, such as "169.254.0.0/16".
    #[schemars(extend("examples" = [["169.254.0.0/16"]]))]
    pub deny: Option<Vec<String>>,
    /// The gateway puts itself into Consul, with a check that it passes while it is ready; left out: it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub register: Option<register::Table>,
}

impl Table {
    /// What says that there is no Consul.
    #[must_use]
    pub fn none() -> Self {
        Self { address: Some(String::new()), ..Self::default() }
    }
}

/// TLS to the agent.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TlsTable {
    /// Certificate authorities, PEM; left out: the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// Our certificate, PEM; goes with `key`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert: Option<PathBuf>,
    /// Its private key, PEM; goes with `cert`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
}

impl Default for Table {
    fn default() -> Self {
        let text = |text: &str| Some(text.to_owned());
        Self {
            address: text("http://127.0.0.1:8500"),
            token: None,
            token_file: None,
            datacenter: None,
            namespace: None,
            tls: TlsTable::default(),
            consistency: text("stale"),
            max_stale: text("10s"),
            wait: text("60s"),
            max_watches: Some(64),
            snapshot: None,
            config: text("lictor/config"),
            deny: Some(Vec::new()),
            register: None,
        }
    }
}

/// `[consul]`, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consul {
    /// `http://`, `https://` or `unix://`.
    pub address: String,
    /// The token.
    pub token: Option<Secret>,
    /// A file with the token; wins over `token`.
    pub token_file: Option<PathBuf>,
    /// The datacenter asked for; `None`: the agent's own.
    pub datacenter: Option<String>,
    /// The namespace asked for.
    pub namespace: Option<String>,
    /// TLS to the agent.
    pub tls: ConsulTls,
    /// How fresh answers must be.
    pub consistency: Consistency,
    /// How stale a stale answer may be.
    pub max_stale: Duration,
    /// Of one blocking query.
    pub wait: Duration,
    /// The most blocking queries that are held at once.
    pub max_watches: usize,
    /// The file with the last known topology; `None`: there is none.
    pub snapshot: Option<PathBuf>,
    /// Where in Consul's KV more configuration is; `None`: nowhere.
    pub config: Option<Key>,
    /// What the gateway registers itself as; `None`: it does not.
    pub register: Option<Register>,
}

/// A key in Consul's KV.
#[derive(Clone, Debug, Eq)]
pub struct Key {
    /// The key.
    pub name: String,
    /// Whether somebody wrote it: who did wants to hear that it cannot be read.
    pub is_written: bool,
}

/// Who wrote it makes no other key of it.
impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

/// TLS to Consul's agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConsulTls {
    /// Certificate authorities, PEM.
    pub ca: Option<PathBuf>,
    /// Certificate and key of ours, PEM.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// Consul's consistency modes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consistency {
    /// Any server answers.
    Stale,
    /// The leader answers.
    Default,
    /// The leader makes sure that it still is.
    Consistent,
}

impl Consul {
    /// Checks what was written; `None`: there is no Consul.
    #[must_use]
    pub fn check(table: &Table, at: &At<'_>) -> Option<Self> {
        let written = table.address.as_deref();
        // A value that cannot be read must not make services complain that there is no Consul.
        let read =
            written.map_or(Some(String::new()), |text| at.key("address").take(address(text)).or(Some(text.into())));
        let wait = at.time("wait", table.wait.as_deref()).unwrap_or(*WAIT.start());
        if !WAIT.contains(&wait) {
            at.key("wait")
                .say(format!("expected a duration from `1s` to `10m`, which is Consul's limit; got `{}`", Time(wait)));
        }
        let filled = |text: Option<&String>| text.filter(|text| !text.is_empty()).cloned();
        let checked = Self {
            address: read.unwrap_or_default(),
            token: listen::token(table.token.as_ref(), at),
            token_file: path(table.token_file.as_ref()),
            datacenter: filled(table.datacenter.as_ref()),
            namespace: filled(table.namespace.as_ref()),
            tls: ConsulTls::check(&table.tls, &at.key("tls")),
            consistency: match table.consistency.as_deref() {
                Some("default") => Consistency::Default,
                Some("consistent") => Consistency::Consistent,
                _ => Consistency::Stale,
            },
            max_stale: at.time("max_stale", table.max_stale.as_deref()).unwrap_or_default(),
            wait,
            max_watches: table.max_watches.map_or(2, |most| usize::try_from(most).unwrap_or(usize::MAX)),
            snapshot: path(table.snapshot.as_ref()),
            config: filled(table.config.as_ref())
                .and_then(|name| at.key("config").take(key(&name)))
                .map(|name| Key { name, is_written: !at.key("config").is_default() }),
            register: table.register.as_ref().and_then(|table| Register::check(table, &at.key("register"))),
        };
        (written != Some("")).then_some(checked)
    }

    /// Says where so few blocking queries may be held that each of these datacenters, one for each service that names it,
    /// cannot have those that it does not go without.
    pub fn judge_watches<'d>(&self, named: impl Iterator<Item = &'d Datacenter>, at: &At<'_>) {
        let mut services = BTreeMap::<_, usize>::new();
        named.for_each(|datacenter| *services.entry(datacenter).or_default() += 1);
        let document = usize::from(self.config.is_some());
        let least = SHARED_QUERIES + document + services.values().map(|n| SHARED_QUERIES.min(*n)).sum::<usize>();
        if services.is_empty() || self.max_watches >= least {
            return;
        }
        let list = services.keys().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let document = if document == 1 { ", 1 for `consul.config`" } else { "" };
        at.say(format!(
            "expected at least `{least}`: {SHARED_QUERIES} for services{document}, and up to {SHARED_QUERIES} for each datacenter that \
             services name ({list}); got `{}`",
            self.max_watches
        ));
    }

    /// As it would be written, with no networks denied: those are not Consul's alone.
    #[must_use]
    pub fn shown(&self) -> Table {
        let (cert, key) = self.tls.client.clone().unzip();
        let consistency = match self.consistency {
            Consistency::Stale => "stale",
            Consistency::Default => "default",
            Consistency::Consistent => "consistent",
        };
        Table {
            address: Some(self.address.clone()),
            token: self.token.clone(),
            token_file: self.token_file.clone(),
            datacenter: self.datacenter.clone(),
            namespace: self.namespace.clone(),
            tls: TlsTable { ca: self.tls.ca.clone(), cert, key },
            consistency: Some(consistency.into()),
            max_stale: Some(Time(self.max_stale).to_string()),
            wait: Some(Time(self.wait).to_string()),
            max_watches: u32::try_from(self.max_watches).ok(),
            snapshot: self.snapshot.clone(),
            config: Some(self.config.as_ref().map(|key| key.name.clone()).unwrap_or_default()),
            deny: Some(Vec::new()),
            register: self.register.as_ref().map(Register::shown),
        }
    }

    /// The keys that the client, which is built at the start, was built from and that differ.
    pub fn differences(&self, next: &Self) -> impl Iterator<Item = &'static str> {
        let keys = [
            ("consul.address", self.address != next.address),
            ("consul.token", self.token != next.token),
            ("consul.token_file", self.token_file != next.token_file),
            ("consul.datacenter", self.datacenter != next.datacenter),
            ("consul.namespace", self.namespace != next.namespace),
            ("consul.tls", self.tls != next.tls),
            ("consul.consistency", self.consistency != next.consistency),
            ("consul.max_stale", self.max_stale != next.max_stale),
            ("consul.wait", self.wait != next.wait),
            ("consul.snapshot", self.snapshot != next.snapshot),
            ("consul.config", self.config != next.config),
        ];
        keys.into_iter().filter_map(|(key, differs)| differs.then_some(key))
    }
}

impl ConsulTls {
    fn check(table: &TlsTable, at: &At<'_>) -> Self {
        let client = match (path(table.cert.as_ref()), path(table.key.as_ref())) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            (Some(_), None) => {
                at.key("cert").say("a certificate goes with its private key; add `key`");
                None
            }
            (None, Some(_)) => {
                at.key("key").say("a private key goes with its certificate; add `cert`");
                None
            }
        };
        Self { ca: path(table.ca.as_ref()), client }
    }
}

/// Networks that no instance may be in, whoever tells of it: Consul, DNS or the configuration itself.
pub fn deny(table: &Table, at: &At<'_>) -> Vec<IpNet> {
    at.key("deny").each(table.deny.as_deref().unwrap_or_default(), network)
}

/// Reads a boolean as Consul does.
#[must_use]
pub fn flag(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

fn address(text: &str) -> Result<String, String> {
    let expected = "expected `http://HOST:PORT`, `https://HOST:PORT` or `unix:///PATH`";
    if text.is_empty() {
        return Ok(String::new());
    }
    if text.contains('@') {
        return Err(format!("{expected}; there is an `@` in it, and no name or password is sent: use `token`"));
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(format!("{expected}; got `{text}`; try `http://{text}`"));
    };
    let wrong = || format!("{expected}; got `{text}`");
    match scheme {
        "unix" if rest.starts_with('/') => Ok(text.into()),
        "http" | "https" => {
            let uri: Uri = text.parse().map_err(|_| wrong())?;
            let host = uri.authority().filter(|authority| !authority.host().is_empty()).ok_or_else(wrong)?;
            match uri.path_and_query().map_or("/", |path| path.as_str()) {
                "/" => Ok(format!("{scheme}://{host}")),
                path => Err(format!("{}; leave out `{path}`", wrong())),
            }
        }
        _ => Err(wrong()),
    }
}

/// Reads a network, or one address.
pub(super) fn network(text: &str) -> Result<IpNet, String> {
    let text = text.trim();
    let address = || text.parse::<std::net::IpAddr>().map(IpNet::from);
    let network = text.parse::<IpNet>().or_else(|_| address());
    network
        .map(|network| network.trunc())
        .map_err(|_| format!("expected a network such as `169.254.0.0/16`; got `{text}`"))
}

/// Consul's agent cleans the paths it is asked, so another key than was meant would be read.
fn key(text: &str) -> Result<String, String> {
    let odd = |segment: &str| segment.is_empty() || segment == "." || segment == "..";
    if text.split('/').any(odd) || text.chars().any(char::is_control) {
        return Err(format!("expected a key of Consul's KV such as `lictor/config`; got `{text}`"));
    }
    Ok(text.to_owned())
}

fn path(written: Option<&PathBuf>) -> Option<PathBuf> {
    written.filter(|path| !path.as_os_str().is_empty()).cloned()
}

/// Without them no change is heard of.
const SHARED_QUERIES: usize = 2;
const WAIT: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_mins(10);
