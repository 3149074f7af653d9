//! How long a client of gRPC waits for the end of its call, as it says itself. Source: gRPC over HTTP/2, "Requests".

use std::time::Duration;

use http::{HeaderName, HeaderValue};
use tokio::time::Instant;

use crate::model::value::Value;

/// The field that says it.
pub const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// Until when a client waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    /// Until then.
    pub at: Instant,
    /// How long that was when the request came.
    pub limit: Duration,
}

/// Units, the finest first, and how many nanoseconds each has.
const UNITS: [(char, u64); 6] =
    [('n', 1), ('u', 1_000), ('m', 1_000_000), ('S', 1_000_000_000), ('M', 60_000_000_000), ('H', 3_600_000_000_000)];
const DIGITS: usize = 8;

impl Deadline {
    /// Of a request that comes now; `None`: it does not say, or not as it should.
    #[must_use]
    pub fn read(value: Value<'_>, now: Instant) -> Option<Self> {
        let limit = read(value.to_str()?)?;
        Some(Self { at: now.checked_add(limit)?, limit })
    }

    /// What is left of it, as the field has it: never more than is left, but where that is nothing.
    #[must_use]
    pub fn left(&self, now: Instant) -> HeaderValue {
        let text = written(self.at.saturating_duration_since(now));
        HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("1n"))
    }
}

fn read(text: &str) -> Option<Duration> {
    let unit = text.chars().last()?;
    let number = text.strip_suffix(unit)?;
    let (_, nanos) = UNITS.into_iter().find(|(name, _)| *name == unit)?;
    let is_number = (1..=DIGITS).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_digit());
    let number = number.parse::<u64>().ok().filter(|_| is_number)?;
    // More than five centuries are as good as any time.
    Some(Duration::from_nanos(number.saturating_mul(nanos)))
}

fn written(time: Duration) -> String {
    let in_units = UNITS.map(|(unit, nanos)| (time.as_nanos() / u128::from(nanos), unit));
    let fits = in_units.into_iter().find(|(number, _)| *number < 10_u128.pow(8));
    let (number, unit) = fits.unwrap_or((99_999_999, 'H'));
    format!("{}{unit}", number.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_read_as_grpc_writes_it_and_not_otherwise() {
        for (text, nanos) in [
            ("1n", Some(1)),
            ("00000020u", Some(20_000)),
            ("99999999m", Some(99_999_999_000_000)),
            ("3S", Some(3_000_000_000)),
            ("2M", Some(120_000_000_000)),
            ("1H", Some(3_600_000_000_000)),
            ("99999999H", Some(u64::MAX)),
            ("0S", Some(0)),
            ("123456789n", None),
            ("S", None),
            ("1", None),
            ("1s", None),
            ("-1S", None),
            ("+1S", None),
            ("1 S", None),
            ("", None),
            ("1ä", None),
        ] {
            assert_eq!(read(text), nanos.map(Duration::from_nanos), "{text}");
        }
    }

    #[test]
    fn what_is_left_is_written_as_finely_as_eight_digits_allow_and_never_rounded_up() {
        for (nanos, text) in [
            (0, "1n"),
            (99_999_999, "99999999n"),
            (100_000_000, "100000u"),
            (1_500_000_999, "1500000u"),
            (99_999_999_999, "99999999u"),
            (100_000_000_000, "100000m"),
            (99_999_999_999_999, "99999999m"),
            (100_000_000_000_000, "100000S"),
            (u64::MAX, "5124095H"),
        ] {
            assert_eq!(written(Duration::from_nanos(nanos)), text, "{nanos}");
            assert!(read(text).unwrap() <= Duration::from_nanos(nanos.max(1)), "{nanos}");
        }
    }

    #[test]
    fn what_is_left_shrinks_as_time_goes_by() {
        let now = Instant::now();
        let deadline = Deadline::read(Value::of(b"2S").unwrap(), now).unwrap();
        assert_eq!(deadline.left(now), "2000000u");
        assert_eq!(deadline.left(now + Duration::from_millis(1_500)), "500000u");
        assert_eq!(deadline.left(now + Duration::from_secs(3)), "1n");
    }
}
