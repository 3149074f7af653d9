//! The atomics and the lock of what workers share here, in one place so that `tests/loom.rs` can put its own there.

pub use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU64, Ordering},
};
