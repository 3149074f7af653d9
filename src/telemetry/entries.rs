//! How many requests are under way to a service over all workers, and whether one more may be. Each worker counts in a
//! cell of its own; where the limit is high it claims a few entries ahead, so that it looks at the cells of others seldom.
//! Who finds the limit reached takes back what others have claimed ahead: so it is kept to the last request.

use super::atomic::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, SeqCst},
    fence,
};

/// Requests under way, by worker. Every method that takes a worker must be called on that worker's thread.
#[derive(Debug)]
pub struct Entries(Box<[Cell]>);

/// One worker's: two cache lines, as in `cells`.
#[derive(Debug)]
#[repr(align(128))]
struct Cell {
    /// What is under way and what is claimed, in one word: others may take back what is claimed ahead, and no more.
    word: AtomicU64,
    /// The limit that was claimed by.
    most: AtomicU64,
    /// The most that is claimed ahead.
    ahead: AtomicU64,
}

/// Of one worker.
#[derive(Clone, Copy)]
struct Claim {
    /// Requests under way.
    entered: u64,
    /// These, and what may enter beside them without a look at others. Over all workers no more than the limit.
    claimed: u64,
}

/// What workers claim ahead is no more than this part of the limit, all together,
const PART: u64 = 64;
/// and never more than so many each.
const AHEAD: u64 = 16;
/// How often a claim is made: of two at once both may give way.
const TRIES: usize = 3;
/// Where in the word the claim is.
const CLAIMED: u32 = 32;

impl Entries {
    /// Nobody yet, at so many workers.
    pub fn new(workers: usize) -> Self {
        let cell = || Cell { word: AtomicU64::new(0), most: AtomicU64::new(0), ahead: AtomicU64::new(0) };
        Self((0..workers).map(|_| cell()).collect())
    }

    /// One more, unless there are `most` already; false: there are.
    #[inline]
    #[must_use]
    pub fn enter(&self, worker: usize, most: u64) -> bool {
        let cell = &self.0[worker];
        if cell.most.load(Relaxed) == most {
            let enters =
                |Claim { entered, claimed }| (entered < claimed).then_some(Claim { entered: entered + 1, claimed });
            if cell.change(enters) {
                return true;
            }
        }
        self.claim(cell, most)
    }

    #[cold]
    fn claim(&self, cell: &Cell, most: u64) -> bool {
        let ahead = (most / (PART * self.0.len() as u64)).min(AHEAD);
        cell.most.store(most, Relaxed);
        cell.ahead.store(ahead, Relaxed);
        for _ in 0..TRIES {
            cell.change(|was| Some(Claim { entered: was.entered + 1, claimed: was.entered + 1 + ahead }));
            // Of two workers that claim at once, one at least sees what the other claims.
            fence(SeqCst);
            if self.sum(|claim| claim.claimed) <= most {
                return true;
            }
            for any in &self.0 {
                any.change(|was| (was.claimed > was.entered).then_some(Claim { claimed: was.entered, ..was }));
            }
            fence(SeqCst);
            if self.sum(|claim| claim.claimed) <= most {
                return true;
            }
            cell.change(|was| Some(Claim { entered: was.entered - 1, claimed: was.entered - 1 }));
        }
        false
    }

    /// One more, whatever the limit: for who has an entry already, and gives it back for this one.
    #[inline]
    pub fn carry(&self, worker: usize) {
        self.0[worker].change(|Claim { entered, claimed }| {
            Some(Claim { entered: entered + 1, claimed: claimed.max(entered + 1) })
        });
    }

    /// One that entered at this worker is over.
    #[inline]
    pub fn leave(&self, worker: usize) {
        let cell = &self.0[worker];
        let ahead = cell.ahead.load(Relaxed);
        cell.change(|Claim { entered, claimed }| {
            debug_assert_ne!(entered, 0, "left without having entered on this worker");
            let entered = entered.saturating_sub(1);
            Some(Claim { entered, claimed: claimed.min(entered + ahead) })
        });
    }

    /// How many are under way.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.sum(|claim| claim.entered)
    }

    fn sum(&self, of: impl Fn(Claim) -> u64) -> u64 {
        self.0.iter().map(|cell| of(Claim::of(cell.word.load(Acquire)))).sum()
    }
}

impl Cell {
    /// Changes the claim, unless there is nothing to change.
    #[inline]
    fn change(&self, to: impl Fn(Claim) -> Option<Claim>) -> bool {
        let mut word = self.word.load(Relaxed);
        while let Some(Claim { entered, claimed }) = to(Claim::of(word)) {
            match self.word.compare_exchange_weak(word, claimed << CLAIMED | entered, AcqRel, Relaxed) {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
        false
    }
}

impl Claim {
    fn of(word: u64) -> Self {
        Self { entered: word & ((1 << CLAIMED) - 1), claimed: word >> CLAIMED }
    }
}
