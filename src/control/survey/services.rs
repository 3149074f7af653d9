//! Each service that is configured or exposes itself: whether Consul has it, and whether its instances are of use.

use std::collections::{BTreeMap, BTreeSet};

use super::{Report, Severity, exposed, lacks, token};
use crate::{
    config::{Config, Origin, nearest},
    consul::{
        Client, Right,
        wire::{Health as Question, Services},
    },
    control::{compile, wanted},
    discovery::{
        Query, Wanted, health,
        plan::{Cause, Plan},
    },
    model::{
        instance::{Health, Instance},
        name::{Datacenter, ServiceName},
    },
    upstream::policy::Policy,
};

/// What Consul said of one service.
#[derive(Debug, Default)]
pub struct Listed {
    /// Instances that a connection could be made to.
    pub instances: Vec<Instance>,
    /// Others, and why not.
    pub useless: Vec<(String, String)>,
}

/// Looks at all services.
pub async fn look(config: &Config, catalog: &Services, client: &Client, report: &mut Report) {
    let wanted = wanted(config);
    let tagged = |tags: &BTreeSet<String>| wanted.expose_tag.as_ref().is_some_and(|tag| tags.contains(tag));
    let carriers: BTreeSet<_> = catalog.iter().filter(|(_, tags)| tagged(tags)).map(|(name, _)| name.clone()).collect();
    let plan = Plan::new(&wanted, &carriers, None);
    let tables = plan.watched.iter().filter(|(_, (_, cause))| *cause == Cause::Table);
    let mut asked: BTreeSet<_> = tables.map(|(_, (query, _))| Right::Service(query.consul.clone())).collect();
    if config.expose.is_some() {
        asked.insert(Right::Service(String::new()));
    }
    asked.insert(Right::Node(String::new()));
    let register = config.consul.as_ref().and_then(|consul| consul.register.as_ref());
    asked.extend(register.map(|register| Right::Register(register.name.clone())));
    let denied = client.denied(&asked.into_iter().collect::<Vec<_>>()).await;
    let is_hidden = |query: &Query| denied.contains(&Right::Service(query.consul.clone()));
    let mut lists = BTreeMap::new();
    for (name, (query, _)) in &plan.watched {
        if !is_hidden(query)
            && catalog.contains_key(&query.consul)
            && let Some(listed) = list(name, (query, None), &wanted, (config, client), report).await
        {
            lists.insert(name.clone(), listed);
        }
    }
    rights(config, &denied, &carriers, &lists, report);
    for (name, service) in &config.services {
        if let Origin::Consul { name: consul, tag, datacenters } = &service.origin
            && datacenters.is_empty()
            && !denied.contains(&Right::Service(consul.clone()))
        {
            // Of what is seen of no node, the token is to blame.
            let nodes = denied.iter().all(|right| !matches!(right, Right::Node(_)));
            let listed = lists.get(name).filter(|list| nodes || !list.instances.is_empty());
            table(name, (consul, tag.as_deref()), listed, &service.policy, catalog, report);
        }
    }
    exposed::look(config, &plan, &lists, report);
}

/// One service's list, as the gateway would read it.
pub async fn list(
    name: &ServiceName,
    (query, datacenter): (&Query, Option<&Datacenter>),
    wanted: &Wanted,
    (config, client): (&Config, &Client),
    report: &mut Report,
) -> Option<Listed> {
    let question = Question::question(&query.consul, query.tag.as_deref());
    let answer = match client.once(&question, &Question).await {
        Ok(answer) => answer,
        Err(error) => {
            let there = datacenter.map(|datacenter| format!(" in `{datacenter}`")).unwrap_or_default();
            report.error(about(name), format!("Consul does not tell its instances{there}: {}", error.causes()));
            return None;
        }
    };
    let update = health::update(name, datacenter, &answer, &wanted.deny);
    let (instances, barred) = compile::barred(config).sort(update.instances);
    let mut useless: Vec<_> = answer.unreadable.into_iter().map(|entry| (entry.id, entry.why)).collect();
    useless.extend(update.rejected.into_iter().map(|rejected| (rejected.id.to_string(), rejected.why.to_string())));
    useless.extend(barred.into_iter().map(|(instance, why)| (instance.id.to_string(), why.to_string())));
    Some(Listed { instances, useless })
}

/// Says which rights are missing.
fn rights(
    config: &Config,
    denied: &[Right],
    carriers: &BTreeSet<String>,
    lists: &BTreeMap<ServiceName, Listed>,
    report: &mut Report,
) {
    let Some(consul) = &config.consul else { return };
    let about_token = token(consul);
    let seen = !lists.is_empty() && lists.values().all(|list| !list.instances.is_empty() || !list.useless.is_empty());
    for right in denied {
        let (severity, so) = match right {
            Right::Service(name) if !name.is_empty() => (Severity::Error, "so it is not served".to_owned()),
            Right::Service(_) if carriers.is_empty() => {
                (Severity::Error, "so services that expose themselves are not seen".to_owned())
            }
            Right::Service(_) => {
                let number = carriers.len();
                (Severity::Warning, format!("so of those that expose themselves it sees {number} and perhaps not all"))
            }
            Right::Node(_) if seen => {
                (Severity::Warning, "so instances on nodes that it may not read are not seen".to_owned())
            }
            Right::Node(_) => (Severity::Error, "and no instance is seen without its node".to_owned()),
            Right::Register(_) => (Severity::Error, "so the gateway cannot register itself".to_owned()),
            Right::Key(_) => continue,
        };
        report.add(severity, about_token, lacks(consul, right, &so));
    }
    if denied.is_empty() {
        report.fine(about_token, "nothing that is needed is kept from it");
    }
}

/// Says how the service of a table is.
fn table(
    name: &ServiceName,
    (consul, tag): (&str, Option<&str>),
    listed: Option<&Listed>,
    policy: &Policy,
    catalog: &Services,
    report: &mut Report,
) {
    let about = about(name);
    let Some(tags) = catalog.get(consul) else {
        let near = nearest(consul, catalog.keys().map(String::as_str));
        let hint = near.map_or_else(|| "register it".to_owned(), |near| format!("is `{near}` meant?"));
        report.error(about, format!("no service `{consul}` is registered in Consul; {hint}"));
        return;
    };
    let Some(listed) = listed else { return };
    if let Some(tag) = tag
        && !tags.contains(tag)
    {
        let known = tags.iter().map(|tag| format!("`{tag}`")).collect::<Vec<_>>().join(", ");
        let known = if known.is_empty() { "none".to_owned() } else { known };
        report.error(about, format!("no instance of `{consul}` carries the tag `{tag}`; the tags are {known}"));
        return;
    }
    useless(&about, listed, report);
    let all = listed.instances.len();
    let good = listed.instances.iter().filter(|instance| policy.accept.contains(&instance.health)).count();
    match (all, good) {
        (0, _) if listed.useless.is_empty() => {
            report.error(about, format!("`{consul}` is registered, and no instance of it is seen"));
        }
        (0, _) => {}
        (_, 0) => {
            let accepted = policy.accept.iter().map(|health| health.as_str()).collect::<Vec<_>>().join(" or ");
            let every: BTreeSet<_> = listed.instances.iter().map(|instance| instance.health.as_str()).collect();
            let every = every.into_iter().collect::<Vec<_>>().join(" or ");
            let why = format!("each is {every}, and `accept` is {accepted}");
            let what = match desperate(policy, listed) {
                0 => format!("no instance may be asked: {why}"),
                some => format!(
                    "no instance is as it should be: {why}; by `panic`, {some} of {all} may be asked nevertheless"
                ),
            };
            report.warning(about, what);
        }
        _ => report.fine(about, format!("{good} of {all} instances of `{consul}` may be asked")),
    }
}

/// How many instances are used though none is accepted.
pub fn desperate(policy: &Policy, listed: &Listed) -> usize {
    let there = |instance: &&Instance| instance.health != Health::Maintenance;
    if policy.panic { listed.instances.iter().filter(there).count() } else { 0 }
}

/// Says which instances are of no use. It is an error where no other is left.
pub fn useless(about: &str, listed: &Listed, report: &mut Report) {
    let severity = if listed.instances.is_empty() { Severity::Error } else { Severity::Warning };
    for (id, why) in &listed.useless {
        report.add(
            severity,
            about,
            format!("instance `{id}` is of no use: {why}; register it with another address or port"),
        );
    }
}

/// The key of a table.
pub fn about(name: &ServiceName) -> String {
    format!("services.{name}")
}
