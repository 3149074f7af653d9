//! The rules of a service, as its calls need them: checked values without a trace of how they were written.

use std::time::Duration;

use http::header;

use super::{
    balance::{Balance, HashKey},
    breaker::BreakerRules,
    retry::RetryRules,
};
use crate::model::{fields::Fields, instance::Health, value::Value};

/// What holds for every call to one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How long to wait for what.
    pub timeout: Timeouts,
    /// When an instance gets nothing for a while.
    pub breaker: BreakerRules,
    /// When a request is tried again.
    pub retry: RetryRules,
    /// Health in which an instance may be picked.
    pub accept: Vec<Health>,
    /// Requests that may be under way to the service at once; `None`: any number.
    pub max_in_flight: Option<u64>,
    /// Whether instances that Consul calls critical are used when no other is left.
    pub panic: bool,
    /// Which connections are kept.
    pub pool: PoolRules,
    /// How an instance is picked.
    pub balance: Balance,
    /// What `consistent_hash` goes by.
    pub hash: HashKey,
    /// How long an instance that comes takes to grow to its full weight.
    pub slow_start: Duration,
}

/// How long a call waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// From the whole request to the head of the answer, over all tries.
    pub total: Duration,
    /// For each connection.
    pub connect: Duration,
    /// For bytes of an answer, its head included, each time.
    pub read: Duration,
    /// For anything on a connection that was upgraded, and for bytes of an event stream.
    pub idle: Duration,
}

impl Timeouts {
    /// How long nothing of the body of an answer with these fields may come: events are rare.
    #[must_use]
    pub fn of_body(&self, fields: &Fields) -> Duration {
        let kind = fields.get(header::CONTENT_TYPE).map_or(&b""[..], Value::as_bytes);
        let streams = kind.split_at_checked(EVENTS.len()).is_some_and(|(kind, rest)| {
            kind.eq_ignore_ascii_case(EVENTS) && matches!(rest.trim_ascii_start(), [] | [b';', ..])
        });
        if streams { self.idle } else { self.read }
    }
}

/// The type of an answer that is a stream of events. Source: the HTML standard, "Server-sent events".
const EVENTS: &[u8] = b"text/event-stream";

/// Which idle connections a worker keeps to each instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolRules {
    /// The most of them; 0 keeps none.
    pub max_idle: usize,
    /// How long one is kept.
    pub idle_timeout: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        let timeout = Timeouts {
            total: Duration::from_secs(30),
            connect: Duration::from_secs(5),
            read: Duration::from_secs(10),
            idle: Duration::from_mins(5),
        };
        let pool = PoolRules { max_idle: 100, idle_timeout: Duration::from_secs(90) };
        Self {
            timeout,
            breaker: BreakerRules::default(),
            retry: RetryRules::default(),
            accept: vec![Health::Passing, Health::Warning],
            max_in_flight: Some(1024),
            panic: false,
            pool,
            balance: Balance::P2cEwma,
            hash: HashKey::Ip,
            slow_start: Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_of_events_may_be_silent_for_longer_and_nothing_else() {
        let timeouts = Policy::default().timeout;
        for events in ["text/event-stream", "Text/Event-Stream;charset=utf-8", "text/event-stream ; a=b"] {
            let fields = [(header::CONTENT_TYPE, events.parse().unwrap())].into_iter().collect();
            assert_eq!(timeouts.of_body(&fields), timeouts.idle, "{events}");
        }
        for other in ["text/event-streams", "text/event-stream+x", "text/plain;text/event-stream", "text/event", ""] {
            let fields = [(header::CONTENT_TYPE, other.parse().unwrap())].into_iter().collect();
            assert_eq!(timeouts.of_body(&fields), timeouts.read, "{other}");
        }
        assert_eq!(timeouts.of_body(&Fields::new()), timeouts.read);
    }
}
