//! The rules of services: `[defaults]`, and the same keys in each service's table.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{breaker, check::At, retry, schema::nearest};
use crate::{
    model::{instance::Health, units::Time},
    upstream::{
        balance::Balance,
        policy::{Policy, PoolRules, Timeouts},
    },
};

/// The rules of a service.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Table {
    /// How long to wait for what.
    pub timeout: TimeoutTable,
    /// When an instance gets nothing for a while.
    pub breaker: breaker::Table,
    /// When a request is tried again.
    pub retry: retry::Table,
    /// Consul health in which an instance may be picked: passing, warning, critical, maintenance.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("items" = { "type": "string", "enum": HEALTH.map(Health::as_str) }))]
    pub accept: Option<Vec<String>>,
    /// Requests that may be under way to the service at once; 0: any number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_in_flight: Option<u32>,
    /// Whether instances that Consul calls critical are used when no other is left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub panic: Option<bool>,
    /// Which idle connections are kept to each instance, by each worker.
    pub pool: PoolTable,
    /// How an instance is picked.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = Balance::ALL.iter().map(|balance| balance.as_str()).collect::<Vec<_>>()))]
    pub balance: Option<String>,
    /// What `consistent_hash` goes by: `ip`, `path`, `header:NAME` or `cookie:NAME`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("pattern" = "^(ip|path|(header|cookie):[!#$%&'*+.^_`|~0-9A-Za-z-]+)$", "examples" = ["ip", "path", "header:x-user", "cookie:session"]))]
    pub hash: Option<String>,
    /// How long an instance that comes takes to grow from a tenth to all of its weight.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Time>")]
    pub slow_start: Option<String>,
}

/// How long to wait for what.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TimeoutTable {
    /// From the whole request to the head of the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Time>")]
    pub total: Option<String>,
    /// For each connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Time>")]
    pub connect: Option<String>,
    /// For bytes of an answer, its head included, each time.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Time>")]
    pub read: Option<String>,
    /// For anything to pass on an upgraded connection, and for bytes of an event stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Time>")]
    pub idle: Option<String>,
}

/// Which idle connections are kept.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PoolTable {
    /// The most of them; 0 keeps none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_idle: Option<u32>,
    /// How long one is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Time>")]
    pub idle_timeout: Option<String>,
}

/// The waits that were written; what was left out is as in `base`.
#[must_use]
pub fn timeouts(table: &TimeoutTable, base: &Timeouts, at: &At<'_>) -> Timeouts {
    let time = |key, text: Option<&String>, base| at.positive(key, text.map(String::as_str)).unwrap_or(base);
    Timeouts {
        total: time("total", table.total.as_ref(), base.total),
        connect: time("connect", table.connect.as_ref(), base.connect),
        read: time("read", table.read.as_ref(), base.read),
        idle: time("idle", table.idle.as_ref(), base.idle),
    }
}

/// As they would be written.
#[must_use]
pub fn shown_timeouts(timeouts: &Timeouts) -> TimeoutTable {
    let time = |time| Some(Time(time).to_string());
    let Timeouts { total, connect, read, idle } = *timeouts;
    TimeoutTable { total: time(total), connect: time(connect), read: time(read), idle: time(idle) }
}

/// Checks what was written; what was left out is as in `base`.
#[must_use]
pub fn check(table: &Table, base: &Policy, at: &At<'_>) -> Policy {
    let pool = &table.pool;
    let idle_timeout = at.key("pool").positive("idle_timeout", pool.idle_timeout.as_deref());
    Policy {
        timeout: timeouts(&table.timeout, &base.timeout, &at.key("timeout")),
        breaker: breaker::check(&table.breaker, &base.breaker, &at.key("breaker")),
        retry: retry::check(&table.retry, &base.retry, &at.key("retry")),
        accept: table.accept.as_ref().map_or_else(|| base.accept.clone(), |list| accept(list, &at.key("accept"))),
        max_in_flight: match table.max_in_flight {
            Some(most) => Some(most.into()).filter(|most| *most > 0),
            None => base.max_in_flight,
        },
        panic: table.panic.unwrap_or(base.panic),
        pool: PoolRules {
            max_idle: pool.max_idle.and_then(|most| usize::try_from(most).ok()).unwrap_or(base.pool.max_idle),
            idle_timeout: idle_timeout.unwrap_or(base.pool.idle_timeout),
        },
        balance: table.balance.as_deref().and_then(|word| at.key("balance").read(word)).unwrap_or(base.balance),
        hash: table.hash.as_deref().and_then(|part| at.key("hash").read(part)).unwrap_or_else(|| base.hash.clone()),
        slow_start: at.time("slow_start", table.slow_start.as_deref()).unwrap_or(base.slow_start),
    }
}

/// As it would be written.
#[must_use]
pub fn shown(policy: &Policy) -> Table {
    let time = |time| Some(Time(time).to_string());
    Table {
        timeout: shown_timeouts(&policy.timeout),
        breaker: breaker::shown(&policy.breaker),
        retry: retry::shown(&policy.retry),
        accept: Some(policy.accept.iter().map(|health| health.as_str().to_owned()).collect()),
        max_in_flight: Some(policy.max_in_flight.map_or(0, |most| u32::try_from(most).unwrap_or(u32::MAX))),
        panic: Some(policy.panic),
        pool: PoolTable {
            max_idle: u32::try_from(policy.pool.max_idle).ok(),
            idle_timeout: time(policy.pool.idle_timeout),
        },
        balance: Some(policy.balance.as_str().into()),
        hash: Some(policy.hash.to_string()),
        slow_start: time(policy.slow_start),
    }
}

fn accept(list: &[String], at: &At<'_>) -> Vec<Health> {
    if list.is_empty() {
        at.say("no instance could ever be picked; list at least `passing`");
    }
    let read = |text: &str| {
        HEALTH.into_iter().find(|health| health.as_str() == text).ok_or_else(|| {
            let near = nearest(text, HEALTH.into_iter().map(Health::as_str)).unwrap_or("passing");
            format!("`{text}` is not a health that Consul knows; did you mean `{near}`?")
        })
    };
    let mut accept = at.each(list, read);
    // The order means nothing, and what means the same has to be equal.
    accept.sort_unstable();
    accept.dedup();
    accept
}

const HEALTH: [Health; 4] = [Health::Passing, Health::Warning, Health::Critical, Health::Maintenance];
