//! Too much at once, from outside: what one service cannot take is refused at once, and the others feel nothing of it.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::{io::AsyncWriteExt, net::TcpStream, task::JoinSet};

use crate::support::{Caller, Gateway, Origin, now, until};

/// A service that takes requests and never answers.
async fn hanging() -> Origin {
    Origin::serving(|mut connection| async move {
        while connection.request().await.is_some() {
            std::future::pending::<()>().await;
        }
    })
    .await
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

#[tokio::test]
async fn a_service_that_hangs_at_full_load_does_not_slow_another_down() {
    const LASTS: Duration = Duration::from_secs(2);
    let (hangs, well) = (hanging().await, Origin::start("well").await);
    let gateway =
        Gateway::fixed(&config(&[("hangs", hangs.address, "max_in_flight = 200"), ("well", well.address, "")])).await;
    gateway.until_ready().await;
    p99(gateway.address, Duration::from_millis(300)).await;
    let alone = p99(gateway.address, LASTS).await;

    let _full = leave_waiting(&gateway, "/hangs/", 200).await;
    until("a service that is full", || async { (gateway.get("/hangs/").await.status == 503).then_some(()) }).await;
    // More come all the time, and are refused.
    let mut crowd = JoinSet::new();
    for _ in 0..4 {
        let address = gateway.address;
        crowd.spawn(async move {
            let mut caller = Caller::connect(address).await.unwrap();
            loop {
                assert_eq!(caller.ask("GET", "/hangs/", "").await.unwrap().status, 503);
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
    }
    let beside = p99(gateway.address, LASTS).await;
    println!("shedding: p99 {alone:?} alone, {beside:?} beside a service that hangs at full load");
    assert_eq!(hangs.count(), 200);
    assert!(crowd.try_join_next().is_none(), "a client of the full service was not refused");
    // Some milliseconds are the machine's, not the gateway's.
    assert!(beside <= 2 * alone.max(Duration::from_millis(25)), "{beside:?} beside it, {alone:?} alone");
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
