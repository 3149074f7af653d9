//! What clients and instances see of outages, as figures: instances that crash or hang, one that fails all, and all that do.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{task::JoinSet, time::sleep};

use crate::support::{Caller, Consul, Gateway, Origin, Replica, now, until};

const CLIENTS: usize = 12;
const EVERY: Duration = Duration::from_secs(2);
/// How long after its crash an instance is still listed.
const UNNOTICED: Duration = Duration::from_secs(1);
const TAKES: Duration = Duration::from_millis(3);
const ANSWERS: usize = 50;

/// How long instances crash and hang: `OUTAGE_SECONDS`, else a quarter of a minute.
fn lasts() -> Duration {
    let seconds = std::env::var("OUTAGE_SECONDS").ok().map(|text| text.parse().expect("a number of seconds"));
    Duration::from_secs(seconds.unwrap_or(15))
}

/// One GET after the other; how many were answered well, and what the others got.
async fn call(gateway: SocketAddr, over: Arc<AtomicBool>) -> (usize, Vec<String>) {
    let (mut well, mut bad) = (0, Vec::new());
    let mut caller = Caller::connect(gateway).await.unwrap();
    while !over.load(Relaxed) {
        match caller.ask("GET", "/api/v1/web/", "").await {
            Ok(heard) if heard.status == 200 => well += 1,
            other => bad.push(format!("{other:?}")),
        }
    }
    (well, bad)
}

fn clients(gateway: &Gateway, count: usize, over: &Arc<AtomicBool>) -> JoinSet<(usize, Vec<String>)> {
    let mut clients = JoinSet::new();
    for _ in 0..count {
        clients.spawn(call(gateway.address, over.clone()));
    }
    clients
}

async fn end(clients: JoinSet<(usize, Vec<String>)>, over: &AtomicBool) -> (usize, Vec<String>) {
    over.store(true, Relaxed);
    let seen = clients.join_all().await;
    (seen.iter().map(|(well, _)| well).sum(), seen.into_iter().flat_map(|(_, bad)| bad).collect())
}

#[tokio::test]
async fn while_an_instance_crashes_or_hangs_every_two_seconds_no_get_fails() {
    let consul = Arc::new(Consul::start().await);
    let mut born = 0;
    let mut bear = async || {
        let replica = Replica::start(format!("web-{born}"), TAKES, ANSWERS).await;
        born += 1;
        consul.register("web", &replica.name, replica.address).await;
        replica
    };
    let mut alive = std::collections::VecDeque::new();
    for _ in 0..4 {
        alive.push_back(bear().await);
    }
    let gateway = Gateway::start(&consul, "[http]\nworkers = 2\n[defaults]\ntimeout.read = '1s'\n").await;
    gateway.until_usable("web", 4).await;
    let over = Arc::new(AtomicBool::new(false));
    let clients = clients(&gateway, CLIENTS, &over);
    // A fifth of the requests so far may be tried again: of the first twenty too few for all that meet a crash at once.
    until("load", || async {
        let asked = gateway.metric_sum("lictor_request_total", "service=\"web\"").await;
        (asked > 500.0).then_some(())
    })
    .await;

    let (begun, mut ending, mut outages) = (now(), JoinSet::new(), 0_u32);
    while begun.elapsed() < lasts() {
        alive.push_back(bear().await);
        let gone = alive.pop_front().unwrap();
        outages += 1;
        let (consul, hangs) = (consul.clone(), outages.is_multiple_of(2));
        ending.spawn(async move {
            if hangs {
                gone.hang();
                sleep(UNNOTICED).await;
                consul.deregister(&gone.name).await;
                sleep(2 * UNNOTICED).await;
                gone.crash().await;
            } else {
                let name = gone.name.clone();
                gone.crash().await;
                sleep(UNNOTICED).await;
                consul.deregister(&name).await;
            }
        });
        sleep((EVERY * outages).saturating_sub(begun.elapsed())).await;
    }
    ending.join_all().await;
    let (well, bad) = end(clients, &over).await;
    let retries = gateway.metric_sum("lictor_retry_total", "service=\"web\"").await;
    println!("outage: {outages} crashes and hangs in {:?}: {well} GETs answered, {retries} retries", begun.elapsed());
    assert!(bad.is_empty(), "{} of {} GETs failed: {bad:#?}", bad.len(), well + bad.len());
    assert!(retries > 0.0, "nobody has met an instance that crashed");
}

#[tokio::test]
async fn one_instance_of_three_that_fails_all_gets_five_requests_and_then_one_in_each_open_period() {
    let consul = Consul::start().await;
    let bad = Origin::answering(|_| b"HTTP/1.1 500 X\r\ncontent-length: 0\r\n\r\n".to_vec()).await;
    let good = [Origin::start("a").await, Origin::start("b").await];
    // The usual policy would leave it alone before it has failed five times.
    let config = "[http]\nworkers = 2\n[defaults]\nbalance = 'round_robin'\n\
                  breaker = { open = '500ms', max_open = '500ms' }\n";
    let gateway = Gateway::start(&consul, config).await;
    consul.register("web", "bad", bad.address).await;
    for (id, origin) in ["a", "b"].iter().zip(&good) {
        consul.register("web", id, origin.address).await;
    }
    gateway.until_usable("web", 3).await;
    let over = Arc::new(AtomicBool::new(false));
    let clients = clients(&gateway, CLIENTS, &over);
    until("five open periods", || async { (gateway.events("circuit_opened").len() > 5).then_some(()) }).await;
    let (well, failed) = end(clients, &over).await;

    let probes = gateway.events("circuit_half_open").len();
    println!(
        "breaker: {} requests to the instance that fails, {probes} of them probes; {well} answered well",
        bad.count()
    );
    // Five, those of the other clients that were under way meanwhile, and the probes.
    assert!(bad.count() <= 5 + (CLIENTS - 1) + probes, "{} requests, {probes} probes", bad.count());
    assert!(bad.count() >= 5 + probes.saturating_sub(1));
    assert_eq!(failed.len(), bad.count(), "{failed:?}");
}

#[tokio::test]
async fn when_all_of_a_service_fails_it_gets_a_quarter_more_than_clients_send_at_most() {
    let consul = Consul::start().await;
    let busy = || Origin::answering(|_| b"HTTP/1.1 503 X\r\ncontent-length: 0\r\n\r\n".to_vec());
    let (a, b) = (busy().await, busy().await);
    consul.register("web", "a", a.address).await;
    consul.register("web", "b", b.address).await;
    // No circuit may spare them anything.
    let config = "[http]\nworkers = 2\n[defaults]\nbreaker.max_ejected = 0.0\n";
    let gateway = Gateway::start(&consul, config).await;
    gateway.until_usable("web", 2).await;
    let (over, begun) = (Arc::new(AtomicBool::new(false)), now());
    let clients = clients(&gateway, CLIENTS, &over);
    sleep(Duration::from_secs(6)).await;
    let (well, failed) = end(clients, &over).await;
    let (seconds, sent, got) = (begun.elapsed().as_secs(), failed.len(), a.count() + b.count());
    println!("budget: {sent} requests in {seconds} s, all of which failed; the service got {got}");
    assert_eq!(well, 0);
    assert!(got > sent, "nothing was tried again");
    // A fifth more, or three tries a second: of a hundred requests a second or more that is less than a quarter.
    let most = sent + (sent / 5).max(3 * usize::try_from(seconds + 1).unwrap()) + sent / 100;
    assert!(got <= most, "{got} of {sent}");
    assert!(got * 4 <= sent * 5 || sent < 100 * usize::try_from(seconds).unwrap(), "{got} of {sent}");
}

#[tokio::test]
async fn whichever_the_policy_the_first_request_after_the_open_time_is_the_probe() {
    for balance in ["p2c_ewma", "least_request", "round_robin", "random", "consistent_hash"] {
        let fails = Arc::new(AtomicUsize::new(1));
        let shaky = Origin::answering({
            let fails = fails.clone();
            move |_| {
                let failed = fails.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok();
                let status = if failed { 500 } else { 200 };
                format!("HTTP/1.1 {status} X\r\ncontent-length: 5\r\n\r\nshaky").into_bytes()
            }
        })
        .await;
        let good = Origin::start("good").await;
        let config = format!(
            "[http]\nworkers = 2\n[services.web]\ninstances = ['{}', '{}']\nbalance = '{balance}'\nhash = 'header:x-key'\n\
             breaker = {{ consecutive = 1, open = '1s', max_open = '1s' }}\n\
             [[routes]]\nmatch.path = '/'\nservice = 'web'\n",
            shaky.address, good.address
        );
        let gateway = Gateway::fixed(&config).await;
        gateway.until_ready().await;
        let keys = AtomicUsize::new(0);
        until("a failure", || async {
            let key = keys.fetch_add(1, Relaxed).to_string();
            (gateway.send(http::Method::GET, "/", &[("x-key", &key)], "").await.status == 500).then_some(())
        })
        .await;
        gateway.until_event("circuit_opened").await;
        // Its time is over once it counts as usable again.
        gateway.until_usable("web", 2).await;
        assert_eq!(gateway.get("/").await.text, "shaky", "{balance}");
        gateway.until_event("circuit_closed").await;
    }
}
