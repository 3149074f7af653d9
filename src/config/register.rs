//! `[consul] register`: the gateway puts itself into Consul. Doing it is `control::registrar`.

use std::{ops::RangeInclusive, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Expose, Origin, Service, check::At};
use crate::model::{host::HostPattern, name::ServiceName, units::Time};

/// What the gateway registers itself as.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Table {
    /// The service's name in Consul; left out: lictor; "": the gateway does not register itself.
    #[schemars(extend("examples" = ["lictor"]))]
    pub name: Option<String>,
    /// Where others reach the gateway: an IP address or a host; left out: where the agent's node is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("examples" = ["10.0.0.5"]))]
    pub address: Option<String>,
    /// The port; left out: that of the first address in `http.listen`, else in `https.listen`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u32>,
    /// Tags of the instance.
    pub tags: Option<Vec<String>>,
    /// The check's time to live, between 1s and 10m; left out: 10s. It is passed three times as often.
    #[schemars(with = "Option<Time>")]
    pub check: Option<String>,
}

/// `[consul] register`, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Register {
    /// The service's name.
    pub name: String,
    /// Where others reach the gateway; `None`: where the agent's node is.
    pub address: Option<String>,
    /// The port; `None`: that of the first listener.
    pub port: Option<u16>,
    /// Tags of the instance.
    pub tags: Vec<String>,
    /// The check's time to live.
    pub check: Duration,
}

impl Register {
    /// Checks what was written; `None`: the gateway does not register itself.
    #[must_use]
    pub fn check(table: &Table, at: &At<'_>) -> Option<Self> {
        let name = table.name.as_deref().unwrap_or("lictor");
        if !name.is_empty() && !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) {
            at.key("name").say(format!("expected a name of letters, digits and `-`, such as `lictor`; got `{name}`"));
        }
        let address = table.address.as_deref().filter(|address| !address.is_empty());
        let check = at.time("check", table.check.as_deref()).unwrap_or(Duration::from_secs(10));
        if !CHECK.contains(&check) {
            at.key("check").say(format!("expected a duration from `1s` to `10m`; got `{}`", Time(check)));
        }
        let register = Self {
            name: name.to_owned(),
            address: address.and_then(|text| at.key("address").take(reached(text))),
            port: table.port.and_then(|port| port.try_into().ok()),
            tags: table.tags.clone().unwrap_or_default(),
            check,
        };
        (!name.is_empty()).then_some(register)
    }

    /// Says what would have the gateway send requests to itself, or register what is not there.
    pub fn judge<'s>(
        &self,
        listens: bool,
        expose: Option<&Expose>,
        mut services: impl Iterator<Item = (&'s ServiceName, &'s Service)>,
        at: &At<'_>,
    ) {
        if !listens && self.port.is_none() {
            at.say(
                "there is no `http.listen` and no `https.listen` whose port could be registered; give one as `port`",
            );
        }
        if let Some(expose) = expose.filter(|expose| self.tags.contains(&expose.tag)) {
            let tag = &expose.tag;
            at.key("tags")
                .say(format!("`{tag}` is the tag of `[expose]`, so the gateway would serve itself; leave it out"));
        }
        let own = |service: &Service| {
            let of = |tag: &Option<String>| tag.as_ref().is_none_or(|tag| self.tags.contains(tag));
            matches!(&service.origin, Origin::Consul { name, tag, .. } if *name == self.name && of(tag))
        };
        if let Some((service, _)) = services.find(|(_, service)| own(service)) {
            at.key("name").say(format!(
                "`{}` is what the service `{service}` is made of, so the gateway would send requests to itself; \
                 use another name",
                self.name
            ));
        }
    }

    /// As it would be written.
    #[must_use]
    pub fn shown(&self) -> Table {
        Table {
            name: Some(self.name.clone()),
            address: self.address.clone(),
            port: self.port.map(Into::into),
            tags: Some(self.tags.clone()),
            check: Some(Time(self.check).to_string()),
        }
    }
}

fn reached(text: &str) -> Result<String, String> {
    let expected = "expected an IP address or a host that others reach, such as `10.0.0.5`";
    match text.parse::<std::net::IpAddr>() {
        Ok(address) if address.is_unspecified() => Err(format!("{expected}; `{text}` is no one's")),
        Ok(address) => Ok(address.to_string()),
        Err(_) if text.contains(['*', ':', '[']) || text.parse::<HostPattern>().is_err() => {
            Err(format!("{expected}, without a port; got `{text}`"))
        }
        Err(_) => Ok(text.to_owned()),
    }
}

const CHECK: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_mins(10);
