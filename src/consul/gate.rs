//! The gate at which all watches wait while the agent is unreachable or has no leader. Whoever waits first asks for
//! the leader, the others wait for its answer; so there is one probe at a time, and none when nobody waits.

use std::{
    sync::{
        Mutex as Lock, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    sync::{Mutex, watch},
    time::{Instant, sleep_until},
};

use super::{
    error::{Error, Kind},
    jitter,
    pace::Pace,
};

/// Can be asked how it is.
pub trait Probe {
    /// Asks whether there is a leader.
    fn leader(&self) -> impl Future<Output = Result<(), Error>> + Send;
}

/// What is known of the agent.
#[derive(Clone, Debug, Default)]
pub enum Agent {
    /// Nothing yet.
    #[default]
    Unknown,
    /// It answers and has a leader.
    Well,
    /// It does not, and why.
    Away(Error),
}

/// The gate.
#[derive(Debug)]
pub struct Gate {
    state: watch::Sender<State>,
    probing: Mutex<Probes>,
    /// Shared by all that brings no news.
    budget: Lock<Pace>,
    /// When a failure of watches that had been well was last forgiven.
    forgiven: Lock<Option<Instant>>,
    watches: AtomicUsize,
    failing: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    agent: Agent,
    returns: u64,
}

#[derive(Debug, Default)]
struct Probes {
    /// Before this there is none.
    due: Option<Instant>,
    /// When the last one began that found the agent well.
    well: Option<Instant>,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            state: watch::Sender::default(),
            probing: Mutex::default(),
            budget: Lock::new(Pace::new(BUDGET_AT_ONCE, BUDGET_INTERVAL)),
            forgiven: Lock::default(),
            watches: AtomicUsize::new(0),
            failing: AtomicUsize::new(0),
        }
    }
}

impl Gate {
    /// How often the agent has returned.
    pub fn returns(&self) -> u64 {
        self.state.borrow().returns
    }

    /// What is known of the agent now.
    pub fn agent(&self) -> Agent {
        self.state.borrow().agent.clone()
    }

    /// Waits until something else is known than what has this kind.
    pub async fn change(&self, known: Option<Kind>) -> Agent {
        let mut state = self.state.subscribe();
        // The sender is ours, so it cannot be gone.
        let _ = state.wait_for(|state| state.agent.trouble() != known).await;
        self.agent()
    }

    /// Waits until the agent is well: known to be, or with `since`, found to be by a probe that began after it. Gives back how often the agent has returned.
    pub async fn well(&self, since: Option<Instant>, agent: &impl Probe) -> u64 {
        loop {
            if since.is_none() && self.is_well() {
                return self.returns();
            }
            let mut probes = self.probing.lock().await;
            let proven = since.is_none_or(|since| probes.well.is_some_and(|well| well >= since));
            if self.is_well() && proven {
                return self.returns();
            }
            if let Some(due) = probes.due {
                sleep_until(due).await;
            }
            let began = Instant::now();
            probes.due = Some(began + jitter::about(PROBE_INTERVAL));
            self.charge();
            let told = agent.leader().await;
            if told.is_ok() {
                probes.well = Some(began);
            }
            self.learn(told);
        }
    }

    /// Waits until the agent has returned more often than this.
    pub async fn returned(&self, before: u64) {
        let mut state = self.state.subscribe();
        // The sender is ours, so it cannot be gone.
        let _ = state.wait_for(|state| state.returns > before).await;
    }

    /// Takes a turn out of what all watches share for asking without having heard news; tells how long to wait for it.
    pub fn charge(&self) -> Duration {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner).turn(Instant::now())
    }

    /// Whether a watch that was well may ask again at once after a failure: all that fail within a second may, and then
    /// none for a while. So a balancer in between that resets all connections does no harm, and one that does it all
    /// the time does not either.
    pub fn forgives(&self) -> bool {
        let mut forgiven = self.forgiven.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        match *forgiven {
            Some(began) if now < began + FORGIVING => true,
            Some(began) if now < began + FORGIVEN => false,
            _ => {
                *forgiven = Some(now);
                true
            }
        }
    }

    /// Counts a watch in.
    pub fn enter(&self) {
        self.watches.fetch_add(1, Relaxed);
    }

    /// Counts a watch out.
    pub fn leave(&self, failing: bool) {
        self.watches.fetch_sub(1, Relaxed);
        self.failing.fetch_sub(usize::from(failing), Relaxed);
    }

    /// Counts a watch among those whose own answers fail.
    pub fn fails(&self) {
        self.failing.fetch_add(1, Relaxed);
    }

    /// A watch is well again. If none was, this counts as a return: the others need not wait their time out.
    pub fn recovers(&self) {
        let alone = self.all_fail();
        self.failing.fetch_sub(1, Relaxed);
        if alone && self.forgives() {
            self.state.send_modify(|state| state.returns += 1);
        }
    }

    /// Whether no watch is well, whatever the agent says of itself.
    pub fn all_fail(&self) -> bool {
        self.failing.load(Relaxed) >= self.watches.load(Relaxed)
    }

    fn is_well(&self) -> bool {
        matches!(self.state.borrow().agent, Agent::Well)
    }

    fn learn(&self, told: Result<(), Error>) {
        self.state.send_if_modified(|state| {
            let agent = match told {
                Ok(()) => Agent::Well,
                Err(error) => Agent::Away(error),
            };
            let changed = std::mem::discriminant(&agent) != std::mem::discriminant(&state.agent)
                || agent.trouble() != state.agent.trouble();
            if matches!((&state.agent, &agent), (Agent::Away(_), Agent::Well)) {
                state.returns += 1;
            }
            state.agent = agent;
            changed
        });
    }
}

impl Agent {
    /// What is wrong with it.
    #[must_use]
    pub fn trouble(&self) -> Option<Kind> {
        match self {
            Self::Unknown | Self::Well => None,
            Self::Away(error) => Some(error.kind()),
        }
    }
}

const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// With the probes, which are charged too: never more than 5 in any second.
const BUDGET_AT_ONCE: u32 = 2;
const BUDGET_INTERVAL: Duration = Duration::from_millis(300);
const FORGIVING: Duration = Duration::from_secs(1);
const FORGIVEN: Duration = Duration::from_secs(10);
