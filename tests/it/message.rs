//! What passes through, and what is added and removed on the way.

use std::time::Duration;

use http::Method;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::support::{Gateway, Origin, PATIENCE, until};

async fn before(origin: &Origin) -> Gateway {
    configured(origin, "").await
}

async fn configured(origin: &Origin, more: &str) -> Gateway {
    let address = origin.address;
    let route = "[[routes]]\nmatch = { path = \"/{*rest}\" }\nservice = \"web\"\n";
    Gateway::fixed(&format!("[services.web]\ninstances = [\"{address}\"]\n{more}\n{route}")).await
}

#[tokio::test]
async fn the_request_arrives_with_our_fields_and_without_those_of_the_connection() {
    let origin = Origin::start("a").await;
    let gateway = before(&origin).await;
    let answer = gateway
        .raw(
            b"POST /a?b HTTP/1.1\r\nHost: api.example.com:81\r\nConnection: close, x-mine\r\nX-Mine: 1\r\n\
              Keep-Alive: 5\r\nTE: trailers\r\nX-Forwarded-For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\n\
              X_Forwarded_For: 6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\nCookie: a=b\r\nCookie: c=d\r\n\
              X-Request-Id: abc-123\r\nContent-Length: 5\r\n\r\nhello",
        )
        .await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("\r\nx-request-id: abc-123\r\n"), "{answer}");
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");

    let got = origin.only();
    assert_eq!(got.line(), "POST /a?b HTTP/1.1");
    assert_eq!(got.body, b"hello");
    assert_eq!(got.field("host"), "api.example.com:81");
    assert_eq!(got.field("x-forwarded-for"), "127.0.0.1");
    assert_eq!(got.field("x-forwarded-proto"), "http");
    assert_eq!(got.field("x-forwarded-host"), "api.example.com:81");
    assert_eq!(got.field("forwarded"), "for=127.0.0.1;host=\"api.example.com:81\";proto=http");
    assert_eq!(got.field("x-request-id"), "abc-123");
    assert_eq!(got.fields("cookie").collect::<Vec<_>>(), ["a=b", "c=d"]);
    let parent: Vec<_> = got.field("traceparent").split('-').collect();
    assert_eq!((parent.len(), parent[0], parent[1].len(), parent[2].len()), (4, "00", 32, 16));
    assert_eq!((got.field("te"), got.field("connection")), ("trailers", "te"));
    for gone in ["x-mine", "keep-alive", "x_forwarded_for", "x-real-ip"] {
        assert_eq!(got.fields(gone).count(), 0, "{gone}: {}", got.head);
    }
    assert!(!got.head.contains("6.6.6.6"), "{}", got.head);
}

#[tokio::test]
async fn a_trace_context_that_came_goes_on_and_an_odd_request_id_does_not() {
    let origin = Origin::start("a").await;
    let gateway = before(&origin).await;
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let headers = [("traceparent", parent), ("tracestate", "a=1"), ("x-request-id", "bad id\u{e9}")];
    let answer = gateway.send(Method::GET, "/", &headers, "").await;

    let got = origin.only();
    assert!(got.field("traceparent").starts_with("00-0af7651916cd43dd8448eb211c80319c-"), "{}", got.head);
    assert_eq!(got.field("tracestate"), "a=1");
    assert_eq!(got.field("x-request-id"), answer.header("x-request-id"));
    assert!(!answer.header("x-request-id").is_empty() && !answer.header("x-request-id").contains("bad id"));
}

#[tokio::test]
async fn the_answer_passes_without_the_fields_of_its_connection() {
    let origin = Origin::answering(|_| {
        b"HTTP/1.1 418 Short\r\ncontent-length: 2\r\nconnection: x-hop\r\nx-hop: 1\r\nkeep-alive: timeout=5\r\n\
          set-cookie: a=1\r\nset-cookie: b=2\r\nserver: tea\r\n\r\nhi"
            .to_vec()
    })
    .await;
    let gateway = before(&origin).await;
    let answer = gateway.get("/").await;

    assert_eq!((answer.status.as_u16(), answer.text.as_str()), (418, "hi"));
    assert_eq!(answer.headers.get_all("set-cookie").iter().count(), 2);
    assert_eq!(answer.header("server"), "tea");
    assert!(answer.headers.get("x-hop").is_none() && answer.headers.get("keep-alive").is_none());
}

#[tokio::test]
async fn connections_are_kept_on_both_sides_and_pipelined_requests_answered_in_order() {
    let origin = Origin::answering(|got| {
        let line = got.line().to_owned();
        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{line}", line.len()).into_bytes()
    })
    .await;
    let gateway = configured(&origin, "[http]\nworkers = 1").await;
    let request = |n: u8| format!("GET /{n} HTTP/1.1\r\nhost: x\r\n\r\n");
    let answer = gateway.raw((request(1) + &request(2) + &request(3)).as_bytes()).await;

    let places: Vec<_> = (1..=3).map(|n| answer.find(&format!("GET /{n} HTTP/1.1")).unwrap()).collect();
    assert!(places.is_sorted(), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 3);
    assert!(!answer.contains("connection: close"));
}

#[tokio::test]
async fn head_and_bodyless_answers_have_no_body() {
    let origin = Origin::answering(|got| match got.line().split(' ').next() {
        Some("HEAD") => b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n".to_vec(),
        Some("PUT") => b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
        _ => b"HTTP/1.1 304 Not Modified\r\netag: \"x\"\r\n\r\n".to_vec(),
    })
    .await;
    let gateway = before(&origin).await;
    let requests = "HEAD / HTTP/1.1\r\nhost: x\r\n\r\nPUT / HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n\
                    GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let answer = gateway.raw(requests.as_bytes()).await;

    let heads: Vec<_> = answer.split("\r\n\r\n").collect();
    assert_eq!(heads.len(), 4, "{answer}");
    assert!(heads[0].contains("200 OK") && heads[0].contains("content-length: 5"), "{answer}");
    assert!(heads[1].starts_with("HTTP/1.1 204") && !heads[1].contains("content-length"), "{answer}");
    assert!(heads[2].starts_with("HTTP/1.1 304") && heads[3].is_empty(), "{answer}");
}

#[tokio::test]
async fn who_asks_for_a_head_gets_no_body_of_a_refusal_either() {
    let origin = Origin::start("a").await;
    let gateway = before(&origin).await;
    let long = "x".repeat(40_000);
    let (no_host, target) = ("HEAD / HTTP/1.1\r\n\r\n".to_owned(), format!("HEAD /{long} HTTP/1.1\r\nhost: x\r\n\r\n"));
    let field = format!("HEAD / HTTP/1.1\r\nhost: x\r\nlong: {long}\r\n\r\n");
    for (head, status) in [(no_host, "400"), (target, "414"), (field, "431")] {
        let answer = gateway.raw(head.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")) && answer.ends_with("\r\n\r\n"), "{answer}");
        assert!(!answer.contains("content-length: 0"), "what a GET would be told: {answer}");
        let told = gateway.raw(head.replacen("HEAD", "GET", 1).as_bytes()).await;
        assert!(told.contains("\"title\""), "{told}");
    }
    assert_eq!(origin.count(), 0);
}

#[tokio::test]
async fn a_chunked_upload_arrives_whole_and_is_framed_anew() {
    let origin = Origin::start("a").await;
    let gateway = before(&origin).await;
    let request = "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n\
                   3;ext=1\r\nabc\r\n04\r\ndefg\r\n0\r\n\r\n";
    let answer = gateway.raw(request.as_bytes()).await;

    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(origin.only().body, b"abcdefg");
    assert_eq!(origin.only().field("transfer-encoding"), "chunked");
}

#[tokio::test]
async fn an_answer_flows_while_it_is_made_and_stops_where_the_client_does() {
    // The client reads nothing: what the service can send is bounded by buffers on the way.
    let (sent, progress) = tokio::sync::watch::channel(0_u64);
    let origin = Origin::serving(move |mut connection| {
        let sent = sent.clone();
        async move {
            connection.request().await;
            let head = b"HTTP/1.1 200 OK\r\ncontent-length: 1073741824\r\n\r\n";
            connection.stream.write_all(head).await.unwrap();
            let piece = vec![b'x'; 64 * 1024];
            while connection.stream.write_all(&piece).await.is_ok() {
                sent.send_modify(|sent| *sent += piece.len() as u64);
            }
        }
    })
    .await;
    let gateway = before(&origin).await;
    let mut client = TcpStream::connect(gateway.address).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();

    let standstill = until("a standstill", || async {
        let before = *progress.borrow();
        tokio::time::sleep(Duration::from_millis(300)).await;
        (before > 0 && before == *progress.borrow()).then_some(before)
    })
    .await;
    assert!(standstill < 64 * 1024 * 1024, "{standstill} bytes were taken for a client that reads nothing");

    let mut buffer = vec![0; 1024 * 1024];
    let mut read = 0;
    while read < 16 * 1024 * 1024 {
        read += timeout(PATIENCE, client.read(&mut buffer)).await.unwrap().unwrap();
    }
    assert!(*progress.borrow() > standstill);
}

#[tokio::test]
async fn an_upload_flows_while_the_answer_is_awaited() {
    let (half, arrived) = tokio::sync::watch::channel(false);
    let origin = Origin::serving(move |mut connection| {
        let half = half.clone();
        async move {
            let head = connection.head().await.unwrap();
            assert!(head.contains("content-length: 10\r\n"), "{head}");
            // The first half must come before the second is sent.
            connection.until_input(5).await;
            half.send_replace(true);
            connection.stream.write_all(b"HTTP/1.1 103 Early Hints\r\n\r\n").await.unwrap();
            connection.until_input(10).await;
            connection.stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
        }
    })
    .await;
    let gateway = before(&origin).await;
    let mut client = TcpStream::connect(gateway.address).await.unwrap();
    client.write_all(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n12345").await.unwrap();
    until("the first half", || async { (*arrived.borrow()).then_some(()) }).await;
    client.write_all(b"67890").await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\nok") {
        let read = timeout(PATIENCE, client.read_buf(&mut answer)).await.unwrap().unwrap();
        assert!(read > 0, "{}", answer.escape_ascii());
    }
    assert!(answer.starts_with(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n"), "{}", answer.escape_ascii());
}

#[tokio::test]
async fn an_instance_that_speaks_no_http_is_502() {
    for bytes in [&b"220 mail.example.com ESMTP\r\n"[..], b"\x16\x03\x01\x02\x00\x01", b"HTTP/9 hi\r\n\r\n", b""] {
        let origin = Origin::answering(|_| bytes.to_vec()).await;
        let gateway = before(&origin).await;
        let answer = gateway.get("/").await;
        assert_eq!(answer.status, 502, "{}", bytes.escape_ascii());
        assert_eq!(answer.json()["service"], "web");
        assert!(!answer.text.contains(&origin.address.to_string()), "{}", answer.text);
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_does_not_look_whole() {
    let origin = Origin::answering(|got| {
        if got.line().contains("chunked") {
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked, x\r\n\r\n".to_vec()
        } else {
            b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart".to_vec()
        }
    })
    .await;
    let gateway = before(&origin).await;
    let answer = gateway.raw(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(answer.contains("Content-Length: 100") || answer.contains("content-length: 100"), "{answer}");
    assert!(!answer.contains("HTTP/1.1 502") && answer.len() < 400, "{answer}");
    assert_eq!(gateway.get("/chunked").await.status, 502);
}

#[tokio::test]
async fn timeouts_are_504_and_say_which() {
    let origin = Origin::serving(|mut connection| async move {
        connection.request().await;
        std::future::pending::<()>().await;
    })
    .await;
    for (timeouts, which) in [("read = \"300ms\"", "timeout.read"), ("total = \"300ms\"", "timeout.total")] {
        let gateway = configured(&origin, &format!("[defaults]\ntimeout = {{ {timeouts} }}")).await;
        let answer = gateway.get("/").await;
        assert_eq!(answer.status, 504);
        assert!(answer.json()["detail"].as_str().unwrap().contains(which), "{}", answer.text);
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_413() {
    let origin = Origin::start("a").await;
    let gateway = configured(&origin, "[http]\nmax_body_size = \"1KiB\"").await;
    let long = "x".repeat(1025);
    assert_eq!(gateway.send(Method::POST, "/", &[], &long).await.status, 413);
    assert_eq!(gateway.send(Method::POST, "/", &[], &long[1..]).await.status, 200);
    let chunked = format!("POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n401\r\n{long}\r\n0\r\n\r\n");
    let answer = gateway.raw(chunked.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
}

#[tokio::test]
async fn a_host_of_the_services_own_replaces_the_clients() {
    let origin = Origin::start("a").await;
    let gateway = configured(&origin, "host = \"users.internal\"").await;
    assert_eq!(gateway.get("/").await.status, 200);
    assert_eq!(origin.only().fields("host").collect::<Vec<_>>(), ["users.internal"]);
    assert_eq!(origin.only().field("x-forwarded-host"), gateway.address.to_string());
}

#[tokio::test]
async fn no_request_creates_a_series() {
    let origin = Origin::start("a").await;
    let gateway = before(&origin).await;
    for (n, method) in ["GET", "get", "BREW", "PROPFIND", "X-1", "X-2"].iter().enumerate() {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let path = format!("/p{n}");
        gateway.send(method, &path, &[("x-request-id", &format!("id-{n}")), ("host", &format!("h{n}"))], "").await;
    }
    let text = gateway.admin("/metrics").await.text;
    let lines: Vec<_> = text.lines().filter(|line| line.starts_with("lictor_request_total")).collect();
    assert_eq!(
        lines,
        [
            r#"lictor_request_total{service="web",route="/{*rest}",method="GET",status="200"} 1"#,
            r#"lictor_request_total{service="web",route="/{*rest}",method="_OTHER",status="200"} 5"#,
        ]
    );
}
