//! `retry` in `[defaults]` and in services: when a request is tried again.

use std::time::Duration;

use http::Method;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check::At;
use crate::{
    model::units::{Share, Size, Time},
    upstream::retry::{Factor, On, RetryRules},
};

/// When a request is tried again.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Table {
    /// The most tries in all; 1: it is never tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub attempts: Option<u32>,
    /// The longest pause before the second try; the pause is any part of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Time>")]
    pub backoff: Option<String>,
    /// By how much the longest pause grows from try to try.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub factor: Option<f64>,
    /// The longest pause there is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Time>")]
    pub max_backoff: Option<String>,
    /// The part of a service's requests within 10s that may be tried again; three a second always may, unless it is 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<f64>,
    /// The most of a body that is kept to be sent again.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Size>")]
    pub max_body: Option<String>,
    /// After what: `connect`, `reset`, `refused_stream`, `timeout`, and statuses such as 503.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(inner(regex(pattern = r"^(connect|reset|refused_stream|timeout|[45][0-9][0-9])$")))]
    pub on: Option<Vec<String>>,
    /// Methods that may be sent again; one of which nothing was sent always may.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("examples" = [["GET", "POST"]]))]
    pub methods: Option<Vec<String>>,
}

/// Checks what was written; what was left out is as in `base`.
pub fn check(table: &Table, base: &RetryRules, at: &At<'_>) -> RetryRules {
    let time = |key, text: Option<&String>, base| at.time(key, text.map(String::as_str)).unwrap_or(base);
    let sorted = |key, texts: &[String]| {
        let mut on: Vec<On> = at.key(key).each(texts, str::parse);
        on.sort_unstable();
        on.dedup();
        on
    };
    let budget = table.budget.and_then(|part| at.key("budget").take(Share::new(part)));
    let max_body = table.max_body.as_deref().and_then(|text| at.key("max_body").read(text));
    let rules = RetryRules {
        attempts: table.attempts.unwrap_or(base.attempts),
        backoff: time("backoff", table.backoff.as_ref(), base.backoff),
        factor: table.factor.and_then(|factor| at.key("factor").take(Factor::new(factor))).unwrap_or(base.factor),
        max_backoff: time("max_backoff", table.max_backoff.as_ref(), base.max_backoff),
        budget: budget.unwrap_or(base.budget),
        max_body: max_body.map_or(base.max_body, |Size(size)| size),
        on: table.on.as_ref().map_or_else(|| base.on.clone(), |list| sorted("on", list)),
        methods: table.methods.as_ref().map_or_else(|| base.methods.clone(), |list| methods(list, &at.key("methods"))),
    };
    if rules.max_body > MOST {
        at.key("max_body").say(format!("`{}` for each request is too much; the most is `16MiB`", Size(rules.max_body)));
    }
    if rules.max_backoff > LONGEST {
        at.key("max_backoff").say(format!("expected at most `1m`; got `{}`", Time(rules.max_backoff)));
    }
    rules
}

const MOST: u64 = 16 * 1024 * 1024;
const LONGEST: Duration = Duration::from_mins(1);

fn methods(list: &[String], at: &At<'_>) -> Vec<Method> {
    at.each(list, |text| match text.parse::<Method>() {
        Ok(method) if !text.bytes().any(|b| b.is_ascii_lowercase()) => Ok(method),
        _ => Err(format!("expected a method in capitals, such as `GET`; got `{text}`")),
    })
}

/// As it would be written.
pub fn shown(rules: &RetryRules) -> Table {
    let time = |time| Some(Time(time).to_string());
    Table {
        attempts: Some(rules.attempts),
        backoff: time(rules.backoff),
        factor: Some(rules.factor.as_factor()),
        max_backoff: time(rules.max_backoff),
        budget: Some(rules.budget.as_part()),
        max_body: Some(Size(rules.max_body).to_string()),
        on: Some(rules.on.iter().map(ToString::to_string).collect()),
        methods: Some(rules.methods.iter().map(ToString::to_string).collect()),
    }
}
