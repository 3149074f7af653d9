//! Follows the document in Consul's KV and hands on each version of it. What it means is `reload`.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::{
    config::Stored,
    consul::{Client, Error, Watch, wire::kv::Kv},
};

/// A version of the document; `None`: there is none.
pub type Told = Result<Option<Stored>, Error>;

/// Follows a key until nobody listens.
pub async fn follow(client: Arc<Client>, key: String, told: mpsc::Sender<Told>) {
    let mut watch = Watch::new(client, Kv::question(&key), Kv);
    loop {
        let next = tokio::select! {
            () = told.closed() => return,
            next = watch.next() => next,
        };
        let version = next.map(|fresh| fresh.answer.map(|text| Stored { key: key.clone(), text }));
        if told.send(version).await.is_err() {
            return;
        }
    }
}
