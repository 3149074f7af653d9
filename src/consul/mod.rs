//! The client of Consul's HTTP API. Knows Consul, not lictor: what the answers mean is `discovery`.
//!
//! - `client` asks one question and reads one answer;
//! - `watch` asks the same question again and again, by the rules of blocking queries (`cursor`);
//! - `wire` reads the answers: whole lists of one service, and marks that tell whose lists have changed;
//! - `rights` asks what the token may not do;
//! - `registration` puts a service of ours into the agent;
//! - `pace` and `gate` keep all watches together from hurting an agent that is in trouble, and `room` from asking for
//!   more connections than it allows.

mod client;
mod cursor;
mod error;
#[cfg(test)]
pub mod fake;
mod gate;
pub mod jitter;
mod pace;
#[cfg(test)]
pub mod real;
mod registration;
mod rights;
mod room;
mod settings;
#[cfg(test)]
mod tests;
mod token;
mod transport;
mod watch;
pub mod wire;

use std::sync::Arc;

pub use client::{Client, Question, Turn};
pub use cursor::Cursor;
pub use error::{Error, Kind as ErrorKind};
pub use gate::Agent;
pub use registration::{Registration, Standing};
pub use rights::Right;
pub use settings::{Consistency, Settings};
pub use token::Token;
pub use watch::{Fresh, Wakes, Watch};

/// Is told of what the client does.
pub trait Observe: Send + Sync {
    /// A request to this endpoint has ended.
    fn request(&self, endpoint: &'static str, ok: bool);
    /// So many more blocking queries are held.
    fn watches(&self, delta: i64);
    /// Whether anything is asked about services from now on, of this datacenter.
    fn follows(&self, something: bool);
    /// It has answered a question about services.
    fn answered(&self);
    /// Who is told of another datacenter.
    fn beside(&self) -> Arc<dyn Observe>;
}
