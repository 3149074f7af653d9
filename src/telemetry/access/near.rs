//! The last lines of a thread, before others see them: to write them takes no lock, and they are few enough to stay in the
//! nearest cache. What waits for the writer does not, and to write there in small pieces is slow.

use std::cell::RefCell;

use super::{
    super::journey::Journey,
    clock::Clock,
    line::{End, Line},
};

/// How many bytes of lines a thread keeps to itself at most, but for the last line.
pub const MOST: usize = 8 * 1024;

#[derive(Debug, Default)]
struct Near {
    lines: Vec<u8>,
    clock: Clock,
}

thread_local! {
    static NEAR: RefCell<Near> = RefCell::default();
}

/// Adds the line of a request that ended just now. Gives whether it is time to pass them on.
pub fn add(line: &Line, journey: &Journey, status: u16, ended: tokio::time::Instant) -> bool {
    NEAR.with_borrow_mut(|Near { lines, clock }| {
        let end = End { status, took: ended.saturating_duration_since(journey.began), at: clock.wall(ended) };
        line.end(lines, clock, journey, end);
        lines.len() >= MOST
    })
}

/// Passes them on, where there are any.
pub fn pass_on(take: impl FnOnce(&[u8])) {
    NEAR.with_borrow_mut(|Near { lines, .. }| {
        if !lines.is_empty() {
            take(lines);
            lines.clear();
            lines.shrink_to(2 * MOST);
        }
    });
}
