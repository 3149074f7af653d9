//! How often something may be done: so many times at once, then once an interval. The time is an argument.

use std::time::Duration;

use tokio::time::Instant;

/// A limit on how often. It keeps count by the time at which all that was granted is paid for.
#[derive(Debug)]
pub struct Pace {
    interval: Duration,
    at_once: u32,
    paid: Option<Instant>,
}

impl Pace {
    /// `at_once`, then once an `interval`.
    pub const fn new(at_once: u32, interval: Duration) -> Self {
        Self { interval, at_once, paid: None }
    }

    /// Grants the next turn, and tells how long to wait for it.
    pub fn turn(&mut self, now: Instant) -> Duration {
        let start = self.paid.map_or(now, |paid| paid.max(now));
        self.paid = Some(start + self.interval);
        let ahead = self.interval.saturating_mul(self.at_once.saturating_sub(1));
        (start - now).saturating_sub(ahead)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_few_turns_come_at_once_and_then_one_an_interval() {
        let second = Duration::from_secs(1);
        let mut pace = Pace::new(2, second);
        let now = Instant::now();
        let waits: Vec<_> = (0..5).map(|_| pace.turn(now).as_secs()).collect();
        assert_eq!(waits, [0, 0, 1, 2, 3]);
        // All is paid for: two at once again, never more.
        let later = now + 60 * second;
        let waits: Vec<_> = (0..4).map(|_| pace.turn(later).as_secs()).collect();
        assert_eq!(waits, [0, 0, 1, 2]);
    }
}
