//! `lictor health`: whether the gateway beside it is ready, for a container's healthcheck. It needs no shell, and judges
//! the gateway alone: files that do not hold are no reason to end one that goes on with what it has read before.

use std::{
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Result, bail};

use super::{
    beside::{Args, Beside},
    block_on, done, plain,
};

/// Exit 0: ready; 1: not, or not to be reached.
pub fn run(args: &Args) -> ExitCode {
    done(block_on(async {
        let said = ask(args).await?;
        // Where nobody reads it, the exit code still tells.
        let _ = writeln!(io::stdout(), "{said}");
        Ok(())
    }))
}

async fn ask(args: &Args) -> Result<String> {
    let answer = Beside::probes(args, PATIENCE)?.ask("/readyz", &[]).await?;
    let said = plain(answer.text.trim().lines().next().unwrap_or_default());
    let said = format!("{} says {}: {said}", answer.url, answer.status.as_u16());
    if !answer.status.is_success() {
        bail!("not ready: {said}");
    }
    Ok(said)
}

/// Of one place. Whoever runs healthchecks has a limit of their own, of 30 s as a rule, and no use for a late answer.
const PATIENCE: Duration = Duration::from_secs(3);
