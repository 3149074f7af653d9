//! `[[routes]]`: which requests go to which service, and by which path. Which of several wins is `route`.

use std::collections::{BTreeMap, BTreeSet};

use http::{HeaderName, HeaderValue, Method};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{check::At, policy, retry, services::Services};
use crate::{
    model::{
        name::{RouteName, ServiceName},
        pattern::{HostPattern, PathPattern},
        template::Template,
        units::{Secret, Size},
        value,
    },
    upstream::{
        policy::{Policy, Timeouts},
        retry::RetryRules,
    },
};

/// Which requests go to which service.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("required" = ["match", "service"]))]
pub struct Table {
    /// Its name in labels and reports; left out: its path pattern.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Which requests it takes: those that meet all conditions.
    #[serde(rename = "match")]
    pub conditions: Option<MatchTable>,
    /// What answers: a table in `[services]`, or else the service of this name in Consul.
    pub service: Option<String>,
    /// The path that the service is asked for; left out: the path as it came.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("examples" = ["/users/{rest}"]))]
    pub rewrite: Option<String>,
    /// The largest request body, in place of `http.max_body_size`; 0: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Size>")]
    pub max_body_size: Option<String>,
    /// How long to wait for what, each key over the service's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<policy::TimeoutTable>,
    /// When a request is tried again, each key over the service's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<retry::Table>,
}

/// What a request has to meet.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("required" = ["path"]))]
pub struct MatchTable {
    /// The path: `{name}` takes one segment, `{*name}` at the end takes the rest, which may be empty.
    #[schemars(extend("examples" = ["/api/v1/users/{*rest}"]))]
    pub path: Option<String>,
    /// Any of these methods; left out: all. GET covers HEAD.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("examples" = [["GET", "POST"]]))]
    pub methods: Vec<String>,
    /// Any of these hosts, such as "api.example.com" or "*.example.com"; left out: all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("examples" = [["api.example.com"]]))]
    pub hosts: Vec<String>,
    /// All of these headers, each with exactly this value.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<String, Secret>")] // no message is to show one of a wrong kind
    pub headers: BTreeMap<String, String>,
}

/// `[[routes]]`, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Its name, else its pattern.
    pub name: RouteName,
    /// Any of these hosts; empty: all.
    pub hosts: Vec<HostPattern>,
    /// The path.
    pub path: PathPattern,
    /// Any of these methods; empty: all.
    pub methods: Vec<Method>,
    /// All of these headers.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// What answers.
    pub service: ServiceName,
    /// The path there; `None`: as it came.
    pub rewrite: Option<Template>,
    /// As many bytes may the body of a request have, where that is not just as for all; 0: any number.
    pub max_body: Option<u64>,
    /// How long its requests wait, where that is not just as the service's.
    pub timeout: Option<Timeouts>,
    /// When they are tried again, where that is not just as the service's.
    pub retry: Option<RetryRules>,
}

/// Checks what was written; services that only routes name are added to `services`, and at `health` the gateway answers.
#[must_use]
pub fn check(tables: &[Table], services: &mut Services, health: Option<&str>, at: &At<'_>) -> Vec<Route> {
    let mut names: BTreeMap<&str, usize> = BTreeMap::new();
    let mut routes = Vec::new();
    for (i, table) in tables.iter().enumerate() {
        let here = at.index(i);
        if let Some(name) = &table.name {
            check_name(name, &here.key("name"));
            if let Some(first) = names.get(name.as_str()) {
                let first = at.index(*first).called_at(&here);
                here.key("name")
                    .say(format!("`{name}` is the name of the route{first} already; give this one another"));
            }
            names.entry(name).or_insert(i);
        }
        let Some(route) = Route::check(table, services, &here) else { continue };
        if let Some((first, _)) = routes.iter().find(|(_, other): &&(usize, Route)| route.is_matched_as(other)) {
            let first = at.index(*first).called_at(&here);
            here.key("match")
                .say(format!("takes the same requests as the route{first}; give one of them another condition"));
        }
        if health.is_some_and(|health| route.path.is_only(health)) {
            let why = "the gateway answers this path itself, so the route never does";
            here.key("match").key("path").doubt(format!("{why}; give it another one, or set `http.health`"));
        }
        routes.push((i, route));
    }
    routes.into_iter().map(|(_, route)| route).collect()
}

impl Route {
    fn check(table: &Table, services: &mut Services, at: &At<'_>) -> Option<Self> {
        let service = table.service.as_ref().map(|name| services.named(name, &at.key("service")));
        if !at.key("service").is_written() {
            at.say("has no service; add `service = \"NAME\"`");
        }
        let none = MatchTable::default();
        let conditions = table.conditions.as_ref().unwrap_or(&none);
        let here = at.key("match");
        let hosts = here.key("hosts").each(&conditions.hosts, str::parse);
        let methods = here.key("methods").each(&conditions.methods, method);
        let headers = conditions.headers.iter().filter_map(|(name, value)| header(name, value, &here.key("headers")));
        let headers = headers.collect();
        let Some(path) = &conditions.path else {
            if !here.is_written() || (table.conditions.is_some() && !here.key("path").is_written()) {
                at.say("matches nothing; add `match = { path = \"/…\" }`");
            }
            return None;
        };
        let path: PathPattern = here.key("path").read(path)?;
        let rewrite = table.rewrite.as_deref().filter(|rewrite| !rewrite.is_empty());
        let rewrite = rewrite.and_then(|text| at.key("rewrite").take(Template::parse(text, &path)));
        let name = table.name.clone().unwrap_or_else(|| path.to_string()).into();
        let service = service?;
        let base = services.known.get(&service).map(|service| &service.policy);
        let max_body = table.max_body_size.as_deref().and_then(|text| at.key("max_body_size").read(text));
        let max_body = max_body.map(|Size(size)| size);
        let timeout = table.timeout.as_ref().zip(base);
        let timeout = timeout.map(|(table, base)| policy::timeouts(table, &base.timeout, &at.key("timeout")));
        let retry = table.retry.as_ref().zip(base);
        let retry = retry.map(|(table, base)| retry::check(table, &base.retry, &at.key("retry")));
        Some(Self { name, hosts, path, methods, headers, service, rewrite, max_body, timeout, retry })
    }

    /// The rules of its calls, where it changes anything of the service's.
    #[must_use]
    pub fn policy(&self, service: &Policy) -> Option<Policy> {
        let changes = self.timeout.is_some() || self.retry.is_some();
        changes.then(|| Policy {
            timeout: self.timeout.unwrap_or(service.timeout),
            retry: self.retry.clone().unwrap_or_else(|| service.retry.clone()),
            ..service.clone()
        })
    }

    /// Whether nothing but their order could tell which of two serves a request.
    fn is_matched_as(&self, other: &Self) -> bool {
        let set = |route: &Self| {
            let hosts: BTreeSet<_> = route.hosts.iter().map(ToString::to_string).collect();
            let methods: BTreeSet<_> = route.methods.iter().map(ToString::to_string).collect();
            let headers: BTreeSet<_> =
                route.headers.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect();
            (hosts, methods, headers)
        };
        self.path.shape() == other.path.shape() && set(self) == set(other)
    }

    /// As it would be written.
    #[must_use]
    pub fn shown(&self) -> Table {
        let path = self.path.to_string();
        Table {
            name: Some(self.name.to_string()).filter(|name| *name != path),
            conditions: Some(MatchTable {
                path: Some(path),
                methods: self.methods.iter().map(ToString::to_string).collect(),
                hosts: self.hosts.iter().map(ToString::to_string).collect(),
                headers: self.headers.iter().map(|(name, value)| (name.to_string(), value::shown(value))).collect(),
            }),
            service: Some(self.service.to_string()),
            rewrite: self.rewrite.as_ref().map(ToString::to_string),
            max_body_size: self.max_body.map(|size| Size(size).to_string()),
            timeout: self.timeout.as_ref().map(policy::shown_timeouts),
            retry: self.retry.as_ref().map(retry::shown),
        }
    }
}

fn check_name(name: &str, at: &At<'_>) {
    if name.is_empty() || name.chars().any(char::is_control) {
        at.say("expected a name; leave it out to call the route by its path");
    } else if name.starts_with(RESERVED) {
        at.say(format!("`{RESERVED}…` is what routes of exposed services are called; take another name"));
    }
}

fn method(text: &str) -> Result<Method, String> {
    let upper = text.to_uppercase();
    match Method::from_bytes(text.as_bytes()) {
        Ok(method) if upper == text => Ok(method),
        Ok(_) => Err(format!("methods are written in capitals; try `{upper}`")),
        Err(_) => Err(format!("expected a method such as `GET`; got `{text}`")),
    }
}

fn header(name: &str, value: &str, at: &At<'_>) -> Option<(HeaderName, HeaderValue)> {
    let at = at.key(name);
    let Ok(name) = name.parse::<HeaderName>() else {
        at.say("expected the name of a header, such as `x-beta`");
        return None;
    };
    let Ok(mut value) = HeaderValue::from_str(value) else {
        at.say("expected the value of a header: one line, without control characters");
        return None;
    };
    value.set_sensitive(SECRET.contains(&name.as_str()));
    Some((name, value))
}

/// Headers with which a client says that it may do what it does.
const SECRET: [&str; 4] = ["authorization", "cookie", "proxy-authorization", "x-api-key"];
const RESERVED: &str = "consul:";
