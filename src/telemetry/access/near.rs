//! The last lines of a thread, before others see them: to write them takes no lock, and they are few enough to stay in the
//! nearest cache. What waits for the writer does not, and to write there in small pieces is slow.

use std::cell::RefCell;

use super::{
    super::journey::{Ending, Journey},
    clock::Clock,
    line::{Line, Whole},
};

/// How many bytes of lines a thread keeps to itself at most, but for the last line.
pub const MOST: usize = 8 * 1024;

#[derive(Debug, Default)]
struct Near {
    /// Lines that are whole, each where it was begun.
    lines: Vec<Whole>,
    /// How many bytes these are.
    bytes: usize,
    clock: Clock,
    /// Memory in which lines were begun, for others.
    spare: Vec<Vec<u8>>,
}

/// How much of such memory is kept, in texts and in bytes of each.
const SPARE: usize = 128;
const LONGEST: usize = 2048;

thread_local! {
    static NEAR: RefCell<Near> = RefCell::default();
}

/// Memory to begin a line in: whatever it holds counts as room.
pub fn place() -> Vec<u8> {
    NEAR.with_borrow_mut(|Near { spare, .. }| spare.pop()).unwrap_or_default()
}

/// Takes such memory back.
pub fn give_back(place: Vec<u8>) {
    // A thread that ends has nothing to begin any more.
    let _ = NEAR.try_with(|near| {
        if let Ok(Near { spare, .. }) = near.try_borrow_mut().as_deref_mut() {
            keep(spare, place);
        }
    });
}

#[inline]
fn keep(spare: &mut Vec<Vec<u8>>, place: Vec<u8>) {
    if spare.len() < SPARE && (1..=LONGEST).contains(&place.capacity()) {
        spare.push(place);
    }
}

/// Adds the line of a request that ended just now. Gives whether it is time to pass them on.
pub fn add(line: &Line, journey: &Journey, ending: Ending) -> bool {
    NEAR.with_borrow_mut(|Near { lines, bytes, clock, .. }| {
        clock.turn(ending.at);
        if let Some(line) = line.end(clock, journey, ending) {
            *bytes += line.text().len();
            lines.push(line);
        }
        *bytes >= MOST
    })
}

/// Passes them on, where there are any: so many bytes in all.
pub fn pass_on(take: impl FnOnce(usize, &mut dyn Iterator<Item = &[u8]>)) {
    NEAR.with_borrow_mut(|Near { lines, bytes, spare, .. }| {
        if *bytes > 0 {
            take(*bytes, &mut lines.iter().map(Whole::text));
            for line in lines.drain(..) {
                keep(spare, line.into_place());
            }
            *bytes = 0;
        }
    });
}
