//! Watches each datacenter for itself: what one says, or that it cannot be reached, is no business of the others.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use tokio::{
    select,
    sync::{mpsc, watch},
    task::{AbortHandle, JoinSet},
};

use super::{Change, Wanted, consul};
use crate::{consul::Client, model::name::Datacenter};

/// Watches what is wanted, in the datacenter that is asked by default and in all that services name, until nobody
/// listens. `carriers` are names that carried the tag in an earlier run.
///
/// # Panics
/// Where watching one does: its task is no other than this one.
pub async fn run(
    client: Arc<Client>,
    mut wanted: watch::Receiver<Wanted>,
    told: mpsc::Sender<Change>,
    carriers: BTreeSet<String>,
) {
    let mut runs = JoinSet::new();
    runs.spawn(consul::run(client.clone(), None, wanted.clone(), told.clone(), carriers));
    let mut others: BTreeMap<Datacenter, AbortHandle> = BTreeMap::new();
    loop {
        let named = wanted.borrow_and_update().named();
        others.retain(|datacenter, run| {
            let stays = named.contains(datacenter);
            if !stays {
                run.abort();
            }
            stays
        });
        for datacenter in named {
            others.entry(datacenter).or_insert_with_key(|datacenter| {
                let (client, here) = (Arc::new(client.at(datacenter.as_str())), Some(datacenter.clone()));
                runs.spawn(consul::run(client, here, wanted.clone(), told.clone(), BTreeSet::new()))
            });
        }
        select! {
            () = told.closed() => return,
            Ok(()) = wanted.changed() => {}
            Some(Err(ended)) = runs.join_next() => if let Ok(panic) = ended.try_into_panic() {
                std::panic::resume_unwind(panic);
            },
        }
    }
}
