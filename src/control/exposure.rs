//! Which services route themselves, and by what claim: the tags that they carry, read under the rules of `[expose]`.

use std::collections::{BTreeMap, BTreeSet};

use super::{Claims, compile::Claim};
use crate::{
    config::Expose,
    discovery::tags::{self, Exposure, Refusal},
    model::{name::ServiceName, protocol::Protocol, topology::Members},
    telemetry::events::{Event, Events},
};

/// The services that expose themselves by the tag.
#[derive(Debug, Default)]
pub struct Exposures {
    services: BTreeMap<ServiceName, State>,
    /// Names in Consul that a table has for another service.
    clashes: BTreeSet<String>,
}

/// What is known of one exposed service.
#[derive(Debug, Default)]
struct State {
    /// In force until no member carries it.
    exposure: Option<Exposure>,
    claim: Option<Claim>,
    /// What was last said to be wrong with it.
    refusal: Option<String>,
    /// What was last said of members that ask for something else.
    dissent: Option<String>,
    /// What it was last said to serve.
    told: Option<Exposure>,
}

/// Which exposed services are new, and which are no more.
#[derive(Debug, Default)]
pub struct Turnover {
    /// Not there before.
    pub come: BTreeSet<ServiceName>,
    /// Not there any more.
    pub gone: BTreeSet<ServiceName>,
}

impl Exposures {
    /// Takes in which services carry the tag, and which do in vain.
    pub fn set(&mut self, names: BTreeSet<ServiceName>, clashes: BTreeSet<String>, events: &Events) -> Turnover {
        for name in clashes.difference(&self.clashes) {
            let cause = "a table of the same name means another service";
            events.publish(Event::new("exposure_refused", cause).service(&name.as_str().into()));
        }
        self.clashes = clashes;
        let gone: BTreeSet<_> = self.services.keys().filter(|s| !names.contains(*s)).cloned().collect();
        for service in &gone {
            if self.services.remove(service).is_some_and(|state| state.claim.is_some()) {
                let event = Event::new("route_withdrawn", "Consul's catalog does not list it with the tag any more");
                events.publish(event.service(service));
            }
        }
        let come: BTreeSet<_> = names.into_iter().filter(|s| !self.services.contains_key(s)).collect();
        for service in &come {
            self.services.insert(service.clone(), State::default());
        }
        Turnover { come, gone }
    }

    /// Whether this service is exposed.
    #[must_use]
    pub fn contains(&self, service: &ServiceName) -> bool {
        self.services.contains_key(service)
    }

    /// All exposed services.
    #[must_use]
    pub fn services(&self) -> Vec<ServiceName> {
        self.services.keys().cloned().collect()
    }

    /// The claims that can be honoured.
    #[must_use]
    pub fn claims(&self) -> Claims {
        let claim = |(service, state): (&ServiceName, &State)| Some((service.clone(), state.claim.clone()?));
        self.services.iter().filter_map(claim).collect()
    }

    /// What a service says that it speaks, where its tags say so and are honoured.
    pub fn protocol(&self, service: &ServiceName) -> Option<Protocol> {
        self.services.get(service)?.exposure.as_ref()?.protocol
    }

    /// Reads a service's tags; true when its claim changed. One that cannot be honoured leaves it without a route.
    pub fn derive(&mut self, service: &ServiceName, members: &Members, expose: &Expose, events: &Events) -> bool {
        let Some(state) = self.services.get_mut(service) else { return false };
        let tagged: Vec<_> = members.instances().filter(|i| i.tags.contains(&expose.tag)).cloned().collect();
        if tagged.is_empty() && state.claim.is_some() {
            return false; // it keeps its route until the catalog lists it no more
        }
        let told = tags::derive(service.as_str(), state.exposure.as_ref(), &tagged, &settings(expose));
        if matches!(told, Err(Refusal::Unseen)) {
            return false; // the catalog told of it before its instances were
        }
        let derived = told
            .map_err(|refusal| refusal.to_string())
            .and_then(|exposure| Ok((Claim::new(service.clone(), &exposure, &tagged)?, exposure)));
        let (claim, exposure, refusal) = match derived {
            Ok((claim, exposure)) => (Some(claim), Some(exposure), None),
            Err(refusal) => (None, None, Some(refusal)),
        };
        if refusal != state.refusal
            && let Some(cause) = &refusal
        {
            events.publish(Event::new("exposure_refused", cause.clone()).service(service));
        }
        let in_force = exposure.as_ref();
        let dissent = in_force.and_then(|known| tags::dissent(service.as_str(), known, &tagged, &settings(expose)));
        if dissent != state.dissent
            && let Some(cause) = &dissent
        {
            events.publish(Event::new("exposure_disagreed", cause.clone()).service(service));
        }
        let changed = claim != state.claim || exposure != state.exposure;
        *state = State { exposure, claim, refusal, dissent, told: state.told.take() };
        changed
    }

    /// Tells what is served from now on. Who claims what another has serves nothing.
    pub fn tell(&mut self, losers: &BTreeSet<&ServiceName>, events: &Events) {
        for (service, state) in &mut self.services {
            let serves = state.exposure.as_ref().filter(|_| state.claim.is_some() && !losers.contains(service));
            if serves != state.told.as_ref() {
                if let Some(exposure) = serves {
                    events.publish(Event::new("route_exposed", format!("serves `{}`", exposure.path)).service(service));
                }
                state.told = serves.cloned();
            }
        }
    }
}

/// The rules under which tags are read.
pub fn settings(expose: &Expose) -> tags::Settings {
    tags::Settings {
        tag: expose.tag.clone(),
        path: expose.path.clone(),
        rewrite: expose.rewrite.clone(),
        allow: expose.allow.clone(),
        hosts: expose.hosts.clone(),
    }
}
