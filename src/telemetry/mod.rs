//! What the gateway tells of itself: metrics, events, logs.

mod atomic;
pub mod cells;
pub mod circuit;
mod entries;
#[cfg(test)]
mod entries_tests;
pub mod events;
mod histogram;
pub mod instance;
pub mod log;
pub mod metrics;
mod peak;
mod series;
mod tally;
pub mod window;
