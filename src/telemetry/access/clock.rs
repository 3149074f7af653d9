//! The time that lines of the access log tell, written once a second.

use std::{
    fmt::Write as _,
    time::{Duration, SystemTime},
};

use tokio::time::Instant;

/// The second that was written last, in both forms: most lines are of one that another was of.
#[derive(Debug, Default)]
pub struct Clock {
    second: u64,
    rfc3339: String,
    combined: String,
    /// A moment, and what the wall's clock said then.
    read: Option<(Instant, SystemTime)>,
}

impl Clock {
    /// What the wall's clock says at a moment of the other, which was read anyway: it is asked itself once a second.
    pub fn wall(&mut self, at: Instant) -> SystemTime {
        let since = |(moment, wall): (Instant, SystemTime)| Some((at.checked_duration_since(moment)?, wall));
        if let Some((passed, wall)) = self.read.and_then(since)
            && passed < SECOND
        {
            return wall + passed;
        }
        let wall = SystemTime::now();
        self.read = Some((at, wall));
        wall
    }

    /// Takes up a moment; gives its milliseconds.
    pub fn set(&mut self, at: SystemTime) -> u32 {
        let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().min(LATEST);
        if self.second != since.as_secs() || self.rfc3339.is_empty() {
            self.second = since.as_secs();
            self.rfc3339.clear();
            let second = SystemTime::UNIX_EPOCH + Duration::from_secs(self.second);
            // Writing to a string cannot fail.
            let _ = write!(self.rfc3339, "{}", humantime::format_rfc3339_seconds(second));
            self.rfc3339.pop(); // what stands behind a second's fraction
            self.combined.clear();
            let text = &self.rfc3339;
            let part = |from: usize, to: usize| text.get(from..to).unwrap_or_default();
            let month = part(5, 7).parse::<usize>().ok().and_then(|month| MONTHS.get(month - 1)).unwrap_or(&"");
            let _ = write!(self.combined, "{}/{month}/{}:{} +0000", part(8, 10), part(0, 4), part(11, 19));
        }
        since.subsec_millis()
    }

    /// The second of that moment, as RFC 3339 has it, up to where its fraction begins.
    #[must_use]
    pub fn rfc3339(&self) -> &str {
        &self.rfc3339
    }

    /// The same as Apache and nginx have it.
    #[must_use]
    pub fn combined(&self) -> &str {
        &self.combined
    }
}

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const SECOND: Duration = Duration::from_secs(1);
/// The end of the year 9999.
const LATEST: Duration = Duration::from_secs(253_402_300_799);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_wall_is_asked_once_a_second() {
        let mut clock = Clock::default();
        let start = Instant::now();
        let first = clock.wall(start);
        assert_eq!(clock.wall(start + Duration::from_millis(999)), first + Duration::from_millis(999));
        // The clock of the runtime stands still: the wall's has not gone that far.
        let asked = clock.wall(start + Duration::from_secs(1));
        assert!(asked < first + Duration::from_millis(900), "{first:?} {asked:?}");
        // A request that ended before.
        assert!(clock.wall(start) >= asked);
    }
}
