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
    /// How many blocking queries may be held.
    most: watch::Sender<usize>,
}

#[derive(Debug)]
struct State {
    begun: u64,
    /// Before this, failures say nothing new.
    learned: Option<Instant>,
    /// For what is asked once.
    reading: Arc<Semaphore>,
}

impl Default for Room {
    fn default() -> Self {
        let state = State { begun: 0, learned: None, reading: Arc::new(Semaphore::new(READS)) };
        Self { held: Lock::default(), state: Lock::new(state), most: watch::Sender::new(usize::MAX) }
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
        let reading = self.state().reading.clone();
        // It is never closed.
        reading.acquire_owned().await.ok()
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
        let most = (held / 2).max(LEAST);
        if held < LEAST || held <= most || most >= *self.most.borrow() {
            return false;
        }
        state.learned = Some(Instant::now());
        // The rest is for what is asked once, the question for the leader among it.
        state.reading = Arc::new(Semaphore::new((held - most).saturating_sub(1).clamp(1, READS)));
        self.most.send_replace(most);
        true
    }

    /// How many blocking queries may be held, and changes of it.
    pub fn most(&self) -> watch::Receiver<usize> {
        self.most.subscribe()
    }

    /// Another agent may have more room.
    pub fn forget(&self) {
        let mut state = self.state();
        state.learned = None;
        state.reading = Arc::new(Semaphore::new(READS));
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
const READS: usize = 8;
/// Two that all can share.
const LEAST: usize = 2;
const A_MOMENT: Duration = Duration::from_millis(300);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_breaks_while_others_stay_says_how_many_it_may_be() {
        let room = Room::default();
        let mut most = room.most();
        let held: Vec<_> = (0..8).map(|_| room.hold()).collect();
        sleep(Duration::from_millis(1)).await;
        let broke = Instant::now();
        assert!(room.is_short(broke).await);
        assert_eq!(*most.borrow_and_update(), 4);
        // Others that broke at the same time say the same.
        assert!(room.is_short(broke).await);
        assert_eq!(*most.borrow_and_update(), 4);
        let _three: Vec<_> = [room.read().await, room.read().await, room.read().await].into();
        assert!(tokio::time::timeout(A_MOMENT, room.read()).await.is_err(), "a place is left for the probe");

        // It was all of four, and one breaks again.
        drop(held);
        let held: Vec<_> = (0..4).map(|_| room.hold()).collect();
        sleep(Duration::from_millis(1)).await;
        assert!(room.is_short(Instant::now()).await);
        assert_eq!(*most.borrow_and_update(), 2);
        drop(held);
        let _two = (room.hold(), room.hold());
        sleep(Duration::from_millis(1)).await;
        assert!(!room.is_short(Instant::now()).await, "with less it cannot go on, so something else is wrong");
        room.forget();
        assert_eq!(*most.borrow_and_update(), usize::MAX);
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
