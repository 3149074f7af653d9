//! Plain data that every layer may know: names, instances, topology, patterns, units, problems.
//! No I/O, no clocks, no locks, no tasks.

use std::{rc::Rc, sync::Arc};

pub mod barred;
pub mod field;
pub mod fields;
pub mod host;
pub mod instance;
pub mod known;
pub mod line;
pub mod lookup;
pub mod message;
pub mod name;
pub mod names;
pub mod path;
pub mod pattern;
pub mod problem;
pub mod protocol;
pub mod random;
pub mod template;
pub mod text;
pub mod topology;
pub mod units;
pub mod value;

/// A worker's own hold on what workers share: its requests pass it on without touching what other workers touch.
pub type Held<T> = Rc<Arc<T>>;
