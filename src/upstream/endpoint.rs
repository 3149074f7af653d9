//! The live side of an instance: what is under way to it and what was observed of it.
//! It outlives every snapshot that lists it; its idle connections are each worker's own (`pool.rs`), and requests are
//! let in and reported by permits (`permit.rs`).

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::SystemTime,
};

use super::{circuit::Circuit, tls::Trust};
use crate::{
    model::{
        instance::Address,
        name::{InstanceId, ServiceName},
        protocol::Protocol,
    },
    telemetry::instance::InstanceCells,
};

/// What makes two tellings of an instance the same one. Weight, tags and health are not in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EndpointKey {
    /// The service it is an instance of.
    pub service: ServiceName,
    /// What Consul calls it; of several at one address, the first by name.
    pub id: InstanceId,
    /// Where it listens.
    pub address: Address,
    /// How it is spoken to.
    pub transport: Transport,
}

/// What connections to an instance have in common: one that differs in any of it must not be used in place of another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Transport {
    /// What is spoken.
    pub protocol: Protocol,
    /// What the other end has to prove, where that goes through TLS.
    pub trust: Option<Arc<Trust>>,
}

/// The live side of one instance.
#[derive(Debug)]
pub struct Endpoint {
    /// Which instance it is.
    pub key: EndpointKey,
    /// Where it listens, as a text.
    pub address: Box<str>,
    /// Never given to another endpoint, so that a worker may file connections under it.
    pub serial: u64,
    /// Since when it is known.
    pub since: SystemTime,
    cells: Arc<InstanceCells>,
    circuit: Arc<Circuit>,
    listed: AtomicBool,
}

impl Endpoint {
    /// A new endpoint. Its circuit is that of whom it takes the place of, or a new one.
    #[must_use]
    pub fn new(key: EndpointKey, cells: Arc<InstanceCells>, circuit: Arc<Circuit>) -> Self {
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        let serial = SERIAL.fetch_add(1, Relaxed);
        let address = key.address.to_string().into();
        Self { key, address, serial, since: SystemTime::now(), cells, circuit, listed: AtomicBool::new(true) }
    }

    /// Whether discovery still tells of it. One that left gets no new connection and keeps no idle one.
    #[must_use]
    pub fn is_listed(&self) -> bool {
        self.listed.load(Relaxed)
    }

    /// Says whether discovery tells of it.
    pub fn set_listed(&self, listed: bool) {
        self.listed.store(listed, Relaxed);
    }

    /// Whether an operator has taken it out: it finishes what it has, and gets nothing new.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.circuit.is_draining()
    }

    /// Takes it out, or puts it back. True if it was otherwise.
    pub fn set_draining(&self, draining: bool) -> bool {
        self.circuit.set_draining(draining)
    }

    /// What was observed of it.
    #[must_use]
    pub fn cells(&self) -> &InstanceCells {
        &self.cells
    }

    /// Whether it may be asked.
    #[must_use]
    pub fn circuit(&self) -> &Arc<Circuit> {
        &self.circuit
    }
}
