//! A worker's own hold on the snapshot, and on what its routes' requests need: they share it without touching what other
//! workers touch.

use std::{cell::RefCell, collections::HashMap, rc::Rc, sync::Arc};

use super::forward::To;
use crate::{
    model::Held,
    route::{Route, Target},
    state::Snapshot,
    telemetry::{cells::RouteCells, journey::Found as Taker},
};

/// The snapshot as one worker sees it.
pub struct World {
    snapshot: Arc<Snapshot>,
    /// By route, since its first request under this snapshot.
    ways: RefCell<HashMap<*const Route, Rc<Way>, foldhash::fast::RandomState>>,
}

/// What the requests of one route need.
pub struct Way {
    /// Where they are counted.
    pub cells: Held<RouteCells>,
    /// What is told of whoever takes them.
    pub taker: Held<Taker>,
    /// As many bytes may their bodies have; 0: any number.
    pub max_body: u64,
    /// Where they go; `None`: the service is not known.
    pub to: Option<To>,
}

impl std::ops::Deref for World {
    type Target = Snapshot;

    fn deref(&self) -> &Snapshot {
        &self.snapshot
    }
}

impl World {
    /// A hold on this snapshot.
    #[must_use]
    pub fn new(snapshot: Arc<Snapshot>) -> Self {
        Self { snapshot, ways: RefCell::default() }
    }

    /// What the requests of `route` need, which is one of the snapshot's own.
    #[inline]
    #[must_use]
    pub fn way(&self, route: &Arc<Route>) -> Rc<Way> {
        let mut ways = self.ways.borrow_mut();
        ways.entry(Arc::as_ptr(route)).or_insert_with(|| Rc::new(self.found(route))).clone()
    }

    #[cold]
    fn found(&self, route: &Route) -> Way {
        let Target::Service(service) = &route.target;
        let to = self.snapshot.clusters.get(service).map(|cluster| To {
            policy: Rc::new(route.policy.as_ref().unwrap_or(&cluster.policy).clone()),
            cluster: cluster.clone(),
        });
        let max_body = route.max_body.or(self.config.http.max_body_size).unwrap_or(0);
        let taker = Rc::new(Taker::new(route.name.clone(), service.clone(), route.path.to_string()));
        Way { cells: Rc::new(route.cells.clone()), taker, max_body, to }
    }
}
