//! `lictor schema`: the JSON Schema of the configuration.

use std::process::ExitCode;

use super::pages::give;
use crate::config;

/// Exit 1: standard output does not take it.
pub fn run() -> ExitCode {
    give(format!("{:#}\n", config::schema()).as_bytes())
}
