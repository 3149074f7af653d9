//! Durations, sizes, shares and secrets: as written, as used.

use std::{borrow::Cow, fmt, str::FromStr, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize, Serializer};

/// A duration as people write it: `250ms`, `10s`, `1m 30s`. At most a year.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Time(pub Duration);

impl FromStr for Time {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let text = text.trim();
        if is_number(text) {
            return Err(UnitError::TimeUnit(text.into()));
        }
        let time = humantime::parse_duration(text).map_err(|_| UnitError::Time(text.into(), resembling(text)))?;
        if time > YEAR { Err(UnitError::Long(text.into())) } else { Ok(Self(time)) }
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // `75s` is what people write, not `1m 15s`.
        match self.0.as_secs() {
            seconds @ 0..120 if self.0.subsec_nanos() == 0 => write!(f, "{seconds}s"),
            _ => humantime::format_duration(self.0).fmt(f),
        }
    }
}

impl JsonSchema for Time {
    fn schema_name() -> Cow<'static, str> {
        "Time".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": r"^\s*([0-9]+(\.[0-9]+)?\s*[A-Za-zµ]+\s*)+$",
            "examples": ["10s", "250ms", "1m 30s"],
        })
    }
}

/// A number of bytes as people write it: `64KiB`, `10MiB`, `0`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let text = text.trim();
        if is_number(text) && text != "0" {
            return Err(UnitError::SizeUnit(text.into()));
        }
        let size = text.parse::<bytesize::ByteSize>().map_err(|_| UnitError::Size(text.into()))?;
        Ok(Self(size.as_u64()))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB"), (0, "B")];
        match units.into_iter().find(|(bits, _)| self.0 != 0 && self.0.trailing_zeros() >= *bits) {
            Some((bits, unit)) => write!(f, "{}{unit}", self.0 >> bits),
            None => f.write_str("0"),
        }
    }
}

impl JsonSchema for Size {
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["string", "integer"],
            "pattern": r"^\s*(0|[0-9]+(\.[0-9]+)?\s*[A-Za-z]+)\s*$",
            "minimum": 0,
            "maximum": 0,
            "examples": ["64KiB", "10MiB", 0],
        })
    }
}

/// A part of a whole between 0 and 1, kept in millionths: as a float it could not be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Share(u32);

impl Share {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// A fifth.
    pub const FIFTH: Self = Self(200_000);
    /// A half.
    pub const HALF: Self = Self(500_000);

    /// Reads it as people write it.
    ///
    /// # Errors
    /// It is not between 0 and 1.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and a million")]
    pub fn new(part: f64) -> Result<Self, String> {
        if (0.0..=1.0).contains(&part) {
            Ok(Self((part * f64::from(MILLION)).round() as u32))
        } else {
            Err(format!("expected a part between 0.0 and 1.0, such as `0.5`; got `{part}`"))
        }
    }

    /// As people write it.
    #[must_use]
    pub fn as_part(self) -> f64 {
        f64::from(self.0) / f64::from(MILLION)
    }

    /// In millionths.
    #[must_use]
    pub fn millionths(self) -> u128 {
        self.0.into()
    }

    /// So many of `whole`, rounded down.
    #[must_use]
    pub fn of(self, whole: usize) -> usize {
        let part = whole as u128 * u128::from(self.0) / u128::from(MILLION);
        usize::try_from(part).unwrap_or(whole)
    }

    /// Whether `part` is so great a part of `whole`, or greater; no part of nothing is.
    #[must_use]
    pub fn is_reached(self, part: u64, whole: u64) -> bool {
        part > 0 && u128::from(part) * u128::from(MILLION) >= u128::from(self.0) * u128::from(whole)
    }
}

const MILLION: u32 = 1_000_000;

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_part().fmt(f)
    }
}

/// Why a text is no duration or size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// Not a duration, and one that resembles it.
    #[error("`{0}` is not a duration; try `{1}`")]
    Time(String, String),
    /// A number where a duration belongs.
    #[error("`{0}` has no unit; try `{0}s`")]
    TimeUnit(String),
    /// A duration that nobody would wait for, and that clocks could not be asked for.
    #[error("`{0}` is more than a year; try `10s`")]
    Long(String),
    /// Not a size.
    #[error("`{0}` is not a size; try `10MiB`")]
    Size(String),
    /// A number where a size belongs.
    #[error("`{0}` has no unit; try `{0}B` for bytes, or a unit such as `KiB` or `MiB`")]
    SizeUnit(String),
}

/// A text that no log, error or admin answer may show.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The text itself.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(MASK)
    }
}

impl JsonSchema for Secret {
    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "writeOnly": true })
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.')
}

/// The duration that a text begins with, as far as it can be told.
fn resembling(text: &str) -> String {
    let starts = text.char_indices().map(|(at, _)| &text[..at]).rev();
    let begun = starts.filter(|start| !is_number(start)).find_map(|start| humantime::parse_duration(start).ok());
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    match begun {
        Some(time) if time <= YEAR => Time(time).to_string(),
        None if (1..6).contains(&digits) => format!("{}s", &text[..digits]),
        _ => "10s".into(),
    }
}

/// What is shown in place of a secret.
pub const MASK: &str = "***";
const YEAR: Duration = Duration::from_hours(366 * 24);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_carries_its_unit() {
        let cases = [
            ("250ms", Ok(Duration::from_millis(250))),
            ("10s", Ok(Duration::from_secs(10))),
            ("1m 30s", Ok(Duration::from_secs(90))),
            ("1.5s", Ok(Duration::from_millis(1500))),
            (" 0s ", Ok(Duration::ZERO)),
            ("10", Err("`10` has no unit; try `10s`")),
            ("0", Err("`0` has no unit; try `0s`")),
            ("0.5", Err("`0.5` has no unit; try `0.5s`")),
            ("10sec x", Err("`10sec x` is not a duration; try `10s`")),
            ("10parsec", Err("`10parsec` is not a duration; try `10s`")),
            ("-5s", Err("`-5s` is not a duration; try `10s`")),
            ("soon", Err("`soon` is not a duration; try `10s`")),
            ("é", Err("`é` is not a duration; try `10s`")),
            ("", Err("`` is not a duration; try `10s`")),
            ("500 years", Err("`500 years` is more than a year; try `10s`")),
        ];
        for (text, want) in cases {
            let got = text.parse().map(|Time(time)| time).map_err(|e| e.to_string());
            assert_eq!(got, want.map_err(str::to_owned), "{text}");
        }
    }

    #[test]
    fn a_size_carries_its_unit() {
        let cases = [
            ("32KiB", Ok(32 << 10)),
            ("10 MiB", Ok(10 << 20)),
            ("1.5kb", Ok(1500)),
            ("7B", Ok(7)),
            ("0", Ok(0)),
            ("1000", Err("`1000` has no unit; try `1000B` for bytes, or a unit such as `KiB` or `MiB`")),
            ("-1KiB", Err("`-1KiB` is not a size; try `10MiB`")),
            ("big", Err("`big` is not a size; try `10MiB`")),
        ];
        for (text, want) in cases {
            let got = text.parse().map(|Size(size)| size).map_err(|e| e.to_string());
            assert_eq!(got, want.map_err(str::to_owned), "{text}");
        }
    }

    #[test]
    fn what_is_printed_reads_as_it_was() {
        for size in [0, 1, 1000, 1024, 1500, 32 << 10, 10 << 20, 3 << 30, 5 << 40] {
            assert_eq!(Size(size).to_string().parse(), Ok(Size(size)));
        }
        for (millis, text) in [(0, "0s"), (250, "250ms"), (1500, "1s 500ms"), (90_000, "90s"), (3_660_000, "1h 1m")] {
            assert_eq!(Time(Duration::from_millis(millis)).to_string(), text);
            let time = Time(Duration::from_millis(millis));
            assert_eq!(time.to_string().parse(), Ok(time));
        }
    }

    #[test]
    fn a_secret_is_not_shown() {
        let secret = Secret::from("s3cr3t");
        assert_eq!(format!("{secret:?}"), "***");
        assert_eq!(serde_json::to_string(&secret).unwrap(), "\"***\"");
    }

    #[test]
    fn a_share_is_read_and_compared_without_loss() {
        for (part, of_three, reached) in
            [(0.0, 0, true), (0.34, 1, true), (0.5, 1, true), (0.51, 1, false), (1.0, 3, false)]
        {
            let share = Share::new(part).unwrap();
            assert_eq!((share.of(3), share.is_reached(10, 20)), (of_three, reached), "{part}");
            assert_eq!(share.to_string(), part.to_string());
        }
        assert!(!Share::NONE.is_reached(0, 0));
        for part in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
            assert!(Share::new(part).is_err(), "{part}");
        }
    }
}
