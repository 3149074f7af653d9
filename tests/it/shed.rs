//! Too much at once, from outside: what one service cannot take is refused at once, and the others feel nothing of it.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio::{io::AsyncWriteExt, net::TcpStream, task::JoinSet};

use crate::support::{Caller, Gateway, Origin, now, until};

/// A service that takes requests and never answers.
async fn hanging() -> Origin {
    Origin::serving(|mut connection| async move { while connection.request().await.is_some() {} }).await
}

fn config(services: &[(&str, SocketAddr, &str)]) -> String {
    let table = |(name, at, more): &(&str, SocketAddr, &str)| {
        format!(
            "[services.{name}]\ninstances = ['{at}']\n{more}\n\
             [[routes]]\nmatch = {{ path = '/{name}/{{*rest}}' }}\nservice = '{name}'\n"
        )
    };
    format!("[http]\nworkers = 2\n{}", services.iter().map(table).collect::<String>())
}

/// Requests on connections of their own, whose answers nobody waits for.
async fn leave_waiting(gateway: &Gateway, path: &str, count: usize) -> Vec<TcpStream> {
    let mut waiting = Vec::new();
    for _ in 0..count {
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
        waiting.push(stream);
    }
    waiting
}

#[tokio::test]
async fn a_service_gets_as_many_requests_as_it_may_have_and_the_next_is_refused_at_once() {
    let (slow, other) = (hanging().await, Origin::start("other").await);
    let gateway =
        Gateway::fixed(&config(&[("slow", slow.address, "max_in_flight = 5"), ("other", other.address, "")])).await;
    gateway.until_ready().await;
    let waiting = leave_waiting(&gateway, "/slow/", 5).await;
    gateway.until_metric(r#"lictor_in_flight{service="slow"}"#, 5.0).await;

    for _ in 0..20 {
        let answer = gateway.get("/slow/").await;
        assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (503, "1"), "{}", answer.text);
        assert_eq!(answer.header("content-type"), "application/problem+json");
        assert_eq!(answer.json()["service"], "slow");
        assert_eq!(gateway.get("/other/").await.text, "other");
    }
    assert_eq!(slow.count(), 5);

    // Who leaves makes room for one who comes, and nothing else does.
    drop(waiting);
    gateway.until_metric(r#"lictor_in_flight{service="slow"}"#, 0.0).await;
    let _waiting = leave_waiting(&gateway, "/slow/", 7).await;
    until("five more requests", || async { (slow.count() == 10).then_some(()) }).await;
    gateway.until_metric(r#"lictor_in_flight{service="slow"}"#, 5.0).await;
    assert_eq!(gateway.get("/slow/").await.status, 503);
    assert_eq!(slow.count(), 10);
}

#[tokio::test]
async fn an_answer_under_way_counts_until_its_last_byte() {
    let origin = Origin::serving(|mut connection| async move {
        while connection.request().await.is_some() {
            connection.stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf ").await.unwrap();
            connection.more().await;
        }
    })
    .await;
    let gateway = Gateway::fixed(&config(&[("slow", origin.address, "max_in_flight = 1")])).await;
    gateway.until_ready().await;
    let _waiting = leave_waiting(&gateway, "/slow/", 1).await;
    until("the first request", || async { (origin.count() == 1).then_some(()) }).await;
    for _ in 0..10 {
        assert_eq!(gateway.get("/slow/").await.status, 503);
    }
    assert_eq!(gateway.metric(r#"lictor_in_flight{service="slow"}"#).await, Some(1.0));
}

/// Clients that call one after the other for a while, and the 99th percentile of how long they waited.
async fn p99(gateway: SocketAddr, lasts: Duration) -> Duration {
    let mut clients = JoinSet::new();
    for _ in 0..4 {
        clients.spawn(async move {
            let (mut caller, mut waits, begun) = (Caller::connect(gateway).await.unwrap(), Vec::new(), now());
            while begun.elapsed() < lasts {
                let asked: Instant = now();
                assert_eq!(caller.ask("GET", "/well/", "").await.unwrap().status, 200);
                waits.push(asked.elapsed());
            }
            waits
        });
    }
    let mut waits = clients.join_all().await.concat();
    waits.sort_unstable();
    waits[waits.len() * 99 / 100]
}

/// Callers who ask for a path all the time.
struct Crowd {
    callers: JoinSet<()>,
    stop: Arc<AtomicBool>,
}

impl Crowd {
    /// All their answers have to have this status.
    fn start(gateway: SocketAddr, path: &'static str, status: u16) -> Self {
        let (mut callers, stop) = (JoinSet::new(), Arc::new(AtomicBool::new(false)));
        for _ in 0..4 {
            let stop = stop.clone();
            callers.spawn(async move {
                let mut caller = Caller::connect(gateway).await.unwrap();
                while !stop.load(Relaxed) {
                    assert_eq!(caller.ask("GET", path, "").await.unwrap().status, status);
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            });
        }
        Self { callers, stop }
    }

    /// Lets each hear its last answer.
    async fn end(self) {
        self.stop.store(true, Relaxed);
        self.callers.join_all().await;
    }
}

fn median(mut waits: Vec<Duration>) -> Duration {
    waits.sort_unstable();
    waits[waits.len() / 2]
}

/// By turns alone and beside it, since the machine has other things to do too, which come and go.
#[tokio::test]
async fn a_service_that_hangs_at_full_load_does_not_slow_another_down() {
    const LASTS: Duration = Duration::from_millis(700);
    const ROUNDS: usize = 7;
    let (hangs, well) = (hanging().await, Origin::start("well").await);
    let gateway =
        Gateway::fixed(&config(&[("hangs", hangs.address, "max_in_flight = 200"), ("well", well.address, "")])).await;
    gateway.until_ready().await;
    p99(gateway.address, Duration::from_millis(300)).await;
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        // As much is asked of the gateway itself as below, so that what differs is the service that hangs.
        let others = Crowd::start(gateway.address, "/nothing", 404);
        alone.push(p99(gateway.address, LASTS).await);
        others.end().await;

        let full = leave_waiting(&gateway, "/hangs/", 200).await;
        gateway.until_metric(r#"lictor_in_flight{service="hangs"}"#, 200.0).await;
        // Each has to be connected to it first.
        until("all requests", || async { (hangs.count() == 200 * round).then_some(()) }).await;
        // More come all the time, and are refused.
        let others = Crowd::start(gateway.address, "/hangs/", 503);
        beside.push(p99(gateway.address, LASTS).await);
        others.end().await;
        assert_eq!(hangs.count(), 200 * round, "a request over the limit reached the service");
        drop(full);
        gateway.until_metric(r#"lictor_in_flight{service="hangs"}"#, 0.0).await;
    }
    let (alone, beside) = (median(alone), median(beside));
    let times = beside.as_secs_f64() / alone.as_secs_f64();
    println!("shedding: p99 {alone:?} alone, {beside:?} beside a service that hangs at full load: {times:.2} times");
    // Twice is what is wanted; the rest, and some milliseconds, are the machine's.
    assert!(beside <= 3 * alone.max(Duration::from_millis(5)), "{beside:?} beside it, {alone:?} alone");
}

#[tokio::test]
async fn what_is_turned_away_counts_as_answered_by_the_gateway_and_says_nothing_of_an_instance() {
    let (slow, well) = (hanging().await, Origin::start("well").await);
    let services = config(&[("slow", slow.address, "max_in_flight = 1"), ("well", well.address, "")]);
    let limit = "[telemetry]\naccess_log = 'access.log'\n[http]\nmax_connections = 3\nworkers = 1\n";
    let gateway = Gateway::fixed(&services.replace("[http]\nworkers = 2\n", limit)).await;
    gateway.until_ready().await;
    let mut first = leave_waiting(&gateway, "/slow/", 1).await;
    gateway.until_metric(r#"lictor_in_flight{service="slow"}"#, 1.0).await;
    let mut caller = Caller::connect(gateway.address).await.unwrap();
    for _ in 0..4 {
        assert_eq!(caller.ask("DELETE", "/slow/", "").await.unwrap().status, 503);
    }
    let crowded = r#"lictor_request_total{service="slow",route="/slow/{*rest}",method="DELETE",status="503"}"#;
    gateway.until_metric(crowded, 4.0).await;
    // Not the connection of this test's own client, which may stay open.
    first.extend(leave_waiting(&gateway, "/well/", 1).await);
    let connections = format!("lictor_connections{{listener=\"{}\"}}", gateway.address);
    gateway.until_metric(&connections, 3.0).await;
    for _ in 0..5 {
        let answer = gateway.raw(b"PUT /well/ HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    }
    // It was not looked at where it would have gone.
    let turned_away = r#"lictor_request_total{service="none",route="none",method="PUT",status="503"}"#;
    gateway.until_metric(turned_away, 5.0).await;
    assert_eq!(gateway.metric(&connections).await, Some(3.0));
    assert_eq!(gateway.metric(r#"lictor_in_flight{service="slow"}"#).await, Some(1.0));
    assert_eq!((slow.count(), well.count()), (1, 1));
    assert!(gateway.metric_sum("lictor_upstream_request_total", r#"service="slow""#).await < 1.0);
    assert!(gateway.metric_sum("lictor_retry_total", r#"service="slow""#).await < 1.0);
    let told = |status: &str, path: &str| {
        let log = std::fs::read_to_string(gateway.file("access.log")).unwrap_or_default();
        log.lines().filter(|line| line.contains(&format!("\"status\":{status}")) && line.contains(path)).count()
    };
    until("each in the access log", || async {
        ((told("503", "/slow/"), told("503", "/well/")) == (4, 5)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_connection_too_many_is_told_so_at_once_and_closed() {
    let origin = Origin::start("well").await;
    let limit = "[http]\nmax_connections = 3\nworkers = 2\n";
    let gateway =
        Gateway::fixed(&config(&[("well", origin.address, "")]).replace("[http]\nworkers = 2\n", limit)).await;
    gateway.until_ready().await;
    let mut open = Vec::new();
    for _ in 0..3 {
        let mut caller = Caller::connect(gateway.address).await.unwrap();
        assert_eq!(caller.ask("GET", "/well/", "").await.unwrap().status, 200);
        open.push(caller);
    }
    for _ in 0..10 {
        let answer = gateway.raw(b"GET /well/ HTTP/1.1\r\nhost: x\r\n\r\n").await.to_ascii_lowercase();
        assert!(answer.starts_with("http/1.1 503 ") && answer.contains("\r\nretry-after: 1\r\n"), "{answer}");
        assert!(answer.contains("\r\nconnection: close\r\n") && answer.contains("\r\nx-request-id: "), "{answer}");
    }
    // Those that are open go on, and one that ends makes room.
    for caller in &mut open {
        assert_eq!(caller.ask("GET", "/well/", "").await.unwrap().status, 200);
    }
    open.pop();
    until("room for one", || async {
        let mut caller = Caller::connect(gateway.address).await.unwrap();
        (caller.ask("GET", "/well/", "").await.ok()?.status == 200).then_some(())
    })
    .await;
}
