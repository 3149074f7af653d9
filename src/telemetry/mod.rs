//! What the gateway tells of itself: metrics, events, logs.

pub mod cells;
pub mod circuit;
pub mod events;
mod histogram;
pub mod instance;
pub mod log;
pub mod metrics;
mod peak;
mod series;
mod tally;
pub mod window;
