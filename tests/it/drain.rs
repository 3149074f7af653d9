//! The end of the gateway: nothing that is under way is lost.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
    time::timeout,
};

use crate::support::{Caller, Gateway, Origin, PATIENCE, until};

/// A service that answers once it is let to, and the sender that lets it.
pub async fn held() -> (Origin, watch::Sender<bool>) {
    let (go, wait) = watch::channel(false);
    let origin = Origin::serving(move |mut connection| {
        let mut wait = wait.clone();
        async move {
            while connection.request().await.is_some() {
                let _ = wait.wait_for(|go| *go).await;
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone";
                if connection.stream.write_all(answer).await.is_err() {
                    break;
                }
            }
        }
    })
    .await;
    (origin, go)
}

/// A gateway before it, with these keys of `[http]`.
pub async fn before(origin: &Origin, http: &str) -> Gateway {
    let address = origin.address;
    let route = "[[routes]]\nmatch = { path = \"/{*rest}\" }\nservice = \"web\"\n";
    Gateway::fixed(&format!("[http]\n{http}\n[services.web]\ninstances = [\"{address}\"]\n{route}")).await
}

async fn rest(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn sigterm_lets_requests_under_way_end_and_exits_0() {
    let (origin, go) = held().await;
    let mut gateway = before(&origin, "").await;
    let mut busy = TcpStream::connect(gateway.address).await.unwrap();
    let mut idle = TcpStream::connect(gateway.address).await.unwrap();
    busy.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    until("the request", || async { (origin.count() == 1).then_some(()) }).await;

    gateway.signal("TERM");

    assert_eq!(rest(&mut idle).await, "", "an idle connection just closes");
    until("closed listeners", || async { TcpStream::connect(gateway.address).await.is_err().then_some(()) }).await;
    assert_eq!(gateway.admin("/readyz").await.status, 503);
    go.send_replace(true);
    let answer = rest(&mut busy).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("done"), "{answer}");
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    assert_eq!(gateway.ended().await.code(), Some(0));
}

#[tokio::test]
async fn during_drain_wait_all_is_served_and_clients_are_sent_elsewhere() {
    let origin = Origin::start("a").await;
    let mut gateway = before(&origin, "drain_wait = \"2s\"").await;
    gateway.signal("TERM");
    until("not ready", || async { (gateway.admin("/readyz").await.status == 503).then_some(()) }).await;

    let answer = gateway.raw(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\r\nconnection: close\r\n"), "{answer}");
    assert_eq!(gateway.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_request_that_does_not_end_is_cut_off_when_the_drain_is_over() {
    let (origin, _go) = held().await;
    let mut gateway = before(&origin, "drain = \"500ms\"").await;
    let mut busy = TcpStream::connect(gateway.address).await.unwrap();
    busy.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    until("the request", || async { (origin.count() == 1).then_some(()) }).await;

    gateway.signal("TERM");

    assert_eq!(gateway.ended().await.code(), Some(0));
}

/// With a request under way that nothing ends but a second signal, for as long as all of these are held.
pub async fn busy() -> (Gateway, Origin, (TcpStream, watch::Sender<bool>)) {
    let (origin, go) = held().await;
    let patient = "drain = \"10m\"\n[defaults]\ntimeout = { total = \"10m\", read = \"10m\" }";
    let gateway = before(&origin, patient).await;
    let mut client = TcpStream::connect(gateway.address).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    until("the request", || async { (origin.count() == 1).then_some(()) }).await;
    (gateway, origin, (client, go))
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let (mut gateway, _origin, _busy) = busy().await;

    gateway.signal("TERM");
    gateway.until_event("draining").await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    gateway.signal("INT");

    gateway.ended().await;
}

#[tokio::test]
async fn a_kept_connection_may_bring_one_more_request_whose_answer_ends_it() {
    let origin = Origin::start("a").await;
    let mut gateway = before(&origin, "drain = \"20s\"").await;
    let mut kept = Caller::connect(gateway.address).await.unwrap();
    assert!(!kept.ask("GET", "/", "").await.unwrap().closes);
    gateway.signal("TERM");
    // Seen in the kernel's table, where 0A is a listener: to try would take a second while it is about to close.
    let listener = format!(":{:04X} 00000000:0000 0A ", gateway.address.port());
    until("closed listeners", || async {
        (!std::fs::read_to_string("/proc/net/tcp").unwrap().contains(&listener)).then_some(())
    })
    .await;

    let heard = kept.ask("GET", "/", "").await.unwrap();
    assert_eq!((heard.status, heard.closes), (200, true));
    assert_eq!(gateway.ended().await.code(), Some(0));
}
