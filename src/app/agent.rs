//! The client of Consul's agent, as `[consul]` has it.

use std::sync::Arc;

use anyhow::{Context, Result};

use crate::{
    config,
    consul::{Client, Consistency, Observe, Settings},
    telemetry::{age::Contact, metrics::Metrics},
};

/// A client that is counted. Nothing is asked yet.
///
/// # Errors
/// Settings that cannot be used.
pub fn client(consul: &config::Consul, metrics: &Arc<Metrics>) -> Result<Arc<Client>> {
    let client = Client::new(settings(consul), watching(metrics));
    let key = client.as_ref().err().and_then(|error| key(error.setting()?));
    Ok(Arc::new(client.with_context(|| format!("cannot use `{}`", key.unwrap_or("[consul]")))?))
}

/// The key of the configuration that a setting comes from.
fn key(setting: &str) -> Option<&'static str> {
    let keys = [
        ("address", "consul.address"),
        ("token", "consul.token"),
        ("token_file", "consul.token_file"),
        ("ca", "consul.tls.ca"),
        ("cert", "consul.tls.cert"),
        ("key", "consul.tls.key"),
    ];
    keys.into_iter().find_map(|(name, key)| (name == setting).then_some(key))
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

/// What Consul's client does in one datacenter, counted.
fn watching(metrics: &Arc<Metrics>) -> Arc<dyn Observe> {
    struct Counted {
        metrics: Arc<Metrics>,
        contact: Arc<Contact>,
    }
    impl Observe for Counted {
        fn request(&self, endpoint: &'static str, ok: bool) {
            self.metrics.consul_request(endpoint, ok);
        }
        fn watches(&self, delta: i64) {
            self.metrics.consul_watches().add(delta);
        }
        fn follows(&self, something: bool) {
            self.contact.follows(something);
        }
        fn answered(&self) {
            self.contact.answered();
        }
        fn beside(&self) -> Arc<dyn Observe> {
            watching(&self.metrics)
        }
    }
    Arc::new(Counted { metrics: metrics.clone(), contact: metrics.consul_contact() })
}
