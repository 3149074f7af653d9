//! The commands, as users type them.

mod beside;
mod check;
mod demo;
mod explain;
mod health;
mod pages;
mod schema;
mod status;
mod table;

use std::{io::Write, path::PathBuf, process::ExitCode, sync::mpsc, thread, time::Duration};

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};

use crate::{
    app::Gateway,
    config::{self, Sources},
    telemetry::log::{self, Ending},
};

/// An API gateway that follows Consul.
#[derive(Parser)]
#[command(name = "lictor", version, about, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    settings: Settings,
}

/// Where the configuration comes from.
#[derive(Args, Clone, Default)]
struct Settings {
    /// A configuration file; of several, the later wins [default: ./lictor.toml, else /etc/lictor/lictor.toml]
    #[arg(short, long = "config", value_name = "FILE")]
    config: Vec<PathBuf>,
    /// One key of the configuration, over all files and the environment, such as `http.listen=127.0.0.1:8080`
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

#[derive(Subcommand)]
enum Command {
    /// Start the gateway; `lictor` alone does the same
    Run(Settings),
    /// Read the configuration and print every problem in it; exit 1 if there is one
    Check {
        #[command(flatten)]
        settings: Settings,
        /// Ask the real Consul too: whether it answers, what the token may read, which services exist, whether tags parse
        #[arg(long)]
        live: bool,
    },
    /// Print the JSON Schema of the configuration
    Schema,
    /// Show services and instances: health, circuits, traffic
    Status(status::Args),
    /// Tell which route, service and instances would serve a request, which would not, and why
    Explain(explain::Args),
    /// Ask the gateway beside it whether it is ready, for a container's healthcheck; exit 1 if it is not
    Health(beside::Args),
    /// Print the completions of a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man,
    /// Start a real Consul, sample services and the gateway, and print calls to try
    Demo(demo::Args),
}

/// Does what the command line says. Exit 0: done, 1: failed or invalid, 2: wrong usage.
#[must_use]
pub fn main() -> ExitCode {
    // Fails only where it was done before, which does no harm.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let cli = Cli::parse();
    match cli.command {
        None => done(run(&cli.settings)),
        Some(Command::Run(settings)) => done(run(&settings)),
        Some(Command::Check { settings, live }) => check::run(&settings.sources(), live),
        Some(Command::Schema) => schema::run(),
        Some(Command::Status(args)) => status::run(&args),
        Some(Command::Explain(args)) => explain::run(&args),
        Some(Command::Health(args)) => health::run(&args),
        Some(Command::Completions { shell }) => pages::completions(shell),
        Some(Command::Man) => pages::man(),
        Some(Command::Demo(args)) => done(demonstrate(args)),
    }
}

impl Settings {
    fn sources(&self) -> Sources {
        let mut sources = Sources::discover(self.config.clone());
        sources.sets.clone_from(&self.set);
        sources
    }
}

/// Ends with what people should read, on standard error.
fn done(result: Result<()>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    // Where nobody reads standard error, the exit code still tells; and one that takes nothing must not hold up the end.
    let (said, heard) = mpsc::channel();
    let _ = thread::Builder::new().spawn(move || {
        let _ = writeln!(std::io::stderr(), "lictor: {error:#}");
        let _ = said.send(());
    });
    let _ = heard.recv_timeout(LAST_WORD);
    ExitCode::FAILURE
}

const LAST_WORD: Duration = Duration::from_secs(1);

/// What others wrote, fit for a terminal: nothing in it moves the cursor or begins a line.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn run(settings: &Settings) -> Result<()> {
    let sources = settings.sources();
    block_on(async {
        let (gateway, _ending) = start(sources).await?;
        gateway.run().await
    })
}

/// The gateway, and what is to be held until it has ended.
async fn start(sources: Sources) -> Result<(Gateway, Ending)> {
    let config =
        config::load(&sources).map_err(|problems| anyhow::anyhow!("the configuration does not hold:\n{problems}"))?;
    let rules = &config.telemetry.log;
    let log = log::start(rules.format, &rules.level).context("cannot start the log")?;
    log.take_panics();
    let ending = log.ending();
    for doubt in config::doubts(&sources, None) {
        tracing::warn!("{doubt}");
    }
    Ok((Gateway::start(config, sources, log).await?, ending))
}

fn demonstrate(args: demo::Args) -> Result<()> {
    block_on(demo::run(args, async |stage| {
        let mut sources = Settings::default().sources();
        sources.files.clear();
        sources.sets.push(format!("consul.address={}", stage.consul()));
        let (gateway, _ending) = start(sources).await?;
        let port = gateway.addresses.first().map_or(0, std::net::SocketAddr::port);
        let _ = writeln!(std::io::stdout(), "{}", stage.calls(port));
        gateway.run().await
    }))
}

/// The control plane's runtime: one thread is enough, and requests are served elsewhere.
fn block_on(work: impl Future<Output = Result<()>>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    let done = runtime.block_on(work);
    // A second signal ends at once: nobody waits for the workers then.
    runtime.shutdown_background();
    done
}
