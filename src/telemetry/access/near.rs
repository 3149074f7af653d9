//! The last lines of a thread, before others see them: to write them takes no lock, and they are few enough to stay in the
//! nearest cache. What waits for the writer does not, and to write there in small pieces is slow.

use std::{cell::RefCell, time::Duration};

use tokio::time::Instant;

use super::{
    super::journey::Journey,
    clock::Clock,
    line::{End, Line},
};

/// How many bytes of lines a thread keeps to itself at most, but for the last line.
pub const MOST: usize = 8 * 1024;

#[derive(Debug, Default)]
struct Near {
    /// Lines, and what room there is behind them.
    lines: Vec<u8>,
    used: usize,
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
        if let Ok(Near { spare, .. }) = near.try_borrow_mut().as_deref_mut()
            && spare.len() < SPARE
            && place.capacity() <= LONGEST
        {
            spare.push(place);
        }
    });
}

/// Adds the line of a request that ended just now, after so long. Gives whether it is time to pass them on.
pub fn add(line: &Line, journey: &Journey, status: u16, ended: Instant, took: Duration) -> bool {
    NEAR.with_borrow_mut(|Near { lines, used, clock, .. }| {
        clock.turn(ended);
        *used = line.end(lines, *used, clock, journey, End { status, took });
        *used >= MOST
    })
}

/// Passes them on, where there are any.
pub fn pass_on(take: impl FnOnce(&[u8])) {
    NEAR.with_borrow_mut(|Near { lines, used, .. }| {
        if *used > 0 {
            take(lines.get(..*used).unwrap_or_default());
            *used = 0;
            lines.truncate(2 * MOST);
            lines.shrink_to(2 * MOST);
        }
    });
}
