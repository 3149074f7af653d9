//! `lictor check`: reads the configuration, and says every problem in it or that there is none.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use crate::config::{self, Config, Sources};

/// Exit 0: it holds; 1: it does not.
pub fn run(sources: &Sources) -> ExitCode {
    // Where nobody reads what is written, the exit code still tells.
    match config::load(sources) {
        Ok(config) => {
            let _ = writeln!(io::stdout(), "{}", summary(&config));
            ExitCode::SUCCESS
        }
        Err(problems) => {
            let _ = writeln!(io::stderr(), "{problems}");
            ExitCode::FAILURE
        }
    }
}

fn summary(config: &Config) -> String {
    let files: Vec<String> = config.files.iter().map(|file| file.display().to_string()).collect();
    let files = if files.is_empty() { "no file".into() } else { files.join(", ") };
    let count = |number: usize, thing: &str| format!("{number} {thing}{}", if number == 1 { "" } else { "s" });
    let (services, routes) = (count(config.services.len(), "service"), count(config.routes.len(), "route"));
    format!("the configuration holds: {files}; {services}, {routes}")
}
