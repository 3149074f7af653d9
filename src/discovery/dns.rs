//! Asks DNS for the instances of services, again and again as long as its answers hold. Tells whole lists: that a name does
//! not exist is an empty one, any other failure leaves the last in force.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolverConfig},
    net::{DnsError, NetError, runtime::TokioRuntimeProvider},
    proto::{
        op::ResponseCode,
        rr::{Name, RData, Record, RecordType, rdata::SRV},
    },
};
use tokio::{
    select,
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Duration, sleep},
};

use super::{Change, Wanted};
use crate::model::{
    instance::{Address, Health, Instance},
    lookup::Lookup,
    name::ServiceName,
    topology::Update,
};

/// Asks for what is wanted until nobody listens.
pub async fn run(mut wanted: watch::Receiver<Wanted>, told: mpsc::Sender<Change>) {
    loop {
        let now = wanted.borrow_and_update().clone();
        let mut following = JoinSet::new();
        if !now.lookups.is_empty() {
            let resolver = Arc::new(resolver(&now));
            for (service, lookup) in now.lookups {
                following.spawn(follow(resolver.clone(), service, lookup, told.clone()));
            }
        }
        // What is wanted otherwise begins anew as a whole: control may have forgotten what was told.
        select! {
            () = told.closed() => return,
            changed = wanted.changed() => if changed.is_err() { return },
            Some(Err(error)) = following.join_next() => {
                tracing::error!(%error, "a lookup ended; all begin anew");
                sleep(LONGEST_RETRY).await;
            }
        }
    }
}

/// Asks once.
///
/// # Errors
/// Why there is no answer, in words.
pub async fn once(wanted: &Wanted, lookup: &Lookup) -> Result<Vec<Instance>, String> {
    let found = match resolver(wanted) {
        Ok(resolver) => resolve(&resolver, lookup).await,
        Err(error) => Err(error),
    };
    found.map(|found| found.instances).map_err(|error| error.to_string())
}

/// Tells one service's list until nobody listens.
async fn follow(
    resolver: Arc<Result<TokioResolver, NetError>>,
    service: ServiceName,
    lookup: Lookup,
    told: mpsc::Sender<Change>,
) {
    let (mut failed, mut retry) = (None, *HOLDS.start());
    loop {
        let answer = match &*resolver {
            Ok(resolver) => resolve(resolver, &lookup).await,
            Err(error) => Err(error.clone()),
        };
        let wait = match answer {
            Ok(Found { instances, holds }) => {
                if failed.take().is_some() && told.send(Change::Resolved { service: service.clone() }).await.is_err() {
                    return;
                }
                let service = service.clone();
                let update = Update { service, datacenter: None, instances, rejected: Vec::new() };
                if told.send(Change::Instances { update, index: 0 }).await.is_err() {
                    return;
                }
                retry = *HOLDS.start();
                believed(holds)
            }
            Err(error) => {
                let why = format!("`{lookup}` cannot be resolved: {error}");
                if failed.as_ref() != Some(&why) {
                    let change = Change::Unresolved { service: service.clone(), why: why.clone() };
                    if told.send(change).await.is_err() {
                        return;
                    }
                    failed = Some(why);
                }
                let wait = retry;
                retry = (retry * 2).min(LONGEST_RETRY);
                wait
            }
        };
        sleep(wait).await;
    }
}

/// Instances, and how long they may be believed.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    instances: Vec<Instance>,
    holds: Duration,
}

async fn resolve(resolver: &TokioResolver, lookup: &Lookup) -> Result<Found, NetError> {
    let mut members = BTreeMap::new();
    let mut holds = *HOLDS.end();
    match lookup {
        Lookup::Host(host, port) => {
            let (addresses, for_now) = addresses(resolver, Name::from_ascii(host)?).await?;
            holds = holds.min(for_now);
            members.extend(addresses.into_iter().map(|ip| ((ip, *port), 1)));
        }
        Lookup::Srv(name) => {
            let (records, beside, for_now) = ask(resolver, Name::from_ascii(name)?, RecordType::SRV).await?;
            holds = holds.min(for_now);
            for target in targets(&records) {
                let mut ips: Vec<_> = beside.iter().filter(|r| r.name == target.target).filter_map(ip).collect();
                if ips.is_empty() {
                    let (addresses, for_now) = addresses(resolver, target.target.clone()).await?;
                    holds = holds.min(for_now);
                    ips = addresses;
                }
                for ip in ips {
                    let weight = members.entry((ip, target.port)).or_insert(1);
                    *weight = u32::from(target.weight).max(*weight);
                }
            }
        }
    }
    let instances = members.into_iter().filter_map(|((ip, port), weight)| instance(ip, port, weight));
    Ok(Found { instances: instances.collect(), holds })
}

/// The targets to be used: those of the lowest priority alone. A target `.` says that there is no service.
///
/// Source: RFC 2782, "Priority" and "Target".
fn targets(records: &[Record]) -> Vec<SRV> {
    let all = records.iter().filter_map(|record| match &record.data {
        RData::SRV(srv) if !srv.target.is_root() => Some(srv.clone()),
        _ => None,
    });
    let mut all: Vec<_> = all.collect();
    let lowest = all.iter().map(|srv| srv.priority).min();
    all.retain(|srv| Some(srv.priority) == lowest);
    all
}

/// All addresses of a host. One family that cannot be asked for fails the whole, for half a list is no list.
async fn addresses(resolver: &TokioResolver, host: Name) -> Result<(Vec<IpAddr>, Duration), NetError> {
    let (four, six) = tokio::join!(ask(resolver, host.clone(), RecordType::A), ask(resolver, host, RecordType::AAAA));
    let ((four, _, for_now), (six, _, more)) = (four?, six?);
    Ok((four.iter().chain(&six).filter_map(ip).collect(), for_now.min(more)))
}

/// What is answered, what is said beside it, and how long both hold. That there is nothing is an answer.
async fn ask(
    resolver: &TokioResolver,
    name: Name,
    kind: RecordType,
) -> Result<(Vec<Record>, Vec<Record>, Duration), NetError> {
    match resolver.lookup(name, kind).await {
        Ok(lookup) => {
            let (answers, beside) = (lookup.answers().to_vec(), lookup.additionals().to_vec());
            // Some servers answer with what they have, whatever they were asked for.
            let answers: Vec<_> = answers.into_iter().filter(|record| record.record_type() == kind).collect();
            let holds = answers.iter().map(|record| record.ttl).min().unwrap_or_default();
            Ok((answers, beside, Duration::from_secs(holds.into())))
        }
        Err(NetError::Dns(DnsError::NoRecordsFound(nothing)))
            if matches!(nothing.response_code, ResponseCode::NXDomain | ResponseCode::NoError) =>
        {
            // What does not exist may be asked for again soon: a family of addresses that is missing says nothing.
            let holds = nothing.negative_ttl.filter(|_| nothing.response_code == ResponseCode::NXDomain);
            Ok((Vec::new(), Vec::new(), holds.map_or(*HOLDS.end(), |holds| Duration::from_secs(holds.into()))))
        }
        Err(error) => Err(error),
    }
}

/// For how long an answer is believed that holds so long by its own account.
fn believed(holds: Duration) -> Duration {
    holds.clamp(*HOLDS.start(), *HOLDS.end())
}

fn ip(record: &Record) -> Option<IpAddr> {
    match &record.data {
        RData::A(a) => Some(a.0.into()),
        RData::AAAA(aaaa) => Some(aaaa.0.into()),
        _ => None,
    }
}

fn instance(ip: IpAddr, port: u16, weight: u32) -> Option<Instance> {
    let address = Address::new(&ip.to_string(), port.into()).ok()?;
    Some(Instance {
        id: address.to_string().into(),
        node: String::new(),
        address,
        health: Health::Passing,
        weight,
        tags: Vec::new(),
        meta: BTreeMap::new(),
        datacenter: String::new(),
        create_index: 0,
    })
}

fn resolver(wanted: &Wanted) -> Result<TokioResolver, NetError> {
    let mut builder = if wanted.name_servers.is_empty() {
        TokioResolver::builder_tokio()?
    } else {
        let servers = wanted.name_servers.iter().map(|server| {
            // Over UDP, Consul leaves out all but three records and does not say so.
            let mut connection = ConnectionConfig::tcp();
            connection.port = server.port();
            NameServerConfig::new(server.ip(), true, vec![connection])
        });
        let config = ResolverConfig::from_name_servers(servers.collect());
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
    };
    let options = builder.options_mut();
    // How long an answer holds is decided here.
    options.cache_size = 0;
    options.timeout = TIMEOUT;
    options.edns0 = true;
    options.max_active_requests = MOST_AT_ONCE;
    builder.build()
}

/// Whatever DNS says, an answer is believed so long at least and at most.
const HOLDS: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_mins(1);
const LONGEST_RETRY: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(2);
const MOST_AT_ONCE: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_targets_of_the_lowest_priority_are_used_and_a_root_is_none() {
        let record = |priority, port, target: &str| {
            let name = Name::from_ascii("_web._tcp.x.").unwrap();
            let srv = SRV::new(priority, 5, port, Name::from_ascii(target).unwrap());
            Record::from_rdata(name, 0, RData::SRV(srv))
        };
        let ports = |records: &[Record]| targets(records).iter().map(|srv| srv.port).collect::<Vec<_>>();
        assert_eq!(ports(&[record(2, 1, "a.x."), record(1, 2, "b.x."), record(1, 3, "c.x.")]), [2, 3]);
        assert_eq!(ports(&[record(1, 1, "."), record(2, 2, "b.x.")]), [2]);
        assert_eq!(ports(&[]), [0_u16; 0]);
    }

    #[test]
    fn an_answer_is_believed_for_a_second_to_a_minute_whatever_its_ttl() {
        for (ttl, want) in [(0, 1), (1, 1), (30, 30), (60, 60), (61, 60), (u32::MAX, 60)] {
            assert_eq!(believed(Duration::from_secs(ttl.into())).as_secs(), want, "{ttl}");
        }
    }

    #[test]
    fn an_address_that_nobody_listens_on_is_no_instance() {
        assert_eq!(instance("0.0.0.0".parse().unwrap(), 80, 1), None);
        assert_eq!(instance("10.0.0.7".parse().unwrap(), 0, 1), None);
        assert_eq!(instance("::1".parse().unwrap(), 80, 1).unwrap().id.as_str(), "[::1]:80");
    }
}
