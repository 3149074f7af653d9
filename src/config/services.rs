//! `[services.*]`: where the instances of a service come from, and its rules.

use std::{collections::BTreeMap, path::PathBuf};

use http::{HeaderValue, uri::Authority};
use rustls::pki_types::ServerName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{check::At, policy, schema::nearest};
use crate::{
    model::{
        instance::Address,
        lookup::Lookup,
        name::{Datacenter, ServiceName},
        protocol::Protocol,
    },
    upstream::{
        policy::Policy,
        tls::{Authorities, Trust},
    },
};

/// A service, by the name that it has in routes, labels and reports.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Table {
    /// The name in Consul; left out: the table's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consul: Option<String>,
    /// Only instances that carry this tag; left out: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// The datacenters that its instances are looked for in, in order of preference; left out: the one of `[consul]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("examples" = [["dc1", "dc2"]]))]
    pub datacenters: Option<Vec<String>>,
    /// The `Host` that the service sees; left out: the client's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// What its instances speak; left out: what the tag `lictor.protocol` says, else http.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = Protocol::ALL.map(Protocol::as_str)))]
    pub protocol: Option<String>,
    /// What instances have to prove, where https or grpcs is spoken.
    pub tls: TlsTable,
    /// Fixed addresses in place of Consul.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("examples" = [["10.0.0.7:8002"]]))]
    pub instances: Option<Vec<String>>,
    /// A name that DNS is asked for in place of Consul: one of SRV records, or `HOST:PORT`, of which every address is an
    /// instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("examples" = ["_users._tcp.service.consul"]))]
    pub dns: Option<String>,
    /// The rules of this service; what is left out is as in `[defaults]`.
    #[serde(flatten)]
    pub policy: policy::Table,
}

/// What instances have to prove.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TlsTable {
    /// Certificate authorities, PEM, in place of the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// The name in their certificates, in place of that in `host`, else of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
}

/// `[services.*]`, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// Where its instances come from.
    pub origin: Origin,
    /// Its policy, the defaults filled in.
    pub policy: Policy,
    /// The `Host` that upstream sees; `None`: the client's own.
    pub host: Option<String>,
    /// What its instances speak; `None`: what its tags say.
    pub protocol: Option<Protocol>,
    /// What they have to prove, as far as `tls` says.
    pub tls: Trust,
}

/// Where the instances of a service come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Consul's HTTP API.
    Consul {
        /// The name in Consul.
        name: String,
        /// Only instances that carry it.
        tag: Option<String>,
        /// Where, in order of preference; empty: in the datacenter that is asked by default.
        datacenters: Vec<Datacenter>,
    },
    /// The configuration itself.
    Fixed(Vec<Address>),
    /// DNS.
    Dns(Lookup),
}

/// All services that are known by name.
#[derive(Debug)]
pub struct Services {
    /// By the name that they have here.
    pub known: BTreeMap<ServiceName, Service>,
    defaults: Policy,
    consul: bool,
}

impl Services {
    /// Checks what was written. Without `consul`, only fixed instances and those of DNS can be had.
    #[must_use]
    pub fn check(tables: &BTreeMap<String, Table>, defaults: &Policy, consul: bool, at: &At<'_>) -> Self {
        let mut known = BTreeMap::new();
        let mut owners: BTreeMap<(String, Option<String>), &str> = BTreeMap::new();
        for (name, table) in tables {
            let at = at.key(name);
            check_name(name, &at);
            let origin = origin(name, table, consul, &at);
            if let Origin::Consul { name: in_consul, tag, .. } = &origin {
                match owners.get(&(in_consul.clone(), tag.clone())) {
                    Some(owner) => at.key("consul").say(format!(
                        "`{in_consul}` is the service of the table `{owner}` already; give one of them another `tag`"
                    )),
                    None => {
                        owners.insert((in_consul.clone(), tag.clone()), name);
                    }
                }
            }
            let protocol = table.protocol.as_deref().and_then(|word| at.key("protocol").read(word));
            let service = Service {
                origin,
                policy: policy::check(&table.policy, defaults, &at),
                host: host(table, &at),
                protocol,
                tls: trust(&table.tls, protocol, &at.key("tls")),
            };
            known.insert(name.as_str().into(), service);
        }
        Self { known, defaults: defaults.clone(), consul }
    }

    /// The service that a route means. One without a table is Consul's service of that name.
    pub fn named(&mut self, name: &str, at: &At<'_>) -> ServiceName {
        let service = ServiceName::from(name);
        if self.known.contains_key(&service) {
            return service;
        }
        let of_consul =
            |service: &Service| matches!(&service.origin, Origin::Consul { name: known, .. } if known == name);
        if name.is_empty() {
            at.say("expected the name of a service");
        } else if let Some((owner, _)) = self.known.iter().find(|(_, known)| of_consul(known)) {
            at.say(format!("the service `{name}` goes by the name of its table; write `{owner}`"));
        } else if self.consul {
            check_name(name, at);
            let origin = Origin::Consul { name: name.into(), tag: None, datacenters: Vec::new() };
            let (policy, tls) = (self.defaults.clone(), Trust::default());
            self.known.insert(service.clone(), Service { origin, policy, host: None, protocol: None, tls });
        } else {
            let near = nearest(name, self.known.keys().map(ServiceName::as_str));
            let hint = near
                .map_or_else(|| format!("add a table `[services.{name}]`"), |near| format!("did you mean `{near}`?"));
            at.say(format!("there is no service `{name}`, and no Consul that could know it; {hint}"));
        }
        service
    }
}

impl Service {
    /// As it would be written.
    #[must_use]
    pub fn shown(&self) -> Table {
        let mut from = Table::default();
        match &self.origin {
            Origin::Consul { name, tag, datacenters } => {
                (from.consul, from.tag) = (Some(name.clone()), tag.clone());
                let written = || datacenters.iter().map(ToString::to_string).collect();
                from.datacenters = (!datacenters.is_empty()).then(written);
            }
            Origin::Fixed(list) => from.instances = Some(list.iter().map(ToString::to_string).collect()),
            Origin::Dns(lookup) => from.dns = Some(lookup.to_string()),
        }
        Table {
            host: self.host.clone(),
            protocol: self.protocol.map(|protocol| protocol.to_string()),
            tls: TlsTable {
                ca: self.tls.authorities.as_ref().map(|authorities| authorities.file.clone()),
                server_name: self.tls.name.as_ref().map(|name| name.to_str().into_owned()),
            },
            policy: policy::shown(&self.policy),
            ..from
        }
    }

    /// Where its instances are looked for, in order of preference; empty: not in datacenters that it names.
    #[must_use]
    pub fn datacenters(&self) -> &[Datacenter] {
        if let Origin::Consul { datacenters, .. } = &self.origin { datacenters } else { &[] }
    }

    /// What instances have to prove: who is asked for by `host` has to be who answers, where `tls` does not say more.
    #[must_use]
    pub fn trust(&self) -> Trust {
        let host = || self.host.as_ref()?.parse::<Authority>().ok().and_then(|host| server_name(host.host()).ok());
        Trust { authorities: self.tls.authorities.clone(), name: self.tls.name.clone().or_else(host) }
    }
}

fn trust(table: &TlsTable, protocol: Option<Protocol>, at: &At<'_>) -> Trust {
    let file = table.ca.as_deref().filter(|file| !file.as_os_str().is_empty());
    let name = table.server_name.as_deref().filter(|name| !name.is_empty());
    if (file.is_some() || name.is_some()) && !protocol.is_some_and(Protocol::is_tls) {
        at.say("there is no TLS without `protocol = \"https\"` or `\"grpcs\"`; set one of them, or leave this out");
    }
    Trust {
        authorities: file.and_then(|file| at.key("ca").take(Authorities::read(file))),
        name: name.and_then(|name| at.key("server_name").take(server_name(name))),
    }
}

fn server_name(text: &str) -> Result<ServerName<'static>, String> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    ServerName::try_from(bare.to_owned())
        .map_err(|_| format!("expected a name or an IP address such as `users.internal`; got `{text}`"))
}

fn origin(name: &str, table: &Table, consul: bool, at: &At<'_>) -> Origin {
    let filled = |text: Option<&String>| text.filter(|text| !text.is_empty()).cloned();
    let elsewhere = [("instances", table.instances.is_some()), ("dns", table.dns.is_some())];
    let elsewhere = elsewhere.into_iter().find_map(|(key, is)| is.then_some(key));
    if let Some(from) = elsewhere {
        let beside = [
            ("consul", table.consul.is_some()),
            ("datacenters", table.datacenters.is_some()),
            ("tag", table.tag.is_some()),
        ];
        let beside = beside.into_iter().chain([("dns", table.dns.is_some() && from != "dns")]);
        for (key, _) in beside.filter(|(_, is)| *is) {
            let other = if key == "dns" { "DNS" } else { "Consul" };
            at.key(key).say(format!("instances come from `{from}` or from {other}, not from both; leave out `{key}`"));
        }
    }
    if let (Some(text), None) = (&table.dns, &table.instances) {
        let at = at.key("dns");
        return at.read(text).map_or_else(|| Origin::Fixed(Vec::new()), Origin::Dns);
    }
    let Some(instances) = &table.instances else {
        if !consul {
            at.say("has no instances and there is no Consul; list `instances`, name them by `dns`, or set `consul.address`");
        }
        let name = filled(table.consul.as_ref()).unwrap_or_else(|| name.into());
        let (tag, datacenters) = (filled(table.tag.as_ref()), datacenters(table, &at.key("datacenters")));
        return Origin::Consul { name, tag, datacenters };
    };
    let at = at.key("instances");
    if instances.is_empty() {
        at.say("the list is empty, so nobody could answer; add an address such as `10.0.0.7:8002`");
    }
    let mut addresses = at.each(instances, address);
    addresses.sort_unstable();
    addresses.dedup();
    Origin::Fixed(addresses)
}

fn datacenters(table: &Table, at: &At<'_>) -> Vec<Datacenter> {
    let read = |text: &str| {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_');
        // Consul writes them in small letters, however they are set, and knows no others.
        if !text.is_empty() && text.bytes().all(plain) {
            return Ok(Datacenter::from(text));
        }
        Err(format!("expected the name of a datacenter such as `dc2`, in small letters; got `{text}`"))
    };
    let texts = table.datacenters.as_deref().unwrap_or_default();
    for (i, text) in texts.iter().enumerate().filter(|(i, text)| texts[..*i].contains(text)) {
        at.index(i).say(format!("`{text}` is in the list already"));
    }
    at.each(texts, read)
}

fn address(text: &str) -> Result<Address, String> {
    let wrong =
        |why: &str| format!("expected a host and port such as `10.0.0.7:8002` or `[::1]:8002`; got `{text}`{why}");
    let (host, port) = text.rsplit_once(':').ok_or_else(|| wrong(""))?;
    if host.contains(':') && !host.starts_with('[') {
        return Err(wrong(": an IPv6 address is written in brackets"));
    }
    let port = port.parse().map_err(|_| wrong(""))?;
    Address::new(host, port).map_err(|why| wrong(&format!(": {why}")))
}

fn host(table: &Table, at: &At<'_>) -> Option<String> {
    let text = table.host.as_deref().filter(|text| !text.is_empty())?;
    let authority = text.parse::<Authority>().ok().filter(|host| !host.as_str().contains('@'));
    if authority.is_none() || HeaderValue::from_str(text).is_err() {
        at.key("host").say(format!("expected a host such as `users.internal` or `users.internal:8080`; got `{text}`"));
    }
    Some(text.into())
}

/// Names end up in labels, reports and logs.
fn check_name(name: &str, at: &At<'_>) {
    if name.is_empty() || name.chars().any(|c| c.is_control() || c.is_whitespace()) {
        at.say(format!("expected the name of a service, without blanks; got `{}`", name.escape_debug()));
    }
}
