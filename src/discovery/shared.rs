//! When each of the services that share queries is to be asked for: at once when news names it, in its place in a sweep,
//! and now and then in any case. Pure: what to ask for, and what answers and failures mean for that.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use tokio::time::Instant;

use super::{Query, plan::Cause};
use crate::{
    consul::{Cursor, Turn, wire::Instances},
    model::name::ServiceName,
};

/// The services that share queries.
#[derive(Debug, Default)]
pub struct Shared {
    services: BTreeMap<ServiceName, Sharer>,
    /// Those that something is known to have happened to, or may have, by when they are due.
    named: BTreeSet<(Instant, ServiceName)>,
    /// All others, so that nothing that was missed stays so.
    rest: BTreeSet<(Instant, ServiceName)>,
    swept_until: Option<Instant>,
    /// Of the sweep under way, or of several, those that are still to answer, and whether any had something new to say.
    sweeping: BTreeSet<ServiceName>,
    is_sweeping: bool,
    has_found: bool,
    /// Questions under way, and how many of them wait their turn.
    under_way: usize,
    waiting: usize,
    /// Failures in a row, of whatever service.
    failures: usize,
    recovered: Option<Instant>,
    begun: u64,
}

#[derive(Debug)]
struct Sharer {
    query: Query,
    cause: Cause,
    due: Instant,
    is_named: bool,
    /// The question under way.
    asked: Option<Asked>,
    /// Something happened while it was asked for.
    again: bool,
    /// Before this it is not asked for.
    not_before: Instant,
    cursor: Cursor,
    failed: bool,
    /// Where it has instances.
    nodes: BTreeSet<String>,
    hash: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Asked {
    number: u64,
    waits: bool,
}

/// A question about one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Whose list.
    pub service: ServiceName,
    /// What is asked.
    pub query: Query,
    /// Tells it from earlier ones.
    pub number: u64,
    /// How it stands to other questions.
    pub turn: Turn,
}

/// What a failure means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It is this service's.
    Own,
    /// It is everybody's from now on.
    All,
    /// It was everybody's already, or it is known.
    Known,
}

impl Shared {
    /// From now on it is these.
    pub fn set(&mut self, queries: BTreeMap<ServiceName, (Query, Cause)>, now: Instant) {
        let stays = |name: &ServiceName, sharer: &Sharer| {
            queries.get(name).is_some_and(|(query, cause)| (query, cause) == (&sharer.query, &sharer.cause))
        };
        let gone = |(name, sharer): (&ServiceName, &Sharer)| (!stays(name, sharer)).then(|| name.clone());
        for name in self.services.iter().filter_map(gone).collect::<Vec<_>>() {
            self.unlist(&name);
            self.sweeping.remove(&name);
            let asked = self.services.remove(&name).and_then(|sharer| sharer.asked);
            self.ends(asked);
        }
        for (name, (query, cause)) in queries {
            if self.services.contains_key(&name) {
                continue;
            }
            self.named.insert((now, name.clone()));
            let sharer = Sharer {
                query,
                cause,
                due: now,
                is_named: true,
                asked: None,
                again: false,
                not_before: now,
                cursor: Cursor::default(),
                failed: false,
                nodes: BTreeSet::new(),
                hash: None,
            };
            self.services.insert(name, sharer);
        }
    }

    /// Something happened to a service, by its name in Consul.
    pub fn touch(&mut self, consul: &str, now: Instant) {
        let named = |(name, sharer): (&ServiceName, &Sharer)| (sharer.query.consul == consul).then(|| name.clone());
        // Most go by their name in Consul, but several tables may name one service.
        for name in self.services.iter().filter_map(named).collect::<Vec<_>>() {
            self.name(&name, now);
        }
    }

    /// Something happened to a node.
    pub fn touch_node(&mut self, node: &str, now: Instant) {
        let on = |(name, sharer): (&ServiceName, &Sharer)| sharer.nodes.contains(node).then(|| name.clone());
        for name in self.services.iter().filter_map(on).collect::<Vec<_>>() {
            self.name(&name, now);
        }
    }

    /// What a service last said counts no more: whatever it says next is new.
    pub fn begin_anew(&mut self, service: &ServiceName, now: Instant) {
        if let Some(sharer) = self.services.get_mut(service) {
            sharer.hash = None;
        }
        self.name(service, now);
    }

    /// Anything may have happened.
    pub fn touch_all(&mut self, now: Instant) {
        for name in self.services.keys().cloned().collect::<Vec<_>>() {
            self.name(&name, now);
        }
    }

    /// Something may have happened, and nobody knows to whom: all are asked for, not more than 100 a second, or not more
    /// than 12 where it is not likely that anything has.
    pub fn sweep(&mut self, now: Instant, is_likely: bool) {
        let interval = if is_likely { SWEEP_INTERVAL } else { VAIN_INTERVAL };
        if !std::mem::replace(&mut self.is_sweeping, true) {
            self.has_found = false;
        }
        let mut at = self.swept_until.map_or(now, |until| until.max(now));
        for name in self.services.keys().cloned().collect::<Vec<_>>() {
            let Some(sharer) = self.services.get(&name) else { continue };
            if sharer.is_named && sharer.asked.is_none() {
                continue; // what it will say is later than what happened
            }
            self.name(&name, at);
            self.sweeping.insert(name);
            at += interval;
        }
        self.swept_until = Some(at);
    }

    /// Whether a sweep has come to its end, and if so whether it was of any use.
    pub fn swept(&mut self) -> Option<bool> {
        let ended = self.is_sweeping && self.sweeping.is_empty();
        ended.then(|| {
            self.is_sweeping = false;
            self.has_found
        })
    }

    /// What to ask for next, or when there will be something; nothing, if answers are awaited.
    pub fn next(&mut self, now: Instant) -> Result<Job, Option<Instant>> {
        let down = self.is_down();
        let most = if down { 1 } else { AT_ONCE };
        let first = |all: &BTreeSet<(Instant, ServiceName)>| all.first().cloned();
        let (named, rest) = (first(&self.named), first(&self.rest));
        let due = |place: &Option<(Instant, ServiceName)>| place.as_ref().is_some_and(|(at, _)| *at <= now);
        let (name, waits) = match (named, rest) {
            (Some((_, name)), _) if self.named.first().is_some_and(|(at, _)| *at <= now) => {
                if self.under_way >= most {
                    return Err(None);
                }
                (name, down)
            }
            (_, rest) if due(&rest) && self.waiting == 0 && self.under_way < most => match rest {
                Some((_, name)) => (name, true),
                None => return Err(None),
            },
            (named, rest) => {
                let rest = rest.filter(|_| self.waiting == 0 && self.under_way < most);
                return Err(named.into_iter().chain(rest).map(|(at, _)| at).min());
            }
        };
        self.unlist(&name);
        self.begun += 1;
        let asked = Asked { number: self.begun, waits };
        let Some(sharer) = self.services.get_mut(&name) else { return Err(Some(now)) };
        (sharer.asked, sharer.again, sharer.is_named) = (Some(asked), false, false);
        sharer.not_before = now + INTERVAL;
        self.under_way += 1;
        self.waiting += usize::from(waits);
        let turn = if waits { Turn::Waits } else { Turn::Free };
        Ok(Job { service: name, query: sharer.query.clone(), number: asked.number, turn })
    }

    /// Takes a list in; true when it says something new. `None`: nobody waits for it any more.
    pub fn answered(&mut self, service: &ServiceName, number: u64, list: &Instances, now: Instant) -> Option<bool> {
        let was_down = self.is_down();
        let sharer = self.end(service, number)?;
        let mut hasher = DefaultHasher::new();
        list.hash(&mut hasher);
        let before = sharer.hash.replace(hasher.finish());
        let news = before != sharer.hash;
        sharer.nodes = list.entries.iter().map(|entry| entry.node.name.clone()).collect();
        (sharer.cursor, sharer.failed) = (Cursor::default(), false);
        self.failures = 0;
        self.sweeping.remove(service);
        self.has_found |= news;
        // What is over for one may be over for all. One that goes on failing for itself is not to profit from it.
        if was_down && self.recovered.is_none_or(|last| now >= last + RECOVERY_INTERVAL) {
            self.recovered = Some(now);
            let failed = |(name, s): (&ServiceName, &Sharer)| s.failed.then(|| name.clone());
            for name in self.services.iter().filter_map(failed).collect::<Vec<_>>() {
                if let Some(sharer) = self.services.get_mut(&name) {
                    sharer.not_before = now;
                }
                self.name(&name, now);
            }
        }
        self.list(service, now, None);
        Some(news)
    }

    /// Takes a failure in.
    pub fn failed(&mut self, service: &ServiceName, number: u64, now: Instant) -> Option<Trouble> {
        let was_down = self.is_down();
        let sharer = self.end(service, number)?;
        let backoff = sharer.cursor.back_off();
        let known = std::mem::replace(&mut sharer.failed, true);
        self.sweeping.remove(service);
        // What could not be read may have been what it was about.
        self.has_found = true;
        self.failures += 1;
        let is_down = self.is_down();
        // What fails for all may end for all: then one has to notice soon.
        let backoff = if is_down { backoff.min(DOWN_INTERVAL) } else { backoff };
        if let Some(sharer) = self.services.get_mut(service) {
            sharer.not_before = now + backoff;
        }
        self.list(service, now, Some(now + backoff));
        Some(match (was_down, is_down, known) {
            (false, true, _) => Trouble::All,
            (false, false, false) => Trouble::Own,
            _ => Trouble::Known,
        })
    }

    /// Whether nobody's list can be read.
    pub fn is_down(&self) -> bool {
        self.failures >= DOWN.min(self.services.len()).max(1)
    }

    fn end(&mut self, service: &ServiceName, number: u64) -> Option<&mut Sharer> {
        let asked = self.services.get(service)?.asked.filter(|asked| asked.number == number)?;
        self.ends(Some(asked));
        let sharer = self.services.get_mut(service)?;
        sharer.asked = None;
        Some(sharer)
    }

    fn ends(&mut self, asked: Option<Asked>) {
        if let Some(asked) = asked {
            self.under_way -= 1;
            self.waiting -= usize::from(asked.waits);
        }
    }

    /// Puts one down to be asked for, no later than this.
    fn name(&mut self, service: &ServiceName, at: Instant) {
        let is_down = self.is_down();
        let Some(sharer) = self.services.get_mut(service) else { return };
        // One that waits its turn may do so for seconds. It is asked for now, and what comes of the other is not heard.
        if let Some(asked) = sharer.asked.take_if(|asked| asked.waits && !is_down) {
            sharer.not_before = at;
            self.ends(Some(asked));
        }
        let Some(sharer) = self.services.get_mut(service) else { return };
        let at = at.max(sharer.not_before);
        if sharer.asked.is_some() {
            sharer.again = true;
            return;
        }
        if sharer.is_named && sharer.due <= at {
            return;
        }
        self.unlist(service);
        self.list(service, at, Some(at));
    }

    /// Puts one down after it was asked for: again soon if there is reason to, else when its time comes.
    fn list(&mut self, service: &ServiceName, now: Instant, at: Option<Instant>) {
        let lap = BACKGROUND.saturating_mul(u32::try_from(self.services.len()).unwrap_or(u32::MAX)).max(MIN_LAP);
        // Spread over the lap, for many are asked for the first time at once.
        let rest = lap / 2 + lap / 2 * u32::try_from(self.begun % 100).unwrap_or_default() / 100;
        let Some(sharer) = self.services.get_mut(service) else { return };
        let again = std::mem::take(&mut sharer.again).then_some(sharer.not_before);
        let named = at.or(again);
        (sharer.is_named, sharer.due) = (named.is_some(), named.unwrap_or(now + rest));
        let places = if sharer.is_named { &mut self.named } else { &mut self.rest };
        places.insert((sharer.due, service.clone()));
    }

    fn unlist(&mut self, service: &ServiceName) {
        let Some(sharer) = self.services.get(service) else { return };
        let place = (sharer.due, service.clone());
        self.named.remove(&place);
        self.rest.remove(&place);
    }
}

/// Questions under way at once: few, for connections are what is scarce.
const AT_ONCE: usize = 8;
/// Of one service.
const INTERVAL: Duration = Duration::from_millis(250);
const SWEEP_INTERVAL: Duration = Duration::from_millis(10);
/// With all else that may be asked meanwhile, never more than 20 questions in a second.
const VAIN_INTERVAL: Duration = Duration::from_millis(80);
/// All of them in turns, about two a second, as long as nothing is known to have happened.
const BACKGROUND: Duration = Duration::from_millis(500);
const MIN_LAP: Duration = Duration::from_mins(1);
/// So many failures in a row are everybody's.
const DOWN: usize = 3;
const DOWN_INTERVAL: Duration = Duration::from_secs(1);
const RECOVERY_INTERVAL: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
