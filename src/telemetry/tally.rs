//! How often each method and status was answered. Memory is bounded whatever clients and upstreams send: sixteen
//! pairs in place, which is all that a route sees as a rule, and a table for all others that grows by need.

use std::{
    array,
    collections::BTreeMap,
    sync::{
        OnceLock,
        atomic::{
            AtomicU16, AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
};

use http::{Method, StatusCode};

use super::cells::bump;

/// One worker's counts. Only that worker writes.
#[derive(Debug, Default)]
pub struct Tally {
    // Filled from the front and never emptied, so a pair has one place for ever: here or in `overflow`.
    keys: [AtomicU16; IN_PLACE],
    counts: [AtomicU64; IN_PLACE],
    overflow: OnceLock<Box<Overflow>>,
}

impl Tally {
    /// Counts one answer.
    pub fn count(&self, method: &Method, status: StatusCode) {
        let (method, status) = (method_index(method), status.as_u16());
        let key = pack(method, status);
        for (slot, count) in self.keys.iter().zip(&self.counts) {
            let taken = slot.load(Relaxed);
            if taken == key {
                return bump(count, 1);
            }
            if taken == EMPTY {
                bump(count, 1);
                return slot.store(key, Release);
            }
        }
        let block = &self.overflow.get_or_init(Box::default).0[block_index(method, status)];
        bump(&block.get_or_init(Box::default).0[usize::from(status % 100)], 1);
    }

    /// Adds what this worker has counted by now.
    pub fn add_to(&self, sums: &mut Sums) {
        for (key, count) in self.keys.iter().zip(&self.counts) {
            match key.load(Acquire) {
                EMPTY => break,
                key => sums.add(key, count.load(Relaxed)),
            }
        }
        let Some(overflow) = self.overflow.get() else { return };
        for method in 0..METHODS {
            for class in (FIRST_STATUS..=LAST_STATUS).step_by(100) {
                let Some(block) = overflow.0[block_index(method, class)].get() else { continue };
                for (status, count) in (class..).zip(&block.0) {
                    sums.add(pack(method, status), count.load(Relaxed));
                }
            }
        }
    }
}

/// Answers by method and status over several workers.
#[derive(Debug, Default)]
pub struct Sums(BTreeMap<u16, u64>);

impl Sums {
    /// Each method and status that was ever counted, and how often.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u16, u64)> {
        self.0.iter().map(|(key, &count)| (NAMES[usize::from(key / STEP)], key % STEP, count))
    }

    fn add(&mut self, key: u16, count: u64) {
        if count > 0 {
            *self.0.entry(key).or_default() += count;
        }
    }
}

/// A block for each method and hundred of statuses.
#[derive(Debug)]
struct Overflow([OnceLock<Box<Block>>; BLOCKS]);

impl Default for Overflow {
    fn default() -> Self {
        Self(array::from_fn(|_| OnceLock::new()))
    }
}

#[derive(Debug)]
struct Block([AtomicU64; 100]);

impl Default for Block {
    fn default() -> Self {
        Self(array::from_fn(|_| AtomicU64::new(0)))
    }
}

fn pack(method: u16, status: u16) -> u16 {
    method * STEP + status
}

fn block_index(method: u16, status: u16) -> usize {
    usize::from(method * CLASSES + (status - FIRST_STATUS) / 100)
}

fn method_index(method: &Method) -> u16 {
    match *method {
        Method::GET => 0,
        Method::HEAD => 1,
        Method::POST => 2,
        Method::PUT => 3,
        Method::DELETE => 4,
        Method::OPTIONS => 5,
        Method::PATCH => 6,
        Method::CONNECT => 7,
        Method::TRACE => 8,
        _ => 9,
    }
}

const NAMES: [&str; METHODS as usize] =
    ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE", "_OTHER"];
const METHODS: u16 = 10;
/// All that a `StatusCode` can be.
const FIRST_STATUS: u16 = 100;
const LAST_STATUS: u16 = 999;
const CLASSES: u16 = (LAST_STATUS - FIRST_STATUS) / 100 + 1;
const BLOCKS: usize = (METHODS * CLASSES) as usize;
const STEP: u16 = LAST_STATUS + 1;
/// No pair packs to it, as no status is 0.
const EMPTY: u16 = 0;
const IN_PLACE: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(tally: &Tally) -> Vec<(&'static str, u16, u64)> {
        let mut sums = Sums::default();
        tally.add_to(&mut sums);
        sums.iter().collect()
    }

    fn status(code: u16) -> StatusCode {
        StatusCode::from_u16(code).unwrap()
    }

    #[test]
    fn every_method_keeps_its_name() {
        for name in &NAMES[..9] {
            let tally = Tally::default();
            tally.count(&Method::from_bytes(name.as_bytes()).unwrap(), StatusCode::OK);
            assert_eq!(sums(&tally), [(*name, 200, 1)]);
        }
    }

    #[test]
    fn methods_outside_the_known_are_one() {
        let tally = Tally::default();
        for name in ["PROPFIND", "get", "_OTHER", "A-METHOD-WITH-A-VERY-LONG-NAME"] {
            tally.count(&Method::from_bytes(name.as_bytes()).unwrap(), StatusCode::OK);
        }
        assert_eq!(sums(&tally), [("_OTHER", 200, 4)]);
    }

    #[test]
    fn pairs_past_the_sixteenth_go_to_the_table_and_stay_there() {
        let tally = Tally::default();
        for round in 1..=3 {
            for code in 200..220 {
                tally.count(&Method::GET, status(code));
            }
            assert_eq!(sums(&tally), (200..220).map(|code| ("GET", code, round)).collect::<Vec<_>>());
            assert_eq!(tally.overflow.get().unwrap().0.iter().filter(|b| b.get().is_some()).count(), 1);
        }
    }

    #[test]
    fn sixteen_pairs_need_no_table() {
        let tally = Tally::default();
        for code in (200..216).chain(200..216) {
            tally.count(&Method::POST, status(code));
        }
        assert!(tally.overflow.get().is_none());
        assert_eq!(sums(&tally).len(), 16);
    }

    #[test]
    fn every_possible_pair_has_a_place_of_its_own() {
        let tally = Tally::default();
        let mut want = Vec::new();
        for name in NAMES {
            let method = Method::from_bytes(name.as_bytes()).unwrap();
            for code in FIRST_STATUS..=LAST_STATUS {
                tally.count(&method, status(code));
                want.push((name, code, 1));
            }
        }
        assert_eq!(sums(&tally), want);
    }
}
