//! How often something may be done: so many times at once, then once an interval.

use std::{
    sync::{Arc, Mutex as Lock, PoisonError},
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

/// What all watches of a datacenter share for asking without having heard news, with a part of what all datacenters do.
#[derive(Debug)]
pub struct Budget {
    pace: Lock<Pace>,
    /// That of all datacenters.
    whole: Arc<Lock<Pace>>,
    /// One waits for the next turn, the others behind it: so what is charged meanwhile delays them all.
    queue: Mutex<()>,
}

impl Default for Budget {
    fn default() -> Self {
        Self::part_of(Arc::new(Lock::new(Pace::new(1, WHOLE_INTERVAL))))
    }
}

impl Budget {
    fn part_of(whole: Arc<Lock<Pace>>) -> Self {
        Self { pace: Lock::new(Pace::new(1, INTERVAL)), whole, queue: Mutex::default() }
    }

    /// One for another datacenter that is asked by way of the same agent.
    #[must_use]
    pub fn beside(&self) -> Self {
        Self::part_of(self.whole.clone())
    }

    /// Takes a turn now, whether it is due or not. Those who wait do so for little longer, however many are taken.
    pub fn charge(&self) {
        let now = Instant::now();
        for pace in [&self.pace, &self.whole] {
            let mut pace = pace.lock().unwrap_or_else(PoisonError::into_inner);
            pace.turn(now);
            pace.paid = pace.paid.map(|paid| paid.min(now + MOST_OWED));
        }
    }

    /// Waits for a turn, and takes it. So many may come at once, of all datacenters together too.
    pub async fn wait(&self, at_once: u32) {
        let _first = self.queue.lock().await;
        self.take(at_once).await;
    }

    /// Waits for a turn ahead of all others, and takes it: for what many rely on, at even times.
    pub async fn wait_first(&self) {
        self.take(FIRST_AT_ONCE).await;
    }

    async fn take(&self, at_once: u32) {
        loop {
            let now = Instant::now();
            let due = |pace: &Lock<Pace>| pace.lock().unwrap_or_else(PoisonError::into_inner).due(now, at_once);
            let due = due(&self.pace).max(due(&self.whole));
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
/// Of all datacenters together: never more than 20 in a second, with the same room, and two at once.
const WHOLE_INTERVAL: Duration = Duration::from_millis(60);
const MOST_OWED: Duration = Duration::from_millis(1500);
const FIRST_AT_ONCE: u32 = 3;
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

    /// No second has more than `most` of these turns, and there are more than `least` in all.
    fn keep_to(most: usize, turns: &[Instant], least: usize) {
        let in_second =
            |from: &Instant| turns.iter().filter(|at| (*from..*from + Duration::from_secs(1)).contains(at)).count();
        let busiest = turns.iter().map(in_second).max().unwrap_or_default();
        assert!(busiest <= most, "{busiest} in a second");
        assert!(turns.len() > least, "{} turns", turns.len());
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
            keep_to(5, &turns, 30);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_goes_first_is_not_kept_by_those_who_wait_and_all_keep_to_the_budget() {
        let budget = Arc::new(Budget::default());
        let turns: Arc<Lock<Vec<Instant>>> = Arc::default();
        let began = Instant::now();
        let mut asking = tokio::task::JoinSet::new();
        for _ in 0..5 {
            let (budget, turns) = (budget.clone(), turns.clone());
            asking.spawn(async move {
                while began.elapsed() < Duration::from_secs(10) {
                    budget.wait(2).await;
                    turns.lock().unwrap().push(Instant::now());
                }
            });
        }
        while began.elapsed() < Duration::from_secs(10) {
            let due = Instant::now();
            budget.wait_first().await;
            assert!(due.elapsed() < INTERVAL, "{:?}", due.elapsed());
            turns.lock().unwrap().push(Instant::now());
            sleep(Duration::from_millis(400)).await;
        }
        asking.join_all().await;
        let turns = turns.lock().unwrap();
        keep_to(5, &turns, 30);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_taken_without_waiting_is_soon_paid_for() {
        let budget = Budget::default();
        (0..1000).for_each(|_| budget.charge());
        let began = Instant::now();
        budget.wait(1).await;
        assert!(began.elapsed() < 2 * MOST_OWED, "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn no_second_has_more_than_twenty_turns_however_many_datacenters_there_are() {
        let first = Arc::new(Budget::default());
        let budgets: Vec<_> = (0..12).map(|_| Arc::new(first.beside())).chain([first.clone()]).collect();
        let turns: Arc<Lock<Vec<Instant>>> = Arc::default();
        let began = Instant::now();
        let mut asking = tokio::task::JoinSet::new();
        for (n, budget) in budgets.iter().enumerate() {
            // Some are away and are probed as well.
            if n < 4 {
                let (budget, turns) = (budget.clone(), turns.clone());
                asking.spawn(async move {
                    while began.elapsed() < Duration::from_secs(10) {
                        budget.charge();
                        turns.lock().unwrap().push(Instant::now());
                        sleep(jitter::about(Duration::from_secs(1))).await;
                    }
                });
            }
            let (budget, turns) = (budget.clone(), turns.clone());
            asking.spawn(async move {
                while began.elapsed() < Duration::from_secs(10) {
                    budget.wait(2).await;
                    turns.lock().unwrap().push(Instant::now());
                }
            });
        }
        asking.join_all().await;
        let turns = turns.lock().unwrap();
        keep_to(20, &turns, 130);
    }
}
