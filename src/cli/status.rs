//! `lictor status`: services and their instances as the gateway sees them, as a table.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

use anstyle::{AnsiColor, Style};
use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    beside::{self, Beside},
    block_on, done,
    table::{Cell, Column, Table, width},
};

/// What `lictor status` is told.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    beside: beside::Args,
    /// The whole of it as JSON, for scripts
    #[arg(long)]
    json: bool,
}

/// What is read of `/api/topology`.
#[derive(Deserialize)]
struct Topology {
    age_seconds: Option<f64>,
    source: String,
    services: BTreeMap<String, Service>,
}

#[derive(Deserialize)]
struct Service {
    instances: Vec<Instance>,
}

/// What is read of an instance there.
#[derive(Deserialize)]
pub struct Instance {
    id: String,
    address: Option<String>,
    health: Option<String>,
    circuit: Option<String>,
    in_flight: u64,
    latency_seconds: Option<f64>,
    requests: u64,
    failures: u64,
    usable: bool,
    reason: Option<String>,
}

/// The document of `--json`: the gateway, and what it says.
#[derive(Serialize)]
struct Whole<'a> {
    gateway: &'a str,
    ready: bool,
    says: &'a str,
    #[serde(flatten)]
    topology: Value,
}

/// Exit 1: the gateway cannot be asked.
pub fn run(args: &Args) -> ExitCode {
    done(block_on(async {
        let text = tell(args).await?;
        // It takes the colours out where they are not wanted: no terminal, NO_COLOR, a dumb terminal.
        anstream::stdout().write_all(text.as_bytes()).or_else(unread)?;
        Ok(())
    }))
}

/// Who closes a pipe has read enough.
pub fn unread(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error) }
}

async fn tell(args: &Args) -> Result<String> {
    let gateway = Beside::find(&args.beside, PATIENCE)?;
    let text = gateway.document("/api/topology", &[]).await?;
    let readiness = gateway.ask("/readyz", &[]).await?;
    let (ready, says) = (readiness.status.is_success(), readiness.text.trim());
    let place = readiness.url.trim_end_matches("/readyz");
    let unreadable = || format!("{place}/api/topology is not what this version of lictor tells");
    if args.json {
        let topology = serde_json::from_str(&text).with_context(unreadable)?;
        let whole = Whole { gateway: place, ready, says, topology };
        return Ok(serde_json::to_string_pretty(&whole)? + "\n");
    }
    let topology: Topology = serde_json::from_str(&text).with_context(unreadable)?;
    let age = topology.age_seconds.map(|age| format!(", Consul last answered {age:.0} s ago")).unwrap_or_default();
    let paint = if ready { GOOD } else { BAD };
    let head = format!("{paint}{says}{paint:#}: {place}; topology from {}{age}\n", topology.source);
    if topology.services.is_empty() {
        return Ok(head + "\nno service is known\n");
    }
    let services = topology.services.iter().map(|(name, service)| (name.as_str(), service.instances.as_slice()));
    Ok(head + "\n" + &instances(services, 0))
}

/// The instances of services as a table.
pub fn instances<'a>(services: impl Iterator<Item = (&'a str, &'a [Instance])>, indent: usize) -> String {
    let column = |title, numbers, spare| Column { title, numbers, spare };
    let mut table = Table::new(vec![
        column("SERVICE", false, 0),
        column("INSTANCE", false, 0),
        column("ADDRESS", false, 3),
        column("HEALTH", false, 2),
        column("CIRCUIT", false, 4),
        column("IN FLIGHT", true, 5),
        column("LATENCY", true, 6),
        column("REQUESTS", true, 7),
        column("FAILED", true, 8),
        column("USE", false, 1),
    ]);
    for (name, instances) in services {
        if instances.is_empty() {
            let mut row: Vec<Cell> = std::iter::repeat_with(|| "".into()).take(10).collect();
            (row[0], row[9]) = (name.into(), Cell::styled("no instance", BAD));
            table.row(row);
        }
        let mut instances: Vec<_> = instances.iter().collect();
        instances.sort_by(|a, b| a.id.cmp(&b.id));
        for instance in instances {
            // On each line, for those who search it.
            table.row(std::iter::once(name.into()).chain(cells(instance)).collect());
        }
    }
    table.render(indent, width())
}

fn cells(instance: &Instance) -> Vec<Cell> {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let style = |text: &str| match text {
        "passing" | "closed" => Style::new(),
        "warning" | "half-open" | "half_open" => WARNING,
        _ => BAD,
    };
    let (health, circuit) = (text(&instance.health), text(&instance.circuit));
    let known = instance.address.is_some();
    let count = |count: u64| if known { count.to_string() } else { String::new() };
    let failed = if instance.failures > 0 { WARNING } else { Style::new() };
    let used = match (&instance.reason, instance.usable) {
        (None, true) => Cell::styled("yes", GOOD),
        (Some(why), true) => Cell::styled(&format!("yes: {why}"), WARNING),
        (why, false) => Cell::styled(&format!("no: {}", why.as_deref().unwrap_or("unknown")), BAD),
    };
    vec![
        Cell::from(&instance.id),
        text(&instance.address).into(),
        Cell::styled(&health, style(&health)),
        Cell::styled(&circuit, style(&circuit)),
        count(instance.in_flight).into(),
        instance.latency_seconds.map(short).unwrap_or_default().into(),
        count(instance.requests).into(),
        Cell::styled(&count(instance.failures), failed),
        used,
    ]
}

fn short(seconds: f64) -> String {
    if seconds < 0.0995 { format!("{:.1} ms", seconds * 1e3) } else { format!("{seconds:.2} s") }
}

pub const GOOD: Style = AnsiColor::Green.on_default();
pub const BAD: Style = AnsiColor::Red.on_default();
pub const WARNING: Style = AnsiColor::Yellow.on_default();
const PATIENCE: Duration = Duration::from_secs(10);
