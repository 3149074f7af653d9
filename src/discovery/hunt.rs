//! Finds whose instances have changed when Consul says only that some have: by what is on all nodes, which is one question.
//! Where that is not answered, by each node, or if there are many, by asking for every service. Pure: what to ask, and what
//! the answers mean.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

use crate::consul::{
    Turn,
    wire::marks::{Mark, changed},
};

/// One search after another.
#[derive(Debug)]
pub struct Hunt {
    /// What was last found on each node.
    nodes: BTreeMap<String, BTreeMap<String, Mark>>,
    stage: Stage,
    /// Another is to follow.
    again: bool,
    /// Before this it does not begin.
    not_before: Option<Instant>,
    /// How long to leave Consul alone after it has told of all nodes.
    pause: Duration,
    /// One has come to its end.
    ended: bool,
    /// How many in a row found nothing though there was a sign, and when the last of them did: an index may rise for nothing,
    /// and what came may have left again meanwhile. After that signs are not waited for, nor followed sooner: for some time
    /// all nodes are asked for at even times. Where they cannot be, after two the next ones wait their turn.
    vain: (u32, Option<Instant>),
    /// The last one failed.
    failed: bool,
    /// What was asked since the last find without a turn being taken for it.
    free: u32,
    /// What of that has turned out to be for nothing, and is still to be paid for.
    unpaid: u32,
    /// When it was last refused to tell of all nodes at once.
    refused: Option<Instant>,
}

#[derive(Debug, Default)]
enum Stage {
    #[default]
    Idle,
    /// It is to begin.
    Due,
    /// What is on all nodes? Since when that is to be asked, by which turn, and whether for a sign.
    Whole { since: Instant, turn: Turn, sign: bool },
    /// Which nodes are there?
    Listing,
    /// What is on each?
    Reading { left: VecDeque<String>, under_way: usize, found: bool },
}

/// What is to be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// What is on all nodes.
    Whole,
    /// Which nodes there are.
    Nodes,
    /// What is on this one.
    Node(String),
}

impl Hunt {
    /// Nothing is known, and nothing looked for.
    pub fn new() -> Self {
        Self {
            nodes: BTreeMap::new(),
            stage: Stage::Idle,
            again: false,
            not_before: None,
            pause: Duration::ZERO,
            ended: false,
            vain: (0, None),
            failed: false,
            free: 0,
            unpaid: 0,
            refused: None,
        }
    }

    /// Something has changed.
    pub fn begin(&mut self) {
        match self.stage {
            Stage::Idle => self.stage = Stage::Due,
            Stage::Due => {}
            Stage::Whole { .. } | Stage::Listing | Stage::Reading { .. } => self.again = true,
        }
    }

    /// Something has changed, and perhaps Consul itself has: what it refused before it may answer now.
    pub fn begin_anew(&mut self) {
        self.refused = None;
        self.begin();
    }

    /// Whether one has come to its end, so that what changes from now on is found.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Whether a sign that names nobody may be believed at once: none was in vain of late.
    pub fn is_trusted(&self, now: Instant) -> bool {
        let (times, last) = self.vain;
        let enough = if self.is_refused(now) { IN_VAIN } else { 1 };
        times < enough || last.is_none_or(|last| now >= last + DISTRUST)
    }

    fn is_refused(&self, now: Instant) -> bool {
        self.refused.is_some_and(|refused| now < refused + REFUSAL_LASTS)
    }

    /// What to ask next, or when; nothing, if an answer is awaited, or no hunt is under way.
    pub fn next(&mut self, now: Instant) -> Result<(Ask, Turn), Option<Instant>> {
        let (trusted, refused) = (self.is_trusted(now), self.is_refused(now));
        let turn = match self.vain {
            _ if self.failed => Turn::Waits,
            (0, _) => Turn::Free,
            _ if trusted => Turn::Charged,
            _ if !refused => Turn::First,
            _ => Turn::Waits,
        };
        match &mut self.stage {
            Stage::Idle if trusted || refused => Err(None),
            Stage::Idle | Stage::Due => {
                if let Some(at) = self.not_before.filter(|at| now < *at) {
                    return Err(Some(at));
                }
                self.not_before = Some(now + INTERVAL);
                let sign = matches!(self.stage, Stage::Due);
                let whole = Stage::Whole { since: now, turn, sign };
                let (stage, ask) = if refused { (Stage::Listing, Ask::Nodes) } else { (whole, Ask::Whole) };
                self.stage = stage;
                self.free += u32::from(turn == Turn::Free);
                Ok((ask, turn))
            }
            Stage::Reading { left, under_way, .. } if turn != Turn::Waits || *under_way == 0 => {
                match left.pop_front() {
                    Some(node) => {
                        self.free += u32::from(turn == Turn::Free);
                        *under_way += 1;
                        Ok((Ask::Node(node), turn))
                    }
                    None => Err(None),
                }
            }
            Stage::Whole { .. } | Stage::Listing | Stage::Reading { .. } => Err(None),
        }
    }

    /// Takes in what is on all nodes; gives back the services whose instances have changed, by their names in Consul.
    pub fn take_whole(&mut self, nodes: BTreeMap<String, BTreeMap<String, Mark>>, now: Instant) -> BTreeSet<String> {
        let nothing = BTreeMap::new();
        let mut names = BTreeSet::new();
        for (node, services) in &nodes {
            names.extend(changed(self.nodes.get(node).unwrap_or(&nothing), services).cloned());
        }
        for (_, services) in self.nodes.iter().filter(|(node, _)| !nodes.contains_key(*node)) {
            names.extend(services.keys().cloned());
        }
        self.nodes = nodes;
        if let Stage::Whole { since, turn, sign } = self.stage {
            match (names.is_empty(), self.is_trusted(now)) {
                (true, _) if sign => self.judge(false, now),
                (false, true) => self.judge(true, now),
                // What was for nothing a moment ago may be again.
                _ => self.failed = false,
            }
            if matches!(turn, Turn::Free | Turn::Charged) {
                // The larger it is, the less often: it is work for Consul too.
                self.pause = (now - since).saturating_mul(PAUSE).min(LONGEST_INTERVAL);
            }
            let is_trusted = self.is_trusted(now);
            let next = if is_trusted { since + self.pause.max(INTERVAL) } else { now + self.pause.max(EVEN_INTERVAL) };
            self.not_before = Some(next);
        }
        self.end();
        names
    }

    /// It is not told what is on all nodes. For some time they are asked one by one.
    pub fn refuse_whole(&mut self, now: Instant) {
        self.refused = Some(now);
        (self.stage, self.not_before) = (Stage::Due, None);
    }

    /// Takes all nodes in. True: they are too many, so every service has to be asked for.
    pub fn take_nodes(&mut self, nodes: BTreeSet<String>, now: Instant) -> bool {
        if nodes.len() > MAX_NODES {
            self.nodes.clear();
            self.end();
            return true;
        }
        let before = self.nodes.len();
        self.nodes.retain(|node, _| nodes.contains(node));
        let found = self.nodes.len() < before;
        self.stage = Stage::Reading { left: nodes.into_iter().collect(), under_way: 0, found };
        self.settle(now);
        false
    }

    /// Takes in what is on a node; gives back the services whose instances there have changed, by their names in Consul.
    pub fn take_node(&mut self, node: String, services: BTreeMap<String, Mark>, now: Instant) -> Vec<String> {
        let nothing = BTreeMap::new();
        let names: Vec<_> = changed(self.nodes.get(&node).unwrap_or(&nothing), &services).cloned().collect();
        self.nodes.insert(node, services);
        if let Stage::Reading { under_way, found, .. } = &mut self.stage {
            *found |= !names.is_empty();
            // One of a round that was given up may come late.
            *under_way = under_way.saturating_sub(1);
        }
        self.settle(now);
        names
    }

    /// All services have been asked for, and whether any had something new to say.
    pub fn swept(&mut self, has_found: bool, now: Instant) {
        self.judge(has_found, now);
    }

    /// Ends it without a result.
    pub fn give_up(&mut self) {
        self.end();
    }

    /// Takes in that something could not be read. What was found before is compared again by the next, which waits.
    pub fn retry(&mut self, now: Instant) {
        self.again = true;
        self.end();
        self.failed = true;
        (self.vain, self.not_before) = ((IN_VAIN, Some(now)), Some(now + RETRY));
    }

    /// Ends it when all is read.
    fn settle(&mut self, now: Instant) {
        if let Stage::Reading { left, under_way: 0, found } = &self.stage
            && left.is_empty()
        {
            self.judge(*found, now);
            self.end();
        }
    }

    /// How many turns are to be taken for what was asked without one, and has found nothing.
    pub fn bill(&mut self) -> u32 {
        std::mem::take(&mut self.unpaid)
    }

    fn judge(&mut self, has_found: bool, now: Instant) {
        let free = std::mem::take(&mut self.free);
        // What gave the sign was asked without one too.
        self.unpaid += if has_found || free == 0 { 0 } else { free + 1 };
        self.failed = false;
        self.vain = if has_found { (0, None) } else { (self.vain.0 + 1, Some(now)) };
    }

    fn end(&mut self) {
        self.ended = true;
        self.stage = if std::mem::take(&mut self.again) { Stage::Due } else { Stage::Idle };
    }
}

/// Beyond so many, reading them all costs more than a sweep of the services.
pub const MAX_NODES: usize = 50;
const INTERVAL: Duration = Duration::from_millis(250);
/// News is to be in force within half a second, and nothing is to be asked more than five times in one: three of these, and two
/// turns for all that waits.
const EVEN_INTERVAL: Duration = Duration::from_millis(420);
/// What is on all nodes is asked for at most a fifth of the time.
const PAUSE: u32 = 5;
/// News by it is to be in force within ten seconds.
const LONGEST_INTERVAL: Duration = Duration::from_secs(8);
const REFUSAL_LASTS: Duration = Duration::from_mins(1);
const RETRY: Duration = Duration::from_secs(1);
const IN_VAIN: u32 = 2;
const DISTRUST: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
