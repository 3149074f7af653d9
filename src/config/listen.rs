//! The listeners: what each `listen` takes, and `[admin]` and `[metrics]`, which have little more.

use std::{borrow::Cow, net::SocketAddr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::check::At;
use crate::{
    model::units::{Secret, Time},
    telemetry::histogram::Bounds,
};

/// One address, or a list of them; an empty text is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Listen {
    /// An address, or none.
    One(String),
    /// Any number of them.
    More(Vec<String>),
}

impl From<&str> for Listen {
    fn from(text: &str) -> Self {
        Self::One(text.into())
    }
}

impl JsonSchema for Listen {
    fn schema_name() -> Cow<'static, str> {
        "Listen".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["string", "array"],
            "items": { "type": "string", "examples": ["127.0.0.1:9901"] },
            "examples": ["0.0.0.0:8000", "[::]:8000", ["127.0.0.1:8000", "[::1]:8000"], ""],
        })
    }
}

/// Reads the addresses.
#[must_use]
pub fn check(listen: Option<&Listen>, at: &At<'_>) -> Vec<SocketAddr> {
    match listen {
        Some(Listen::One(text)) if !text.is_empty() => at.take(address(text)).into_iter().collect(),
        Some(Listen::More(texts)) => at.each(texts, address),
        Some(Listen::One(_)) | None => Vec::new(),
    }
}

/// As it would be written.
#[must_use]
pub fn shown(addresses: &[SocketAddr]) -> Listen {
    match addresses {
        [] => Listen::One(String::new()),
        [one] => Listen::One(one.to_string()),
        more => Listen::More(more.iter().map(ToString::to_string).collect()),
    }
}

/// Says which address two listeners share: the second to bind it would fail, or share its connections.
pub fn distinct<'a>(listeners: impl Iterator<Item = (&'a str, &'a [SocketAddr])>, at: &At<'_>) {
    let mut taken: Vec<(&str, SocketAddr)> = Vec::new();
    for (table, addresses) in listeners {
        for address in addresses {
            let same = |other: &SocketAddr| {
                let all = other.ip().is_unspecified() || address.ip().is_unspecified();
                let family = other.is_ipv4() == address.is_ipv4();
                other.port() == address.port() && (other.ip() == address.ip() || (all && family))
            };
            let twice = taken.iter().find(|(_, other)| same(other) && address.port() != 0);
            if let Some((other, _)) = twice {
                at.key(table)
                    .key("listen")
                    .say(format!("`{address}` is in `{other}.listen` already; use another port"));
            }
            taken.push((table, *address));
        }
    }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.trim().parse().map_err(|_| {
        let bare = text.trim().trim_start_matches(':');
        let port = bare.parse::<u16>().ok().or_else(|| bare.rsplit_once(':')?.1.parse().ok());
        let hint = format!("0.0.0.0:{}", port.unwrap_or(8000));
        format!("expected an IP address and port such as `{hint}` or `[::]:{}`; got `{text}`", port.unwrap_or(8000))
    })
}

/// The listener for operators.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct AdminTable {
    /// Where operators are answered: an address and port, or a list of them; "" turns it off.
    pub listen: Option<Listen>,
    /// Asked for by everything here but `/livez`, `/readyz` and `/metrics`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
}

impl Default for AdminTable {
    fn default() -> Self {
        Self { listen: Some("127.0.0.1:9901".into()), token: None }
    }
}

/// `[admin]`, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// Where to listen.
    pub listen: Vec<SocketAddr>,
    /// Asked for by all but probes and metrics.
    pub token: Option<Secret>,
}

impl Admin {
    /// Checks what was written.
    #[must_use]
    pub fn check(table: &AdminTable, at: &At<'_>) -> Self {
        Self { listen: check(table.listen.as_ref(), &at.key("listen")), token: token(table.token.as_ref(), at) }
    }

    /// As it would be written.
    #[must_use]
    pub fn shown(&self) -> AdminTable {
        AdminTable { listen: Some(shown(&self.listen)), token: self.token.clone() }
    }
}

/// A token that can be sent in a header; an empty one is none.
#[must_use]
pub fn token(token: Option<&Secret>, at: &At<'_>) -> Option<Secret> {
    let token = token.filter(|token| !token.reveal().is_empty())?;
    if !token.reveal().bytes().all(|b| b.is_ascii_graphic()) {
        at.key("token").say("expected visible ASCII letters alone; there is a blank or another character in it");
    }
    Some(token.clone())
}

/// A listener with metrics and probes alone.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MetricsTable {
    /// Where `/metrics`, `/livez` and `/readyz` are answered besides `[admin]`; "" turns it off.
    pub listen: Option<Listen>,
    /// The upper bounds of the buckets of all histograms, ascending; at most 31.
    #[schemars(with = "Option<Vec<Time>>")]
    pub buckets: Option<Vec<String>>,
}

impl Default for MetricsTable {
    fn default() -> Self {
        let buckets = Bounds::DEFAULT.map(|bound| Time(bound).to_string());
        Self { listen: Some("".into()), buckets: Some(buckets.into()) }
    }
}

/// `[metrics]`, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// Where to listen.
    pub listen: Vec<SocketAddr>,
    /// The bounds of histograms.
    pub buckets: Bounds,
}

impl Metrics {
    /// Checks what was written.
    #[must_use]
    pub fn check(table: &MetricsTable, at: &At<'_>) -> Self {
        let at_buckets = at.key("buckets");
        let times = at_buckets.each(table.buckets.as_deref().unwrap_or_default(), str::parse::<Time>);
        let times: Vec<_> = times.into_iter().map(|Time(time)| time).collect();
        let buckets = Bounds::new(&times).unwrap_or_else(|| {
            if times.len() == table.buckets.as_ref().map_or(0, Vec::len) {
                at_buckets.say(format!(
                    "expected 1 to {} ascending durations above 0, such as `[\"5ms\", \"1s\"]`",
                    Bounds::MOST
                ));
            }
            Bounds::default()
        });
        Self { listen: check(table.listen.as_ref(), &at.key("listen")), buckets }
    }

    /// As it would be written.
    #[must_use]
    pub fn shown(&self) -> MetricsTable {
        let buckets = self.buckets.times().map(|bound| Time(bound).to_string()).collect();
        MetricsTable { listen: Some(shown(&self.listen)), buckets: Some(buckets) }
    }
}
