//! Instances that speak HTTP/2: many requests on few connections, each with its own fate.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use h2::{Reason, server};
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{Barrier, Notify},
    task::JoinSet,
    time::timeout,
};

use crate::support::{Consul, Gateway, PATIENCE, Streams, http2::Http2, streams::Stream, tls_origin::Authority, until};

fn config(address: SocketAddr, lines: &str) -> String {
    let route = "[[routes]]\nmatch = { path = \"/{*rest}\" }\nservice = \"web\"\n";
    format!("[http]\nworkers = 1\n[services.web]\ninstances = [\"{address}\"]\n{lines}\n{route}")
}

async fn before(origin: &Streams, protocol: &str) -> Gateway {
    let gateway = Gateway::fixed(&config(origin.address, &format!("protocol = \"{protocol}\""))).await;
    gateway.until_ready().await;
    gateway
}

fn trailers(value: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(http::HeaderName::from_static("x-sum"), HeaderValue::from_static(value))])
}

/// Sends so many requests at once; all have to be answered with 200.
async fn at_once(gateway: &Arc<Gateway>, count: usize) {
    let mut asking = JoinSet::new();
    for _ in 0..count {
        let gateway = gateway.clone();
        asking.spawn(async move { gateway.get("/").await.status.as_u16() });
    }
    assert_eq!(asking.join_all().await, vec![200; count]);
}

#[tokio::test]
async fn a_request_arrives_as_http2_has_it_and_its_answer_comes_back() {
    let origin = Streams::serving(|mut stream: Stream| async move {
        let early = Response::builder().status(103).header("link", "</a>").body(()).unwrap();
        stream.respond.send_informational(early).unwrap();
        let (uri, headers) = (stream.request.uri(), stream.request.headers());
        let told = format!("{} {uri} {:?} {:?}", stream.request.method(), headers.get("host"), headers.get("te"));
        assert_eq!(
            (&headers["x-forwarded-host"], &headers["cookie"]),
            (&"api.example.com".parse().unwrap(), &"a=b".parse().unwrap())
        );
        stream.answer(&told);
    })
    .await;
    let gateway = before(&origin, "h2c").await;
    let fields = [("host", "api.example.com"), ("cookie", "a=b"), ("te", "trailers"), ("connection", "te")];
    let answer = gateway.send(Method::GET, "/a%2Fb?c=d", &fields, "").await;
    assert_eq!(answer.text, "GET http://api.example.com/a%2Fb?c=d None Some(\"trailers\")");
    assert_eq!(gateway.send(Method::HEAD, "/", &fields[..2], "").await.status, 200);
    assert_eq!(origin.seen(), (1, 0, 2));
}

#[tokio::test]
async fn bodies_and_trailers_pass_both_ways() {
    let origin = Streams::serving(|mut stream: Stream| async move {
        let (text, sums) = stream.body().await;
        let length = format!("{:?}", stream.request.headers().get("content-length"));
        let mut body = stream.respond.send_response(Response::new(()), false).unwrap();
        body.send_data(format!("{length} {text} {sums:?}").into(), false).unwrap();
        let mut told = trailers("2");
        told.insert("forwarded", HeaderValue::from_static("for=a"));
        told.insert("set-cookie", HeaderValue::from_static("a=b"));
        body.send_trailers(told).unwrap();
    })
    .await;
    let gateway = before(&origin, "h2c").await;
    let answer = gateway.send(Method::POST, "/", &[], "hello").await;
    assert_eq!(answer.text, "Some(\"5\") hello {}");
    let head = b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\nconnection: close, x-hop\r\n\r\n";
    let tail = b"5\r\nhello\r\n0\r\nx-hop: 1\r\ntraceparent: x\r\nx-sum: 1\r\nx-forwarded: a\r\n\r\n";
    let answer = gateway.raw(&[&head[..], tail].concat()).await;
    assert!(answer.contains("None hello {\"x-sum\": \"1\"}"), "{answer}");
    assert!(answer.ends_with("0\r\nx-sum: 2\r\n\r\n"), "{answer}");

    // Larger than any window, both ways.
    let large = "x".repeat(3_000_000);
    let answer = gateway.send(Method::POST, "/", &[], &large).await;
    assert!(answer.text == format!("Some(\"3000000\") {large} {{}}"), "{} bytes", answer.text.len());
}

#[tokio::test]
async fn many_requests_at_once_share_one_connection() {
    let all = Arc::new(Barrier::new(60));
    let origin = Streams::serving(move |stream: Stream| {
        let all = all.clone();
        async move {
            all.wait().await;
            stream.answer("a");
        }
    })
    .await;
    let gateway = Arc::new(before(&origin, "h2c").await);
    at_once(&gateway, 60).await;
    assert_eq!(origin.seen(), (1, 0, 60));
}

#[tokio::test]
async fn another_connection_is_made_when_all_streams_are_taken_and_then_requests_wait() {
    let first = Arc::new(Barrier::new(40));
    let mut rules = server::Builder::new();
    rules.max_concurrent_streams(10);
    let origin = Streams::start(rules, None, move |stream: Stream| {
        let first = first.clone();
        async move {
            if stream.number < 40 {
                first.wait().await;
            }
            stream.answer("a");
        }
    })
    .await;
    let gateway = Arc::new(before(&origin, "h2c").await);
    at_once(&gateway, 60).await;
    assert_eq!(origin.seen(), (4, 0, 60));
}

#[tokio::test]
async fn an_instance_that_says_goodbye_gets_no_new_request_and_ends_the_old_ones() {
    let go_on = Arc::new(Notify::new());
    let origin = Streams::serving({
        let go_on = go_on.clone();
        move |stream: Stream| {
            let go_on = go_on.clone();
            async move {
                if stream.request.uri().path() == "/slow" {
                    go_on.notified().await;
                }
                stream.answer("a");
            }
        }
    })
    .await;
    let gateway = Arc::new(before(&origin, "h2c").await);
    let mut slow = JoinSet::new();
    slow.spawn({
        let gateway = gateway.clone();
        async move { gateway.get("/slow").await }
    });
    until("the slow request", || async { (origin.seen().2 == 1).then_some(()) }).await;
    origin.leave();
    // Whether or not the word has come, no request is lost.
    for _ in 0..50 {
        assert_eq!(gateway.get("/").await.status, 200);
    }
    assert_eq!((origin.seen().0, origin.seen().1), (2, 0));
    go_on.notify_one();
    assert_eq!(slow.join_next().await.unwrap().unwrap().text, "a");
    until("the end of the first connection", || async { (origin.seen().1 == 1).then_some(()) }).await;
}

#[tokio::test]
async fn a_refused_stream_is_tried_again_and_a_reset_one_is_not() {
    let origin = Streams::serving(|mut stream: Stream| async move {
        match stream.request.uri().path() {
            "/refused" if stream.number == 0 => stream.respond.send_reset(Reason::REFUSED_STREAM),
            "/reset" => stream.respond.send_reset(Reason::INTERNAL_ERROR),
            "/broken" => {
                let mut body = stream.respond.send_response(Response::new(()), false).unwrap();
                body.send_data(Bytes::from_static(b"half"), false).unwrap();
                // What comes is to be read before the reset.
                stream.request.body_mut().data().await;
                body.send_reset(Reason::INTERNAL_ERROR);
            }
            _ => stream.answer("a"),
        }
    })
    .await;
    let gateway = before(&origin, "h2c").await;
    assert_eq!(gateway.get("/refused").await.text, "a");
    assert_eq!(origin.seen(), (1, 0, 2));
    assert_eq!(gateway.get("/reset").await.status, 502);
    assert_eq!(origin.seen(), (1, 0, 3));
    let answer = gateway.raw(b"GET /broken HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(!answer.ends_with("0\r\n\r\n"), "{answer}");
    assert_eq!(gateway.get("/").await.status, 200);
}

#[tokio::test]
async fn clients_that_do_not_read_stop_nobody_else() {
    let origin = Streams::serving(|mut stream: Stream| async move {
        if stream.request.uri().path() != "/large" {
            return stream.answer("a");
        }
        let mut body = stream.respond.send_response(Response::new(()), false).unwrap();
        body.send_data(vec![b'x'; 16_000_000].into(), true).unwrap();
        std::future::pending::<()>().await;
    })
    .await;
    let gateway = before(&origin, "h2c").await;
    let mut stalled = Vec::new();
    for _ in 0..40 {
        let mut client = TcpStream::connect(gateway.address).await.unwrap();
        client.write_all(b"GET /large HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        client.read_u8().await.unwrap();
        stalled.push(client);
    }
    for _ in 0..20 {
        assert_eq!(gateway.get("/").await.text, "a");
    }
    assert_eq!(origin.seen().0, 1);
}

#[tokio::test]
async fn an_upload_goes_on_while_its_client_does_not_read_the_answer() {
    const UPLOAD: usize = 1_000_000;
    let whole = Arc::new(Notify::new());
    let origin = Streams::serving({
        let whole = whole.clone();
        move |mut stream: Stream| {
            let whole = whole.clone();
            async move {
                let mut answer = stream.respond.send_response(Response::new(()), false).unwrap();
                answer.send_data(vec![b'x'; 16_000_000].into(), true).unwrap();
                let (mut came, body) = (0, stream.request.body_mut());
                while let Some(Ok(data)) = body.data().await {
                    came += data.len();
                    body.flow_control().release_capacity(data.len()).unwrap();
                }
                assert_eq!(came, UPLOAD);
                whole.notify_one();
                std::future::pending::<()>().await;
            }
        }
    })
    .await;
    let gateway = before(&origin, "h2c").await;
    let upload = vec![b'u'; UPLOAD];
    let mut client = TcpStream::connect(gateway.address).await.unwrap();
    client
        .write_all(format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {UPLOAD}\r\n\r\n").as_bytes())
        .await
        .unwrap();
    client.read_u8().await.unwrap();
    timeout(PATIENCE, client.write_all(&upload)).await.expect("it stands still").unwrap();
    timeout(PATIENCE, whole.notified()).await.expect("it does not arrive");

    let client = Http2::connect(gateway.address).await;
    let request = Request::post("http://a/").body(()).unwrap();
    let _unread = client.begin(request, &upload).await.unwrap().await.unwrap();
    timeout(PATIENCE, whole.notified()).await.expect("it does not arrive over HTTP/2");
}

#[tokio::test]
async fn a_client_that_leaves_cancels_its_stream() {
    let cancelled = Arc::new(Notify::new());
    let origin = Streams::serving({
        let cancelled = cancelled.clone();
        move |mut stream: Stream| {
            let cancelled = cancelled.clone();
            async move {
                let reason = std::future::poll_fn(|cx| stream.respond.poll_reset(cx)).await;
                assert_eq!(reason.unwrap(), Reason::CANCEL);
                cancelled.notify_one();
            }
        }
    })
    .await;
    let gateway = before(&origin, "h2c").await;
    let mut client = TcpStream::connect(gateway.address).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    until("the request", || async { (origin.seen().2 == 1).then_some(()) }).await;
    drop(client);
    cancelled.notified().await;
}

#[tokio::test]
async fn connections_to_an_instance_that_left_end_with_their_last_stream() {
    let go_on = Arc::new(Notify::new());
    let origin = Streams::serving({
        let go_on = go_on.clone();
        move |stream: Stream| {
            let go_on = go_on.clone();
            async move {
                if stream.request.uri().path() == "/slow" {
                    go_on.notified().await;
                }
                stream.answer("a");
            }
        }
    })
    .await;
    let other = Streams::serving(|stream: Stream| async move { stream.answer("b") }).await;
    let gateway = Arc::new(before(&origin, "h2c").await);
    let mut slow = JoinSet::new();
    slow.spawn({
        let gateway = gateway.clone();
        async move { gateway.get("/slow").await }
    });
    until("the request", || async { (origin.seen().2 == 1).then_some(()) }).await;
    gateway.configure(&config(other.address, "protocol = \"h2c\""));
    gateway.signal("HUP");
    until("the other instance", || async { (gateway.get("/").await.text == "b").then_some(()) }).await;
    assert_eq!(origin.seen().1, 0);
    go_on.notify_one();
    assert_eq!(slow.join_next().await.unwrap().unwrap().text, "a");
    until("the end of the connection", || async { (origin.seen().1 == 1).then_some(()) }).await;
    assert_eq!(other.seen().1, 0);
}

#[tokio::test]
async fn an_instance_that_speaks_something_else_gets_no_request() {
    let origin = crate::support::Origin::start("a").await;
    let gateway = Gateway::fixed(&config(origin.address, "protocol = \"h2c\"")).await;
    gateway.until_ready().await;
    assert_eq!(gateway.get("/").await.status, 502);
}

#[tokio::test]
async fn a_tag_says_what_an_exposed_service_speaks() {
    let consul = Consul::start().await;
    let origin = Streams::serving(|stream: Stream| async move { stream.answer("h2") }).await;
    consul.register_tagged("web", "web-1", origin.address, &["lictor", "lictor.protocol=h2c"]).await;
    let gateway = Gateway::start(&consul, "").await;
    assert_eq!(gateway.until_status("/api/v1/web/", 200).await.text, "h2");

    // A changed protocol is a new endpoint: nothing is sent in the old one.
    let plain = crate::support::Origin::start("http").await;
    consul.register_tagged("web", "web-1", plain.address, &["lictor", "lictor.protocol=http"]).await;
    until("the other protocol", || async { (gateway.get("/api/v1/web/").await.text == "http").then_some(()) }).await;
}

#[tokio::test]
async fn a_grpc_call_counts_as_its_trailers_say() {
    let authority = Authority::new();
    let tls = authority.server(&["127.0.0.1"], &["h2"]);
    let origin = Streams::start(server::Builder::new(), Some(tls), |mut stream: Stream| async move {
        assert_eq!(stream.request.headers()["te"], "trailers");
        let status = stream.request.uri().path().trim_start_matches('/').parse().unwrap();
        let mut body = stream.respond.send_response(Response::new(()), false).unwrap();
        body.send_data(Bytes::from_static(b"\0\0\0\0\0"), false).unwrap();
        body.send_trailers(HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), status)])).unwrap();
    })
    .await;
    let gateway = Gateway::fixed(&config(origin.address, &authority.trusted("grpcs", ""))).await;
    gateway.until_ready().await;
    for status in [0, 5, 13, 14] {
        let request = format!(
            "POST /{status} HTTP/1.1\r\nhost: a\r\nte: trailers\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        );
        let answer = gateway.raw(request.as_bytes()).await;
        assert!(answer.ends_with(&format!("0\r\ngrpc-status: {status}\r\n\r\n")), "{answer}");
    }
    for outcome in ["success", "failure"] {
        let labels = format!("service=\"web\",instance=\"{}\",outcome=\"{outcome}\"", origin.address);
        let series = format!("lictor_upstream_request_total{{{labels}}}");
        gateway.until_metric(&series, 2.0).await;
    }
}

#[tokio::test]
async fn a_client_that_speaks_grpc_is_told_in_grpc_that_nobody_answers() {
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let gateway = Gateway::fixed(&config(nobody, "protocol = \"grpc\"")).await;
    gateway.until_ready().await;
    let answer = gateway.send(Method::POST, "/a.B/C", &[("content-type", "application/grpc")], "x").await;
    assert_eq!((answer.status.as_u16(), answer.header("grpc-status"), answer.text.as_str()), (200, "14", ""));
    let series = r#"lictor_request_total{service="web",route="/{*rest}",method="POST",status="502"}"#;
    gateway.until_metric(series, 1.0).await;
}
