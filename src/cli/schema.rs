//! `lictor schema`: the JSON Schema of the configuration.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use crate::config;

/// Exit 1: nobody read it to the end.
pub fn run() -> ExitCode {
    match writeln!(io::stdout(), "{:#}", config::schema()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
