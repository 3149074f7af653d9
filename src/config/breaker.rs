//! `breaker` in `[defaults]` and in services: when an instance gets nothing for a while.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check::At;
use crate::{
    model::units::{Share, Time},
    upstream::breaker::BreakerRules,
};

/// When an instance gets nothing for a while.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Table {
    /// So many failures in a row open a circuit; 0: no number of them does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consecutive: Option<u32>,
    /// So great a part of the requests within `window`, where it failed, opens a circuit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_rate: Option<f64>,
    /// The least number of requests within `window` that `error_rate` is reckoned from.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub min_requests: Option<u32>,
    /// What `error_rate` is of; between 1s and 60s.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Time>")]
    pub window: Option<String>,
    /// How long a circuit is open at first.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Time>")]
    pub open: Option<String>,
    /// How long at most, as one failure follows another.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Time>")]
    pub max_open: Option<String>,
    /// The part of a service's instances whose circuits may be open at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_ejected: Option<f64>,
    /// Which answers count as failures.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(inner(range(min = 400, max = 599)))]
    pub failure_status: Option<Vec<u16>>,
}

/// Checks what was written; what was left out is as in `base`.
pub fn check(table: &Table, base: &BreakerRules, at: &At<'_>) -> BreakerRules {
    let share = |key, part: Option<f64>, base| part.and_then(|part| at.key(key).take(Share::new(part))).unwrap_or(base);
    let time = |key, text: Option<&String>, base| at.positive(key, text.map(String::as_str)).unwrap_or(base);
    let rules = BreakerRules {
        consecutive: table.consecutive.unwrap_or(base.consecutive),
        error_rate: share("error_rate", table.error_rate, base.error_rate),
        min_requests: table.min_requests.unwrap_or(base.min_requests),
        window: time("window", table.window.as_ref(), base.window),
        open: time("open", table.open.as_ref(), base.open),
        max_open: time("max_open", table.max_open.as_ref(), base.max_open),
        max_ejected: share("max_ejected", table.max_ejected, base.max_ejected),
        failure_status: table.failure_status.as_ref().map_or_else(|| base.failure_status.clone(), |list| sorted(list)),
    };
    if rules.error_rate == Share::NONE {
        at.key("error_rate").say("at `0.0` any request would open a circuit; the least is `0.000001`");
    }
    if !WINDOW.contains(&rules.window) {
        let window = Time(rules.window);
        at.key("window").say(format!("expected between `1s` and `60s`; got `{window}`"));
    }
    if rules.open > rules.max_open {
        let key = if table.open.is_some() { "open" } else { "max_open" };
        let (open, most) = (Time(rules.open), Time(rules.max_open));
        at.key(key).say(format!("`open` is `{open}`, and `max_open` is less: `{most}`"));
    }
    rules
}

const WINDOW: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_mins(1);

/// The order means nothing, and what means the same has to be equal.
fn sorted(list: &[u16]) -> Vec<u16> {
    let mut list = list.to_vec();
    list.sort_unstable();
    list.dedup();
    list
}

/// As it would be written.
pub fn shown(rules: &BreakerRules) -> Table {
    let time = |time| Some(Time(time).to_string());
    Table {
        consecutive: Some(rules.consecutive),
        error_rate: Some(rules.error_rate.as_part()),
        min_requests: Some(rules.min_requests),
        window: time(rules.window),
        open: time(rules.open),
        max_open: time(rules.max_open),
        max_ejected: Some(rules.max_ejected.as_part()),
        failure_status: Some(rules.failure_status.clone()),
    }
}
