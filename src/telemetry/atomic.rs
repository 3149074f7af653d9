//! The atomics of what workers share here, in one place so that `tests/loom.rs` can put its own there.

pub use std::sync::atomic::{AtomicU64, Ordering, fence};
