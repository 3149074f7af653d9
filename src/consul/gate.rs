//! The gate at which all watches wait while the agent is unreachable or has no leader. Whoever waits first asks for
//! the leader, the others wait for its answer; so there is one probe at a time, and none when nobody waits.

use std::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use tokio::{
    sync::{Mutex, watch},
    time::{Instant, sleep_until},
};

use super::{
    error::{Error, Kind},
    jitter,
    pace::Budget,
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
#[derive(Debug, Default)]
pub struct Gate {
    state: watch::Sender<State>,
    probing: Mutex<Probes>,
    /// The highest index at which a watch heard news.
    heard: watch::Sender<u64>,
    /// Shared by all that brings no news.
    pub budget: Budget,
    watches: AtomicUsize,
    failing: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    agent: Agent,
    returns: u64,
    /// When a failing watch was last well again.
    recovered: Option<Instant>,
}

#[derive(Debug, Default)]
struct Probes {
    /// Before this there is none.
    due: Option<Instant>,
    /// When the last one began that found the agent well.
    well: Option<Instant>,
}

impl Gate {
    /// One for another datacenter, which is asked by way of the same agent.
    #[must_use]
    pub fn beside(&self) -> Self {
        Self { budget: self.budget.beside(), ..Self::default() }
    }

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
            self.budget.charge();
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

    /// A failing watch is well again. Whatever it was may be over for the others too, so they need not wait their time
    /// out: a balancer in between that resets all connections does no harm. One that does so all the time is not to be
    /// helped, so this is not often.
    pub fn recovers(&self) {
        self.failing.fetch_sub(1, Relaxed);
        let now = Instant::now();
        self.state.send_if_modified(|state| {
            let rare = state.recovered.is_none_or(|last| now >= last + RECOVERY_INTERVAL);
            if rare {
                state.recovered = Some(now);
            }
            rare
        });
    }

    /// When a failing watch was last well again.
    pub fn recovery(&self) -> Option<Instant> {
        self.state.borrow().recovered
    }

    /// Waits until a failing watch is well again, later than this.
    pub async fn recovered(&self, before: Option<Instant>) {
        let mut state = self.state.subscribe();
        // The sender is ours, so it cannot be gone.
        let _ = state.wait_for(|state| state.recovered > before).await;
    }

    /// A watch has heard news, which wakes others for nothing.
    pub fn hears(&self, index: u64) {
        self.heard.send_if_modified(|heard| {
            let later = index > *heard;
            *heard = index.max(*heard);
            later
        });
    }

    /// A watch was answered with a lower index than before: Consul's state was restored or began anew, and what was heard
    /// of the one before is no news of this one.
    pub fn falls(&self, index: u64) {
        self.heard.send_if_modified(|heard| {
            *heard = index.min(*heard);
            false // nobody waits for less
        });
    }

    /// Whether any watch has heard news later than this index.
    pub fn has_heard(&self, index: u64) -> bool {
        *self.heard.borrow() > index
    }

    /// Waits until any watch has heard news later than this index.
    pub async fn heard(&self, index: u64) {
        let mut heard = self.heard.subscribe();
        // The sender is ours, so it cannot be gone.
        let _ = heard.wait_for(|heard| *heard > index).await;
    }

    /// Whether no watch is well, whatever the agent says of itself.
    pub fn all_fail(&self) -> bool {
        self.failing.load(Relaxed) >= self.watches.load(Relaxed)
    }

    fn is_well(&self) -> bool {
        matches!(self.state.borrow().agent, Agent::Well)
    }

    fn learn(&self, told: Result<(), Error>) {
        if told.is_ok() && matches!(self.agent(), Agent::Away(_)) {
            self.falls(0); // it may have forgotten everything
        }
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
const RECOVERY_INTERVAL: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex as Lock};

    use tokio::{task::JoinSet, time::sleep};

    use super::*;

    /// An agent that is away until a time, and when it was asked.
    struct Patient(Instant, Lock<Vec<Instant>>);

    impl Patient {
        fn away(seconds: u64) -> Self {
            Self(Instant::now() + Duration::from_secs(seconds), Lock::default())
        }

        fn asked(&self) -> usize {
            self.1.lock().unwrap().len()
        }
    }

    impl Probe for Patient {
        async fn leader(&self) -> Result<(), Error> {
            self.1.lock().unwrap().push(Instant::now());
            sleep(Duration::from_millis(1)).await;
            if Instant::now() < self.0 { Err(Error::NoLeader) } else { Ok(()) }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn all_wait_for_one_probe_a_second() {
        let (gate, agent) = (Arc::new(Gate::default()), Arc::new(Patient::away(20)));
        let began = Instant::now();
        let mut waiting = JoinSet::new();
        for _ in 0..50 {
            let (gate, agent) = (gate.clone(), agent.clone());
            waiting.spawn(async move { gate.well(None, &*agent).await });
        }
        assert_eq!(waiting.join_all().await, vec![1; 50]);
        assert!(began.elapsed() < Duration::from_millis(21_300), "{:?}", began.elapsed());
        let asked = agent.1.lock().unwrap();
        assert!((17..=28).contains(&asked.len()), "{} probes", asked.len());
        assert!(asked.windows(2).all(|pair| pair[1] - pair[0] >= Duration::from_millis(750)));
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_that_is_well_at_first_does_not_return() {
        let (gate, agent) = (Gate::default(), Patient::away(0));
        assert_eq!(gate.well(None, &agent).await, 0);
        assert_eq!(gate.well(None, &agent).await, 0);
        assert_eq!(agent.asked(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_doubt_asks_anew_but_holds_up_nobody_else() {
        let (gate, agent) = (Gate::default(), Patient::away(0));
        gate.well(None, &agent).await;
        sleep(Duration::from_millis(1)).await;
        let since = Instant::now();
        let doubt = gate.well(Some(since), &agent);
        let other = async {
            gate.well(None, &agent).await;
            Instant::now()
        };
        let (returns, passed) = tokio::join!(doubt, other);
        assert_eq!((returns, passed, agent.asked()), (0, since, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_the_probe_may_leave() {
        let (gate, agent) = (Gate::default(), Patient::away(10));
        let first = tokio::time::timeout(Duration::from_secs(3), gate.well(None, &agent)).await;
        assert!(first.is_err());
        assert_eq!(gate.well(None, &agent).await, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_is_told_once() {
        let (gate, agent) = (Gate::default(), Patient::away(5));
        let (known, _) = tokio::join!(gate.change(None), gate.well(None, &agent));
        assert_eq!(known.trouble(), Some(Kind::NoLeader));
        assert_eq!(gate.change(known.trouble()).await.trouble(), None);
    }
}
