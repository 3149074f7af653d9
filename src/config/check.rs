//! Collects what is wrong, each with its place, while sections read their values. Nothing stops at the first problem.

use std::{cell::RefCell, fmt::Display, str::FromStr, time::Duration};

use super::{layers::Merged, place::Path};
use crate::model::{
    problem::{Problem, Problems},
    units::Time,
};

/// What was found so far.
#[derive(Debug)]
pub struct Check {
    merged: Merged,
    found: RefCell<Vec<(usize, Problem)>>,
}

impl Check {
    /// Nothing found yet.
    #[must_use]
    pub fn new(merged: Merged) -> Self {
        Self { merged, found: RefCell::default() }
    }

    /// The document as a whole.
    #[must_use]
    pub fn root(&self) -> At<'_> {
        At { check: self, path: Path::default() }
    }

    /// All that was found, in the order in which people find it: layer by layer, line by line.
    #[must_use]
    pub fn problems(self) -> Vec<Problem> {
        let mut found = self.found.into_inner();
        found.sort_by_key(|(layer, problem)| (*layer, problem.place.line));
        found.into_iter().map(|(_, problem)| problem).collect()
    }

    /// The value, if nothing was found.
    ///
    /// # Errors
    /// All that was found.
    pub fn end<T>(self, value: T) -> Result<T, Problems> {
        let problems = self.problems();
        if problems.is_empty() { Ok(value) } else { Err(problems.into()) }
    }
}

/// A place in the document that is being read.
#[derive(Clone, Debug)]
pub struct At<'c> {
    check: &'c Check,
    path: Path,
}

impl At<'_> {
    /// The place of a key of this table.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        Self { check: self.check, path: self.path.key(key) }
    }

    /// The place of an entry of this list.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        Self { check: self.check, path: self.path.index(index) }
    }

    /// Notes a problem here.
    pub fn say(&self, message: impl Display) {
        let (layer, place) = self.check.merged.place(&self.path);
        self.check.found.borrow_mut().push((layer, Problem { place, message: message.to_string() }));
    }

    /// Whether nobody wrote the value here.
    #[must_use]
    pub fn is_default(&self) -> bool {
        self.check.merged.is_default(&self.path)
    }

    /// Whether there is a value here, even one that was refused.
    #[must_use]
    pub fn is_written(&self) -> bool {
        self.check.merged.has(&self.path)
    }

    /// The line of this place, where it is in a file.
    #[must_use]
    pub fn line(&self) -> Option<usize> {
        self.check.merged.place(&self.path).1.line
    }

    /// Reads what stands here, or notes why it cannot be.
    pub fn read<T: FromStr<Err: Display>>(&self, text: &str) -> Option<T> {
        self.take(text.parse())
    }

    /// The value, or a note why there is none.
    pub fn take<T>(&self, read: Result<T, impl Display>) -> Option<T> {
        read.map_err(|error| self.say(error)).ok()
    }

    /// Reads every entry of a list that stands here.
    pub fn each<T, E: Display>(&self, texts: &[String], read: impl Fn(&str) -> Result<T, E>) -> Vec<T> {
        texts.iter().enumerate().filter_map(|(i, text)| self.index(i).take(read(text))).collect()
    }

    /// A duration under a key of this table. `None` has been said already, and the document is refused.
    pub fn time(&self, key: &str, text: Option<&str>) -> Option<Duration> {
        self.key(key).read(text?).map(|Time(time)| time)
    }

    /// A duration that may not be zero.
    pub fn positive(&self, key: &str, text: Option<&str>) -> Option<Duration> {
        let time = self.time(key, text)?;
        if time.is_zero() {
            let text = text.unwrap_or_default();
            self.key(key).say(format!("`{text}` leaves no time at all; give it some, such as `10s`, or leave it out"));
            return None;
        }
        Some(time)
    }
}
