//! Discovery against a real agent, and against one that fails in every way.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use serde_json::json;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use super::{Change, Part, Query, Wanted, datacenters::run};
use crate::{
    consul::{
        Client,
        fake::{Fake, Fault},
        real::{Real, client, settings},
    },
    model::{instance::Health, topology::Update},
};

/// Discovery under test.
struct Stage {
    wanted: watch::Sender<Wanted>,
    changes: mpsc::Receiver<Change>,
    _task: JoinSet<()>,
}

impl Stage {
    fn new(client: Arc<Client>, wanted: Wanted) -> Self {
        let (wanted, wanting) = watch::channel(wanted);
        let (told, changes) = mpsc::channel(1024);
        let mut task = JoinSet::new();
        task.spawn(run(client, wanting, told, BTreeSet::new()));
        Self { wanted, changes, _task: task }
    }

    async fn next(&mut self) -> Change {
        timeout(LIMIT, self.changes.recv()).await.expect("a change comes in time").expect("discovery runs")
    }

    /// Waits for a list of which this is true.
    async fn until(&mut self, service: &str, is: impl Fn(&Update) -> bool) -> Update {
        let mut heard = Vec::new();
        loop {
            match timeout(LIMIT, self.changes.recv()).await {
                Ok(Some(Change::Instances { update, .. })) if update.service.as_str() == service && is(&update) => {
                    return update;
                }
                Ok(Some(other)) => heard.push(other),
                Ok(None) | Err(_) => panic!("not told in time of `{service}`; but of {heard:#?}"),
            }
        }
    }

    async fn until_exposed(&mut self, want: &[(&str, &str)]) {
        let want: BTreeMap<_, _> = want.iter().map(|&(consul, ours)| (consul.to_owned(), ours.into())).collect();
        loop {
            if matches!(self.next().await, Change::Exposed { services, .. } if services == want) {
                return;
            }
        }
    }

    /// All that has been told by now.
    fn told(&mut self) -> Vec<Change> {
        std::iter::from_fn(|| self.changes.try_recv().ok()).collect()
    }
}

fn wanted(services: &[&str]) -> Wanted {
    Wanted {
        services: services.iter().map(|&s| (s.into(), Query { consul: s.into(), tag: None })).collect(),
        taken: services.iter().map(|&s| s.into()).collect(),
        expose_tag: Some("lictor".into()),
        deny: Vec::new(),
        max_watches: 64,
        ..Wanted::default()
    }
}

fn healths(update: &Update) -> Vec<Health> {
    update.instances.iter().map(|instance| instance.health).collect()
}

#[tokio::test]
async fn what_happens_in_consul_is_told() {
    let consul = Real::start().await;
    let mut stage = Stage::new(client(settings(format!("127.0.0.1:{}", consul.port))), wanted(&["web", "odd/näme ?"]));
    stage.until("web", |update| update.instances.is_empty()).await;

    consul.register("web", 8001, &[]).await;
    let update = stage.until("web", |update| update.instances.len() == 1).await;
    let instance = &update.instances[0];
    assert_eq!((instance.id.as_str(), instance.address.to_string().as_str()), ("web-8001", "127.0.0.1:8001"));
    assert_eq!((instance.datacenter.as_str(), instance.weight, instance.health), ("dc1", 1, Health::Passing));
    assert!(instance.create_index > 1);

    consul.check("web-8001").await;
    stage.until("web", |update| healths(update) == [Health::Critical]).await;
    for (status, want) in [("warning", Health::Warning), ("passing", Health::Passing)] {
        consul.set("web-8001", status).await;
        stage.until("web", |update| healths(update) == [want]).await;
    }
    for (path, want) in [
        ("service/maintenance/web-8001?enable=true", Health::Maintenance),
        ("service/maintenance/web-8001?enable=false", Health::Passing),
        ("maintenance?enable=true", Health::Maintenance),
        ("maintenance?enable=false", Health::Passing),
    ] {
        consul.put(&format!("/v1/agent/{path}"), &json!({})).await;
        stage.until("web", |update| healths(update) == [want]).await;
    }

    consul.register("odd/näme ?", 8002, &[]).await;
    stage.until("odd/näme ?", |update| update.instances.len() == 1).await;
    consul.put("/v1/agent/service/deregister/web-8001", &json!({})).await;
    stage.until("web", |update| update.instances.is_empty()).await;
}

#[tokio::test]
async fn services_with_the_tag_are_exposed_and_watched() {
    let consul = Real::start().await;
    consul.register("user-service", 8001, &["lictor"]).await;
    let mut first = wanted(&[]);
    first.services.insert("users".into(), Query { consul: "user-service".into(), tag: None });
    first.taken = ["users", "files"].map(Into::into).into();
    let mut stage = Stage::new(client(settings(format!("127.0.0.1:{}", consul.port))), first.clone());
    stage.until_exposed(&[("user-service", "users")]).await;

    consul.register("shop", 8002, &["v1"]).await;
    consul.register("shop", 8003, &["lictor"]).await;
    consul.register("files", 8004, &["lictor"]).await;
    stage.until_exposed(&[("shop", "shop"), ("user-service", "users")]).await;
    // Only those that carry the tag.
    let update = stage.until("shop", |update| !update.instances.is_empty()).await;
    assert_eq!(update.instances.iter().map(|i| i.id.as_str()).collect::<Vec<_>>(), ["shop-8003"]);

    // A table for it takes it over; the list is told again under the table's own query.
    let mut second = first.clone();
    second.services.insert("shop".into(), Query { consul: "shop".into(), tag: None });
    second.taken.insert("shop".into());
    stage.wanted.send_replace(second);
    stage.until("shop", |update| update.instances.len() == 2).await;
    stage.wanted.send_replace(first);
    stage.until("shop", |update| update.instances.len() == 1).await;

    consul.put("/v1/agent/service/deregister/shop-8003", &json!({})).await;
    stage.until_exposed(&[("user-service", "users")]).await;
}

#[tokio::test]
async fn a_consul_that_comes_back_with_nothing_known_is_followed() {
    let mut consul = Real::start().await;
    for port in 8001..8010 {
        consul.register("web", port, &[]).await;
    }
    let mut stage = Stage::new(client(settings(format!("127.0.0.1:{}", consul.port))), wanted(&["web", "other"]));
    stage.until("web", |update| update.instances.len() == 9).await;
    stage.told();

    consul.kill().await;
    loop {
        match stage.next().await {
            Change::Failed { part: Part::Agent, .. } => break,
            // Still told of what was registered.
            Change::Exposed { .. } | Change::Instances { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    sleep(Duration::from_millis(1500)).await;
    let told = stage.told();
    assert!(told.is_empty(), "nothing is told while it is away: {told:?}");

    consul.restart().await;
    consul.register("web", 9001, &[]).await;
    loop {
        match stage.next().await {
            Change::Returned { datacenter: None } => break,
            // It is there before it has a leader.
            Change::Failed { part: Part::Agent, .. } => {}
            other => panic!("{other:?}"),
        }
    }
    // Its index is lower than it was.
    stage.until("web", |update| update.instances.len() == 1).await;
    consul.register("web", 9002, &[]).await;
    stage.until("web", |update| update.instances.len() == 2).await;
}

/// Eight services are watched by an agent that gets this fault, and loses it again.
async fn suffers(fault: Fault, leader: bool, max_watches: usize) {
    let name = format!("{fault:?}, leader {leader}, watches {max_watches}");
    let consul = Fake::start().await;
    let services = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let mut stage =
        Stage::new(client(settings(consul.address.to_string())), Wanted { max_watches, ..wanted(&services) });
    let mut silent: BTreeSet<&str> = services.into_iter().chain(["shop"]).collect();
    while !silent.is_empty() {
        if let Change::Instances { update, .. } = stage.next().await {
            silent.remove(update.service.as_str());
        }
    }
    // Each is asked again by then, and kept; and what the start has brought is looked into.
    let quiet = || consul.asked().last().is_some_and(|(at, _)| at.elapsed() > QUIET);
    while consul.kept() < max_watches.min(10) || !quiet() {
        sleep(Duration::from_millis(10)).await;
    }
    stage.told();
    let began = Instant::now();
    consul.fail(fault, leader);
    sleep(Duration::from_secs(3)).await;

    let asked: Vec<_> = consul.asked().into_iter().filter(|(at, _)| *at >= began).collect();
    let asked: Vec<_> = asked.iter().map(|(at, _)| *at - began).collect();
    println!("{name}: {:.1} requests a second", f64::from(u32::try_from(asked.len()).unwrap()) / 3.0);
    let within = |from: Duration| asked.iter().filter(|at| (from..from + SECOND).contains(*at)).count();
    let busiest = asked.iter().map(|from| within(*from)).max().unwrap_or_default();
    println!("{name}: {busiest} in the busiest second");
    // Five are sent in a second; where the machine is busy, one more may arrive in the same.
    assert!(busiest <= 6, "{name}: {busiest} requests in a second: {asked:?}");
    assert!(asked.len() <= 15, "{name}: {asked:?}");
    let silent = matches!(fault, Fault::Rising | Fault::Jumping | Fault::Hasty | Fault::Hang);
    let mut told = stage.told();
    if !silent && told.is_empty() {
        told.push(stage.next().await); // a busy machine takes longer
    }
    let mut failed = Vec::new();
    for change in told {
        match change {
            Change::Failed { part, .. } => failed.push(format!("{part:?}")),
            other => panic!("{name}: {other:?}"),
        }
    }
    let many = failed.len();
    failed.sort_unstable();
    failed.dedup();
    assert_eq!(failed.len(), many, "{name}: a condition is told once: {failed:?}");
    assert_eq!(failed.is_empty(), silent, "{name}: {failed:?}");

    if matches!(fault, Fault::Status(..500, _) | Fault::Hang) {
        return; // takes its time
    }
    let mended = Instant::now();
    consul.mend();
    stage.until("h", |update| update.instances.len() == 2).await;
    assert!(mended.elapsed() < Duration::from_secs(6), "{name}: {:?}", mended.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_fault_of_consul_makes_it_be_asked_often_or_takes_anything_away() {
    // Each has a watch of its own; most share; all share.
    for max_watches in [64, 5, 2] {
        let mut cases = JoinSet::new();
        for fault in FAULTS {
            cases.spawn(suffers(fault, true, max_watches));
            cases.spawn(suffers(fault, false, max_watches));
        }
        while let Some(case) = cases.join_next().await {
            case.unwrap();
        }
    }
}

const FAULTS: [Fault; 16] = [
    Fault::Status(403, "Permission denied"),
    Fault::Status(429, "Your IP is issuing too many concurrent connections"),
    Fault::Status(500, "No cluster leader"),
    Fault::Status(503, "oops"),
    Fault::NoIndex,
    Fault::OddIndex,
    Fault::Says("<html>a proxy</html>"),
    Fault::Says("null"),
    Fault::Says("[{]"),
    Fault::Says("[null]"),
    Fault::Half,
    Fault::Rising,
    Fault::Jumping,
    Fault::Hasty,
    Fault::Reset,
    Fault::Hang,
];
const LIMIT: Duration = Duration::from_secs(15);
const SECOND: Duration = Duration::from_secs(1);
const QUIET: Duration = Duration::from_millis(700);
