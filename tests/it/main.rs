//! The gateway from outside: the program beside a real Consul, called over real sockets.

#![expect(clippy::expect_used, clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../support/mod.rs"]
mod support;

mod access;
mod admin;
mod alerts;
mod balance;
mod beside;
mod bodies;
mod churn;
mod circuit;
mod clients;
mod clients_grpc;
mod collectors;
mod commands;
mod conduct;
mod datacenters;
mod dialing;
mod dns;
mod drain;
mod events;
mod explain;
mod exposure;
mod fault;
mod fault_agents;
mod grafana;
mod grpc;
mod health;
mod http2;
mod http2_frames;
mod http2_hostile;
mod http2_interim;
mod identity;
mod idle;
mod kv;
mod leaving;
mod live;
mod many;
mod message;
mod news;
mod outage;
mod pieces;
mod registration;
mod reload;
mod retry;
mod rights;
mod rolling;
mod routing;
mod secrets;
mod shed;
mod smuggle;
mod snapshot;
mod spread;
mod stack;
mod stderr;
mod streams;
mod streams_odd;
mod switch;
mod systemd;
mod tls;
mod traces;
mod turns;
mod upgrade;
mod upstream;
