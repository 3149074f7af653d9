//! One question, asked again and again: gives each answer that says something new. When to ask is decided here, by the
//! rules of `cursor`, `pace` and `gate`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    select,
    time::{Instant, sleep},
};

use super::{
    client::{Client, Question},
    cursor::Cursor,
    error::{Error, Kind},
    jitter,
    pace::Pace,
    wire::Read,
};

/// A question that is asked again and again. Dropping it takes the query back.
pub struct Watch<R: Read> {
    client: Arc<Client>,
    question: Question,
    reader: R,
    cursor: Cursor,
    last: Option<R::Answer>,
    /// The index of the last answer.
    index: u64,
    wakes: Arc<Wakes>,
    /// Whether many rely on it all the time.
    is_for_many: bool,
    reason: Reason,
    /// What its last answer was, if it was none.
    failed: Option<Kind>,
    /// What was last told of that.
    told: Option<Kind>,
    /// The agent's returns that this watch has heard of.
    returns: u64,
    news: Pace,
    waking: Pace,
    idle: Pace,
}

/// What is thought of an answer of which only the index is another.
#[derive(Debug, Default)]
pub struct Wakes {
    matter: AtomicBool,
    doubted: AtomicBool,
}

impl Wakes {
    /// Says whether many rely on them, so that they are worth telling.
    pub fn matter(&self, they_do: bool) {
        self.matter.store(they_do, Relaxed);
    }

    /// Says whether the last of them were for nothing, so that the next ones may be too.
    pub fn are_doubted(&self, they_are: bool) {
        self.doubted.store(they_are, Relaxed);
    }
}

/// An answer that says something new.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fresh<A> {
    /// What it says.
    pub answer: A,
    /// Consul's index of it.
    pub index: u64,
}

/// Why a watch asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    /// Nothing stands against it: it is the first time, the agent has returned, or it kept the last query for its time.
    Free,
    /// The last answer brought news.
    News,
    /// The last answer brought another index alone, and many rely on that. Asked with this index.
    Moved(u64),
    /// The last answer came early and brought none. Asked with this index.
    Nothing(u64),
    /// After a failure of its own.
    Failed {
        /// How long to leave it alone.
        backoff: Duration,
        /// When another watch was last well again before that: what comes later may be over for this one too.
        recovery: Option<Instant>,
    },
}

impl<R: Read> Watch<R> {
    /// A watch that has not asked yet.
    pub fn new(client: Arc<Client>, question: Question, reader: R) -> Self {
        client.gate().enter();
        Self {
            returns: client.gate().returns(),
            client,
            question,
            reader,
            cursor: Cursor::default(),
            last: None,
            index: 0,
            wakes: Arc::default(),
            is_for_many: false,
            reason: Reason::Free,
            failed: None,
            told: None,
            news: Pace::new(NEWS_AT_ONCE, NEWS_INTERVAL),
            waking: Pace::new(1, MANY_INTERVAL),
            idle: Pace::new(IDLE_AT_ONCE, IDLE_INTERVAL),
        }
    }

    /// The same for what many rely on to hear that something has changed: not more than four times a second.
    #[must_use]
    pub fn for_many(mut self) -> Self {
        self.news = Pace::new(1, MANY_INTERVAL);
        self.is_for_many = true;
        self
    }

    /// The same, but only while they matter; then an answer of which only the index is another is told too.
    #[must_use]
    pub fn waking(mut self, wakes: Arc<Wakes>) -> Self {
        self.wakes = wakes;
        self
    }

    /// The next answer that says something new. An answer with an error in it leaves the last one in force.
    ///
    /// # Errors
    /// Its own answers fail, and not in the way that it said before, while the agent is well. It may go on.
    pub async fn next(&mut self) -> Result<Fresh<R::Answer>, Error> {
        loop {
            self.turn().await;
            let began = Instant::now();
            let block = self.cursor.index();
            let recovery = self.client.gate().recovery();
            match self.client.ask(&self.question, block, &self.reader).await {
                Ok((answer, index)) => {
                    self.cursor.accept(index);
                    self.told = None;
                    if self.failed.take().is_some() {
                        self.client.gate().recovers();
                    }
                    let before = std::mem::replace(&mut self.index, index);
                    let moved = before != index;
                    if index < before {
                        self.client.gate().falls(index);
                    }
                    if self.last.as_ref() != Some(&answer) {
                        self.last = Some(answer.clone());
                        self.reason = Reason::News;
                        self.client.gate().hears(index);
                        return Ok(Fresh { answer, index });
                    }
                    let asked = block.unwrap_or(index);
                    if moved && self.wakes.matter.load(Relaxed) {
                        self.reason = Reason::Moved(asked);
                        return Ok(Fresh { answer, index });
                    }
                    let kept = block.is_some() && began.elapsed() >= self.client.wait();
                    // Without an index, to be answered at once is no fault, if there was reason to ask so.
                    let renewed = block.is_none() && self.reason == Reason::Free;
                    self.reason = if kept || renewed { Reason::Free } else { Reason::Nothing(asked) };
                }
                Err(error) => {
                    if self.fails(&error, recovery).await {
                        return Err(error);
                    }
                }
            }
        }
    }

    /// Takes a failure; true if it is its own and to be told.
    async fn fails(&mut self, error: &Error, recovery: Option<Instant>) -> bool {
        let backoff = self.cursor.back_off();
        let gate = self.client.gate();
        if self.client.is_short(error).await {
            // A place is free as soon as the agent has ended what was taken back.
            self.reason = Reason::Failed { backoff: backoff.min(IDLE_INTERVAL), recovery };
            return false;
        }
        if error.casts_doubt() {
            let returns = gate.well(Some(Instant::now()), &*self.client).await;
            if returns != self.returns {
                return false; // `turn` sees that too
            }
        }
        let kind = Some(error.kind());
        let before = std::mem::replace(&mut self.failed, kind);
        if before.is_none() {
            gate.fails();
        }
        // What no agent says of itself may end for all at once: then one of them has to notice soon.
        let ceiling = if error.casts_doubt() && gate.all_fail() { IDLE_INTERVAL } else { Duration::MAX };
        self.reason = Reason::Failed { backoff: backoff.min(ceiling), recovery };
        // A connection may break once, and nobody needs to know.
        let lasts = before.is_some() || !error.casts_doubt();
        if lasts && self.told != kind {
            self.told = kind;
            return true;
        }
        false
    }

    /// Waits until it may ask.
    async fn turn(&mut self) {
        let gate = self.client.gate();
        let now = Instant::now();
        // The catalog wakes whenever an instance comes or leaves anywhere: for nothing, but for a good reason where
        // another watch has news of it.
        let since = if let Reason::Nothing(since) | Reason::Moved(since) = self.reason { since } else { u64::MAX };
        let (pause, at_once, recovery) = match self.reason {
            Reason::Free => (Duration::ZERO, None, None),
            Reason::Nothing(since) if gate.has_heard(since) => (self.news.turn(now), None, None),
            Reason::News | Reason::Moved(_) => {
                let pace = if self.wakes.matter.load(Relaxed) { &mut self.waking } else { &mut self.news };
                let shortest = if self.reason == Reason::News { Duration::ZERO } else { LOOK };
                (pace.turn(now).max(shortest), None, None)
            }
            Reason::Nothing(_) => (self.idle.turn(now), Some(IDLE_AT_ONCE), None),
            Reason::Failed { backoff, recovery } => (self.idle.turn(now).max(backoff), Some(1), Some(recovery)),
        };
        let patience = async {
            // A timer's shortest wait is a millisecond, which is too long for none.
            if !pause.is_zero() {
                sleep(pause + jitter::up_to(pause / 4)).await;
            }
            // Only now it may be known whether there was a reason.
            let doubted = matches!(self.reason, Reason::Moved(_)) && self.wakes.doubted.load(Relaxed);
            if let Some(at_once) = at_once.or(doubted.then_some(IDLE_AT_ONCE)) {
                select! {
                    biased;
                    () = gate.heard(since) => {}
                    () = gate.budget.wait(at_once) => {}
                }
            }
        };
        let renewed = select! {
            biased;
            () = gate.returned(self.returns) => false,
            () = gate.recovered(recovery.flatten()), if recovery.is_some() => true,
            () = patience => false,
            () = gate.heard(since), if at_once == Some(IDLE_AT_ONCE) => false,
        };
        if renewed {
            self.reason = Reason::Free;
            sleep(jitter::up_to(SPREAD)).await;
        }
        loop {
            let returns = gate.well(None, &*self.client).await;
            if returns == self.returns {
                return;
            }
            self.returns = returns;
            self.cursor.reset();
            self.reason = Reason::Free;
            // Not all at once, for the agent has just come back. What many rely on comes first.
            if !self.is_for_many && !self.wakes.matter.load(Relaxed) {
                sleep(jitter::up_to(SPREAD)).await;
            }
        }
    }
}

impl<R: Read> Drop for Watch<R> {
    fn drop(&mut self) {
        self.client.gate().leave(self.failed.is_some());
    }
}

/// 50 a second at most: 10 at once, and 40 more in the second after.
const NEWS_AT_ONCE: u32 = 10;
const NEWS_INTERVAL: Duration = Duration::from_millis(25);
const MANY_INTERVAL: Duration = Duration::from_millis(250);
/// Who was told of an index alone finds out by then, mostly, whether there was a reason.
const LOOK: Duration = Duration::from_millis(100);
const IDLE_AT_ONCE: u32 = 2;
const IDLE_INTERVAL: Duration = Duration::from_secs(1);
const SPREAD: Duration = Duration::from_millis(500);
