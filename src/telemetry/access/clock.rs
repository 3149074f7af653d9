//! The time that lines of the access log tell, written once a second.

use std::{
    ops::Range,
    time::{Duration, SystemTime},
};

use tokio::time::Instant;

use crate::model::text::three;

/// What was written last: most lines of a busy gateway end in a millisecond in which another did, and nearly all in such a second.
#[derive(Debug, Default)]
pub struct Clock {
    second: u64,
    rfc3339: [u8; RFC_3339],
    combined: [u8; COMBINED],
    /// When that was the time.
    now: Option<Range<Instant>>,
    /// A moment, and what the wall's clock said then.
    read: Option<(Instant, Duration)>,
}

/// How long a moment is as RFC 3339 has it, to the millisecond and without the zone.
pub const RFC_3339: usize = "0000-00-00T00:00:00.000".len();
/// How long a second is as Apache and nginx have it.
pub const COMBINED: usize = "00/Jan/0000:00:00:00 +0000".len();

impl Clock {
    /// Takes up a moment.
    #[inline]
    pub fn turn(&mut self, at: Instant) {
        if !self.now.as_ref().is_some_and(|now| now.contains(&at)) {
            self.turn_on(at);
        }
    }

    fn turn_on(&mut self, at: Instant) {
        let wall = self.wall(at);
        self.set(wall);
        let passed = Duration::from_nanos(u64::from(wall.subsec_nanos() % MILLISECOND));
        self.now = at.checked_sub(passed).map(|from| from..from + Duration::from_nanos(MILLISECOND.into()));
    }

    /// What the wall's clock says at a moment of the other, which was read anyway, since 1970: it is asked itself once a second.
    fn wall(&mut self, at: Instant) -> Duration {
        let since = |(moment, wall): (Instant, Duration)| Some((at.checked_duration_since(moment)?, wall));
        if let Some((passed, wall)) = self.read.and_then(since)
            && passed < SECOND
        {
            return wall + passed;
        }
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.read = Some((at, wall));
        wall
    }

    /// Takes up a time of day, since 1970.
    pub fn set(&mut self, at: Duration) {
        let at = at.min(LATEST);
        if self.second != at.as_secs() || self.rfc3339 == [0; RFC_3339] {
            self.second = at.as_secs();
            let second = SystemTime::UNIX_EPOCH + Duration::from_secs(self.second);
            let text = humantime::format_rfc3339_millis(second).to_string();
            let part = |from: usize, to: usize| text.get(from..to).unwrap_or_default();
            let month = part(5, 7).parse::<usize>().ok().and_then(|month| MONTHS.get(month - 1)).unwrap_or(&"");
            let combined = format!("{}/{month}/{}:{} +0000", part(8, 10), part(0, 4), part(11, 19));
            // As long as they are written up to the latest one.
            self.rfc3339 = text.as_bytes().first_chunk().copied().unwrap_or([b'0'; _]);
            self.combined = combined.as_bytes().first_chunk().copied().unwrap_or([b'0'; _]);
        }
        if let Some(last) = self.rfc3339.last_chunk_mut() {
            *last = three(at.subsec_millis());
        }
    }

    /// That moment as RFC 3339 has it, to the millisecond and without the zone, which is `Z`.
    #[must_use]
    pub fn rfc3339(&self) -> &[u8; RFC_3339] {
        &self.rfc3339
    }

    /// Its second as Apache and nginx have it.
    #[must_use]
    pub fn combined(&self) -> &[u8; COMBINED] {
        &self.combined
    }
}

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const SECOND: Duration = Duration::from_secs(1);
/// In nanoseconds.
const MILLISECOND: u32 = 1_000_000;
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

    #[tokio::test(start_paused = true)]
    async fn what_was_written_stands_as_long_as_it_is_the_time() {
        let mut clock = Clock::default();
        clock.turn(Instant::now());
        let later = Instant::now() + Duration::from_millis(5);
        clock.turn(later);
        let now = clock.now.clone().unwrap();
        assert!(now.contains(&later) && now.end - now.start == Duration::from_millis(1));
        let read = clock.read;
        // Those within first: each of the others is a time of its own.
        for at in [now.end - Duration::from_nanos(1), now.start, now.start - Duration::from_nanos(1), now.end] {
            clock.turn(at);
            let fresh = {
                let mut fresh = Clock { read, ..Clock::default() };
                fresh.turn(at);
                fresh
            };
            assert_eq!((clock.rfc3339, clock.combined), (fresh.rfc3339, fresh.combined));
        }
    }
}
