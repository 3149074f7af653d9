//! Watches Consul: which services carry the tag, and the instances of each service that is wanted. Tells whole lists.
//! What to watch is decided by `plan`, what an answer means by `health`.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use tokio::{
    select,
    sync::{mpsc, watch},
    task::{AbortHandle, JoinSet},
};

use super::{
    Change, Part, Query, Unreadable, Wanted, health,
    plan::{Cause, Plan},
};
use crate::{
    consul::{
        Agent, Client, Error, Fresh, Watch,
        wire::{Catalog, Health, Instances, Read},
    },
    model::name::ServiceName,
};

/// Watches what is wanted until nobody listens.
pub async fn run(client: Arc<Client>, mut wanted: watch::Receiver<Wanted>, told: mpsc::Sender<Change>) {
    let mut known = Agent::Unknown;
    let mut watching = Watching::new(client.clone(), told, wanted.borrow_and_update().clone());
    // Ends with an error when nobody listens.
    let mut heard = watching.follow().await;
    while heard.is_ok() {
        heard = select! {
            biased;
            () = watching.told.closed() => return,
            agent = client.agent_changes(&known) => {
                let change = match &agent {
                    Agent::Away(error) => Change::Failed { part: Part::Agent, error: error.clone() },
                    Agent::Unknown | Agent::Well => Change::Returned,
                };
                known = agent;
                watching.tell(change).await
            }
            Ok(()) = wanted.changed() => {
                let now = wanted.borrow_and_update().clone();
                watching.want(now).await
            }
            Some(step) = watching.steps.join_next() => match step {
                Ok(step) => watching.take(step).await,
                Err(error) if error.is_cancelled() => Ok(()),
                Err(error) => {
                    tracing::error!(%error, "a watch ended; all begin anew");
                    watching.forget();
                    watching.follow().await
                }
            },
        };
    }
}

/// All watches and what they are for.
struct Watching {
    client: Arc<Client>,
    told: mpsc::Sender<Change>,
    wanted: Wanted,
    /// Which services carry the tag, and Consul's index of it; `None`: not known yet.
    carriers: Option<Fresh<BTreeSet<String>>>,
    catalog: Option<Live>,
    services: BTreeMap<ServiceName, Service>,
    /// Each watch has one step under way: it ends with an answer, which is told before the next step begins.
    steps: JoinSet<Step>,
    /// Tells a watch from one that had its place before.
    begun: u64,
}

/// Nobody listens any more.
#[derive(Debug)]
struct Deaf;

/// A watch that is under way; ends when this is dropped.
struct Live {
    number: u64,
    step: AbortHandle,
}

impl Drop for Live {
    fn drop(&mut self) {
        self.step.abort();
    }
}

/// The watch of one service.
struct Service {
    live: Live,
    query: Query,
    cause: Cause,
    unreadable: Vec<Unreadable>,
}

/// What a step came to.
enum Step {
    Catalog(Told<Catalog>),
    Service(ServiceName, Told<Health>),
}

struct Told<R: Read> {
    number: u64,
    watch: Watch<R>,
    outcome: Result<Fresh<R::Answer>, Error>,
}

impl Watching {
    fn new(client: Arc<Client>, told: mpsc::Sender<Change>, wanted: Wanted) -> Self {
        let (services, steps) = (BTreeMap::new(), JoinSet::new());
        Self { client, told, wanted, carriers: None, catalog: None, services, steps, begun: 0 }
    }

    /// Takes in what is wanted from now on.
    async fn want(&mut self, now: Wanted) -> Result<(), Deaf> {
        let before = std::mem::replace(&mut self.wanted, now);
        if before == self.wanted || before.deny != self.wanted.deny {
            // Wanted otherwise in between, so what was told may be forgotten; or all lists read otherwise.
            self.forget();
        }
        if before.expose_tag != self.wanted.expose_tag {
            self.catalog = None;
            self.carriers = None;
        }
        self.follow().await
    }

    /// Ends all watches.
    fn forget(&mut self) {
        self.services.clear();
        self.catalog = None;
    }

    /// Starts and ends watches as the plan has it, and tells what is exposed.
    async fn follow(&mut self) -> Result<(), Deaf> {
        if self.wanted.expose_tag.is_some() && self.catalog.is_none() {
            let watch = Watch::new(self.client.clone(), Catalog::question(), Catalog);
            let number = self.number();
            self.catalog = Some(self.step(number, watch, Step::Catalog));
        }
        let nobody = BTreeSet::new();
        let plan = Plan::new(&self.wanted, self.carriers.as_ref().map_or(&nobody, |fresh| &fresh.answer));
        self.services.retain(|name, service| {
            plan.watched.get(name).is_some_and(|(query, cause)| (query, cause) == (&service.query, &service.cause))
        });
        for (name, (query, cause)) in plan.watched {
            if !self.services.contains_key(&name) {
                let question = Health::question(&query.consul, query.tag.as_deref());
                let watch = Watch::new(self.client.clone(), question, Health);
                let (number, ours) = (self.number(), name.clone());
                let live = self.step(number, watch, |told| Step::Service(ours, told));
                self.services.insert(name, Service { live, query, cause, unreadable: Vec::new() });
            }
        }
        match &self.carriers {
            Some(fresh) => {
                let change = Change::Exposed { services: plan.exposed, clashes: plan.clashes, index: fresh.index };
                self.tell(change).await
            }
            None => Ok(()),
        }
    }

    /// Takes in what a watch came to, and has it go on.
    async fn take(&mut self, step: Step) -> Result<(), Deaf> {
        match step {
            Step::Catalog(told) => self.catalog(told).await,
            Step::Service(name, told) => self.service(name, told).await,
        }
    }

    async fn catalog(&mut self, told: Told<Catalog>) -> Result<(), Deaf> {
        let Told { number, watch, outcome } = told;
        if self.catalog.as_ref().is_none_or(|live| live.number != number) {
            return Ok(());
        }
        self.catalog = Some(self.step(number, watch, Step::Catalog));
        match outcome {
            Ok(Fresh { answer, index }) => {
                let Some(tag) = &self.wanted.expose_tag else { return Ok(()) };
                let carriers =
                    answer.into_iter().filter(|(_, tags)| tags.contains(tag)).map(|(name, _)| name).collect();
                let known = self.carriers.as_ref().is_some_and(|known| known.answer == carriers);
                self.carriers = Some(Fresh { answer: carriers, index });
                if known { Ok(()) } else { self.follow().await }
            }
            Err(error) => self.tell(Change::Failed { part: Part::Catalog, error }).await,
        }
    }

    async fn service(&mut self, name: ServiceName, told: Told<Health>) -> Result<(), Deaf> {
        let Told { number, watch, outcome } = told;
        if self.services.get(&name).is_none_or(|service| service.live.number != number) {
            return Ok(());
        }
        let ours = name.clone();
        let live = self.step(number, watch, |told| Step::Service(ours, told));
        let Some(service) = self.services.get_mut(&name) else { return Ok(()) };
        service.live = live;
        match outcome {
            Ok(Fresh { answer, index }) => {
                let update = health::update(&name, &answer, &self.wanted.deny);
                let Instances { unreadable, .. } = answer;
                let worth_telling = service.unreadable != unreadable && !unreadable.is_empty();
                service.unreadable.clone_from(&unreadable);
                self.tell(Change::Instances { update, index }).await?;
                if worth_telling {
                    self.tell(Change::Unreadable { service: name, entries: unreadable }).await?;
                }
                Ok(())
            }
            Err(error) => self.tell(Change::Failed { part: Part::Service(name), error }).await,
        }
    }

    fn number(&mut self) -> u64 {
        self.begun += 1;
        self.begun
    }

    /// Has a watch go on to its next answer.
    fn step<R>(
        &mut self,
        number: u64,
        mut watch: Watch<R>,
        as_step: impl FnOnce(Told<R>) -> Step + Send + 'static,
    ) -> Live
    where
        R: Read<Answer: Send + Sync> + Send + Sync + 'static,
    {
        let step = self.steps.spawn(async move {
            let outcome = watch.next().await;
            as_step(Told { number, watch, outcome })
        });
        Live { number, step }
    }

    async fn tell(&self, change: Change) -> Result<(), Deaf> {
        self.told.send(change).await.map_err(|_| Deaf)
    }
}
