//! How old what is known of Consul may be: since the datacenter answered that has been silent for longest.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Of all datacenters.
#[derive(Clone, Debug, Default)]
pub struct Age(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    is_configured: bool,
    /// When what is in force without an answer was known: before anything is, since the start.
    known: Instant,
    is_known: bool,
    has_answered: bool,
    begun: u64,
    heard: BTreeMap<u64, Heard>,
}

/// When a datacenter last answered, or since when it is asked in vain.
#[derive(Debug)]
struct Heard {
    at: Instant,
    is_answer: bool,
}

/// Tells of one datacenter, which counts for as long as this is held.
#[derive(Debug)]
pub struct Contact {
    age: Age,
    number: u64,
}

impl Default for State {
    fn default() -> Self {
        Self {
            is_configured: false,
            known: Instant::now(),
            is_known: false,
            has_answered: false,
            begun: 0,
            heard: BTreeMap::new(),
        }
    }
}

impl Age {
    /// `None`: nobody is asked, or nobody has ever answered.
    pub(super) fn read(&self) -> Option<Duration> {
        let state = self.state();
        if !state.has_answered && !state.is_known {
            return None;
        }
        let oldest = state.heard.values().map(|heard| heard.at).min();
        state.is_configured.then(|| oldest.unwrap_or(state.known).elapsed())
    }

    pub(super) fn configured(&self, configured: bool) {
        self.state().is_configured = configured;
    }

    pub(super) fn known(&self, ago: Duration) {
        let now = Instant::now();
        let mut state = self.state();
        state.known = now.checked_sub(ago).unwrap_or(now);
        state.is_known = true;
        let known = state.known;
        state.heard.values_mut().filter(|heard| !heard.is_answer).for_each(|heard| heard.at = known);
    }

    pub(super) fn contact(&self) -> Arc<Contact> {
        let mut state = self.state();
        state.begun += 1;
        Arc::new(Contact { age: self.clone(), number: state.begun })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Contact {
    /// Says whether anything is asked of it from now on. What nothing is asked of may be silent.
    pub fn follows(&self, something: bool) {
        let mut state = self.age.state();
        if !something {
            state.heard.remove(&self.number);
            return;
        }
        // What is wanted later, as by a reload, is no older than the wish.
        let at = if state.has_answered { Instant::now() } else { state.known };
        state.heard.entry(self.number).or_insert(Heard { at, is_answer: false });
    }

    /// It has answered just now.
    pub fn answered(&self) {
        let mut state = self.age.state();
        state.has_answered = true;
        if let Some(heard) = state.heard.get_mut(&self.number) {
            *heard = Heard { at: Instant::now(), is_answer: true };
        }
    }
}

impl Drop for Contact {
    fn drop(&mut self) {
        self.follows(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    async fn pass(seconds: u32) {
        tokio::time::advance(seconds * SECOND).await;
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_that_of_the_datacenter_that_has_been_silent_for_longest() {
        let age = Age::default();
        let seconds = || age.read().map(|age| age.as_secs());
        assert_eq!(seconds(), None);
        age.configured(true);
        assert_eq!(seconds(), None, "nobody has ever answered");
        age.known(10 * SECOND);
        let (first, second) = (age.contact(), age.contact());
        first.follows(true);
        second.follows(true);
        pass(2).await;
        assert_eq!(seconds(), Some(12), "as long as nobody has answered, that of the snapshot");
        first.answered();
        assert_eq!(seconds(), Some(12), "of the other it is still all that is known");
        second.answered();
        pass(3).await;
        first.answered();
        assert_eq!(seconds(), Some(3), "an answer of one is none of the other");
        second.follows(false);
        assert_eq!(seconds(), Some(0), "nothing is asked of it");
        pass(4).await;
        second.follows(true);
        assert_eq!(seconds(), Some(4), "what is asked anew is not old at once");
        first.answered();
        assert_eq!(seconds(), Some(0));
        pass(1).await;
        drop(first);
        assert_eq!(seconds(), Some(1), "nobody asks it any more");
    }
}
