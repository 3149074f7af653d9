//! Finds whose instances have changed when Consul says only that some have: by what is on each node, or where there are
//! many nodes, by asking for every service. Pure: what to ask, and what the answers mean.

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
    found: bool,
    /// One has come to its end.
    ended: bool,
    /// When one last found nothing. For some time the next ones wait their turn, for an index may rise for nothing.
    vain: Option<Instant>,
}

#[derive(Debug, Default)]
enum Stage {
    #[default]
    Idle,
    /// Which nodes are there?
    Listing { asked: bool },
    /// What is on each?
    Reading { left: VecDeque<String>, under_way: usize },
}

/// What is to be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// All nodes.
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
            found: false,
            ended: false,
            vain: None,
        }
    }

    /// Something has changed.
    pub fn begin(&mut self) {
        match self.stage {
            Stage::Idle => self.stage = Stage::Listing { asked: false },
            Stage::Listing { asked: false } => {}
            Stage::Listing { asked: true } | Stage::Reading { .. } => self.again = true,
        }
    }

    /// Whether one has come to its end, so that what changes from now on is found.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Whether a sign that names nobody may be believed at once: none was in vain of late.
    pub fn is_trusted(&self, now: Instant) -> bool {
        self.vain.is_none_or(|vain| now >= vain + DISTRUST)
    }

    /// What to ask next, or when; nothing, if an answer is awaited, or no hunt is under way.
    pub fn next(&mut self, now: Instant) -> Result<(Ask, Turn), Option<Instant>> {
        let turn = if self.is_trusted(now) { Turn::Charged } else { Turn::Waits };
        match &mut self.stage {
            Stage::Idle | Stage::Listing { asked: true } => Err(None),
            Stage::Listing { asked } => {
                if let Some(at) = self.not_before.filter(|at| now < *at) {
                    return Err(Some(at));
                }
                *asked = true;
                self.found = false;
                self.not_before = Some(now + INTERVAL);
                Ok((Ask::Nodes, turn))
            }
            Stage::Reading { left, under_way } if turn == Turn::Charged || *under_way == 0 => match left.pop_front() {
                Some(node) => {
                    *under_way += 1;
                    Ok((Ask::Node(node), turn))
                }
                None => Err(None),
            },
            Stage::Reading { .. } => Err(None),
        }
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
        self.found |= self.nodes.len() < before;
        self.stage = Stage::Reading { left: nodes.into_iter().collect(), under_way: 0 };
        self.settle(now);
        false
    }

    /// Takes in what is on a node; gives back the services whose instances there have changed, by their names in Consul.
    pub fn take_node(&mut self, node: String, services: BTreeMap<String, Mark>, now: Instant) -> Vec<String> {
        let nothing = BTreeMap::new();
        let names: Vec<_> = changed(self.nodes.get(&node).unwrap_or(&nothing), &services).cloned().collect();
        self.found |= !names.is_empty();
        self.nodes.insert(node, services);
        if let Stage::Reading { under_way, .. } = &mut self.stage {
            // One of a round that was given up may come late.
            *under_way = under_way.saturating_sub(1);
        }
        self.settle(now);
        names
    }

    /// Ends it without a result.
    pub fn give_up(&mut self) {
        self.end();
    }

    /// Takes in that something could not be read. What was found before is compared again by the next, which waits.
    pub fn retry(&mut self, now: Instant) {
        self.again = true;
        self.end();
        (self.vain, self.not_before) = (Some(now), Some(now + RETRY));
    }

    /// Ends it when all is read.
    fn settle(&mut self, now: Instant) {
        if let Stage::Reading { left, under_way: 0 } = &self.stage
            && left.is_empty()
        {
            self.vain = if self.found { None } else { Some(now) };
            self.end();
        }
    }

    fn end(&mut self) {
        self.ended = true;
        self.stage = if std::mem::take(&mut self.again) { Stage::Listing { asked: false } } else { Stage::Idle };
    }
}

/// Beyond so many, reading them all costs more than a sweep of the services.
pub const MAX_NODES: usize = 50;
const INTERVAL: Duration = Duration::from_millis(250);
const RETRY: Duration = Duration::from_secs(1);
const DISTRUST: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(services: &[(&str, u64)]) -> BTreeMap<String, Mark> {
        services.iter().map(|&(name, sum)| (name.to_owned(), Mark { sum, newest: 0 })).collect()
    }

    fn names<const N: usize>(nodes: [&str; N]) -> BTreeSet<String> {
        nodes.map(str::to_owned).into()
    }

    fn later(now: Instant) -> Instant {
        now + INTERVAL
    }

    fn node(name: &str) -> Ask {
        Ask::Node(name.into())
    }

    #[tokio::test(start_paused = true)]
    async fn what_differs_on_a_node_is_found() {
        let (mut hunt, now) = (Hunt::new(), Instant::now());
        assert_eq!(hunt.next(now), Err(None));
        hunt.begin();
        assert_eq!(hunt.next(now), Ok((Ask::Nodes, Turn::Charged)));
        assert_eq!(hunt.next(now), Err(None), "the answer is awaited");
        assert!(!hunt.take_nodes(names(["a", "b"]), now));
        assert_eq!(hunt.next(now), Ok((node("a"), Turn::Charged)));
        assert_eq!(hunt.next(now), Ok((node("b"), Turn::Charged)));
        assert_eq!(hunt.take_node("b".into(), marks(&[("web", 1)]), now), ["web"]);
        assert!(!hunt.has_ended());
        hunt.take_node("a".into(), marks(&[("web", 2), ("shop", 3)]), now);
        assert!(hunt.has_ended());
        assert_eq!(hunt.next(later(now)), Err(None));

        hunt.begin();
        let later = later(now);
        assert_eq!(hunt.next(now), Err(Some(later)), "four times a second at most");
        assert!(hunt.next(later).is_ok());
        // `b` is gone, and so is what was on it: a check of its services or their own lists say so.
        hunt.take_nodes(names(["a"]), later);
        hunt.next(later).unwrap();
        hunt.begin();
        assert_eq!(hunt.take_node("a".into(), marks(&[("web", 9)]), later), ["web", "shop"]);
        let after = later + INTERVAL;
        assert_eq!(hunt.next(after), Ok((Ask::Nodes, Turn::Charged)), "what changed meanwhile is looked for again");
    }

    #[tokio::test(start_paused = true)]
    async fn after_one_in_vain_the_next_ones_wait_their_turn() {
        let (mut hunt, mut now) = (Hunt::new(), Instant::now());
        let round = |hunt: &mut Hunt, now: Instant, sum| {
            hunt.begin();
            let (_, turn) = hunt.next(now).unwrap();
            hunt.take_nodes(names(["a"]), now);
            hunt.next(now).unwrap();
            hunt.take_node("a".into(), marks(&[("web", sum)]), now);
            turn
        };
        for (sum, want) in
            [(1, Turn::Charged), (1, Turn::Charged), (1, Turn::Waits), (2, Turn::Waits), (2, Turn::Charged)]
        {
            assert_eq!(round(&mut hunt, now, sum), want);
            now += INTERVAL;
        }
        assert!(!hunt.is_trusted(now));
        assert!(hunt.is_trusted(now + DISTRUST));
    }

    #[tokio::test(start_paused = true)]
    async fn many_nodes_are_not_read_one_by_one() {
        let (mut hunt, now) = (Hunt::new(), Instant::now());
        hunt.begin();
        hunt.next(now).unwrap();
        assert!(hunt.take_nodes((0..=MAX_NODES).map(|n| n.to_string()).collect(), now));
        assert_eq!(hunt.next(later(now)), Err(None));
        hunt.begin();
        hunt.next(later(now)).unwrap();
        hunt.give_up();
        assert_eq!(hunt.next(later(later(now))), Err(None));
    }

    #[tokio::test(start_paused = true)]
    async fn what_could_not_be_read_is_looked_for_again_but_not_at_once() {
        let (mut hunt, now) = (Hunt::new(), Instant::now());
        hunt.begin();
        hunt.next(now).unwrap();
        hunt.retry(now);
        assert_eq!(hunt.next(now), Err(Some(now + RETRY)));
        assert_eq!(hunt.next(now + RETRY), Ok((Ask::Nodes, Turn::Waits)));
    }
}
