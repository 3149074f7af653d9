//! `lictor status`: services with their traffic of a moment, and their instances as the gateway sees them, as tables.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

use anstyle::{AnsiColor, Style};
use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{
    beside::{self, Beside},
    block_on, done,
    table::{Cell, Column, Table, width},
};
use crate::model::units::Time;

/// What `lictor status` is told.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    beside: beside::Args,
    /// The whole of it as JSON, for scripts
    #[arg(long)]
    json: bool,
    /// How long requests are counted for the rate; `0s`: not at all
    #[arg(long, value_name = "DURATION", default_value = "1s")]
    over: Time,
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
    requests: u64,
    errors: u64,
    routed: bool,
    instances: Vec<Instance>,
}

/// What clients got of a service between two readings.
struct Traffic {
    seconds: f64,
    requests: u64,
    errors: u64,
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
    let mut text = gateway.document("/api/topology", &[]).await?;
    let mut before = None;
    if !args.over.0.is_zero() {
        let began = Instant::now();
        sleep(args.over.0).await;
        let earlier = std::mem::replace(&mut text, gateway.document("/api/topology", &[]).await?);
        before = Some((earlier, began.elapsed().as_secs_f64()));
    }
    let readiness = gateway.ask("/readyz", &[]).await?;
    let (ready, says) = (readiness.status.is_success(), readiness.text.trim());
    let place = readiness.url.trim_end_matches("/readyz");
    let unreadable = || format!("{place}/api/topology is not what this version of lictor tells");
    let read = |text: &str| serde_json::from_str::<Topology>(text).with_context(unreadable);
    let mut topology = read(&text)?;
    for service in topology.services.values_mut().filter(|service| !service.routed) {
        for instance in service.instances.iter_mut().filter(|instance| instance.usable) {
            (instance.usable, instance.reason) = (false, Some("no route leads to its service".into()));
        }
    }
    let traffic = match before {
        Some((earlier, seconds)) => traffic(&read(&earlier)?, &topology, seconds),
        None => BTreeMap::new(),
    };
    if args.json {
        let mut topology: Value = serde_json::from_str(&text).with_context(unreadable)?;
        for (name, traffic) in traffic {
            topology["services"][name]["rate"] = traffic.shown();
        }
        let whole = Whole { gateway: place, ready, says, topology };
        return Ok(serde_json::to_string_pretty(&whole)? + "\n");
    }
    let age = match topology.age_seconds {
        Some(age) => format!(", Consul last answered {age:.0} s ago"),
        None if topology.source == "consul" => ", which has not answered yet".to_owned(),
        None => String::new(),
    };
    let paint = if ready { GOOD } else { BAD };
    let head = format!("{paint}{says}{paint:#}: {place}; topology from {}{age}\n", topology.source);
    if topology.services.is_empty() {
        return Ok(head + "\nno service is known\n");
    }
    let all = topology.services.iter().map(|(name, service)| (name.as_str(), service.instances.as_slice()));
    Ok(head + "\n" + &services(&topology, &traffic) + "\n" + &instances(all, 0))
}

/// What each service answered since an earlier reading. One that was not known then has come since.
fn traffic<'a>(earlier: &Topology, now: &'a Topology, seconds: f64) -> BTreeMap<&'a str, Traffic> {
    let since = |(name, service): (&'a String, &Service)| {
        let (requests, errors) = earlier.services.get(name).map_or((0, 0), |was| (was.requests, was.errors));
        // Who has started anew meanwhile counts from nothing.
        let requests = service.requests.saturating_sub(requests);
        (name.as_str(), Traffic { seconds, requests, errors: service.errors.saturating_sub(errors) })
    };
    now.services.iter().map(since).collect()
}

#[expect(clippy::cast_precision_loss, reason = "a rate and a ratio for people")]
impl Traffic {
    /// Requests a second.
    fn rate(&self) -> f64 {
        self.requests as f64 / self.seconds
    }

    /// The part that was answered with a status of 5xx; `None`: nothing was answered.
    fn error_ratio(&self) -> Option<f64> {
        (self.requests > 0).then(|| self.errors.min(self.requests) as f64 / self.requests as f64)
    }

    fn shown(&self) -> Value {
        json!({
            "over_seconds": self.seconds,
            "requests_per_second": self.rate(),
            "error_ratio": self.error_ratio(),
        })
    }
}

/// Services and their traffic as a table.
fn services(topology: &Topology, traffic: &BTreeMap<&str, Traffic>) -> String {
    let column = |title, numbers, spare| Column { title, numbers, spare };
    let mut table = Table::new(vec![
        column("SERVICE", false, 0),
        column("USABLE", true, 3),
        column("REQUESTS/S", true, 1),
        column("ERRORS", true, 2),
        column("IN FLIGHT", true, 4),
    ]);
    for (name, service) in &topology.services {
        let usable = service.instances.iter().filter(|instance| instance.usable).count();
        let in_flight: u64 = service.instances.iter().map(|instance| instance.in_flight).sum();
        let traffic = traffic.get(name.as_str());
        let ratio = traffic.map(Traffic::error_ratio);
        let percent =
            |ratio: Option<f64>| ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{:.1} %", ratio * 100.0));
        table.row(vec![
            name.into(),
            if service.routed {
                Cell::styled(&format!("{usable} of {}", service.instances.len()), if usable > 0 { GOOD } else { BAD })
            } else {
                Cell::styled("no route", BAD)
            },
            traffic.map(|traffic| format!("{:.1}", traffic.rate())).unwrap_or_default().into(),
            Cell::styled(
                &ratio.map(percent).unwrap_or_default(),
                if ratio.flatten() > Some(0.0) { WARNING } else { Style::new() },
            ),
            in_flight.to_string().into(),
        ]);
    }
    table.render(0, width())
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
