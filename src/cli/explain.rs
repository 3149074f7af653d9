//! `lictor explain`: what would become of a request, and why.

use std::{fmt::Write as _, io::Write as _, process::ExitCode, time::Duration};

use anstyle::Style;
use anyhow::{Context as _, Result};
use serde::Deserialize;
use serde_json::Value;

use super::{
    beside::{self, Beside},
    block_on, done, plain,
    status::{BAD, GOOD, Instance, instances, unread},
    table::{Cell, Column, Table, width},
};

/// What `lictor explain` is told.
#[derive(clap::Args)]
pub struct Args {
    /// The method, such as GET
    method: String,
    /// The path and query, or the whole URL as a client would have it
    url: String,
    /// A header of the request
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// The whole of it as JSON, for scripts
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    beside: beside::Args,
}

/// What is read of `/api/explain`.
#[derive(Deserialize)]
struct Told {
    request: Asked,
    route: Option<Route>,
    considered: Vec<Judged>,
    upstream: Option<Upstream>,
    answer: Option<Given>,
}

#[derive(Deserialize)]
struct Asked {
    host: String,
    path: Option<String>,
}

#[derive(Deserialize)]
struct Route {
    name: String,
    source: String,
    path: String,
    rewrite: Option<String>,
}

#[derive(Deserialize)]
struct Judged {
    route: String,
    path: String,
    serves: bool,
    reason: String,
}

#[derive(Deserialize)]
struct Upstream {
    service: String,
    protocol: String,
    host: String,
    path: String,
    policy: Value,
    instances: Vec<Instance>,
}

#[derive(Deserialize)]
struct Given {
    status: u16,
    detail: String,
    allow: Option<String>,
}

/// Exit 1: the gateway cannot be asked.
pub fn run(args: &Args) -> ExitCode {
    done(block_on(async {
        let text = tell(args).await?;
        anstream::stdout().write_all(text.as_bytes()).or_else(unread)?;
        Ok(())
    }))
}

async fn tell(args: &Args) -> Result<String> {
    let gateway = Beside::find(&args.beside, PATIENCE)?;
    let mut query = vec![("method", args.method.as_str()), ("url", &args.url)];
    query.extend(args.headers.iter().map(|header| ("header", header.as_str())));
    let text = gateway.document("/api/explain", &query).await?;
    let unreadable = "`/api/explain` is not what this version of lictor tells";
    if args.json {
        let whole: Value = serde_json::from_str(&text).context(unreadable)?;
        return Ok(serde_json::to_string_pretty(&whole)? + "\n");
    }
    let told: Told = serde_json::from_str(&text).context(unreadable)?;
    Ok(written(&args.method, &told))
}

fn written(method: &str, told: &Told) -> String {
    let mut text = String::new();
    let path = told.request.path.as_deref().unwrap_or("no path that could be matched");
    let mut line = |name: &str, value: &str, style: Style| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:<10}{style}{}{style:#}", plain(value));
    };
    line("request", &format!("{method} {path} for {}", told.request.host), Style::new());
    if let Some(route) = &told.route {
        let rewrite = route.rewrite.as_ref().map(|rewrite| format!(", rewritten to {rewrite}")).unwrap_or_default();
        line("route", &format!("{} (by {}): {}{rewrite}", route.name, route.source, route.path), GOOD);
    }
    if let Some(upstream) = &told.upstream {
        line("service", &format!("{} ({})", upstream.service, upstream.protocol), Style::new());
        line("sent as", &format!("{method} {} for {}", upstream.path, upstream.host), Style::new());
        let rules = upstream.policy.as_object().into_iter().flatten();
        for (i, (key, value)) in rules.enumerate() {
            line(if i == 0 { "policy" } else { "" }, &format!("{key} {}", rule(value)), Style::new());
        }
    }
    match &told.answer {
        Some(answer) => {
            let allow = answer.allow.as_ref().map(|allow| format!(" (Allow: {allow})")).unwrap_or_default();
            let style = if answer.status < 400 { GOOD } else { BAD };
            line("answer", &format!("{} by the gateway itself: {}{allow}", answer.status, answer.detail), style);
        }
        None => line("answer", "by an instance", GOOD),
    }
    if let Some(upstream) = &told.upstream {
        let service = [(upstream.service.as_str(), upstream.instances.as_slice())];
        let _ = write!(text, "\n{}", instances(service.into_iter(), 0));
    }
    if !told.considered.is_empty() {
        let _ = write!(text, "\n{}", routes(&told.considered));
    }
    text
}

/// The routes by their verdicts; those of other paths are many, and few of them are of interest.
fn routes(considered: &[Judged]) -> String {
    let column = |title| Column { title, numbers: false, spare: 0 };
    let mut table = Table::new(vec![column("ROUTE"), column("PATH"), column("SERVES")]);
    for judged in considered.iter().take(MOST) {
        let verdict = if judged.serves { "yes" } else { "no" };
        let style = if judged.serves { GOOD } else { Style::new() };
        let verdict = Cell::styled(&format!("{verdict}: {}", judged.reason), style);
        table.row(vec![(&judged.route).into(), (&judged.path).into(), verdict]);
    }
    let more = considered.len().saturating_sub(MOST);
    let more = if more > 0 { format!("and {more} more; --json has all\n") } else { String::new() };
    table.render(0, width()) + &more
}

/// As it stands in a configuration.
fn rule(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Object(table) => {
            let keys: Vec<_> = table.iter().map(|(key, value)| format!("{key} {}", rule(value))).collect();
            format!("{{ {} }}", keys.join(", "))
        }
        Value::Array(list) => list.iter().map(rule).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}

const MOST: usize = 30;
const PATIENCE: Duration = Duration::from_secs(10);
