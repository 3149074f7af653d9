//! `[expose]`: services that route themselves. What their tags ask for is read where they are discovered.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check::At;
use crate::model::{
    path,
    pattern::{HostPattern, PathPattern},
    template::Template,
};

/// Services that route themselves: registered in Consul with the tag, they are served.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Table {
    /// The tag that exposes a service; "": none does. Only instances that carry it are members.
    pub tag: Option<String>,
    /// Where a service is served; `{service}` is its name.
    #[schemars(extend("examples" = ["/api/v1/{service}/{*rest}"]))]
    pub path: Option<String>,
    /// The path that the service is asked for; "": the path as it came.
    #[schemars(extend("examples" = ["/{rest}"]))]
    pub rewrite: Option<String>,
    /// Path prefixes that a service's own tags may claim.
    pub allow: Option<Vec<String>>,
    /// Hosts that a service's own tags may claim.
    pub hosts: Option<Vec<String>>,
}

impl Default for Table {
    fn default() -> Self {
        let text = |text: &str| Some(text.to_owned());
        Self {
            tag: text("lictor"),
            path: text("/api/v1/{service}/{*rest}"),
            rewrite: text("/{rest}"),
            allow: Some(vec!["/api/".into()]),
            hosts: Some(Vec::new()),
        }
    }
}

/// `[expose]`, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expose {
    /// The tag that exposes.
    pub tag: String,
    /// The path pattern, with `{service}`.
    pub path: String,
    /// The rewrite; `None`: the path as it came.
    pub rewrite: Option<String>,
    /// Path prefixes that tags may claim.
    pub allow: Vec<String>,
    /// Hosts that tags may claim.
    pub hosts: Vec<String>,
}

impl Expose {
    /// Checks what was written; `None`: no service exposes itself.
    #[must_use]
    pub fn check(table: &Table, at: &At<'_>) -> Option<Self> {
        let path = table.path.clone().unwrap_or_default();
        let rewrite = table.rewrite.clone().filter(|rewrite| !rewrite.is_empty());
        if table.path.is_some()
            && let Some(pattern) = pattern(&path, &at.key("path"))
            && let Some(Err(error)) =
                rewrite.as_ref().map(|rewrite| Template::parse(&rewrite.replace(SERVICE, "service"), &pattern))
        {
            // Whoever changed the path has to hear of a rewrite that they did not write.
            match (at.key("rewrite"), rewrite.as_deref()) {
                (at_rewrite, Some(rewrite)) if at_rewrite.is_default() => {
                    at.key("path").say(format!("`rewrite`, `{rewrite}` when left out, does not go with it: {error}"));
                }
                (at_rewrite, _) => at_rewrite.say(error),
            }
        }
        let allow = at.key("allow").each(table.allow.as_deref().unwrap_or_default(), prefix);
        let host = |text: &str| text.parse::<HostPattern>().map(|host| host.to_string());
        let hosts = at.key("hosts").each(table.hosts.as_deref().unwrap_or_default(), host);
        let tag = table.tag.clone().filter(|tag| !tag.is_empty())?;
        Some(Self { tag, path, rewrite, allow, hosts })
    }

    /// As it would be written.
    #[must_use]
    pub fn shown(expose: Option<&Self>) -> Table {
        let Some(expose) = expose else { return Table { tag: Some(String::new()), ..Table::default() } };
        Table {
            tag: Some(expose.tag.clone()),
            path: Some(expose.path.clone()),
            rewrite: Some(expose.rewrite.clone().unwrap_or_default()),
            allow: Some(expose.allow.clone()),
            hosts: Some(expose.hosts.clone()),
        }
    }
}

/// The pattern of one service, as an example of all.
fn pattern(path: &str, at: &At<'_>) -> Option<PathPattern> {
    if !path.contains(SERVICE) {
        at.say(format!("expected `{SERVICE}` in it, such as `/api/v1/{SERVICE}/{{*rest}}`; got `{path}`"));
        return None;
    }
    at.read(&path.replace(SERVICE, "service"))
}

fn prefix(text: &str) -> Result<String, String> {
    match path::normalize(text) {
        Ok(form) => Ok(form.into_owned()),
        Err(why) => Err(format!("expected the beginning of a path, such as `/api/`; got `{text}`: {why}")),
    }
}

const SERVICE: &str = "{service}";
