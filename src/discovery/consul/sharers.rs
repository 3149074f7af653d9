//! Starts and ends the reading of the services that share queries, tells it what the catalog says, and hears what it finds.

use std::collections::BTreeSet;

use tokio::sync::mpsc;

use super::{Deaf, Live, Step, Watching};
use crate::{
    consul::wire::Services,
    discovery::{
        plan::Watched,
        sharing::{self, Heard, Order},
    },
};

/// Those that share.
pub struct Sharing {
    /// Who they are.
    pub services: Watched,
    orders: mpsc::UnboundedSender<Order>,
    heard: mpsc::Receiver<Heard>,
    _live: Live,
}

/// What is heard of those that share. No end, for that is told as the end of its step.
pub async fn hear(sharing: &mut Option<Sharing>) -> Option<Heard> {
    match sharing {
        Some(sharing) => sharing.heard.recv().await,
        None => std::future::pending().await,
    }
}

impl Watching {
    /// Has these share.
    pub(super) fn share(&mut self, services: Watched) {
        if services.is_empty() != self.sharing.is_none() {
            self.sharing = None;
            self.wakes.matter(!services.is_empty());
            self.wakes.are_doubted(false);
        }
        if services.is_empty() {
            return;
        }
        if self.sharing.is_none() {
            let (orders, ordered) = mpsc::unbounded_channel();
            let (telling, heard) = mpsc::channel(HEARD);
            let run = sharing::run(self.client.clone(), ordered, telling);
            let step = self.steps.spawn(async move {
                run.await;
                Step::Sharing
            });
            let live = Live { number: self.number(), step };
            if self.listed.is_some() {
                // The catalog is listened to already.
                let _ = orders.send(Order::Woke(Vec::new()));
            }
            self.sharing = Some(Sharing { services: Watched::new(), orders, heard, _live: live });
        }
        let Some(sharing) = &mut self.sharing else { return };
        if sharing.services != services {
            sharing.services.clone_from(&services);
            // An error means that it has ended, which is told as the end of its step.
            let _ = sharing.orders.send(Order::Share(services));
        }
    }

    pub(super) fn order(&self, order: Order) {
        if let Some(sharing) = &self.sharing {
            let _ = sharing.orders.send(order); // see above
        }
    }

    /// Takes in what is heard of those that share.
    pub(super) async fn hear(&mut self, heard: Heard) -> Result<(), Deaf> {
        match heard {
            Heard::List(name, fresh) => self.list(name, fresh).await,
            Heard::Failed(part, error) => self.tell(self.failed(part, error)).await,
            Heard::Trusted(trusted) => {
                self.wakes.are_doubted(!trusted);
                Ok(())
            }
        }
    }

    /// Tells those that share that something has changed.
    pub(super) fn wake(&self, now: &Services) {
        if self.sharing.is_none() {
            return;
        }
        let nothing = Services::new();
        let was = self.listed.as_ref().unwrap_or(&nothing);
        let other = |name: &&String| was.get(*name) != now.get(*name);
        let names: BTreeSet<_> = was.keys().chain(now.keys()).filter(other).cloned().collect();
        self.order(Order::Woke(names.into_iter().collect()));
    }
}

/// What may be heard and not yet told.
const HEARD: usize = 64;
