//! From an answer to what is told of it. An empty one is told only if nothing says that the token sees less than there is.

use std::collections::BTreeSet;

use super::{Change, Deaf, Live, Part, Step, Watching};
use crate::{
    consul::{
        Error, Fresh, Right,
        wire::{Instances, Services},
    },
    discovery::health,
    model::name::ServiceName,
};

/// What may be less than there is.
pub enum Doubtful {
    /// The names that carry the tag.
    Carriers(Fresh<BTreeSet<String>>),
    /// The list of a service.
    List(ServiceName, Fresh<Instances>),
}

impl Watching {
    /// Takes in which services there are.
    pub(super) async fn names(&mut self, listed: Services, index: u64) -> Result<(), Deaf> {
        let Some(tag) = self.tag() else { return Ok(()) };
        let tagged = listed.iter().filter(|(_, tags)| tags.contains(tag)).map(|(name, _)| name.clone());
        let carriers: BTreeSet<String> = tagged.collect();
        // One that is listed without the tag has really lost it.
        let before = self.carriers.as_ref().map_or(&self.earlier, |known| &known.answer).iter();
        let lost: Vec<_> = before.filter(|name| !listed.contains_key(*name)).cloned().map(Right::Service).collect();
        let carriers = Fresh { answer: carriers, index };
        if lost.is_empty() {
            self.settle(None);
            return self.carriers(carriers, Vec::new()).await;
        }
        self.doubt(None, Doubtful::Carriers(carriers), lost);
        Ok(())
    }

    /// Takes in one service's list.
    pub(super) async fn list(&mut self, name: ServiceName, fresh: Fresh<Instances>) -> Result<(), Deaf> {
        let Some((query, _)) = self.query(&name) else { return Ok(()) };
        if !fresh.answer.entries.is_empty() {
            self.settle(Some(&name));
            let node = fresh.answer.entries.first().map(|entry| entry.node.name.clone());
            self.nodes.insert(name.clone(), node.unwrap_or_default());
            return self.told_list(name, fresh).await;
        }
        let node = self.nodes.get(&name).cloned().unwrap_or_default();
        let rights = vec![Right::Service(query.consul.clone()), Right::Node(node)];
        self.doubt(Some(name.clone()), Doubtful::List(name, fresh), rights);
        Ok(())
    }

    /// Goes on with what was doubtful.
    pub(super) async fn decide(&mut self, what: Doubtful, denied: Vec<Right>) -> Result<(), Deaf> {
        let whose = match &what {
            Doubtful::Carriers(_) => None,
            Doubtful::List(name, _) => Some(name.clone()),
        };
        let news = if denied.is_empty() { self.missing.remove(&whose).is_some() } else { self.lacks(whose, &denied) };
        match what {
            Doubtful::Carriers(carriers) => self.carriers(carriers, denied).await,
            Doubtful::List(name, fresh) if denied.is_empty() => {
                self.nodes.remove(&name);
                self.told_list(name, fresh).await
            }
            Doubtful::List(name, _) if news => self.tell(self.failed(Part::Service(name), Error::Denied(denied))).await,
            Doubtful::List(..) => Ok(()),
        }
    }

    /// Nothing is doubtful about it any more.
    pub(super) fn settle(&mut self, whose: Option<&ServiceName>) {
        let whose = whose.cloned();
        self.doubts.remove(&whose);
        self.missing.remove(&whose);
    }

    /// Asks whether it is the token that makes something less than it was.
    fn doubt(&mut self, whose: Option<ServiceName>, what: Doubtful, rights: Vec<Right>) {
        let client = self.client.clone();
        let number = self.number();
        let ours = whose.clone();
        // What has stood against it once is not over because nobody can say so.
        let stands = self.missing.contains_key(&whose);
        let step = self.steps.spawn(async move {
            let denied = if stands { client.surely_denied(&rights).await } else { client.denied(&rights).await };
            Step::Decided(number, ours, what, denied)
        });
        self.doubts.insert(whose, Live { number, step });
    }

    /// Takes in which names carry the tag, but for those that are only out of sight.
    async fn carriers(&mut self, mut carriers: Fresh<BTreeSet<String>>, denied: Vec<Right>) -> Result<(), Deaf> {
        let hidden = denied.iter().filter_map(|right| match right {
            Right::Service(name) => Some(name.clone()),
            Right::Node(_) | Right::Key(_) | Right::Register(_) => None,
        });
        let hidden: BTreeSet<_> = hidden.collect();
        carriers.answer.extend(hidden.iter().cloned());
        let news = hidden != self.hidden && !hidden.is_empty();
        self.hidden = hidden;
        let known = self.carriers.as_ref().is_some_and(|known| known.answer == carriers.answer);
        self.carriers = Some(carriers);
        if news {
            self.tell(self.failed(Part::Catalog, Error::Denied(denied))).await?;
        }
        if known { Ok(()) } else { self.follow().await }
    }

    async fn told_list(&mut self, name: ServiceName, fresh: Fresh<Instances>) -> Result<(), Deaf> {
        let Fresh { answer, index } = fresh;
        let update = health::update(&name, self.here.as_ref(), &answer, &self.wanted.deny);
        self.tell(Change::Instances { update, index }).await?;
        let entries = answer.unreadable;
        if entries.is_empty() {
            self.unreadable.remove(&name);
            return Ok(());
        }
        if self.unreadable.insert(name.clone(), entries.clone()).as_ref() == Some(&entries) {
            return Ok(());
        }
        self.tell(Change::Unreadable { service: name, entries }).await
    }
}
