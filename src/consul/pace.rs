//! How often something may be done: so many times at once, then once an interval.

use std::{
    sync::{Mutex as Lock, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Mutex,
    time::{Instant, sleep},
};

use super::jitter;

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
        let due = self.due(now, self.at_once);
        self.paid = Some(self.paid.map_or(now, |paid| paid.max(now)) + self.interval);
        due
    }

    /// How long it is until one more is due, if so many may come at once.
    fn due(&self, now: Instant, at_once: u32) -> Duration {
        let ahead = self.interval.saturating_mul(at_once.saturating_sub(1));
        self.paid.map_or(Duration::ZERO, |paid| paid.duration_since(now).saturating_sub(ahead))
    }
}

/// What all watches share for asking without having heard news.
#[derive(Debug)]
pub struct Budget {
    pace: Lock<Pace>,
    /// One waits for the next turn, the others behind it: so what is charged meanwhile delays them all.
    queue: Mutex<()>,
}

impl Default for Budget {
    fn default() -> Self {
        Self { pace: Lock::new(Pace::new(1, INTERVAL)), queue: Mutex::default() }
    }
}

impl Budget {
    /// Takes a turn now, whether it is due or not.
    pub fn charge(&self) {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner).turn(Instant::now());
    }

    /// Waits for a turn, and takes it. So many may come at once.
    pub async fn wait(&self, at_once: u32) {
        let _first = self.queue.lock().await;
        loop {
            let due = self.pace.lock().unwrap_or_else(PoisonError::into_inner).due(Instant::now(), at_once);
            if due.is_zero() {
                return self.charge();
            }
            // Little, for this is spread already.
            sleep(due + jitter::up_to(JITTER)).await;
        }
    }
}

/// With two at once, or with the probes that are charged as they come: never more than 5 in a second, with some room for clocks.
const INTERVAL: Duration = Duration::from_millis(300);
const JITTER: Duration = Duration::from_millis(20);

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

    #[tokio::test(start_paused = true)]
    async fn no_second_has_more_than_five_turns_of_the_budget() {
        for (at_once, probes) in [(2, false), (1, true)] {
            let budget = Budget::default();
            let mut turns = Vec::new();
            let mut probed = Instant::now();
            let began = Instant::now();
            while began.elapsed() < Duration::from_secs(10) {
                if probes && Instant::now() >= probed {
                    budget.charge();
                    turns.push(Instant::now());
                    probed = Instant::now() + Duration::from_millis(750);
                }
                budget.wait(at_once).await;
                turns.push(Instant::now());
            }
            let in_second =
                |from: &Instant| turns.iter().filter(|at| (*from..*from + Duration::from_secs(1)).contains(at)).count();
            let busiest = turns.iter().map(in_second).max();
            assert!(busiest <= Some(5), "{busiest:?}");
            assert!(turns.len() > 30, "{} turns", turns.len());
        }
    }
}
