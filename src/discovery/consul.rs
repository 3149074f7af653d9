//! Watches one datacenter of Consul: which services carry the tag, and the instances of each service that is wanted. Tells whole lists.
//! What to watch is decided by `plan`, what an answer means by `health`.

mod lists;
mod missing;
mod sharers;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use tokio::{
    select,
    sync::{mpsc, watch},
    task::{AbortHandle, JoinSet},
    time::{Duration, Instant, sleep_until},
};

use super::{
    Change, Part, Query, Unreadable, Wanted,
    plan::{self, Cause, Plan},
    sharing::Order,
};
use crate::{
    consul::{
        Agent, Client, Error, Fresh, Right, Wakes, Watch,
        wire::{Catalog, Health, Read, Services},
    },
    model::name::{Datacenter, ServiceName},
};
use lists::Doubtful;
use missing::Look;
use sharers::{Sharing, hear};

/// Watches what is wanted of one datacenter until nobody listens; `None` is the one that is asked by default, and there
/// alone services expose themselves. `carriers` are names that carried the tag in an earlier run: if the token may not
/// read them now, they are no less there.
pub async fn run(
    client: Arc<Client>,
    here: Option<Datacenter>,
    mut wanted: watch::Receiver<Wanted>,
    told: mpsc::Sender<Change>,
    carriers: BTreeSet<String>,
) {
    let mut known = Agent::Unknown;
    let (mut room, mut believed) = (client.room(), Instant::now());
    let mut watching = Watching::new(client.clone(), here, told, wanted.borrow_and_update().clone());
    watching.earlier = carriers;
    // Ends with an error when nobody listens.
    let mut heard = watching.follow().await;
    while heard.is_ok() {
        heard = select! {
            biased;
            () = watching.told.closed() => return,
            agent = client.agent_changes(&known) => {
                let change = match &agent {
                    Agent::Away(error) => watching.failed(Part::Agent, error.clone()),
                    Agent::Unknown | Agent::Well => Change::Returned { datacenter: watching.here.clone() },
                };
                known = agent;
                watching.tell(change).await
            }
            Ok(()) = room.changed() => {
                watching.room = *room.borrow_and_update();
                believed = Instant::now() + ROOM_LASTS;
                watching.follow().await
            }
            () = sleep_until(believed), if watching.room < usize::MAX => {
                client.forget_room();
                Ok(())
            }
            Ok(()) = wanted.changed() => {
                let now = wanted.borrow_and_update().clone();
                watching.want(now).await
            }
            Some(heard) = hear(&mut watching.sharing) => watching.hear(heard).await,
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
    here: Option<Datacenter>,
    told: mpsc::Sender<Change>,
    wanted: Wanted,
    /// How many blocking queries the agent has room for.
    room: usize,
    /// Which services carry the tag, and Consul's index of it; `None`: not known yet.
    carriers: Option<Fresh<BTreeSet<String>>>,
    /// Names that carried it in an earlier run, until they are known anew.
    earlier: BTreeSet<String>,
    catalog: Option<Live>,
    /// Whether any share, so that the catalog's index alone is worth hearing of.
    wakes: Arc<Wakes>,
    /// What the catalog last said.
    listed: Option<Services>,
    services: BTreeMap<ServiceName, Service>,
    /// All services that have no watch of their own.
    sharing: Option<Sharing>,
    /// Entries that could not be read, by service.
    unreadable: BTreeMap<ServiceName, Vec<Unreadable>>,
    /// A node that each service has instances on.
    nodes: BTreeMap<ServiceName, String>,
    /// What may be less than there is: the list of a service, or `None`, which services there are.
    doubts: BTreeMap<Option<ServiceName>, Live>,
    /// What of that is, and stays as it was, with the rights that the token lacks.
    missing: BTreeMap<Option<ServiceName>, Vec<Right>>,
    /// The look at these that is under way.
    looking: Option<Live>,
    /// Names that carry the tag, so far as is known, and that the token may not read any more.
    hidden: BTreeSet<String>,
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
}

/// What a step came to.
enum Step {
    Catalog(Told<Catalog>),
    Service(ServiceName, Told<Health>),
    /// Whether an answer is less than there is, because the token may not read it.
    Decided(u64, Option<ServiceName>, Doubtful, Vec<Right>),
    /// Whether the token has rights again that it lacked.
    Look(u64, Look),
    /// Nobody listens to those that share any more.
    Sharing,
}

struct Told<R: Read> {
    number: u64,
    watch: Watch<R>,
    outcome: Result<Fresh<R::Answer>, Error>,
}

impl Watching {
    fn new(client: Arc<Client>, here: Option<Datacenter>, told: mpsc::Sender<Change>, wanted: Wanted) -> Self {
        Self {
            client,
            here,
            told,
            wanted,
            room: usize::MAX,
            carriers: None,
            earlier: BTreeSet::new(),
            catalog: None,
            wakes: Arc::default(),
            listed: None,
            services: BTreeMap::new(),
            sharing: None,
            unreadable: BTreeMap::new(),
            nodes: BTreeMap::new(),
            doubts: BTreeMap::new(),
            missing: BTreeMap::new(),
            looking: None,
            hidden: BTreeSet::new(),
            steps: JoinSet::new(),
            begun: 0,
        }
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
            self.earlier.clear();
            self.settle(None);
        }
        self.follow().await
    }

    /// Ends all watches.
    fn forget(&mut self) {
        self.services.clear();
        self.sharing = None;
        self.catalog = None;
        self.listed = None;
        self.unreadable.clear();
        self.doubts.clear();
        self.missing.clear();
    }

    /// Starts and ends watches as the plan has it, and tells what is exposed.
    async fn follow(&mut self) -> Result<(), Deaf> {
        let nobody = BTreeSet::new();
        let carriers = self.carriers.as_ref().map_or(&nobody, |fresh| &fresh.answer);
        let mut plan = Plan::new(&self.wanted, carriers, self.here.as_ref());
        let exposes = self.tag().is_some();
        let most = self.wanted.max_watches.min(self.room).saturating_sub(self.wanted.others);
        let most = plan::places(&self.wanted, most, self.here.as_ref());
        let shared = plan.share(most, exposes, |name| self.services.contains_key(name));
        self.services.retain(|name, service| {
            plan.watched.get(name).is_some_and(|(query, cause)| (query, cause) == (&service.query, &service.cause))
        });
        let wants = |name: &ServiceName| plan.watched.contains_key(name) || shared.contains_key(name);
        self.unreadable.retain(|name, _| wants(name));
        self.nodes.retain(|name, _| wants(name));
        self.doubts.retain(|name, _| name.as_ref().is_none_or(wants));
        self.missing.retain(|name, _| name.as_ref().is_none_or(wants));
        self.share(shared);
        if (exposes || self.sharing.is_some()) && self.catalog.is_none() {
            let watch = Watch::new(self.client.clone(), Catalog::question(), Catalog);
            let (number, watch) = (self.number(), watch.waking(self.wakes.clone()));
            self.catalog = Some(self.step(number, watch, Step::Catalog));
        }
        for (name, (query, cause)) in plan.watched {
            if !self.services.contains_key(&name) {
                let question = Health::question(&query.consul, query.tag.as_deref());
                let watch = Watch::new(self.client.clone(), question, Health);
                let (number, ours) = (self.number(), name.clone());
                let live = self.step(number, watch, |told| Step::Service(ours, told));
                self.services.insert(name, Service { live, query, cause });
            }
        }
        self.client.follows(self.catalog.is_some() || self.sharing.is_some() || !self.services.is_empty());
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
            Step::Decided(number, whose, what, denied) => {
                if self.doubts.get(&whose).is_none_or(|live| live.number != number) {
                    return Ok(());
                }
                self.doubts.remove(&whose);
                self.decide(what, denied).await
            }
            Step::Look(number, look) => self.look(number, look).await,
            Step::Sharing => Ok(()),
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
                self.wake(&answer);
                self.listed = Some(answer.clone());
                self.names(answer, index).await
            }
            Err(error) => {
                self.order(Order::Blind);
                self.tell(self.failed(Part::Catalog, error)).await
            }
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
            Ok(fresh) => self.list(name, fresh).await,
            Err(error) => self.tell(self.failed(Part::Service(name), error)).await,
        }
    }

    /// The tag by which services expose themselves here.
    fn tag(&self) -> Option<&String> {
        self.wanted.expose_tag.as_ref().filter(|_| self.here.is_none())
    }

    fn failed(&self, part: Part, error: Error) -> Change {
        Change::Failed { part, datacenter: self.here.clone(), error }
    }

    /// What is asked about a service, and why.
    fn query(&self, name: &ServiceName) -> Option<(&Query, Cause)> {
        let own = self.services.get(name).map(|service| (&service.query, service.cause));
        let shared = || self.sharing.as_ref()?.services.get(name).map(|(query, cause)| (query, *cause));
        own.or_else(shared)
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

/// What the agent's room was found to be may have been an accident.
const ROOM_LASTS: Duration = Duration::from_mins(10);
