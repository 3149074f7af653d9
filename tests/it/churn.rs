//! Instances are replaced one after the other while clients call: no client notices.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio::{task::JoinSet, time::sleep};

use crate::support::{Caller, Consul, Gateway, Replica, now, until};

const CLIENTS: usize = 12;
const INSTANCES: usize = 4;
const REPLACED: usize = 36;
/// Each time so many are replaced, one of them crashes.
const CRASH_EVERY: usize = 4;
const LASTS: Duration = Duration::from_secs(15);
/// How long after its deregistration an instance that goes in peace still serves, and one that crashed is still listed.
const PEACE: Duration = Duration::from_millis(300);
const UNNOTICED: Duration = Duration::from_secs(1);
/// An answer takes so long, so that requests are under way whenever something happens.
const TAKES: Duration = Duration::from_millis(3);
/// Answers on one connection, so that some requests at any time are on a new one.
const MOST: usize = 5;

/// A POST without an answer from an instance.
#[derive(Debug)]
struct Lost {
    id: String,
    sent: Instant,
    failed: Instant,
}

/// What a client saw.
#[derive(Debug, Default)]
struct Seen {
    gets: usize,
    posts: usize,
    bad_gets: Vec<String>,
    lost: Vec<Lost>,
}

/// One GET after the other, each third one a POST that says who it is.
async fn call(client: usize, gateway: SocketAddr, over: Arc<AtomicBool>, ids: Arc<AtomicUsize>) -> Seen {
    let mut seen = Seen::default();
    let mut caller = Caller::connect(gateway).await.unwrap();
    for turn in 0.. {
        if over.load(Relaxed) {
            break;
        }
        let (post, id) = (turn % 3 == 2, ids.fetch_add(1, Relaxed));
        let (method, body) = if post { ("POST", "body") } else { ("GET", "") };
        let path = format!("/api/v1/web/{id}");
        let sent = now();
        let heard = caller.ask(method, &path, body).await;
        let heard = heard.unwrap_or_else(|e| panic!("client {client}: {method} {path} got no answer: {e}"));
        if heard.closes {
            caller = Caller::connect(gateway).await.unwrap();
        }
        match (post, heard.status) {
            (false, 200) => seen.gets += 1,
            (false, status) => seen.bad_gets.push(format!("{status} {}", heard.body)),
            (true, 200) => seen.posts += 1,
            (true, 502) => seen.lost.push(Lost { id: format!("/{id} "), sent, failed: now() }),
            (true, status) => panic!("client {client}: a POST got {status} {}", heard.body),
        }
    }
    seen
}

/// Ids of the POSTs that an instance got.
fn posts(got: &[crate::support::origin::Got]) -> impl Iterator<Item = String> {
    got.iter().filter_map(|got| Some(format!("/{} ", got.line().strip_prefix("POST /")?.split(' ').next()?)))
}

#[tokio::test]
async fn while_instances_are_replaced_no_get_fails_and_no_post_arrives_twice() {
    let consul = Arc::new(Consul::start().await);
    let mut alive = std::collections::VecDeque::new();
    let mut born = 0;
    let mut bear = async || {
        let replica = Replica::start(format!("web-{born}"), TAKES, MOST).await;
        born += 1;
        consul.register("web", &replica.name, replica.address).await;
        replica
    };
    for _ in 0..INSTANCES {
        alive.push_back(bear().await);
    }
    let gateway = Gateway::start(&consul, "[http]\nworkers = 2\n").await;
    gateway.until_usable("web", INSTANCES).await;

    let (over, ids) = (Arc::new(AtomicBool::new(false)), Arc::default());
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        clients.spawn(call(client, gateway.address, over.clone(), Arc::clone(&ids)));
    }

    // Each ends with what it got, and, where it crashed, from when till when.
    let mut ending = JoinSet::new();
    let begun = now();
    for replaced in 1..=REPLACED {
        alive.push_back(bear().await);
        let gone = alive.pop_front().unwrap();
        let (consul, name) = (consul.clone(), gone.name.clone());
        let crashes = replaced.is_multiple_of(CRASH_EVERY);
        ending.spawn(async move {
            if crashes {
                let from = now();
                let got = gone.crash().await;
                let till = now();
                sleep(UNNOTICED).await;
                consul.deregister(&name).await;
                return (name, got, Some((from, till)));
            }
            consul.deregister(&name).await;
            sleep(PEACE).await;
            (name, gone.leave().await, None)
        });
        let next = LASTS * u32::try_from(replaced).unwrap() / u32::try_from(REPLACED).unwrap();
        sleep(next.saturating_sub(begun.elapsed())).await;
    }
    let mut ended = ending.join_all().await;
    over.store(true, Relaxed);
    let seen = clients.join_all().await;
    let left: Vec<String> = alive.iter().map(|replica| replica.address.to_string()).collect();
    ended.extend(alive.iter().map(|replica| (replica.name.clone(), replica.got(), None)));

    let sum = |count: fn(&Seen) -> usize| seen.iter().map(count).sum::<usize>();
    let (gets, answered) = (sum(|seen| seen.gets), sum(|seen| seen.posts));
    let lost: Vec<_> = seen.iter().flat_map(|seen| &seen.lost).collect();
    let bad: Vec<_> = seen.iter().flat_map(|seen| &seen.bad_gets).collect();
    let crashes = ended.iter().filter(|(_, _, crash)| crash.is_some()).count();
    println!(
        "churn: {REPLACED} of {} instances replaced, {crashes} by a crash, in {:?}: {gets} GETs answered, {} failed; \
         {answered} POSTs answered, {} lost",
        ended.len(),
        begun.elapsed(),
        bad.len(),
        lost.len(),
    );

    assert!(bad.is_empty(), "GETs failed: {bad:#?}");
    let mut arrived = HashMap::<String, Vec<&str>>::new();
    for (name, got, _) in &ended {
        assert!(!got.is_empty(), "{name} took no part");
        posts(got).for_each(|id| arrived.entry(id).or_default().push(name));
    }
    let twice: Vec<_> = arrived.iter().filter(|(_, at)| at.len() > 1).collect();
    assert!(twice.is_empty(), "POSTs arrived twice: {twice:?}");
    assert!(arrived.len() >= answered && answered > 0);
    for lost in lost {
        let at = arrived.get(&lost.id).map(|at| at[0]);
        let of = |name: &String| at.is_none_or(|at| at == name);
        let mut its = ended.iter().filter_map(|(name, _, crash)| crash.filter(|_| of(name)));
        let excused = its.any(|(from, till)| lost.sent <= till && lost.failed >= from);
        assert!(excused, "lost without a crash of {at:?}: {lost:?}");
    }
    assert_eq!(gets + answered + bad.len() + sum(|seen| seen.lost.len()), ids.load(Relaxed));

    // What has left leaves nothing behind.
    until("the series of those that left to go", || async {
        let metrics = gateway.admin("/metrics").await.text;
        let mut told = metrics.lines().filter_map(|line| line.split_once("instance=\"")?.1.split('"').next());
        told.all(|address| left.iter().any(|left| left == address)).then_some(())
    })
    .await;
}
