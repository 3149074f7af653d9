//! The gateway from outside: the program beside a real Consul, called over real sockets.

#![expect(clippy::expect_used, clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../support/mod.rs"]
mod support;

mod admin;
mod balance;
mod churn;
mod circuit;
mod clients;
mod clients_grpc;
mod commands;
mod conduct;
mod datacenters;
mod dns;
mod drain;
mod exposure;
mod fault;
mod fault_agents;
mod health;
mod http2;
mod http2_hostile;
mod http2_interim;
mod identity;
mod kv;
mod leaving;
mod live;
mod many;
mod message;
mod news;
mod reload;
mod retry;
mod rights;
mod rolling;
mod routing;
mod smuggle;
mod snapshot;
mod spread;
mod streams;
mod switch;
mod tls;
mod turns;
mod upgrade;
mod upstream;
