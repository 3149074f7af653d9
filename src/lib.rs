//! lictor: an API gateway that follows Consul. ARCHITECTURE.md is the map; in short:
//!
//! - a request goes `edge` → `proxy` → `route` → `upstream`;
//! - a change goes `discovery` → `control` → `state`;
//! - the two meet in `state` and nowhere else.

mod admin;
mod app;
#[doc(hidden)]
pub mod bench;
mod body;
pub mod cli;
mod config;
mod consul;
mod control;
mod discovery;
mod edge;
#[doc(hidden)]
pub mod fuzz;
mod http1;
mod http2;
mod model;
mod proxy;
mod roster;
mod route;
mod state;
mod telemetry;
mod upstream;
mod wire;
mod worker;
