//! Messages that are written in pieces, which the writer's system holds back until the one before is acknowledged (Nagle's algorithm,
//! RFC 9293 §3.7.4): the gateway's own puts that off where it is to go with an answer. The quickest of many tells, however busy the
//! machine is.

use std::{
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener},
    thread,
    time::Duration,
};

use bytes::Bytes;
use http::Response;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::yield_now,
};

use crate::support::{
    Gateway, Origin,
    http2::{DATA, END_HEADERS, END_STREAM, Frames, HEADERS, fields, frame},
    now,
    streams::{Stream, Streams},
};

/// To acknowledge what nothing is sent with, a system takes at least so long.
const DELAY: Duration = Duration::from_millis(40);
/// It acknowledges the first few of a connection at once by itself.
const FEW: usize = 30;

/// A gateway in front of one instance that speaks this protocol.
async fn before(instance: SocketAddr, protocol: &str) -> Gateway {
    let service = format!("[services.web]\ninstances = ['{instance}']\nprotocol = '{protocol}'\n");
    let route = "[[routes]]\nmatch.path = '/'\nservice = 'web'\n";
    Gateway::fixed(&format!("[http]\nworkers = 1\n{service}{route}")).await
}

/// Answers all requests in these pieces, without having told its system to send small ones at once.
fn in_pieces(pieces: &'static [&'static str]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                let read = BufReader::new(stream.try_clone().unwrap());
                for line in read.lines().map_while(Result::ok) {
                    if line.is_empty() {
                        pieces.iter().try_for_each(|piece| stream.write_all(piece.as_bytes())).unwrap();
                    }
                }
            });
        }
    });
    address
}

/// How long the quickest takes, but for the first few, which are to come one after the other on one connection.
async fn quickest(mut ask: impl AsyncFnMut()) -> Duration {
    let mut quickest = Duration::MAX;
    for asked in 0..2 * FEW {
        let began = now();
        ask().await;
        if asked >= FEW {
            quickest = quickest.min(began.elapsed());
        }
    }
    quickest
}

#[tokio::test]
async fn answers_in_pieces_come_without_delay() {
    const ANSWERS: [&[&str]; 4] = [
        &["HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", "ok"],
        &["HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"],
        &["HTTP/1.1 200 OK\r\n", "Content-Length: 2\r\n", "\r\n", "ok"],
        &["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "2\r\n", "ok", "\r\n", "0\r\n", "\r\n"],
    ];
    for pieces in ANSWERS {
        let gateway = before(in_pieces(pieces), "http").await;
        let took = quickest(async || assert_eq!(gateway.get("/").await.text, "ok")).await;
        assert!(took < DELAY, "{pieces:?}: {took:?}");
    }
}

#[tokio::test]
async fn answers_of_http2_in_pieces_come_without_delay() {
    let origin = Streams::serving(|Stream { mut respond, .. }| async move {
        let mut body = respond.send_response(Response::new(()), false).unwrap();
        for text in ["o", "k"] {
            // What was written before leaves.
            for _ in 0..10 {
                yield_now().await;
            }
            body.send_data(Bytes::from(text), text == "k").unwrap();
        }
    })
    .await;
    let gateway = before(origin.address, "h2c").await;
    let took = quickest(async || assert_eq!(gateway.get("/").await.text, "ok")).await;
    assert!(took < DELAY, "{took:?}");
}

#[tokio::test]
async fn requests_in_pieces_are_answered_without_delay() {
    let origin = Origin::start("a").await;
    let gateway = before(origin.address, "http").await;
    let head = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n";
    let chunked = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    for parts in [
        &[&head[..20], &head[20..], "abcd"][..],
        &[head, "ab", "cd"],
        &[chunked, "2\r\nab\r\n", "0\r\n", "\r\n"],
        &[&head.replace("\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n"), "ab", "cd"],
    ] {
        let mut client = TcpStream::connect(gateway.address).await.unwrap();
        assert!(!client.nodelay().unwrap());
        let took = quickest(async || {
            for part in parts {
                client.write_all(part.as_bytes()).await.unwrap();
            }
            let mut answer = Vec::new();
            while !answer.ends_with(b"\r\n\r\na") {
                assert_ne!(client.read_buf(&mut answer).await.unwrap(), 0);
            }
            assert!(answer.starts_with(b"HTTP/1.1 "), "{}", answer.escape_ascii());
        })
        .await;
        assert!(took < DELAY, "{parts:?}: {took:?}");
    }
}

#[tokio::test]
async fn requests_of_http2_in_pieces_are_answered_without_delay() {
    let origin = Origin::start("a").await;
    let gateway = before(origin.address, "http").await;
    let post = [(":method", "POST"), (":scheme", "http"), (":authority", "api.example.com"), (":path", "/")];
    let mut client = Frames::connect(gateway.address).await;
    client.stream.set_nodelay(false).unwrap();
    let mut stream = 1;
    let took = quickest(async || {
        // The head in two pieces, and the body behind it.
        let head = frame(HEADERS, END_HEADERS, stream, &fields(&post));
        let body = frame(DATA, END_STREAM, stream, b"abcd");
        for piece in [&head[..20], &head[20..], &body] {
            assert!(client.send(piece).await);
        }
        while client.until(&[DATA]).await.unwrap().1 & END_STREAM == 0 {}
        stream += 2;
    })
    .await;
    assert!(took < DELAY, "{took:?}");
}
