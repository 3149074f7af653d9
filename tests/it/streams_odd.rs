//! Instances that speak HTTP/2 and answer with what they should not: it is held to the rules of HTTP/1.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};

use crate::support::{
    Gateway, Streams,
    http2::{Http2, get},
    streams::Stream,
};

async fn before(address: SocketAddr, protocol: &str) -> Gateway {
    let route = "[[routes]]\nmatch = { path = \"/{*rest}\" }\nservice = \"web\"\n";
    let service = format!("[services.web]\ninstances = [\"{address}\"]\nprotocol = \"{protocol}\"\n");
    // No circuit may hide it.
    let breaker = "breaker = { consecutive = 100, min_requests = 1000 }\n";
    let gateway = Gateway::fixed(&format!("[http]\nworkers = 1\n{service}{breaker}{route}")).await;
    gateway.until_ready().await;
    gateway
}

fn many(count: usize) -> HeaderMap {
    (0..count).map(|n| (format!("x-{n}").parse::<HeaderName>().unwrap(), HeaderValue::from_static("1"))).collect()
}

#[tokio::test]
async fn a_head_that_http_1_would_not_take_is_502() {
    let origin = Streams::serving(|mut stream: Stream| async move {
        let mut head = Response::new(());
        let (what, amount) = stream.request.uri().path()[1..].split_once('/').unwrap();
        let amount: usize = amount.parse().unwrap();
        match what {
            "status" => *head.status_mut() = http::StatusCode::from_u16(u16::try_from(amount).unwrap()).unwrap(),
            "fields" => *head.headers_mut() = many(amount),
            "bytes" => drop(head.headers_mut().insert("x-large", "v".repeat(amount).parse().unwrap())),
            "lengths" => {
                for _ in 0..amount {
                    head.headers_mut().append("content-length", 0.into());
                }
            }
            _ => {
                for _ in 0..amount {
                    let hint = Response::builder().status(103).body(()).unwrap();
                    stream.respond.send_informational(hint).unwrap();
                }
            }
        }
        stream.respond.send_response(head, true).unwrap();
    })
    .await;
    let gateway = before(origin.address, "h2c").await;
    for (path, status) in [
        ("/status/599", 599),
        ("/status/600", 502),
        ("/status/999", 502),
        ("/fields/256", 200),
        ("/fields/257", 502),
        ("/fields/600", 502),
        ("/bytes/32000", 200),
        ("/bytes/33000", 502),
        ("/bytes/300000", 502),
        ("/lengths/1", 200),
        ("/lengths/2", 502),
        ("/interim/8", 200),
        ("/interim/9", 502),
    ] {
        let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        let answer = gateway.raw(request.as_bytes()).await;
        let last = answer.rsplit("HTTP/1.1 ").next().unwrap();
        assert!(last.starts_with(&format!("{status} ")), "{path}: {last:.100}");
    }
}

#[tokio::test]
async fn values_lose_the_blanks_around_them() {
    let origin = Streams::serving(|mut stream: Stream| async move {
        let head = Response::builder().header("x-head", " \ta b ").body(()).unwrap();
        let mut body = stream.respond.send_response(head, false).unwrap();
        body.send_data(Bytes::from_static(b"a"), false).unwrap();
        body.send_trailers([("x-tail".parse().unwrap(), " c\t".parse().unwrap())].into_iter().collect()).unwrap();
    })
    .await;
    let gateway = before(origin.address, "h2c").await;
    let answer = gateway.raw(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    assert!(answer.contains("\r\nx-head: a b\r\n") && answer.ends_with("\r\nx-tail: c\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn an_answer_without_a_body_announces_none_to_a_client_of_the_same_version() {
    let origin = Streams::serving(|mut stream: Stream| async move {
        let status: u16 = stream.request.uri().path()[1..].parse().unwrap();
        let head = Response::builder().status(status).header("content-length", "5").body(()).unwrap();
        stream.respond.send_response(head, true).unwrap();
    })
    .await;
    let gateway = before(origin.address, "h2c").await;
    let client = Http2::connect(gateway.address).await;
    for (method, path, length) in [("GET", "/204", None), ("GET", "/304", Some("5")), ("HEAD", "/200", Some("5"))] {
        let request = Request::builder().method(method).uri(format!("http://h{path}")).body(()).unwrap();
        let came = client.ask(request, b"").await.unwrap();
        let told = came.head.headers.get("content-length").map(|length| length.to_str().unwrap());
        assert_eq!(told, length, "{method} {path}");
    }
}

/// Trailers of so many fields, or of one of so many bytes, before the one that counts.
fn trailers(path: &str) -> HeaderMap {
    let (what, amount) = path[1..].split_once('/').unwrap();
    let amount = amount.parse().unwrap();
    let mut trailers = if what == "fields" { many(amount) } else { HeaderMap::new() };
    if what == "bytes" {
        trailers.insert("grpc-status-details-bin", "A".repeat(amount).parse().unwrap());
    }
    trailers.insert("grpc-status", "5".parse().unwrap());
    trailers
}

#[tokio::test]
async fn trailers_come_whole_or_the_answer_breaks_off() {
    let origin = Streams::serving(|mut stream: Stream| async move {
        let trailers = trailers(stream.request.uri().path());
        let mut body = stream.respond.send_response(Response::new(()), false).unwrap();
        body.send_data(Bytes::from_static(b"\0\0\0\0\0"), false).unwrap();
        body.send_trailers(trailers).unwrap();
    })
    .await;
    for protocol in ["h2c", "grpc"] {
        let gateway = before(origin.address, protocol).await;
        let client = Http2::connect(gateway.address).await;
        for (path, whole) in [
            ("/bytes/1000", true),
            ("/bytes/32000", true),
            ("/bytes/40000", false),
            ("/bytes/200000", false),
            ("/bytes/300000", false),
            ("/bytes/900000", false),
            ("/fields/255", true),
            ("/fields/256", false),
            ("/fields/5000", false),
        ] {
            let came = client.ask(get(path), b"").await;
            assert_eq!(came.is_ok(), whole, "{protocol} {path}");
            if let Ok(came) = came {
                assert_eq!(came.trailers, Some(trailers(path)), "{protocol} {path}");
            }
            let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\nte: trailers\r\nconnection: close\r\n\r\n");
            let answer = gateway.raw(request.as_bytes()).await;
            assert_eq!(answer.ends_with("\r\ngrpc-status: 5\r\n\r\n"), whole, "{protocol} {path}");
            assert_eq!(answer.contains("\r\n0\r\n"), whole, "{protocol} {path}");
        }
    }
}

#[tokio::test]
async fn what_is_told_before_the_answer_comes_before_it() {
    let origin = Streams::serving(|mut stream: Stream| async move {
        for status in [102, 103] {
            let hint = Response::builder().status(status).header("link", "</a.css>").body(()).unwrap();
            stream.respond.send_informational(hint).unwrap();
        }
        stream.answer("a");
    })
    .await;
    let gateway = before(origin.address, "h2c").await;
    let answer = gateway.raw(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\nHTTP/1.1 200 OK\r\n"), "{answer}");
    let client = Http2::connect(gateway.address).await;
    let mut answer = client.begin(get("/"), b"").await.unwrap();
    let hint = std::future::poll_fn(|cx| answer.poll_informational(cx)).await.unwrap().unwrap();
    assert_eq!((hint.status().as_u16(), &hint.headers()["link"]), (103, &HeaderValue::from_static("</a.css>")));
    assert_eq!(answer.await.unwrap().status(), 200);
}
