//! How long an instance lets wait, for choosing between instances: a mean that jumps up at once and falls with time.
//! Made by the exponential rule of Finagle's `PeakEwma`; time is an argument, in nanoseconds from wherever the caller counts.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// One worker's estimate. Only that worker writes, but for what makes it forget.
#[derive(Debug, Default)]
pub struct Peak {
    /// As of the last answer; 0: there was none.
    nanos: AtomicU64,
    /// When the last answer came.
    answered: AtomicU64,
    /// When the last request began.
    asked: AtomicU64,
}

/// Half-lives in a nanosecond, in parts of 2^96: 1/ln 2 of them are ten seconds, after which what was seen before counts
/// for 1/e, a little more than a third.
const HALF_LIVES: u64 = 11_430_207_715_807_402_640;

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

    /// As if there had been no answer. Anyone may say so.
    pub fn forget(&self) {
        self.nanos.store(0, Relaxed);
    }

    /// Somebody waited so long in vain and left: it would have taken longer.
    pub fn at_least(&self, now: u64, took: u64) {
        if self.read(now).is_none_or(|known| known < took) {
            self.add(now, took);
        }
    }

    /// The estimate in nanoseconds as of the last answer.
    #[inline]
    pub fn last(&self) -> Option<u64> {
        Some(self.nanos.load(Relaxed)).filter(|&nanos| nanos > 0)
    }

    /// The estimate in nanoseconds, less the longer nothing was heard nor asked; `None` before the first answer.
    #[inline]
    pub fn read(&self, now: u64) -> Option<u64> {
        let nanos = self.nanos.load(Relaxed);
        let since = self.answered.load(Relaxed).max(self.asked.load(Relaxed));
        (nanos > 0).then(|| faded(nanos, now, since))
    }
}

/// What is left of `nanos` that were seen at `since`: they halve with each half-life. Picks do this twice each, so it is
/// without `exp` and without a division, right to 0.3 % and exact at whole half-lives.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "parts of 2^32, and a part of a number fits where the number did")]
fn faded(nanos: u64, now: u64, since: u64) -> u64 {
    let rest = now.saturating_sub(since);
    // In parts of 2^32.
    let half_lives = ((u128::from(rest) * u128::from(HALF_LIVES)) >> 64) as u64;
    let (whole, part) = (half_lives >> 32, half_lives & (ONE - 1));
    // 2^-x between 0 and 1 by the parabola that meets it at 0, 1/2 and 1.
    let share = ONE - ((part * (LINEAR - ((part * SQUARE) >> 32))) >> 32);
    let left = ((u128::from(nanos) * u128::from(share)) >> 32) as u64;
    left.checked_shr(u32::try_from(whole).unwrap_or(u32::MAX)).unwrap_or(0)
}

/// 1 in parts of 2^32; and, in the same, 3/2 + 2 - 4/√2 = 0.671573 and that without 1/2.
const ONE: u64 = 1 << 32;
const LINEAR: u64 = 2_884_383_536;
const SQUARE: u64 = LINEAR - ONE / 2;

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
    fn it_fades_as_e_to_the_minus_time_in_tens_of_seconds_within_a_third_of_a_percent() {
        let mut before = u64::MAX;
        for tenth in 0_u32..2000 {
            let is = faded(LONGEST, 7 + u64::from(tenth) * S / 10, 7);
            #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
            let (is_float, want) = (is as f64, LONGEST as f64 * (-f64::from(tenth) / 100.0).exp());
            assert!((is_float / want - 1.0).abs() < 0.0033, "{is} instead of {want} after {tenth} tenths");
            assert!(is < before, "{is} after {before}");
            before = is;
        }
        assert_eq!(faded(LONGEST, u64::MAX, 0), 0);
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
