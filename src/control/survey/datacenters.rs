//! Each service that names datacenters: whether the agent knows them, and whether instances there are of use.

use super::{Report, services};
use crate::{
    config::{Config, Service, nearest},
    consul::Client,
    control::wanted,
    model::name::{Datacenter, ServiceName},
};

/// Looks at all of them.
pub async fn look(config: &Config, client: &Client, report: &mut Report) {
    let mut named = config.services.iter().filter(|(_, service)| !service.datacenters().is_empty()).peekable();
    if named.peek().is_none() {
        return;
    }
    let known = match client.datacenters().await {
        Ok(known) => known,
        Err(error) => {
            let what = format!("the agent does not say which datacenters it knows: {}", error.causes());
            report.error("consul", what);
            return;
        }
    };
    for (name, service) in named {
        for datacenter in service.datacenters() {
            if known.iter().any(|known| known == datacenter.as_str()) {
                there(config, (name, service), datacenter, client, report).await;
                continue;
            }
            let near = nearest(datacenter.as_str(), known.iter().map(String::as_str));
            let hint = near.map_or_else(String::new, |near| format!("; is `{near}` meant?"));
            let list = known.join("`, `");
            let what = format!("`{datacenter}` is not known to the agent, which knows `{list}`{hint}");
            report.error(format!("{}.datacenters", services::about(name)), what);
        }
    }
}

/// Says how a service is in a datacenter.
async fn there(
    config: &Config,
    (name, service): (&ServiceName, &Service),
    datacenter: &Datacenter,
    client: &Client,
    report: &mut Report,
) {
    let wanted = wanted(config);
    let Some(query) = wanted.services.get(name) else { return };
    let client = client.at(datacenter.as_str());
    let list = services::list(name, (query, Some(datacenter)), &wanted, (config, &client), report);
    let Some(listed) = list.await else { return };
    let about = services::about(name);
    services::useless(&about, &listed, report);
    let all = listed.instances.len();
    let good = listed.instances.iter().filter(|i| service.policy.accept.contains(&i.health)).count();
    let what = format!("{good} of {all} instances of `{}` in `{datacenter}` may be asked", query.consul);
    match (good, services::desperate(&service.policy, &listed)) {
        (1.., _) => report.fine(about, what),
        (0, 0) => report.warning(about, what),
        (0, some) => {
            let rest = format!("by `panic`, {some} may be asked nevertheless while no datacenter has another");
            report.warning(about, format!("{what}; {rest}"));
        }
    }
}
