//! Streams, upgrades and server-sent events: as long as something passes they go on, whatever `timeout.total` and
//! `timeout.read` say, and `timeout.idle` ends them.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};

use crate::support::{Gateway, Origin, PATIENCE, Streams, grpc::call, http2::Http2, now, streams::Stream};

/// Far more than `total` and `read`, in steps far below `idle`.
const STEPS: usize = 8;
const STEP: Duration = Duration::from_millis(150);
const TIMES: &str = "timeout = { total = '300ms', read = '100ms', idle = '2s' }\nretry.attempts = 1\n";

async fn before(address: std::net::SocketAddr, protocol: &str) -> Gateway {
    Gateway::fixed(&format!(
        "[http]\nworkers = 1\n[services.web]\ninstances = ['{address}']\nprotocol = '{protocol}'\n{TIMES}\
         [[routes]]\nmatch.path = '/{{*rest}}'\nservice = 'web'\n"
    ))
    .await
}

/// Sends the head and reads until all steps have come; then until the end, and gives how long that took.
async fn followed(gateway: &Gateway, head: &str) -> Duration {
    let mut client = TcpStream::connect(gateway.address).await.unwrap();
    client.write_all(head.as_bytes()).await.unwrap();
    let mut read = Vec::new();
    let steps = |read: &[u8]| read.windows(4).filter(|at| *at == b"step").count();
    while steps(&read) < STEPS {
        let more = timeout(PATIENCE, client.read_buf(&mut read)).await.expect("the next step").unwrap();
        assert!(more > 0, "it ended after {} steps: {}", steps(&read), read.escape_ascii());
    }
    let since = now();
    // How it ends is for others to say: cut or closed.
    while let Ok(1..) = timeout(PATIENCE, client.read_buf(&mut read)).await.expect("an end") {}
    since.elapsed()
}

#[tokio::test]
async fn events_and_upgrades_outlast_the_other_timeouts_and_end_when_nothing_passes() {
    let origin = Origin::serving(|mut connection| async move {
        let Some(got) = connection.request().await else { return };
        let head: &[u8] = if got.field("upgrade").is_empty() {
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
        } else {
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n"
        };
        connection.stream.write_all(head).await.unwrap();
        for _ in 0..STEPS {
            sleep(STEP).await;
            connection.stream.write_all(b"step").await.unwrap();
        }
        std::future::pending::<()>().await;
    })
    .await;
    let gateway = before(origin.address, "http").await;
    let events = "GET /events HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\n\r\n";
    let upgrade = "GET /ws HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    for head in [events, upgrade] {
        let ended = followed(&gateway, head).await;
        assert!(ended >= Duration::from_secs(1), "{ended:?} after the last step: {head}");
    }
}

#[tokio::test]
async fn a_stream_of_grpc_outlasts_the_other_timeouts_and_ends_when_nothing_passes() {
    let origin = Streams::serving(|mut stream: Stream| async move {
        // The head may take longer than `total` too: a stream that has nothing to say yet.
        sleep(STEP * 4).await;
        let head = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
        let mut body = stream.respond.send_response(head, false).unwrap();
        for _ in 0..STEPS {
            sleep(STEP).await;
            body.send_data(Bytes::from_static(b"\0\0\0\0\x04step"), false).unwrap();
        }
        if stream.request.uri().path().ends_with("Ends") {
            let status = ("grpc-status".parse().unwrap(), HeaderValue::from_static("0"));
            body.send_trailers(HeaderMap::from_iter([status])).unwrap();
        } else {
            std::future::pending::<()>().await;
        }
    })
    .await;
    let gateway = before(origin.address, "grpc").await;
    let client = Http2::connect(gateway.address).await;
    let came = client.ask(call("/test.Streams/Ends", &[]), b"").await.unwrap();
    assert_eq!((came.head.status.as_u16(), came.body.len()), (200, STEPS * 9), "{came:?}");
    assert_eq!(came.trailers.unwrap()["grpc-status"], "0");

    let begun = now();
    let cut = client.ask(call("/test.Streams/Hangs", &[]), b"").await;
    assert!(cut.is_err(), "{cut:?}");
    let least = STEP * u32::try_from(STEPS).unwrap() + Duration::from_secs(1);
    assert!(begun.elapsed() >= least, "cut after {:?}", begun.elapsed());
}

#[tokio::test]
async fn any_other_answer_is_bound_by_total_until_its_head_and_by_read_after_it() {
    let origin = Origin::serving(|mut connection| async move {
        let Some(got) = connection.request().await else { return };
        if got.line().contains("/late") {
            return std::future::pending().await;
        }
        connection.stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nstep").await.unwrap();
        std::future::pending::<()>().await;
    })
    .await;
    let gateway = before(origin.address, "http").await;
    assert_eq!(gateway.get("/late").await.status, 504);
    let mut client = TcpStream::connect(gateway.address).await.unwrap();
    client.write_all(b"GET /half HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut read = Vec::new();
    assert!(timeout(PATIENCE, client.read_to_end(&mut read)).await.expect("a cut").is_err());
    assert!(read.ends_with(b"\r\n\r\nstep"), "{}", read.escape_ascii());
}
