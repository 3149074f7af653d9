//! How long an instance lets wait, for choosing between instances: a mean that jumps up at once and falls with time.
//! Made by the exponential rule of Finagle's `PeakEwma`; time is an argument.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// One worker's estimate. Only that worker writes.
#[derive(Debug, Default)]
pub struct Peak {
    /// As of the last answer; 0: there was none.
    nanos: AtomicU64,
    /// When the last answer came.
    answered: AtomicU64,
    /// When the last request began.
    asked: AtomicU64,
}

/// After so many nanoseconds, what was seen before counts for a little more than a third.
const DECAY: f64 = 10e9;

impl Peak {
    /// A request begins. Until it is answered, what is known stays: one that is tried after a long rest must not draw
    /// all the others before it has answered.
    pub fn ask(&self, now: u64) {
        self.asked.store(now, Relaxed);
    }

    /// A wait of so many nanoseconds has ended.
    pub fn add(&self, now: u64, took: u64) {
        let was = self.nanos.load(Relaxed);
        let took = took.clamp(1, LONGEST);
        let is = if took >= was {
            took
        } else {
            let kept = faded(was, now, self.answered.load(Relaxed));
            kept + took - faded(took, now, self.answered.load(Relaxed))
        };
        self.nanos.store(is.max(1), Relaxed);
        self.answered.store(now, Relaxed);
    }

    /// Somebody waited so long in vain and left: it would have taken longer.
    pub fn at_least(&self, now: u64, took: u64) {
        if self.read(now).is_none_or(|known| known < took) {
            self.add(now, took);
        }
    }

    /// The estimate in nanoseconds, less the longer nothing was heard nor asked; `None` before the first answer.
    pub fn read(&self, now: u64) -> Option<u64> {
        let nanos = self.nanos.load(Relaxed);
        let since = self.answered.load(Relaxed).max(self.asked.load(Relaxed));
        (nanos > 0).then(|| faded(nanos, now, since))
    }
}

/// What is left of `nanos` that were seen at `since`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "an estimate: what floats lose is nothing, and a part of a number fits where the number did"
)]
fn faded(nanos: u64, now: u64, since: u64) -> u64 {
    let rest = now.saturating_sub(since) as f64 / DECAY;
    // The usual case under load, and cheaper.
    let share = if rest < 1e-4 { 1.0 - rest } else { (-rest).exp() };
    (nanos as f64 * share) as u64
}

/// Longer waits are all the same, and their products stay numbers.
const LONGEST: u64 = 3_600_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;
    const S: u64 = 1_000 * MS;

    fn near(peak: &Peak, now: u64, want: u64) {
        let is = peak.read(now).unwrap();
        assert!(is.abs_diff(want) <= want / 100, "{is} instead of {want}");
    }

    #[test]
    fn it_jumps_up_at_once_and_falls_with_time() {
        let peak = Peak::default();
        assert_eq!(peak.read(S), None);
        peak.add(S, 2 * MS);
        near(&peak, S, 2 * MS);
        peak.add(S, 100 * MS);
        near(&peak, S, 100 * MS);
        // Answers that come at once after it count for little, those ten seconds later for two thirds.
        peak.add(S + MS, 2 * MS);
        near(&peak, S + MS, 100 * MS);
        peak.add(11 * S + MS, 2 * MS);
        near(&peak, 11 * S + MS, 38 * MS + MS / 20);
    }

    #[test]
    fn it_fades_while_nothing_is_asked() {
        let peak = Peak::default();
        peak.add(0, S);
        near(&peak, 10 * S, S * 3679 / 10_000);
        near(&peak, 70 * S, S * 912 / 1_000_000);
    }

    #[test]
    fn what_is_asked_again_after_a_rest_counts_as_before_until_it_answers() {
        let peak = Peak::default();
        peak.add(0, S);
        peak.ask(70 * S);
        near(&peak, 70 * S, S);
        peak.add(70 * S + 2 * MS, 2 * MS);
        assert!(peak.read(70 * S + 2 * MS).unwrap() < 4 * MS, "{peak:?}");
    }

    #[test]
    fn who_leaves_says_no_more_than_that_it_took_so_long() {
        let peak = Peak::default();
        peak.add(0, 10 * MS);
        peak.at_least(1, MS);
        near(&peak, 1, 10 * MS);
        peak.at_least(1, S);
        near(&peak, 1, S);
    }

    #[test]
    fn a_clock_that_stands_or_steps_back_does_no_harm() {
        let peak = Peak::default();
        peak.add(10 * S, u64::MAX);
        peak.add(5 * S, 0);
        assert!(peak.read(0).unwrap() <= LONGEST);
    }
}
