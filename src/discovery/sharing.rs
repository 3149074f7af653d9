//! Reads the lists of services that have no watch of their own: hears when something has changed from the catalog's
//! watch, which is not its own, and from one of all checks; finds out whose by `hunt`; asks as `shared` has it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::{
    select,
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep_until},
};

use super::{
    Part, Query,
    hunt::{Ask, Hunt},
    plan::Cause,
    shared::{Job, Shared, Trouble},
};
use crate::{
    consul::{
        Client, Error, ErrorKind as Kind, Fresh, Watch,
        wire::{
            Health, Instances,
            marks::{Mark, Nodes, OnNode, OnNodes, States, Whose, changed},
        },
    },
    model::name::ServiceName,
};

/// What is told to it.
#[derive(Debug)]
pub enum Order {
    /// These are to be read from now on.
    Share(BTreeMap<ServiceName, (Query, Cause)>),
    /// Consul's index of all instances is another.
    /// Of these, by their names in Consul, the catalog itself says something else.
    Woke(Vec<String>),
    /// The catalog cannot be read.
    Blind,
    /// What this service last said may have been less than there was: it is asked, and told whatever it says.
    Anew(ServiceName),
}

/// What it tells.
#[derive(Debug)]
pub enum Heard {
    /// One service's list.
    List(ServiceName, Fresh<Instances>),
    /// Something cannot be read.
    Failed(Part, Error),
    /// Whether the catalog's index rises for a reason, so far as is known.
    Trusted(bool),
}

/// Reads until nobody listens.
pub async fn run(client: Arc<Client>, mut orders: mpsc::UnboundedReceiver<Order>, heard: mpsc::Sender<Heard>) {
    let mut sharing = Sharing::new(client.clone(), heard);
    let mut returns = client.returns();
    let mut said = Ok(());
    while said.is_ok() {
        let due = sharing.feed();
        said = select! {
            biased;
            order = orders.recv() => match order {
                Some(order) => { sharing.obey(order); Ok(()) }
                None => return,
            },
            () = client.returned(returns) => {
                returns = client.returns();
                sharing.begin_anew();
                Ok(())
            }
            Some(step) = sharing.steps.join_next() => match step {
                Ok(step) => sharing.take(step).await,
                Err(error) if error.is_cancelled() => Ok(()),
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            },
            () = sleep_until(due) => Ok(()),
        };
    }
}

struct Sharing {
    client: Arc<Client>,
    heard: mpsc::Sender<Heard>,
    shared: Shared,
    hunt: Hunt,
    states: BTreeMap<Whose, Mark>,
    /// First what tells of changes is listened to, then what there is is read; so nothing is missed in between.
    listens: Listens,
    trusted: bool,
    steps: JoinSet<Step>,
}

/// Of what changes would be heard already.
struct Listens {
    catalog: bool,
    nodes: bool,
    checks: bool,
    /// Then it is time to read, whatever is not heard.
    patience: Instant,
}

/// Nobody listens any more.
struct Deaf;

enum Step {
    States(Box<Watch<States>>, Result<Fresh<BTreeMap<Whose, Mark>>, Error>),
    Hunt(Ask, Result<Found, Error>),
    Read(Job, Result<Fresh<Instances>, Error>),
}

enum Found {
    Whole(BTreeMap<String, BTreeMap<String, Mark>>, u64),
    Nodes(BTreeSet<String>),
    OnNode(BTreeMap<String, Mark>),
}

impl Sharing {
    fn new(client: Arc<Client>, heard: mpsc::Sender<Heard>) -> Self {
        let listens = Listens { catalog: false, nodes: false, checks: false, patience: Instant::now() + PATIENCE };
        let states = Watch::new(client.clone(), States::question(), States).for_many();
        let mut sharing = Self {
            client,
            heard,
            shared: Shared::default(),
            hunt: Hunt::new(),
            states: BTreeMap::new(),
            listens,
            trusted: true,
            steps: JoinSet::new(),
        };
        sharing.watch(states);
        sharing
    }

    fn obey(&mut self, order: Order) {
        let now = Instant::now();
        match order {
            Order::Share(queries) => self.shared.set(queries, now),
            Order::Woke(names) => {
                for name in &names {
                    self.shared.touch(name, now);
                }
                self.listens.catalog = true;
                self.hunt.begin();
            }
            Order::Blind => self.listens.catalog = true,
            Order::Anew(service) => self.shared.begin_anew(&service, now),
        }
    }

    /// What was known may be of another world.
    fn begin_anew(&mut self) {
        let now = Instant::now();
        // It may have come back with nothing: what the catalog lists no more need not be asked for one by one.
        (self.listens.catalog, self.listens.patience) = (false, now + RETURN_PATIENCE);
        self.shared.touch_all(now);
        self.hunt.begin_anew();
    }

    /// Asks what is due, and tells when more will be.
    fn feed(&mut self) -> Instant {
        let now = Instant::now();
        let mut next = now + IDLE;
        if self.listens.catalog || now >= self.listens.patience {
            loop {
                match self.hunt.next(now) {
                    Ok((ask, turn)) => {
                        let client = self.client.clone();
                        self.steps.spawn(async move {
                            let found = match &ask {
                                Ask::Whole => client.read(&OnNodes::question(), &OnNodes, turn).await.map(Found::whole),
                                Ask::Nodes => client.read(&Nodes::question(), &Nodes, turn).await.map(Found::nodes),
                                Ask::Node(node) => {
                                    client.read(&OnNode::question(node), &OnNode, turn).await.map(Found::on_node)
                                }
                            };
                            Step::Hunt(ask, found)
                        });
                    }
                    Err(at) => {
                        next = next.min(at.unwrap_or(next));
                        break;
                    }
                }
            }
        }
        if now < self.listens.patience && !(self.listens.catalog && self.listens.nodes && self.listens.checks) {
            return next.min(self.listens.patience);
        }
        loop {
            match self.shared.next(now) {
                Ok(job) => {
                    let client = self.client.clone();
                    self.steps.spawn(async move {
                        let question = Health::question(&job.query.consul, job.query.tag.as_deref());
                        let list = client.read(&question, &Health, job.turn).await;
                        Step::Read(job, list)
                    });
                }
                Err(at) => return next.min(at.unwrap_or(next)),
            }
        }
    }

    async fn take(&mut self, step: Step) -> Result<(), Deaf> {
        let now = Instant::now();
        match step {
            Step::States(watch, told) => {
                self.watch(*watch);
                self.listens.checks = true;
                match told {
                    Ok(fresh) => {
                        for whose in changed(&self.states, &fresh.answer) {
                            match whose {
                                Whose::Service(name) => self.shared.touch(name, now),
                                Whose::Node(name) => self.shared.touch_node(name, now),
                            }
                        }
                        self.states = fresh.answer;
                        Ok(())
                    }
                    Err(error) => self.tell(Heard::Failed(Part::Checks, error)).await,
                }
            }
            Step::Hunt(ask, found) => self.found(ask, found, now).await,
            Step::Read(job, list) => self.read(job, list, now).await,
        }
    }

    async fn found(&mut self, ask: Ask, found: Result<Found, Error>, now: Instant) -> Result<(), Deaf> {
        match (ask, found) {
            // There is one at least: the agent's own.
            (_, Ok(Found::Whole(nodes, index))) if !nodes.is_empty() => {
                let names = self.hunt.take_whole(nodes, now);
                if !names.is_empty() {
                    // The catalog may wait for its turn, and have the same to say.
                    self.client.hears(index);
                }
                for name in names {
                    self.shared.touch(&name, now);
                }
            }
            (Ask::Whole, Ok(_)) => self.hunt.refuse_whole(now),
            (Ask::Whole, Err(error)) if refuses(&error) => self.hunt.refuse_whole(now),
            (_, Ok(Found::Nodes(nodes))) => {
                if self.hunt.take_nodes(nodes, now) {
                    self.shared.sweep(now, self.hunt.is_trusted(now));
                }
            }
            (Ask::Node(node), Ok(Found::OnNode(services))) => {
                for name in self.hunt.take_node(node, services, now) {
                    self.shared.touch(&name, now);
                }
            }
            // Consul had no such question before 1.7.
            (_, Err(Error::Status { code: 404, .. })) => {
                self.hunt.give_up();
                self.shared.sweep(now, self.hunt.is_trusted(now));
            }
            (_, Err(_) | Ok(_)) => self.hunt.retry(now),
        }
        self.listens.nodes = self.hunt.has_ended();
        self.pay();
        self.judge(now).await
    }

    /// Has others wait for what was asked ahead of them for nothing: an index may rise for nothing.
    fn pay(&mut self) {
        (0..self.hunt.bill()).for_each(|_| self.client.charge());
    }

    /// Tells whether signs that name nobody are believed, where that has changed.
    async fn judge(&mut self, now: Instant) -> Result<(), Deaf> {
        let trusted = self.hunt.is_trusted(now);
        if std::mem::replace(&mut self.trusted, trusted) == trusted {
            return Ok(());
        }
        self.tell(Heard::Trusted(trusted)).await
    }

    async fn read(&mut self, job: Job, list: Result<Fresh<Instances>, Error>, now: Instant) -> Result<(), Deaf> {
        match list {
            Ok(fresh) => {
                if self.shared.answered(&job.service, job.number, &fresh.answer, now) == Some(true) {
                    self.tell(Heard::List(job.service, fresh)).await?;
                }
            }
            Err(error) => match self.shared.failed(&job.service, job.number, now) {
                Some(Trouble::All) => self.tell(Heard::Failed(Part::Shared, error)).await?,
                Some(Trouble::Own) => self.tell(Heard::Failed(Part::Service(job.service), error)).await?,
                Some(Trouble::Known) | None => {}
            },
        }
        if let Some(has_found) = self.shared.swept() {
            self.hunt.swept(has_found, now);
            self.pay();
            return self.judge(now).await;
        }
        Ok(())
    }

    fn watch(&mut self, mut watch: Watch<States>) {
        self.steps.spawn(async move {
            let told = watch.next().await;
            Step::States(Box::new(watch), told)
        });
    }

    async fn tell(&self, heard: Heard) -> Result<(), Deaf> {
        self.heard.send(heard).await.map_err(|_| Deaf)
    }
}

/// Whether an error says that this question is not answered here: it is no part of the documented API, may be blocked
/// (`http_config.block_endpoints`), and there may be more than can be told at once.
fn refuses(error: &Error) -> bool {
    match error.kind() {
        Kind::Status(code) => code < 500 && code != 429,
        kind => matches!(kind, Kind::Body | Kind::TooLarge | Kind::Timeout),
    }
}

impl Found {
    fn whole(fresh: Fresh<BTreeMap<String, BTreeMap<String, Mark>>>) -> Self {
        Self::Whole(fresh.answer, fresh.index)
    }

    fn nodes(fresh: Fresh<BTreeSet<String>>) -> Self {
        Self::Nodes(fresh.answer)
    }

    fn on_node(fresh: Fresh<BTreeMap<String, Mark>>) -> Self {
        Self::OnNode(fresh.answer)
    }
}

/// How long changes are waited to be heard of before the lists are read.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the catalog is waited for when the agent has returned.
const RETURN_PATIENCE: Duration = Duration::from_millis(500);
const IDLE: Duration = Duration::from_hours(1);
