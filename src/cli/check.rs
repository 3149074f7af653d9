//! `lictor check`: reads the configuration, and says every problem in it or that there is none; with `--live` also what
//! Consul and DNS have of what it needs.

use std::{
    fmt::Display,
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

use tokio::time::timeout;

use crate::{
    app::agent,
    config::{self, Config, Sources},
    control::survey::{Report, Severity, survey},
    telemetry::metrics::Metrics,
};

/// Exit 0: it holds; 1: it does not.
pub fn run(sources: &Sources, live: bool) -> ExitCode {
    // Where nobody reads what is written, the exit code still tells.
    match config::load(sources) {
        Ok(config) => {
            say(summary(&config));
            if live {
                return ask(sources, config);
            }
            for doubt in config::doubts(sources, None) {
                say(format!("warning: {doubt}"));
            }
            ExitCode::SUCCESS
        }
        Err(problems) => {
            let _ = writeln!(io::stderr(), "{problems}");
            ExitCode::FAILURE
        }
    }
}

/// Asks Consul and DNS, and says what is found.
fn ask(sources: &Sources, config: Config) -> ExitCode {
    let mut report = Report::default();
    let client = config.consul.as_ref().map(|consul| agent::client(consul, &Metrics::new(1)));
    let client = client.transpose().unwrap_or_else(|error| {
        report.error("consul", format!("{error:#}"));
        None
    });
    let asked = super::block_on(async {
        let asking = Box::pin(survey(sources, config, client.as_deref(), &mut report));
        if timeout(LIMIT, asking).await.is_err() {
            report.error("lictor", format!("it took more than {LIMIT:?} to ask for all; the rest is left out"));
        }
        Ok(())
    });
    if let Err(error) = asked {
        report.error("lictor", format!("{error:#}"));
    }
    for finding in &report.findings {
        say(finding);
    }
    let count = |severity, thing| count(report.count(severity), thing);
    say(format!("{}, {}", count(Severity::Error, "error"), count(Severity::Warning, "warning")));
    if report.count(Severity::Error) == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn say(text: impl Display) {
    let _ = writeln!(io::stdout(), "{text}");
}

fn summary(config: &Config) -> String {
    let files: Vec<String> = config.files.iter().map(|file| file.display().to_string()).collect();
    let files = if files.is_empty() { "no file".into() } else { files.join(", ") };
    let (services, routes) = (count(config.services.len(), "service"), count(config.routes.len(), "route"));
    format!("the configuration holds: {files}; {services}, {routes}")
}

fn count(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

/// A thousand services take a second or two.
const LIMIT: Duration = Duration::from_mins(1);
