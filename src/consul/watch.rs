//! One question, asked again and again: gives each answer that says something new. When to ask is decided here, by the
//! rules of `cursor`, `pace` and `gate`.

use std::{sync::Arc, time::Duration};

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
    reason: Reason,
    /// What was last said to be wrong.
    failed: Option<Kind>,
    /// Whether it was let off a failure since its last good answer.
    forgiven: bool,
    /// The agent's returns that this watch has heard of.
    returns: u64,
    news: Pace,
    idle: Pace,
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
    /// The last answer came early and brought none.
    Nothing,
    /// After a failure of its own, this long.
    Failed(Duration),
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
            reason: Reason::Free,
            failed: None,
            forgiven: false,
            news: Pace::new(NEWS_AT_ONCE, NEWS_INTERVAL),
            idle: Pace::new(IDLE_AT_ONCE, IDLE_INTERVAL),
        }
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
            match self.client.ask(&self.question, block, &self.reader).await {
                Ok((answer, index)) => {
                    self.cursor.accept(index);
                    self.forgiven = false;
                    if self.failed.take().is_some() {
                        self.client.gate().recovers();
                        self.returns = self.client.gate().returns();
                    }
                    if self.last.as_ref() != Some(&answer) {
                        self.last = Some(answer.clone());
                        self.reason = Reason::News;
                        return Ok(Fresh { answer, index });
                    }
                    let kept = block.is_some() && began.elapsed() >= self.client.wait();
                    // Without an index, to be answered at once is no fault, if there was reason to ask so.
                    let renewed = block.is_none() && self.reason == Reason::Free;
                    self.reason = if kept || renewed { Reason::Free } else { Reason::Nothing };
                }
                Err(error) => {
                    if self.fails(&error).await {
                        return Err(error);
                    }
                }
            }
        }
    }

    /// Takes a failure; true if it is its own and to be told.
    async fn fails(&mut self, error: &Error) -> bool {
        let backoff = self.cursor.fail(jitter::share());
        let gate = self.client.gate();
        if error.casts_doubt() {
            let returns = gate.well(Some(Instant::now()), &*self.client).await;
            if returns != self.returns {
                return false; // `turn` sees that too
            }
            if self.failed.is_none() && !self.forgiven && gate.forgives() {
                self.forgiven = true;
                self.reason = Reason::Free;
                sleep(jitter::up_to(SPREAD)).await;
                return false;
            }
        }
        let news = self.failed != Some(error.kind());
        if self.failed.replace(error.kind()).is_none() {
            gate.fails();
        }
        // What no agent says of itself may end for all at once: then one of them has to notice soon.
        let ceiling = if error.casts_doubt() && gate.all_fail() { IDLE_INTERVAL } else { Duration::MAX };
        self.reason = Reason::Failed(backoff.min(ceiling));
        news
    }

    /// Waits until it may ask.
    async fn turn(&mut self) {
        let gate = self.client.gate();
        let now = Instant::now();
        let pause = match self.reason {
            Reason::Free => Duration::ZERO,
            Reason::News => self.news.turn(now),
            Reason::Nothing => self.idle.turn(now).max(gate.charge()),
            Reason::Failed(backoff) => self.idle.turn(now).max(backoff).max(gate.charge()),
        };
        if !pause.is_zero() {
            select! {
                () = sleep(pause + jitter::up_to(pause / 4)) => {}
                () = gate.returned(self.returns) => {}
            }
        }
        loop {
            let returns = gate.well(None, &*self.client).await;
            if returns == self.returns {
                return;
            }
            self.returns = returns;
            self.cursor.reset();
            self.reason = Reason::Free;
            // Not all at once, for the agent has just come back.
            sleep(jitter::up_to(SPREAD)).await;
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
const IDLE_AT_ONCE: u32 = 2;
const IDLE_INTERVAL: Duration = Duration::from_secs(1);
const SPREAD: Duration = Duration::from_millis(500);
