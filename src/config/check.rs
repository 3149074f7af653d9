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
    doubts: RefCell<Vec<Problem>>,
}

impl Check {
    /// Nothing found yet but what the layers may not say.
    #[must_use]
    pub fn new(merged: Merged) -> Self {
        let found = merged.refused().into();
        Self { merged, found, doubts: RefCell::default() }
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

    /// What holds, and can hardly be meant.
    #[must_use]
    pub fn doubts(self) -> Vec<Problem> {
        self.doubts.into_inner()
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

    /// Notes what holds here, and can hardly be meant.
    pub fn doubt(&self, message: impl Display) {
        let (_, place) = self.check.merged.place(&self.path);
        self.check.doubts.borrow_mut().push(Problem { place, message: message.to_string() });
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

    /// What stands here as it is called at another place: ` in line 7`, or by its file or key too where that says more.
    #[must_use]
    pub fn called_at(&self, other: &Self) -> String {
        let place = self.check.merged.place(&self.path).1;
        let near = place.source == self.check.merged.place(&other.path).1.source;
        match place.line {
            Some(line) if near => format!(" in line {line}"),
            Some(line) => format!(" in {}:{line}", place.source),
            None if near => format!(" `{}`", place.key),
            None => format!(" `{}` of {}", place.key, place.source),
        }
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
