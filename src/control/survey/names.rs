//! Services whose instances come from DNS: whether there are any.

use super::Report;
use crate::{
    config::{Config, Origin},
    control::{compile, wanted},
    discovery::dns,
};

/// Asks for all of them, one after the other.
pub async fn look(config: &Config, report: &mut Report) {
    let wanted = wanted(config);
    for (name, service) in &config.services {
        let Origin::Dns(lookup) = &service.origin else { continue };
        let about = format!("services.{name}");
        match dns::once(&wanted, lookup).await {
            Err(why) => report.error(about, format!("DNS does not answer for `{lookup}`: {why}; see `dns.servers`")),
            Ok(found) if found.is_empty() => {
                report.error(about, format!("DNS knows no `{lookup}`, or no address of it; is the name right?"));
            }
            Ok(found) => {
                let (good, barred) = compile::barred(config).sort(found);
                for (instance, why) in barred {
                    report.warning(&about, format!("instance `{}` is of no use: {why}", instance.id));
                }
                if good.is_empty() {
                    report.error(about, format!("no address of `{lookup}` is of use"));
                } else {
                    report.fine(about, format!("instances of `{lookup}` in DNS: {}", good.len()));
                }
            }
        }
    }
}
