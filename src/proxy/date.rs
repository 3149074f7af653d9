//! The `Date` of answers that have none. Source: RFC 9110 §5.6.7.

use std::{
    cell::RefCell,
    fmt::Write,
    time::{SystemTime, UNIX_EPOCH},
};

use http::HeaderValue;

/// The present second, as the field wants it. It is written once a second on each thread.
pub fn now() -> HeaderValue {
    thread_local! {
        static LAST: RefCell<(u64, HeaderValue)> = const { RefCell::new((0, HeaderValue::from_static(EPOCH))) };
    }
    let second = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    LAST.with_borrow_mut(|(last, text)| {
        if *last != second {
            *last = second;
            *text = HeaderValue::try_from(written(second)).unwrap_or(HeaderValue::from_static(EPOCH));
        }
        text.clone()
    })
}

/// Seconds since 1970 as a date. Days and months by the calendar of Howard Hinnant's `civil_from_days`.
fn written(second: u64) -> String {
    let (days, of_day) = (second / 86_400, second % 86_400);
    let shifted = days + 719_468;
    let of_era = shifted % 146_097;
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = (from_march + 2) % 12;
    let year = year_of_era + shifted / 146_097 * 400 + u64::from(month < 2);
    let name =
        |names: &'static str, index: u64| names.split(' ').nth(usize::try_from(index).unwrap_or(0)).unwrap_or("");
    let mut text = String::with_capacity(EPOCH.len());
    let _ = write!(
        text,
        "{}, {day:02} {} {year:04} {:02}:{:02}:{:02} GMT",
        name("Thu Fri Sat Sun Mon Tue Wed", days % 7),
        name("Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec", month),
        of_day / 3_600,
        of_day / 60 % 60,
        of_day % 60,
    );
    text
}

const EPOCH: &str = "Thu, 01 Jan 1970 00:00:00 GMT";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_written_as_dates() {
        for (second, date) in [
            (0, EPOCH),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_399, "Mon, 28 Feb 2000 23:59:59 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (951_868_800, "Wed, 01 Mar 2000 00:00:00 GMT"),
            (1_735_689_599, "Tue, 31 Dec 2024 23:59:59 GMT"),
            (1_735_689_600, "Wed, 01 Jan 2025 00:00:00 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
        ] {
            assert_eq!(written(second), date);
        }
        assert_eq!(now().len(), EPOCH.len());
    }
}
