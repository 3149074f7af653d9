//! Upgraded connections: only what was asked for, then bytes both ways, and what becomes of them.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::support::{Consul, Gateway, Origin, PATIENCE, origin::Connection, reset_at_end, until};

const ASK: &str = "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\
                   Sec-WebSocket-Key: abc\r\n\r\n";
const SWITCH: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                        Sec-WebSocket-Accept: def\r\n\r\n";

async fn before(origin: &Origin, more: &str) -> Gateway {
    let address = origin.address;
    let route = "[[routes]]\nmatch = { path = \"/{*rest}\" }\nservice = \"web\"\n";
    Gateway::fixed(&format!("{more}\n[services.web]\ninstances = [\"{address}\"]\n{route}")).await
}

/// Switches, greets in the same breath, and echoes until the client has ended; then says good-bye.
async fn echo(mut connection: Connection) {
    if connection.request().await.is_none() {
        return;
    }
    let stream = &mut connection.stream;
    let _ = stream.write_all(&[SWITCH, b"hello "].concat()).await;
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        if stream.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
    let _ = stream.write_all(b" bye").await;
}

/// A client whose upgrade was granted, and the head that said so.
async fn upgraded(gateway: &Gateway) -> (TcpStream, String) {
    let mut client = TcpStream::connect(gateway.address).await.unwrap();
    client.write_all(ASK.as_bytes()).await.unwrap();
    let head = head(&mut client).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    (client, head)
}

async fn head(client: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(timeout(PATIENCE, client.read_u8()).await.unwrap().unwrap());
    }
    String::from_utf8(head).unwrap()
}

async fn rest(client: &mut TcpStream) -> String {
    let mut read = Vec::new();
    timeout(PATIENCE, client.read_to_end(&mut read)).await.unwrap().unwrap();
    String::from_utf8(read).unwrap()
}

async fn expect(client: &mut TcpStream, bytes: &str) {
    let mut read = vec![0; bytes.len()];
    timeout(PATIENCE, client.read_exact(&mut read)).await.unwrap().unwrap();
    assert_eq!(String::from_utf8(read).unwrap(), bytes);
}

#[tokio::test]
async fn an_upgrade_passes_as_one_pair_and_its_bytes_both_ways_to_the_end_of_each() {
    let origin = Origin::serving(echo).await;
    let gateway = before(&origin, "").await;
    let mut client = TcpStream::connect(gateway.address).await.unwrap();
    // What is sent with the request is of the other protocol, whatever it looks like.
    let ahead = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";
    client.write_all(format!("{ASK}{ahead}").as_bytes()).await.unwrap();
    let head = head(&mut client).await.to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    for field in ["connection: upgrade", "upgrade: websocket", "sec-websocket-accept: def", "x-request-id: "] {
        assert_eq!(head.matches(&format!("\r\n{field}")).count(), 1, "{field}: {head}");
    }
    assert!(!head.contains("content-length") && !head.contains("transfer-encoding"), "{head}");
    expect(&mut client, "hello ").await;
    expect(&mut client, ahead).await;
    client.write_all(b"GET /again HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(rest(&mut client).await, "GET /again HTTP/1.1\r\nHost: x\r\n\r\n bye");

    let got = origin.only();
    assert_eq!(got.fields("connection").collect::<Vec<_>>(), ["upgrade"]);
    assert_eq!(got.fields("upgrade").collect::<Vec<_>>(), ["WebSocket"]);
    assert_eq!(got.field("sec-websocket-key"), "abc");
    assert_eq!(got.fields("transfer-encoding").count() + got.fields("content-length").count(), 0, "{}", got.head);
}

#[tokio::test]
async fn large_streams_pass_whole_both_ways_at_once() {
    let origin = Origin::serving(echo).await;
    let gateway = before(&origin, "").await;
    let (mut client, _) = upgraded(&gateway).await;
    expect(&mut client, "hello ").await;
    let sent: Vec<u8> = (0..8_000_000_u32).map(|i| (i % 251) as u8).collect();
    let (mut reader, mut writer) = client.split();
    let write = async {
        writer.write_all(&sent).await.unwrap();
        writer.shutdown().await.unwrap();
    };
    let mut read = Vec::new();
    let all = async { tokio::join!(write, reader.read_to_end(&mut read)).1.unwrap() };
    timeout(PATIENCE, all).await.unwrap();
    assert!(read == [&sent[..], b" bye"].concat(), "{} bytes", read.len());
}

#[tokio::test]
async fn what_nobody_may_ask_for_is_not_asked_of_upstream() {
    let origin = Origin::start("plain").await;
    let gateway = before(&origin, "").await;
    let host = "Host: x\r\nConnection: upgrade, http2-settings, close";
    for (request, count) in [
        (format!("GET / HTTP/1.1\r\n{host}\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n"), 0),
        (format!("GET / HTTP/1.1\r\n{host}\r\nUpgrade: H2C, websocket\r\n\r\n"), 1),
        (format!("GET / HTTP/1.0\r\n{host}\r\nUpgrade: websocket\r\n\r\n"), 0),
        (format!("POST / HTTP/1.1\r\n{host}\r\nUpgrade: websocket\r\nContent-Length: 1\r\n\r\nx"), 0),
        ("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nUpgrade: websocket\r\n\r\n".to_owned(), 0),
    ] {
        let answer = gateway.raw(request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("plain"), "{answer}");
        let got = origin.got().pop().unwrap();
        assert_eq!(got.fields("upgrade").count(), count, "{request}{}", got.head);
        assert!(got.fields("upgrade").all(|protocol| protocol == "websocket"), "{}", got.head);
        assert_eq!(got.fields("http2-settings").count(), 0, "{}", got.head);
    }
}

#[tokio::test]
async fn a_switch_that_nobody_asked_for_is_502() {
    for (ask, answered) in [
        ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", "websocket"),
        ("GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n", "h2c"),
        (ASK, "other"),
        (ASK, "websocket, other"),
        (
            "POST / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 1\r\n\r\nx",
            "websocket",
        ),
    ] {
        let head = format!("HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: {answered}\r\n");
        is_refused(ask, &head).await;
    }
}

/// A request is answered with 502 where its instance answers with this head.
async fn is_refused(ask: &str, head: &str) {
    let answer = format!("{head}\r\ntunnel").into_bytes();
    let origin = Origin::answering(move |_| answer.clone()).await;
    let gateway = before(&origin, "").await;
    let answer = gateway.raw(ask.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 502") && !answer.contains("tunnel"), "{ask}{head}: {answer}");
}

#[tokio::test]
async fn a_switch_that_cannot_be_is_502() {
    // Neither can a server of HTTP/1.0 switch, nor has this answer a body (RFC 9110 §7.8, RFC 9112 §6.1).
    let switch = "101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n";
    is_refused(ASK, &format!("HTTP/1.0 {switch}")).await;
    is_refused(ASK, &format!("HTTP/1.1 {switch}Transfer-Encoding: chunked\r\n")).await;
}

#[tokio::test]
async fn any_other_answer_to_an_upgrade_is_an_answer_and_requests_go_on() {
    let origin = Origin::start("no").await;
    let gateway = before(&origin, "").await;
    let answer = gateway.raw(format!("{ASK}GET /next HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await;
    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 2, "{answer}");
    assert_eq!(origin.got()[1].line(), "GET /next HTTP/1.1");
    assert_eq!(origin.got()[1].fields("upgrade").count(), 0);
}

#[tokio::test]
async fn a_tunnel_counts_as_under_way_until_its_end_and_then_as_success() {
    let origin = Origin::serving(echo).await;
    let gateway = before(&origin, "").await;
    let (mut client, _) = upgraded(&gateway).await;
    expect(&mut client, "hello ").await;
    let (address, in_flight) = (origin.address, "lictor_in_flight{service=\"web\"}");
    let success =
        format!("lictor_upstream_request_total{{service=\"web\",instance=\"{address}\",outcome=\"success\"}}");
    let connections = &format!("lictor_connections{{listener=\"{}\"}}", gateway.address);
    let answers = r#"lictor_request_total{service="web",route="/{*rest}",method="GET",status="101"}"#;
    gateway.until_metric(in_flight, 1.0).await;
    until("the connection", || async { (gateway.metric(connections).await == Some(1.0)).then_some(()) }).await;
    assert_eq!(gateway.metric(answers).await, None);
    client.shutdown().await.unwrap();
    assert_eq!(rest(&mut client).await, " bye");
    until("the end", || async { (gateway.metric(in_flight).await == Some(0.0)).then_some(()) }).await;
    gateway.until_metric(&success, 1.0).await;
    gateway.until_metric(answers, 1.0).await;
    until("no connection", || async { (gateway.metric(connections).await == Some(0.0)).then_some(()) }).await;
}

#[tokio::test]
async fn an_idle_tunnel_is_closed_after_its_timeout() {
    let origin = Origin::serving(echo).await;
    let gateway = before(&origin, "[defaults]\ntimeout = { idle = \"300ms\" }").await;
    let (mut client, _) = upgraded(&gateway).await;
    expect(&mut client, "hello ").await;
    // Anything that passes in time keeps it; then its end comes by itself.
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        client.write_all(b"x").await.unwrap();
        expect(&mut client, "x").await;
    }
    assert_eq!(rest(&mut client).await, "");
}

#[tokio::test]
async fn a_side_that_is_cut_cuts_the_other() {
    let origin = Origin::serving(|mut connection| async move {
        connection.request().await;
        connection.stream.write_all(SWITCH).await.unwrap();
        connection.stream.read_u8().await.unwrap();
        reset_at_end(&connection.stream);
    })
    .await;
    let gateway = before(&origin, "").await;
    let (mut client, _) = upgraded(&gateway).await;
    client.write_all(b"x").await.unwrap();
    assert!(timeout(PATIENCE, client.read_u8()).await.unwrap().is_err());
}

#[tokio::test]
async fn a_tunnel_runs_on_when_its_service_is_configured_away() {
    let origin = Origin::serving(echo).await;
    let gateway = before(&origin, "").await;
    let (mut client, _) = upgraded(&gateway).await;
    expect(&mut client, "hello ").await;
    gateway.configure("");
    gateway.signal("HUP");
    gateway.until_status("/ws", 404).await;
    client.write_all(b"still").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(rest(&mut client).await, "still bye");
}

#[tokio::test]
async fn a_tunnel_runs_on_when_its_instance_is_deregistered() {
    let (consul, origin) = (Consul::start().await, Origin::serving(echo).await);
    consul.register("chat", "chat-1", origin.address).await;
    let gateway = Gateway::start(&consul, "").await;
    gateway.until_usable("chat", 1).await;
    let mut client = TcpStream::connect(gateway.address).await.unwrap();
    client.write_all(ASK.replace("/ws", "/api/v1/chat/ws").as_bytes()).await.unwrap();
    assert!(head(&mut client).await.starts_with("HTTP/1.1 101 "));
    expect(&mut client, "hello ").await;
    consul.deregister("chat-1").await;
    gateway.until_status("/api/v1/chat/ws", 404).await;
    // What it counts for lives as long as it does.
    gateway.until_metric("lictor_in_flight{service=\"chat\"}", 1.0).await;
    client.write_all(b"still").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(rest(&mut client).await, "still bye");
    let series = "lictor_in_flight{service=\"chat\"}";
    until("the end of the series", || async { gateway.metric(series).await.is_none().then_some(()) }).await;
}

#[tokio::test]
async fn a_tunnel_runs_on_in_a_drain_until_that_is_over() {
    let origin = Origin::serving(echo).await;
    let mut gateway = before(&origin, "[http]\ndrain = \"1s\"").await;
    let (mut client, _) = upgraded(&gateway).await;
    expect(&mut client, "hello ").await;
    gateway.signal("TERM");
    gateway.until_event("draining").await;
    client.write_all(b"still").await.unwrap();
    expect(&mut client, "still").await;
    gateway.ended().await;
    let mut left = Vec::new();
    let _ = timeout(PATIENCE, client.read_to_end(&mut left)).await.unwrap();
    assert!(left.is_empty(), "{}", left.escape_ascii());
}
