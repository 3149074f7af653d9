//! `lictor demo`: a real Consul agent, the sample services registered in it, and the gateway before them; or one sample
//! service alone. What the services answer is `sample`, Consul's side is `agent`, what stands around the gateway `stage`.

use std::env;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

pub use sample::Sample;
pub use stage::Stage;

mod agent;
mod sample;
mod scraper;
mod stage;

/// What `lictor demo` is told.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// One sample service alone; without it Consul, all services and the gateway
    #[arg(value_enum, requires = "listen")]
    service: Option<Sample>,
    /// Where the one service listens
    #[arg(long, value_name = "ADDR", requires = "service")]
    listen: Option<SocketAddr>,
    /// What the one service answers as `x-instance` [default: SERVICE-PORT]
    #[arg(long, requires = "service")]
    name: Option<String>,
}

/// Runs one sample service, or sets the stage, runs `gateway` on it and clears the stage again.
///
/// `gateway` ends on SIGINT or SIGTERM by itself. Consul and the services outlive it, so that its drain has something to talk to.
///
/// # Errors
/// When a port is taken, Consul is missing or does not come up, or the gateway fails.
pub async fn run(args: Args, gateway: impl AsyncFnOnce(&Stage) -> anyhow::Result<()>) -> anyhow::Result<()> {
    if let (Some(service), Some(listen)) = (args.service, args.listen) {
        return alone(service, listen, args.name).await;
    }
    let mut stage = Stage::new(agent::DEFAULT, stage::FIRST_PORT);
    let outcome = tokio::select! {
        opened = stage.open() => opened.map(|()| true),
        ended = asked_to_end() => ended.map(|()| false),
    };
    let outcome = match outcome {
        Ok(true) => gateway(&stage).await,
        Ok(false) => Ok(()),
        Err(error) => Err(error),
    };
    stage.close().await;
    outcome
}

async fn alone(service: Sample, listen: SocketAddr, name: Option<String>) -> anyhow::Result<()> {
    let listener = TcpListener::bind(listen).await.with_context(|| format!("cannot listen on `{listen}`"))?;
    let address = listener.local_addr()?;
    let name = name.unwrap_or_else(|| service.instance(address.port()));
    say(&format!("{name} answers on http://{address}\n"))?;
    let stop = CancellationToken::new();
    let serving = sample::serve(listener, Arc::new(sample::Store::new(service)), &name, stop.clone())?;
    tokio::pin!(serving);
    tokio::select! {
        served = &mut serving => return Ok(served?),
        ended = asked_to_end() => ended?,
    }
    stop.cancel();
    // A client that holds its connection open must not hold up the end.
    let _ = tokio::time::timeout(sample::GRACE, serving).await;
    Ok(())
}

async fn asked_to_end() -> anyhow::Result<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

/// A program of others: what `variable` names, else the first on the PATH, else the one that `make setup` fetched.
fn found(variable: &str, name: &str) -> Option<PathBuf> {
    if let Some(named) = env::var_os(variable).filter(|named| !named.is_empty()) {
        return Some(named.into());
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let on_path = env::split_paths(&path).map(|directory| directory.join(name));
    let mut places = on_path.chain([PathBuf::from(".tools").join(name)]);
    places.find(|place| place.is_file())
}

fn say(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}
