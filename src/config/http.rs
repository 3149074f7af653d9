//! `[http]`: the public listener, its limits and its end.

use std::{net::SocketAddr, num::NonZero, time::Duration};

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    check::At,
    consul::network,
    listen::{self, Listen},
};
use crate::model::{
    path,
    units::{Size, Time},
};

/// The public listener.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Table {
    /// Where clients are served: an address and port, or a list of them; "" turns it off.
    pub listen: Option<Listen>,
    /// Networks whose word on who asks is believed: `X-Forwarded-*`, `Forwarded` and the PROXY protocol.
    #[schemars(extend("examples" = [["10.0.0.0/8"]]))]
    pub trusted_proxies: Option<Vec<String>>,
    /// Whether connections from `trusted_proxies` begin with a header of the PROXY protocol.
    pub proxy_protocol: Option<bool>,
    /// For a whole request head.
    #[schemars(with = "Option<Time>")]
    pub header_timeout: Option<String>,
    /// The largest request head; between 1KiB and 1MiB.
    #[schemars(with = "Option<Size>")]
    pub max_header_size: Option<String>,
    /// The largest request body; 0: no limit.
    #[schemars(with = "Option<Size>")]
    pub max_body_size: Option<String>,
    /// The most client connections at once, over all listeners of `[http]`.
    #[schemars(range(min = 1))]
    pub max_connections: Option<u32>,
    /// How long a client connection may be idle.
    #[schemars(with = "Option<Time>")]
    pub keep_alive: Option<String>,
    /// Threads that serve; 0: one per core.
    #[schemars(range(max = 1024))]
    pub workers: Option<u32>,
    /// After SIGTERM: not ready any more, but still accepting.
    #[schemars(with = "Option<Time>")]
    pub drain_wait: Option<String>,
    /// After that: how long requests under way may take.
    #[schemars(with = "Option<Time>")]
    pub drain: Option<String>,
    /// The path that answers how the services are; "" turns it off.
    pub health: Option<String>,
}

impl Default for Table {
    fn default() -> Self {
        let text = |text: &str| Some(text.to_owned());
        Self {
            listen: Some("0.0.0.0:8000".into()),
            trusted_proxies: Some(Vec::new()),
            proxy_protocol: Some(false),
            header_timeout: text("10s"),
            max_header_size: text("32KiB"),
            max_body_size: text("10MiB"),
            max_connections: Some(10_000),
            keep_alive: text("75s"),
            workers: Some(0),
            drain_wait: text("0s"),
            drain: text("30s"),
            health: text("/health"),
        }
    }
}

/// `[http]`, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// Where to listen.
    pub listen: Vec<SocketAddr>,
    /// Whose word on who asks is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Connections from these begin with a header of the PROXY protocol.
    pub proxy_protocol: bool,
    /// For a whole request head.
    pub header_timeout: Duration,
    /// Bytes of a request head.
    pub max_header_size: usize,
    /// Bytes of a request body; `None`: no limit.
    pub max_body_size: Option<u64>,
    /// Client connections over all listeners.
    pub max_connections: usize,
    /// How long a client connection may be idle.
    pub keep_alive: Duration,
    /// Threads; at least 1.
    pub workers: usize,
    /// After SIGTERM: still accepting.
    pub drain_wait: Duration,
    /// Then: how long requests under way may take.
    pub drain: Duration,
    /// The path of the health report; `None`: off.
    pub health: Option<String>,
}

impl Http {
    /// Checks what was written.
    #[must_use]
    pub fn check(table: &Table, at: &At<'_>) -> Self {
        let size = |key: &str, text: Option<&String>| at.key(key).read(text?).map(|Size(size)| size);
        let head = size("max_header_size", table.max_header_size.as_ref()).unwrap_or(*HEAD.start());
        if !HEAD.contains(&head) {
            let [least, most] = [*HEAD.start(), *HEAD.end()].map(Size);
            at.key("max_header_size").say(format!("expected a size from `{least}` to `{most}`; got `{}`", Size(head)));
        }
        let trusted = table.trusted_proxies.as_deref().unwrap_or_default();
        Self {
            listen: listen::check(table.listen.as_ref(), &at.key("listen")),
            trusted_proxies: at.key("trusted_proxies").each(trusted, network),
            proxy_protocol: proxy_protocol(table.proxy_protocol, trusted, at),
            header_timeout: at.positive("header_timeout", table.header_timeout.as_deref()).unwrap_or_default(),
            max_header_size: usize::try_from(head).unwrap_or_default(),
            max_body_size: size("max_body_size", table.max_body_size.as_ref()).filter(|size| *size > 0),
            max_connections: table.max_connections.map_or(1, |most| usize::try_from(most).unwrap_or(usize::MAX)),
            keep_alive: at.positive("keep_alive", table.keep_alive.as_deref()).unwrap_or_default(),
            workers: workers(table.workers),
            drain_wait: at.time("drain_wait", table.drain_wait.as_deref()).unwrap_or_default(),
            drain: at.time("drain", table.drain.as_deref()).unwrap_or_default(),
            health: health(table.health.as_deref(), &at.key("health")),
        }
    }

    /// As it would be written.
    #[must_use]
    pub fn shown(&self) -> Table {
        let time = |time| Some(Time(time).to_string());
        Table {
            listen: Some(listen::shown(&self.listen)),
            trusted_proxies: Some(self.trusted_proxies.iter().map(ToString::to_string).collect()),
            proxy_protocol: Some(self.proxy_protocol),
            header_timeout: time(self.header_timeout),
            max_header_size: u64::try_from(self.max_header_size).ok().map(|size| Size(size).to_string()),
            max_body_size: Some(Size(self.max_body_size.unwrap_or_default()).to_string()),
            max_connections: u32::try_from(self.max_connections).ok(),
            keep_alive: time(self.keep_alive),
            workers: u32::try_from(self.workers).ok(),
            drain_wait: time(self.drain_wait),
            drain: time(self.drain),
            health: Some(self.health.clone().unwrap_or_default()),
        }
    }
}

/// Whether a listener takes the PROXY protocol, which it can only from those whose word is believed.
pub(super) fn proxy_protocol(written: Option<bool>, trusted: &[String], at: &At<'_>) -> bool {
    let on = written.unwrap_or_default();
    if on && trusted.is_empty() {
        at.key("proxy_protocol").say(
            "nobody may send its header while `http.trusted_proxies` is empty; list the balancers there, such as `10.0.0.0/8`",
        );
    }
    on
}

fn workers(written: Option<u32>) -> usize {
    let written = written.and_then(|count| usize::try_from(count).ok()).filter(|count| *count > 0);
    written.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, NonZero::get))
}

fn health(text: Option<&str>, at: &At<'_>) -> Option<String> {
    let text = text.filter(|text| !text.is_empty())?;
    let form = path::normalize(text).map_err(|why| format!("expected a path such as `/health`; got `{text}`: {why}"));
    at.take(form).map(std::borrow::Cow::into_owned)
}

/// Below, no browser's request fits; above, it is an attack.
const HEAD: std::ops::RangeInclusive<u64> = 1 << 10..=1 << 20;
