//! Whom operators have taken out, as long as they are registered, and where they have gone meanwhile. Pure: what is
//! told, and what was in force before, are arguments.

use std::{collections::HashMap, mem::take, sync::Arc};

use crate::{
    model::{
        instance::{Address, Instance},
        name::{InstanceId, ServiceName},
        topology::Members,
    },
    upstream::cluster::Member,
};

/// Those who are out, of all services.
#[derive(Debug, Default)]
pub struct Drained(HashMap<ServiceName, Vec<Out>>);

/// One that is out. Its ID alone does not tell it apart: each of Consul's agents may have an instance with the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Out {
    id: InstanceId,
    node: String,
    address: Address,
    datacenter: String,
    /// Of its registration, which has it at whatever address.
    create_index: u64,
}

impl Drained {
    /// An operator takes these out.
    pub fn drain<'i>(&mut self, service: &ServiceName, instances: impl IntoIterator<Item = &'i Instance>) {
        let out = self.0.entry(service.clone()).or_default();
        for instance in instances {
            if !out.iter().any(|one| one.is(instance)) {
                out.push(instance.into());
            }
        }
    }

    /// An operator puts those at one address back.
    pub fn restore(&mut self, service: &ServiceName, address: &Address) {
        if let Some(out) = self.0.get_mut(service) {
            out.retain(|one| one.address != *address);
        }
    }

    /// Forgets whom operators have taken out of a service that nobody wants any more.
    pub fn forget(&mut self, service: &ServiceName) {
        self.0.remove(service);
    }

    /// Those who are out now that this is told, where `before` was in force.
    pub fn follow(&mut self, service: &ServiceName, told: &Members, before: &[Arc<Member>]) -> &[Out] {
        let Some(out) = self.0.get_mut(service) else { return &[] };
        for one in take(out) {
            for now in one.now(told, before) {
                if !out.contains(&now) {
                    out.push(now);
                }
            }
        }
        out
    }
}

impl Out {
    /// Whether it is this one, and where it was.
    pub fn is(&self, instance: &Instance) -> bool {
        self.is_called(instance) && self.address == instance.address
    }

    fn is_called(&self, instance: &Instance) -> bool {
        self.id == instance.id && self.node == instance.node && self.datacenter == instance.datacenter
    }

    /// What has become of it: itself, wherever it is registered; nothing once it is not.
    fn now(self, told: &Members, before: &[Arc<Member>]) -> Vec<Self> {
        let namesakes: Vec<_> = told.instances().filter(|instance| self.is_called(instance)).collect();
        if let Some(&same) = namesakes.iter().find(|instance| self.is(instance)) {
            return vec![same.into()];
        }
        let all_before = before.iter().flat_map(|member| member.instances.iter());
        let before: Vec<_> = all_before.filter(|instance| self.is_called(instance)).collect();
        let was_there = |now: &Instance| {
            before.iter().any(|was| was.address == now.address && was.create_index == now.create_index)
        };
        let came: Vec<_> = namesakes.into_iter().filter(|instance| !was_there(instance)).collect();
        let (own, others): (Vec<_>, Vec<_>) =
            came.into_iter().partition(|instance| instance.create_index == self.create_index);
        if !own.is_empty() {
            return own.into_iter().map(Self::from).collect();
        }
        // Who had the ID alone has gone where the ID is, though registered anew: nobody has seen it leave.
        if !others.is_empty() && !before.is_empty() && before.iter().all(|was| was.address == self.address) {
            return others.into_iter().map(Self::from).collect();
        }
        let is_rejected = told.rejected.iter().any(|one| one.id == self.id && one.datacenter == self.datacenter);
        if is_rejected { vec![self] } else { Vec::new() }
    }
}

impl From<&Instance> for Out {
    fn from(instance: &Instance) -> Self {
        let Instance { id, node, address, datacenter, create_index, .. } = instance.clone();
        Self { id, node, address, datacenter, create_index }
    }
}
