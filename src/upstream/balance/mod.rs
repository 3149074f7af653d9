//! Which member gets the next request. A policy is built with its cluster and holds no observations.

mod round_robin;

pub use round_robin::RoundRobin;
