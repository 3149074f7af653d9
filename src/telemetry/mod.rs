//! What the gateway tells of itself: metrics, events, logs.

pub mod access;
pub mod age;
mod atomic;
pub mod cells;
pub mod circuit;
mod entries;
#[cfg(test)]
mod entries_tests;
pub mod events;
pub mod histogram;
pub mod instance;
pub mod journey;
mod lines;
pub mod log;
pub mod metrics;
pub mod otlp;
mod peak;
#[cfg(target_os = "linux")]
mod process;
pub mod sampling;
pub mod scribe;
mod series;
pub mod standing;
mod tally;
pub mod window;
