//! The client of Consul's agent, as `[consul]` has it.

use std::sync::Arc;

use anyhow::{Context, Result};

use crate::{
    config,
    consul::{Client, Consistency, Observe, Settings},
    telemetry::metrics::Metrics,
};

/// A client that is counted. Nothing is asked yet.
///
/// # Errors
/// Settings that cannot be used.
pub fn client(consul: &config::Consul, metrics: &Arc<Metrics>) -> Result<Arc<Client>> {
    Ok(Arc::new(Client::new(settings(consul), watching(metrics)).context("cannot use [consul]")?))
}

/// The configuration of Consul as its client, which knows none of ours, takes it.
fn settings(from: &config::Consul) -> Settings {
    let (cert, key) = from.tls.client.clone().unzip();
    Settings {
        address: from.address.clone(),
        token: from.token.as_ref().map(|token| token.reveal().to_owned()),
        token_file: from.token_file.clone(),
        datacenter: from.datacenter.clone(),
        namespace: from.namespace.clone(),
        ca: from.tls.ca.clone(),
        cert,
        key,
        consistency: match from.consistency {
            config::Consistency::Stale => Consistency::Stale,
            config::Consistency::Default => Consistency::Default,
            config::Consistency::Consistent => Consistency::Consistent,
        },
        max_stale: from.max_stale,
        wait: from.wait,
    }
}

/// What Consul's client does, counted.
fn watching(metrics: &Arc<Metrics>) -> Arc<dyn Observe> {
    struct Counted(Arc<Metrics>);
    impl Observe for Counted {
        fn request(&self, endpoint: &'static str, ok: bool) {
            self.0.consul_request(endpoint, ok);
        }
        fn watches(&self, delta: i64) {
            self.0.consul_watches().add(delta);
        }
        fn answered(&self) {
            self.0.consul_answered();
        }
    }
    Arc::new(Counted(metrics.clone()))
}
