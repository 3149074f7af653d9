//! How many connections the agent lets us have, which it does not say: it closes those that are too many, and goes on
//! with the others. So a connection that is refused while older queries stay held tells how many it may be.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex as Lock, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{Instant, sleep},
};

/// The room for connections.
#[derive(Debug)]
pub struct Room {
    held: Lock<BTreeMap<u64, Instant>>,
    state: Lock<State>,
    /// For what is asked once.
    reading: Arc<Semaphore>,
    /// How many blocking queries may be held.
    most: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct State {
    begun: u64,
    /// Before this, failures say nothing new.
    learned: Option<Instant>,
}

impl Default for Room {
    fn default() -> Self {
        Self {
            held: Lock::default(),
            state: Lock::default(),
            reading: Arc::new(Semaphore::new(READS)),
            most: watch::Sender::new(usize::MAX),
        }
    }
}

impl Room {
    /// Counts a blocking query in, until what is given back is dropped.
    pub fn hold(&self) -> Place<'_> {
        let mut state = self.state();
        state.begun += 1;
        let number = state.begun;
        drop(state);
        self.held().insert(number, Instant::now());
        Place { room: self, number }
    }

    /// Waits for a connection for something that is asked once.
    pub async fn read(&self) -> Option<OwnedSemaphorePermit> {
        // It is never closed.
        self.reading.clone().acquire_owned().await.ok()
    }

    /// Whether a connection that broke at this time was one too many. Then fewer are made from now on.
    pub async fn is_short(&self, broke: Instant) -> bool {
        // An agent that ends takes all connections with it, though not all at the same moment.
        sleep(A_MOMENT).await;
        let held = self.held().values().filter(|began| **began < broke).count();
        let mut state = self.state();
        if state.learned.is_some_and(|learned| broke < learned) {
            return true;
        }
        if held < LEAST || held >= *self.most.borrow() {
            return false;
        }
        state.learned = Some(Instant::now());
        self.most.send_replace((held - SPARE).max(LEAST));
        true
    }

    /// How many blocking queries may be held, and changes of it.
    pub fn most(&self) -> watch::Receiver<usize> {
        self.most.subscribe()
    }

    /// Another agent may have more room.
    pub fn forget(&self) {
        self.state().learned = None;
        self.most.send_replace(usize::MAX);
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<u64, Instant>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A blocking query's place.
#[derive(Debug)]
pub struct Place<'r> {
    room: &'r Room,
    number: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.room.held().remove(&self.number);
    }
}

/// Few, for connections are what is scarce.
const READS: usize = 4;
/// Two that all can share.
const LEAST: usize = 2;
/// What is kept out of use of those that were held: what is asked once needs room, and so do others on this machine.
const SPARE: usize = 1;
const A_MOMENT: Duration = Duration::from_millis(300);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_breaks_while_others_stay_says_how_many_it_may_be_and_one_stays_free() {
        let room = Room::default();
        let mut most = room.most();
        let held: Vec<_> = (0..8).map(|_| room.hold()).collect();
        sleep(Duration::from_millis(1)).await;
        let broke = Instant::now();
        assert!(room.is_short(broke).await);
        assert_eq!(*most.borrow_and_update(), 7);
        // One that is held no more is one more that is free, and it breaks again.
        drop(held);
        let held: Vec<_> = (0..3).map(|_| room.hold()).collect();
        sleep(Duration::from_millis(1)).await;
        assert!(room.is_short(broke).await, "one that broke at the same time says the same");
        assert_eq!(*most.borrow_and_update(), 7);
        assert!(room.is_short(Instant::now()).await);
        assert_eq!(*most.borrow_and_update(), 2);
        assert!(!room.is_short(Instant::now()).await, "with so many it went on, so something else is wrong");
        drop(held);
        room.forget();
        assert_eq!(*most.borrow_and_update(), usize::MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn few_connections_are_for_what_is_asked_once() {
        let room = Room::default();
        let mut asked = Vec::new();
        for _ in 0..READS {
            asked.push(room.read().await);
        }
        assert!(tokio::time::timeout(A_MOMENT, room.read()).await.is_err());
        asked.pop();
        assert!(room.read().await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_that_ends_is_not_short_of_room() {
        let room = Room::default();
        let held: Vec<_> = (0..8).map(|_| room.hold()).collect();
        sleep(Duration::from_millis(1)).await;
        let (short, ()) = tokio::join!(room.is_short(Instant::now()), async {
            sleep(Duration::from_millis(20)).await;
            drop(held);
        });
        assert!(!short);
    }
}
