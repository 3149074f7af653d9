//! What may be tried again, when, and how often: rules and arithmetic. Time and chance are arguments; who keeps count of
//! the budget is `service`.

use std::{fmt, str::FromStr, time::Duration};

use http::{Method, StatusCode, header::RETRY_AFTER};

use crate::{
    model::{fields::Fields, units::Share},
    telemetry::window::Counts,
};

/// When a request is tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryRules {
    /// The most tries in all.
    pub attempts: u32,
    /// The longest pause before the second try.
    pub backoff: Duration,
    /// By how much the longest pause grows from try to try.
    pub factor: Factor,
    /// The longest pause there is.
    pub max_backoff: Duration,
    /// The part of a service's requests that may be tried again.
    pub budget: Share,
    /// The most of a body that is kept to be sent again, in bytes.
    pub max_body: u64,
    /// After what.
    pub on: Vec<On>,
    /// Which requests, where something of them was sent.
    pub methods: Vec<Method>,
}

impl Default for RetryRules {
    fn default() -> Self {
        let reasons = [Reason::Connect, Reason::Reset, Reason::RefusedStream, Reason::Timeout].map(On::Reason);
        let statuses = [502, 503, 504].map(On::Status);
        Self {
            attempts: 3,
            backoff: Duration::from_millis(50),
            factor: Factor::DOUBLE,
            max_backoff: Duration::from_secs(1),
            budget: Share::FIFTH,
            max_body: 64 * 1024,
            on: reasons.into_iter().chain(statuses).collect(),
            methods: vec![Method::GET, Method::HEAD, Method::PUT, Method::DELETE, Method::OPTIONS],
        }
    }
}

/// What a request is tried again after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum On {
    /// A failure of this kind.
    Reason(Reason),
    /// An answer with this status.
    Status(u16),
}

/// Why a request is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// There was no connection.
    Connect,
    /// The connection ended before the head of the answer.
    Reset,
    /// The instance says that it did nothing of it (RFC 9113 §8.7).
    RefusedStream,
    /// Nothing came within `timeout.read`.
    Timeout,
    /// Its answer has a status that says so.
    Status,
}

impl Reason {
    /// The word for it in labels and the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Reset => "reset",
            Self::RefusedStream => "refused_stream",
            Self::Timeout => "timeout",
            Self::Status => "status",
        }
    }
}

impl FromStr for On {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let kinds = [Reason::Connect, Reason::Reset, Reason::RefusedStream, Reason::Timeout];
        let kind = kinds.into_iter().find(|kind| kind.as_str() == text).map(Self::Reason);
        let status = || text.parse().ok().filter(|status| (400..600).contains(status)).map(Self::Status);
        kind.or_else(status).ok_or_else(|| {
            format!("expected `connect`, `reset`, `refused_stream`, `timeout` or a status such as `503`; got `{text}`")
        })
    }
}

impl fmt::Display for On {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reason(reason) => f.write_str(reason.as_str()),
            Self::Status(status) => status.fmt(f),
        }
    }
}

/// A factor of 1 or more, kept in thousandths: as a float it could not be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Factor(u32);

impl Factor {
    const DOUBLE: Self = Self(2000);

    /// Reads it as people write it.
    ///
    /// # Errors
    /// It is not between 1 and 100.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most a hundred thousand")]
    pub fn new(factor: f64) -> Result<Self, String> {
        if (1.0..=100.0).contains(&factor) {
            Ok(Self((factor * 1000.0).round() as u32))
        } else {
            Err(format!("expected a factor between 1.0 and 100.0, such as `2.0`; got `{factor}`"))
        }
    }

    /// As people write it.
    #[must_use]
    pub fn as_factor(self) -> f64 {
        f64::from(self.0) / 1000.0
    }
}

impl RetryRules {
    /// Whether a request may be sent again of which something was sent before.
    #[inline]
    #[must_use]
    pub fn repeats(&self, method: &Method) -> bool {
        self.methods.contains(method)
    }

    /// Whether it is tried again after that, if it may be at all.
    #[must_use]
    pub fn covers(&self, reason: Reason) -> bool {
        self.on.contains(&On::Reason(reason))
    }

    /// Whether an answer is not to be the last word: one that says when to come again is for the client.
    #[inline]
    #[must_use]
    pub fn is_bad(&self, status: StatusCode, fields: &Fields) -> bool {
        let status = status.as_u16();
        status >= 400 && self.on.contains(&On::Status(status)) && !fields.contains_key(RETRY_AFTER)
    }

    /// How long to wait before the try after so many, any time up to the longest pause, so that those who failed
    /// together do not come back together.
    #[must_use]
    pub fn pause(&self, tries: u32, draw: u64) -> Duration {
        let grown = self.factor.as_factor().powi(i32::try_from(tries.saturating_sub(1)).unwrap_or(i32::MAX));
        let longest = Duration::try_from_secs_f64(self.backoff.as_secs_f64() * grown).unwrap_or(Duration::MAX);
        let part = u32::try_from(draw >> 32).unwrap_or(u32::MAX);
        longest.min(self.max_backoff).mul_f64(f64::from(part) / f64::from(u32::MAX))
    }

    /// Whether one more try is within the budget: of the requests and tries of the last ten seconds, or else of the
    /// tries of the last second.
    #[must_use]
    pub fn affords(&self, lately: Counts, just_now: Counts) -> bool {
        if self.budget == Share::NONE {
            return false;
        }
        u128::from(lately.failures + 1) * MILLION <= u128::from(lately.requests) * self.budget.millionths()
            || just_now.failures < LEAST
    }
}

const MILLION: u128 = 1_000_000;

/// So many tries a second are within any budget.
const LEAST: u64 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_sent_twice_and_after_what_is_as_the_rules_say() {
        let rules = RetryRules::default();
        for (method, repeats) in [
            (Method::GET, true),
            (Method::HEAD, true),
            (Method::PUT, true),
            (Method::DELETE, true),
            (Method::OPTIONS, true),
            (Method::POST, false),
            (Method::PATCH, false),
        ] {
            assert_eq!(rules.repeats(&method), repeats, "{method}");
        }
        let few = RetryRules { on: vec!["reset".parse().unwrap(), "500".parse().unwrap()], ..RetryRules::default() };
        let covered = [Reason::Connect, Reason::Reset, Reason::RefusedStream, Reason::Timeout].map(|r| few.covers(r));
        assert_eq!(covered, [false, true, false, false]);
        let bad = |rules: &RetryRules, status| rules.is_bad(StatusCode::from_u16(status).unwrap(), &Fields::new());
        assert_eq!([200, 404, 500, 502, 503, 504].map(|s| bad(&rules, s)), [false, false, false, true, true, true]);
        assert_eq!([500, 503].map(|s| bad(&few, s)), [true, false]);
        let later = [(RETRY_AFTER, http::HeaderValue::from_static("1"))].into_iter().collect();
        assert!(!rules.is_bad(StatusCode::SERVICE_UNAVAILABLE, &later));
    }

    #[test]
    fn what_it_is_tried_again_after_is_read_as_it_is_written() {
        for text in ["connect", "reset", "refused_stream", "timeout", "502"] {
            assert_eq!(text.parse::<On>().unwrap().to_string(), text);
        }
        for text in ["status", "200", "600", ""] {
            assert!(text.parse::<On>().is_err(), "{text}");
        }
    }

    #[test]
    fn pauses_grow_up_to_the_longest_and_are_any_part_of_it() {
        let rules = RetryRules { factor: Factor::new(3.0).unwrap(), ..RetryRules::default() };
        for (tries, longest) in [(1, 50), (2, 150), (3, 450), (4, 1000), (5, 1000), (4_000_000_000, 1000)] {
            assert_eq!(rules.pause(tries, u64::MAX), Duration::from_millis(longest), "{tries}");
            assert_eq!(rules.pause(tries, 0), Duration::ZERO);
            let half = rules.pause(tries, 1 << 63).as_secs_f64() * 2.0;
            assert!((half - Duration::from_millis(longest).as_secs_f64()).abs() < 1e-6);
        }
    }

    #[test]
    fn a_fifth_of_the_requests_may_be_tried_again_and_always_three_a_second() {
        let rules = RetryRules::default();
        let counts = |requests, failures| Counts { requests, failures };
        for (lately, just_now, affords) in [
            (counts(100, 19), counts(10, 9), true),
            (counts(100, 20), counts(10, 9), false),
            (counts(100, 20), counts(10, 2), true),
            (counts(1, 0), counts(1, 0), true),
            (counts(1, 3), counts(1, 3), false),
            (counts(4, 3), counts(0, 0), true),
        ] {
            assert_eq!(rules.affords(lately, just_now), affords, "{lately:?} {just_now:?}");
        }
        let none = RetryRules { budget: Share::NONE, ..rules };
        assert!(!none.affords(counts(1000, 0), counts(0, 0)));
    }
}
