//! What stays as it was for want of a right. Consul does not say when the right is back, and nothing else where what it was
//! wanted for has gone meanwhile; so it is asked now and then.

use std::{collections::BTreeSet, time::Duration};

use tokio::time::sleep;

use super::{Deaf, Live, Order, Step, Watching};
use crate::{
    consul::{Right, jitter},
    model::name::ServiceName,
};

/// What a look at the missing rights came to.
pub enum Look {
    /// It is time for one.
    Due,
    /// The token has these again.
    Regained(Vec<Right>),
}

impl Watching {
    /// Notes what keeps something as it was: the list of a service, or `None`, which services there are. True where that is
    /// new.
    pub(super) fn lacks(&mut self, whose: Option<ServiceName>, denied: &[Right]) -> bool {
        let before = self.missing.insert(whose, denied.to_vec());
        if self.looking.is_none() {
            self.look_later();
        }
        before.as_deref() != Some(denied)
    }

    /// Goes on with a look.
    pub(super) async fn look(&mut self, number: u64, look: Look) -> Result<(), Deaf> {
        if self.looking.as_ref().is_none_or(|live| live.number != number) {
            return Ok(());
        }
        self.looking = None;
        match look {
            Look::Due => {
                let missing: BTreeSet<_> = self.missing.values().flatten().cloned().collect();
                if !missing.is_empty() {
                    let client = self.client.clone();
                    let missing: Vec<_> = missing.into_iter().collect();
                    self.looking_at(async move { Look::Regained(client.regained(&missing).await) });
                }
                Ok(())
            }
            Look::Regained(regained) => {
                self.look_later();
                self.ask_anew(&regained).await
            }
        }
    }

    fn look_later(&mut self) {
        self.looking_at(async {
            sleep(jitter::about(INTERVAL)).await;
            Look::Due
        });
    }

    fn looking_at(&mut self, look: impl Future<Output = Look> + Send + 'static) {
        let number = self.number();
        let step = self.steps.spawn(async move { Step::Look(number, look.await) });
        self.looking = Some(Live { number, step });
    }

    /// Asks again for all that lacked any of these. What it lacked stays noted, as nothing, until that is decided.
    async fn ask_anew(&mut self, regained: &[Right]) -> Result<(), Deaf> {
        let mut anew = Vec::new();
        for (whose, rights) in &mut self.missing {
            if rights.iter().any(|right| regained.contains(right)) {
                rights.clear();
                anew.push(whose.clone());
            }
        }
        if anew.is_empty() {
            return Ok(());
        }
        for whose in anew {
            self.doubts.remove(&whose);
            match whose {
                None => self.catalog = None,
                Some(name) if self.services.remove(&name).is_none() => self.order(Order::Anew(name)),
                Some(_) => {}
            }
        }
        self.follow().await
    }
}

/// A right is looked for so often, a quarter more or less: what has gone meanwhile is gone a quarter of a minute after it is back.
const INTERVAL: Duration = Duration::from_secs(12);
