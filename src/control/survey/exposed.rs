//! Services that route themselves: whether their tags can be honoured, and whether they get the path that they claim.

use std::collections::BTreeMap;

use super::{
    Report,
    services::{Listed, useless},
};
use crate::{
    config::{Config, Expose},
    control::{
        Claims,
        compile::{self, Claim},
        exposure,
    },
    discovery::{plan::Plan, tags},
    model::{instance::Instance, name::ServiceName},
    route::Route,
    telemetry::metrics::Metrics,
};

/// Looks at all that carry the tag.
pub fn look(config: &Config, plan: &Plan, lists: &BTreeMap<ServiceName, Listed>, report: &mut Report) {
    let Some(expose) = &config.expose else { return };
    let tag = &expose.tag;
    for consul in &plan.clashes {
        let why = format!("carries the tag `{tag}` in vain: the table `services.{consul}` means another service");
        report.error(about(&consul.as_str().into()), why);
    }
    let mut claims = Claims::new();
    for name in plan.exposed.values() {
        let Some(listed) = lists.get(name) else { continue };
        if !config.services.contains_key(name) {
            useless(&about(name), listed, report);
        }
        let tagged: Vec<_> = listed.instances.iter().filter(|instance| instance.tags.contains(tag)).cloned().collect();
        if let Some(claim) = claim(name, expose, &tagged, report) {
            claims.insert(name.clone(), claim);
        }
    }
    let (routes, conflicts) = compile::routes(config, &claims, &Metrics::new(1));
    for conflict in &conflicts {
        let (path, winner) = (&conflict.path, &conflict.winner);
        let why = format!("`{path}` is served by `{winner}`, which was registered first; claim another path");
        report.error(about(&conflict.service), why);
    }
    let (exposed, configured): (Vec<_>, Vec<_>) = routes.iter().partition(|route| route.exposed);
    for route in exposed {
        if let Some(other) = configured.iter().find(|other| hides(other, route)) {
            let (path, name) = (&route.path, &other.name);
            report.warning(
                &route.name,
                format!("`{path}` is never reached: the route `{name}` of the configuration has it"),
            );
        }
    }
    let number = claims.len() - conflicts.len();
    report.fine("expose.tag", format!("{number} of {} services with the tag `{tag}` are served", plan.exposed.len()));
}

/// What a service claims, if it can be honoured. The oldest instance decides; what others say otherwise is told.
fn claim(name: &ServiceName, expose: &Expose, tagged: &[Instance], report: &mut Report) -> Option<Claim> {
    let about = about(name);
    let settings = exposure::settings(expose);
    let derive = |some: &[Instance]| {
        tags::derive(name.as_str(), None, some, &settings)
            .map_err(|refusal| refusal.to_string())
            .and_then(|exposure| Ok((Claim::new(name.clone(), &exposure, some)?, exposure)))
    };
    if tagged.is_empty() {
        return None;
    }
    let whole = derive(tagged);
    if let Err(refusal) = &whole {
        report.error(&about, format!("it is not exposed: {refusal}; register it with other tags"));
    }
    let claimed = whole.as_ref().ok().map(|(_, exposure)| exposure);
    for instance in tagged {
        let id = &instance.id;
        match (derive(std::slice::from_ref(instance)), claimed) {
            (Ok((_, own)), Some(claimed)) if own != *claimed => {
                let why = format!("instance `{id}` claims `{}`, and the oldest instance `{}`", own.path, claimed.path);
                report.warning(&about, format!("{why}, which decides; give all the same tags"));
            }
            (Err(refusal), Some(_)) => report.warning(&about, format!("instance `{id}`: {refusal}")),
            _ => {}
        }
    }
    whole.ok().map(|(claim, _)| claim)
}

/// Whether a route of the configuration takes every request that an exposed one could have.
fn hides(configured: &Route, exposed: &Route) -> bool {
    let hosts = exposed.hosts == configured.hosts || exposed.hosts.iter().all(|host| configured.hosts.contains(host));
    let hosts = if exposed.hosts.is_empty() { configured.hosts.is_empty() } else { hosts };
    hosts
        && configured.methods.is_empty()
        && configured.headers.is_empty()
        && configured.path.shape() == exposed.path.shape()
}

/// What a service is called in findings. It need not have a table.
fn about(name: &ServiceName) -> String {
    format!("service {name}")
}
