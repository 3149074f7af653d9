//! Numbers drawn by chance, for choosing and for ids, not for secrets: `SplitMix64`. Who wants the same ones again gives a
//! seed.

use std::{
    cell::RefCell,
    hash::{BuildHasher, RandomState},
};

/// A row of numbers.
#[derive(Clone, Debug)]
pub struct Draws(u64);

impl Draws {
    /// The row that begins with this seed.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// A row of its own, by the system's randomness.
    #[must_use]
    pub fn new() -> Self {
        Self(RandomState::new().hash_one(0))
    }

    /// The next number, any of all.
    #[inline]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        mix(self.0)
    }
}

impl Default for Draws {
    fn default() -> Self {
        Self::new()
    }
}

/// A number drawn from a row of each thread's own. For ids: unique, not secret.
#[must_use]
pub fn drawn() -> u64 {
    thread_local! {
        static DRAWS: RefCell<Draws> = RefCell::new(Draws::new());
    }
    DRAWS.with_borrow_mut(Draws::next)
}

/// Spreads what is in any bit over all bits.
#[inline]
#[must_use]
pub fn mix(bits: u64) -> u64 {
    let mixed = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// The place that a draw has among so many.
#[inline]
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "the product's upper half is below `places`")]
pub fn place(draw: u64, places: usize) -> usize {
    ((u128::from(draw) * places as u128) >> 64) as usize
}

/// The golden ratio's fraction, in parts of 2^64.
pub const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
