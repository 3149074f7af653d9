//! The one thing that the two paths share: an immutable snapshot of all that a request needs to be decided.
//! One writer swaps it; everyone else reads. Who they are is not known here.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::SystemTime,
};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::{config::Config, model::topology::ListName, route::RouteTable, upstream::cluster::Clusters};

/// One version of the world. Never changed, only replaced.
#[derive(Debug)]
pub struct Snapshot {
    /// Counts the snapshots, from 0: the one before anything is known.
    pub version: u64,
    /// The highest index of Consul's that it contains.
    pub index: u64,
    /// Whether the first topology is known.
    pub ready: bool,
    /// Where it is from.
    pub source: Source,
    /// Names in Consul that carry the tag by which services expose themselves; `None`: not known.
    pub carriers: Option<Arc<BTreeSet<String>>>,
    /// Whether it is worth keeping for a later run: nothing of it is from an earlier one, but for lists of datacenters
    /// that others are preferred to.
    pub keeps: bool,
    /// Lists that no source has told yet.
    pub untold: Arc<BTreeSet<ListName>>,
    /// The configuration in force.
    pub config: Arc<Config>,
    /// Which route serves a request.
    pub routes: Arc<RouteTable>,
    /// The services, by name.
    pub clusters: Arc<Clusters>,
}

/// Where the topology is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The configuration alone: there is no Consul.
    Fixed,
    /// Consul has told all of it, so far as it is known.
    Consul,
    /// Some of it is what an earlier run had known at this time.
    Snapshot(SystemTime),
}

impl Source {
    /// The word for it in the admin API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fixed => "fixed",
            Self::Consul => "consul",
            Self::Snapshot(_) => "snapshot",
        }
    }

    /// Whether Consul has still to tell some of it.
    #[must_use]
    pub fn is_restored(self) -> bool {
        matches!(self, Self::Snapshot(_))
    }
}

/// The one who publishes. There is one, and it cannot be cloned.
#[derive(Debug)]
pub struct Writer {
    world: Arc<ArcSwap<Snapshot>>,
    published: watch::Sender<u64>,
}

/// One of those who look.
#[derive(Clone, Debug)]
pub struct Reader {
    world: Arc<ArcSwap<Snapshot>>,
    published: watch::Receiver<u64>,
    leaving: Arc<AtomicBool>,
}

/// The two ends of a world that begins as `first`.
#[must_use]
pub fn world(first: Snapshot) -> (Writer, Reader) {
    let (sender, receiver) = watch::channel(first.version);
    let world = Arc::new(ArcSwap::from_pointee(first));
    (Writer { world: world.clone(), published: sender }, Reader { world, published: receiver, leaving: Arc::default() })
}

impl Writer {
    /// Replaces the world and wakes all who watch it. The old one dies when its last reader lets go.
    pub fn publish(&mut self, next: Snapshot) {
        let version = next.version;
        self.world.store(Arc::new(next));
        self.published.send_replace(version);
    }
}

impl Reader {
    /// The world as it is now.
    #[must_use]
    pub fn load(&self) -> Arc<Snapshot> {
        self.world.load_full()
    }

    /// Whether clients should be sent here: the first topology is known, and the gateway is not about to end.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.world.load().ready && !self.leaving.load(Relaxed)
    }

    /// Tells all readers that the gateway is about to end.
    pub fn leave(&self) {
        self.leaving.store(true, Relaxed);
    }

    /// Waits for a world that this reader has not been told of. False when there will be none any more.
    pub async fn changed(&mut self) -> bool {
        self.published.changed().await.is_ok()
    }
}
