//! How a connection behaves beside the messages it carries: interim answers, expectations, clients that leave or are slow.

use std::time::Duration;

use http::Method;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
    time::timeout,
};

use crate::support::{Gateway, Origin, PATIENCE, now, origin::Connection, reset_at_end};

async fn before(origin: &Origin, more: &str) -> Gateway {
    let address = origin.address;
    let route = "[[routes]]\nmatch = { path = \"/{*rest}\" }\nservice = \"web\"\n";
    Gateway::fixed(&format!("{more}\n[services.web]\ninstances = [\"{address}\"]\n{route}")).await
}

/// A service whose connections are played by `play`, which is told of by what it sends on the channel.
async fn played<F>(
    play: impl Fn(Connection, watch::Sender<u64>) -> F + Send + 'static,
) -> (Origin, watch::Receiver<u64>)
where
    F: Future<Output = ()> + Send + 'static,
{
    let (told, hears) = watch::channel(0);
    (Origin::serving(move |connection| play(connection, told.clone())).await, hears)
}

async fn reached(hears: &mut watch::Receiver<u64>, value: u64) {
    timeout(PATIENCE, hears.wait_for(|told| *told >= value)).await.expect("the service was to tell").unwrap();
}

async fn connected(gateway: &Gateway, bytes: &str) -> TcpStream {
    let mut client = TcpStream::connect(gateway.address).await.unwrap();
    client.write_all(bytes.as_bytes()).await.unwrap();
    client
}

/// Reads until what was read ends so.
async fn read_until(client: &mut TcpStream, end: &str) -> String {
    let mut read = Vec::new();
    while !read.ends_with(end.as_bytes()) {
        let byte = timeout(PATIENCE, client.read_u8()).await;
        let Ok(Ok(byte)) = byte else { panic!("{byte:?} behind {}", read.escape_ascii()) };
        read.push(byte);
    }
    String::from_utf8(read).unwrap()
}

async fn rest(client: &mut TcpStream) -> String {
    let mut read = Vec::new();
    timeout(PATIENCE, client.read_to_end(&mut read)).await.unwrap().unwrap();
    String::from_utf8(read).unwrap()
}

const GET: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const STREAM: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n";

#[tokio::test]
async fn early_hints_pass_when_they_come_to_who_knows_them() {
    let (go, wait) = watch::channel(false);
    let origin = Origin::hinting(wait).await;
    let gateway = before(&origin, "").await;
    let mut client = connected(&gateway, GET).await;
    let hint = read_until(&mut client, "\r\n\r\n").await;
    assert_eq!(hint, "HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n");
    go.send_replace(true);
    assert!(read_until(&mut client, "ok").await.starts_with("HTTP/1.1 200 OK\r\n"));

    let old = gateway.raw(b"GET / HTTP/1.0\r\nHost: x\r\n\r\n").await;
    assert!(old.starts_with("HTTP/1.1 200 OK\r\n"), "{old}");
}

#[tokio::test]
async fn more_interim_answers_than_a_few_are_502() {
    let (few, many) = (["HTTP/1.1 103 x\r\n\r\n"; 8].concat(), ["HTTP/1.1 103 x\r\n\r\n"; 9].concat());
    for (hints, status) in [(few, "HTTP/1.1 200 "), (many, "HTTP/1.1 502 ")] {
        let origin = Origin::answering(move |_| format!("{hints}{OK}").into_bytes()).await;
        let gateway = before(&origin, "").await;
        let answer = gateway.raw(GET.as_bytes()).await;
        assert_eq!((answer.matches("HTTP/1.1 103").count(), answer.matches(status).count()), (8, 1), "{answer}");
        assert_eq!(answer.contains("interim answers over and over"), status.contains("502"), "{answer}");
    }
}

#[tokio::test]
async fn who_expects_100_continue_gets_it_once_an_instance_is_there_and_only_once() {
    let (origin, mut hears) = played(|mut connection, told| async move {
        connection.head().await.unwrap();
        told.send_replace(1);
        connection.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
        connection.until_input(4).await;
        connection.stream.write_all(OK.as_bytes()).await.unwrap();
    })
    .await;
    let gateway = before(&origin, "").await;
    let head = "POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-Continue\r\nConnection: close\r\nContent-Length: 4\r\n\r\n";
    let mut client = connected(&gateway, head).await;
    assert_eq!(read_until(&mut client, "\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
    client.write_all(b"body").await.unwrap();
    reached(&mut hears, 1).await;
    let answer = rest(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK") && !answer.contains("100 Continue"), "{answer}");

    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let route = "[[routes]]\nmatch = { path = \"/{*rest}\" }\nservice = \"web\"\n";
    let gateway = Gateway::fixed(&format!("[services.web]\ninstances = [\"{gone}\"]\n{route}")).await;
    let answer = rest(&mut connected(&gateway, head).await).await;
    assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains("\r\nconnection: close\r\n"), "{answer}");
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_request_to_upstream() {
    let (origin, mut hears) = played(|mut connection, told| async move {
        let got = connection.request().await.unwrap();
        if got.line().contains("stream") {
            connection.stream.write_all(STREAM.as_bytes()).await.unwrap();
        }
        told.send_modify(|told| *told += 1);
        assert!(connection.more().await.is_none());
        told.send_modify(|told| *told += 1);
    })
    .await;
    // Nothing else ends it in time.
    let gateway = before(&origin, "[defaults]\ntimeout = { read = \"10m\", total = \"10m\" }").await;
    // With an end before the answer, with a reset also where it comes and is silent.
    let mut client = connected(&gateway, GET).await;
    reached(&mut hears, 1).await;
    client.shutdown().await.unwrap();
    reached(&mut hears, 2).await;
    for (n, target) in [(3, "/wait"), (5, "/stream")] {
        let mut client = connected(&gateway, &GET.replace(" / ", &format!(" {target} "))).await;
        reached(&mut hears, n).await;
        if target == "/stream" {
            read_until(&mut client, "2\r\nok\r\n").await;
        }
        reset_at_end(&client);
        drop(client);
        reached(&mut hears, n + 1).await;
    }
}

#[tokio::test]
async fn an_answer_that_has_begun_is_still_written_for_who_has_ended_its_side() {
    let (go, wait) = watch::channel(false);
    let origin = Origin::serving(move |mut connection| {
        let mut wait = wait.clone();
        async move {
            connection.request().await;
            connection.stream.write_all(STREAM.as_bytes()).await.unwrap();
            let _ = wait.wait_for(|go| *go).await;
            connection.stream.write_all(b"3\r\nend\r\n0\r\nX-Sum: 1\r\nContent-Length: 9\r\n\r\n").await.unwrap();
        }
    })
    .await;
    let gateway = before(&origin, "").await;
    let mut client = connected(&gateway, GET).await;
    read_until(&mut client, "ok\r\n").await;
    client.shutdown().await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    go.send_replace(true);
    // Trailers pass, but not those that say where a message ends.
    assert_eq!(rest(&mut client).await, "3\r\nend\r\n0\r\nx-sum: 1\r\n\r\n");
}

#[tokio::test]
async fn an_upload_goes_on_while_its_client_does_not_read_the_answer() {
    const BODY: usize = 8_000_000;
    let (origin, mut hears) = played(|mut connection, told| async move {
        connection.head().await.unwrap();
        let (mut reader, mut writer) = connection.stream.split();
        let write = async {
            writer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1073741824\r\n\r\n").await.unwrap();
            let piece = vec![0; 64 * 1024];
            while writer.write_all(&piece).await.is_ok() {}
        };
        let read = async {
            let mut buffer = vec![0; 64 * 1024];
            while let Ok(read @ 1..) = reader.read(&mut buffer).await {
                told.send_modify(|told| *told += read as u64);
            }
        };
        tokio::join!(write, read);
    })
    .await;
    let gateway = before(&origin, "").await;
    let mut client =
        connected(&gateway, &format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {BODY}\r\n\r\n")).await;
    // The answer fills all buffers on the way before the body begins.
    let mut answer = [0; 4096];
    timeout(PATIENCE, client.peek(&mut answer)).await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    timeout(PATIENCE, client.write_all(&vec![0; BODY])).await.expect("the upload was to go on").unwrap();
    reached(&mut hears, BODY as u64 - 100_000).await;
}

#[tokio::test]
async fn an_upload_stops_where_upstream_does() {
    let (origin, mut hears) = played(|mut connection, told| async move {
        connection.head().await.unwrap();
        told.send_replace(1);
        std::future::pending::<()>().await;
    })
    .await;
    let gateway = before(&origin, "[http]\nmax_body_size = \"0\"").await;
    let mut client = connected(&gateway, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1073741824\r\n\r\n").await;
    reached(&mut hears, 1).await;
    let piece = vec![0; 64 * 1024];
    let mut taken = 0;
    while let Ok(sent) = timeout(Duration::from_millis(500), client.write(&piece)).await {
        taken += sent.unwrap();
        assert!(taken < 64 * 1024 * 1024, "{taken} bytes were taken for a service that reads nothing");
    }
}

#[tokio::test]
async fn an_early_answer_passes_and_ends_both_connections() {
    let (origin, mut hears) = played(|mut connection, told| async move {
        connection.head().await.unwrap();
        connection.stream.write_all(b"HTTP/1.1 413 No\r\ncontent-length: 2\r\n\r\nno").await.unwrap();
        while connection.more().await.is_some() {}
        told.send_modify(|told| *told += 1);
    })
    .await;
    let gateway = before(&origin, "").await;
    let mut client = connected(&gateway, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nbegin").await;
    let answer = read_until(&mut client, "\r\n\r\nno").await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    client.write_all(GET.as_bytes()).await.unwrap();
    assert_eq!(rest(&mut client).await, "");
    reached(&mut hears, 1).await;
}

#[tokio::test]
async fn upstream_is_not_blamed_for_a_slow_upload() {
    for early in [false, true] {
        let (origin, _) = played(move |mut connection, _| async move {
            connection.head().await.unwrap();
            if early {
                connection.stream.write_all(STREAM.as_bytes()).await.unwrap();
            }
            connection.until_input(8).await;
            let end = if early { "3\r\nend\r\n0\r\n\r\n" } else { OK };
            connection.stream.write_all(end.as_bytes()).await.unwrap();
        })
        .await;
        let gateway = before(&origin, "[defaults]\ntimeout = { read = \"200ms\", total = \"1s\" }").await;
        let mut client = connected(&gateway, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\n").await;
        for half in ["1234", "5678"] {
            tokio::time::sleep(Duration::from_millis(1500)).await;
            client.write_all(half.as_bytes()).await.unwrap();
        }
        let answer = read_until(&mut client, if early { "0\r\n\r\n" } else { "ok" }).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    }
}

#[tokio::test]
async fn event_streams_are_bound_by_the_idle_timeout_and_others_by_the_read_timeout() {
    let origin = Origin::serving(|mut connection| async move {
        let got = connection.request().await.unwrap();
        let kind = if got.line().contains("events") { "Text/Event-Stream; charset=utf-8" } else { "text/plain" };
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: 4\r\n\r\n12");
        connection.stream.write_all(head.as_bytes()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(800)).await;
        let _ = connection.stream.write_all(b"34").await;
    })
    .await;
    let gateway = before(&origin, "[defaults]\ntimeout = { read = \"200ms\", idle = \"10s\" }").await;
    let mut events = connected(&gateway, &GET.replace(" / ", " /events ")).await;
    assert!(read_until(&mut events, "1234").await.starts_with("HTTP/1.1 200 OK"));
    let mut other = connected(&gateway, GET).await;
    let mut read = Vec::new();
    // Cut visibly.
    assert!(timeout(PATIENCE, other.read_to_end(&mut read)).await.unwrap().is_err());
    assert!(read.ends_with(b"\r\n\r\n12"), "{}", read.escape_ascii());
}

#[tokio::test]
async fn options_of_the_whole_server_is_answered_here_and_every_answer_has_a_date() {
    let origin = Origin::start("a").await;
    let gateway = before(&origin, "").await;
    let answer = gateway.raw(b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("\r\ncontent-length: 0\r\n"), "{answer}");
    assert_eq!(origin.count(), 0);
    for answer in [answer, gateway.raw(b"nonsense\r\n").await, gateway.raw(GET.as_bytes()).await] {
        let date = answer.lines().find_map(|line| line.strip_prefix("date: ")).expect("a date");
        assert!(date.len() == 29 && date.ends_with(" GMT"), "{answer}");
    }
    let origin = Origin::answering(|_| b"HTTP/1.1 204 x\r\nDate: theirs\r\n\r\n".to_vec()).await;
    assert_eq!(before(&origin, "").await.send(Method::GET, "/", &[], "").await.header("date"), "theirs");
}

#[tokio::test]
async fn http_1_0_may_come_without_a_host() {
    let origin = Origin::start("a").await;
    let gateway = before(&origin, "").await;
    let answer = gateway.raw(b"GET / HTTP/1.0\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\na"), "{answer}");
    assert_eq!(origin.only().field("host"), origin.address.to_string());
}

#[tokio::test]
async fn a_silent_connection_is_closed_without_a_word_and_a_slow_head_with_408() {
    let origin = Origin::start("a").await;
    let gateway = before(&origin, "[http]\nheader_timeout = \"300ms\"\nkeep_alive = \"500ms\"").await;
    for (bytes, begins) in [("", ""), ("GET / HTTP/1.1\r\nHo", "HTTP/1.1 408 ")] {
        let answer = rest(&mut connected(&gateway, bytes).await).await;
        assert!(answer.starts_with(begins) && answer.is_empty() == begins.is_empty(), "{answer}");
    }
    // Bytes that drip in do not put it off.
    let mut client = TcpStream::connect(gateway.address).await.unwrap();
    let (mut reader, mut writer) = client.split();
    let drip = async {
        for byte in GET.bytes().cycle().filter(|&b| b != b'\n') {
            let _ = writer.write_all(&[byte]).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let mut answer = String::new();
    let started = now();
    tokio::select! {
        _ = reader.read_to_string(&mut answer) => {}
        () = drip => {}
    }
    assert!(answer.starts_with("HTTP/1.1 408 ") && started.elapsed() < PATIENCE, "{answer}");
    // After an answer, an idle connection is closed without a word too.
    let answer = rest(&mut connected(&gateway, GET).await).await;
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
}
