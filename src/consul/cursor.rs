//! Consul's rules for blocking queries, as arithmetic: where to go on, and how long to leave it alone.
//! Without I/O or clock; `watch` does what it says.

use std::time::Duration;

use super::{error::Error, jitter};

/// Where a watch goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    index: u64,
    failures: u32,
}

impl Cursor {
    /// The index to block on; `None`: ask without, and be answered at once.
    pub fn index(self) -> Option<u64> {
        (self.index > 0).then_some(self.index)
    }

    /// Takes the index of an answer. Only of one whose body has been read and understood: otherwise its news would be
    /// lost.
    ///
    /// Source: Consul's documentation of blocking queries, "Implementation details".
    pub fn accept(&mut self, index: u64) {
        self.failures = 0;
        let index = index.max(1);
        // Consul's state was restored or began anew: to block on either number might miss changes.
        self.index = if index < self.index { 0 } else { index };
    }

    /// Takes a failure: half to all of 0.5 s, doubling up to 30 s. The next question is one without an index, for what
    /// failed may have forgotten everything.
    pub fn fail(&mut self, share: f64) -> Duration {
        self.index = 0;
        let ceiling = BACKOFF.saturating_mul(1 << self.failures.min(16)).min(MAX_BACKOFF);
        self.failures = self.failures.saturating_add(1);
        ceiling.mul_f64(0.5 + share / 2.0)
    }

    /// The same, by chance.
    pub fn back_off(&mut self) -> Duration {
        self.fail(jitter::share())
    }

    /// Starts over, as if nothing had been asked before.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}

/// Reads `X-Consul-Index`. Below 1 counts as 1.
pub fn index(header: Option<&[u8]>) -> Result<u64, Error> {
    let text = header.map(String::from_utf8_lossy).unwrap_or_default();
    if let Ok(index) = text.parse::<u64>() {
        return Ok(index.max(1));
    }
    if text.parse::<i64>().is_ok() {
        return Ok(1);
    }
    Err(Error::Index(text.chars().filter(|c| !c.is_control()).take(40).collect()))
}

const BACKOFF: Duration = Duration::from_millis(500);
const MAX_BACKOFF: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_a_number_of_one_or_more() {
        let cases: [(Option<&str>, Option<u64>); 11] = [
            (Some("1041"), Some(1041)),
            (Some("1"), Some(1)),
            (Some("0"), Some(1)),
            (Some("-7"), Some(1)),
            (Some("18446744073709551615"), Some(u64::MAX)),
            (Some("18446744073709551616"), None),
            (Some(""), None),
            (Some("abc"), None),
            (Some("1.5"), None),
            (Some("1 "), None),
            (None, None),
        ];
        for (header, want) in cases {
            assert_eq!(index(header.map(str::as_bytes)).ok(), want, "{header:?}");
        }
    }

    type Case<'c> = (&'c str, &'c [u64], &'c [Option<u64>]);

    #[test]
    fn a_cursor_goes_on_where_the_last_answer_ended() {
        // Answers in order, and what is blocked on after each.
        let cases: [Case<'_>; 6] = [
            ("rising", &[5, 9], &[Some(5), Some(9)]),
            ("the same again", &[5, 5], &[Some(5), Some(5)]),
            ("below one", &[0], &[Some(1)]),
            ("lower: start over", &[9, 5, 5], &[Some(9), None, Some(5)]),
            ("lower twice", &[9, 5, 3, 3], &[Some(9), None, Some(3), Some(3)]),
            ("to zero", &[9, 0, 0], &[Some(9), None, Some(1)]),
        ];
        for (name, answers, want) in cases {
            let mut cursor = Cursor::default();
            assert_eq!(cursor.index(), None, "{name}");
            let went: Vec<_> = answers
                .iter()
                .map(|&index| {
                    cursor.accept(index);
                    cursor.index()
                })
                .collect();
            assert_eq!(went, want, "{name}");
        }
    }

    #[test]
    fn failures_wait_twice_as_long_each_time_up_to_half_a_minute() {
        let mut cursor = Cursor::default();
        cursor.accept(7);
        let seconds: Vec<f64> = (0..9).map(|_| cursor.fail(1.0).as_secs_f64()).collect();
        assert_eq!(seconds, [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]);
        assert_eq!(cursor.index(), None);
        assert_eq!(cursor.fail(0.0), Duration::from_secs(15));
        (0..100).for_each(|_| assert!(cursor.fail(1.0) <= MAX_BACKOFF));
        cursor.accept(3);
        assert_eq!((cursor.index(), cursor.fail(0.0)), (Some(3), Duration::from_millis(250)));
    }
}
