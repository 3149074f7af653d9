//! HTTP/2 from clients that keep the rules: what services see of it, and what comes back.

use bytes::Bytes;
use http::{HeaderValue, Method, Request};
use tokio::{io::AsyncWriteExt, sync::watch, time::timeout};

use crate::support::{
    Gateway, Origin, PATIENCE,
    http2::{
        DATA, END_HEADERS, END_STREAM, Frames, GET, GOAWAY, HEADERS, Http2, PING, RST_STREAM, fields, frame, get, whole,
    },
    until,
};

/// Source: RFC 9113 §7.
const REFUSED_STREAM: u8 = 7;

async fn before(origin: &Origin, http: &str) -> Gateway {
    let address = origin.address;
    let route = "[[routes]]\nmatch = { path = \"/{*rest}\" }\nservice = \"web\"\n";
    Gateway::fixed(&format!("[http]\n{http}\n[services.web]\ninstances = [\"{address}\"]\n{route}")).await
}

/// A service that answers once it is let to, and the sender that lets it.
async fn held() -> (Origin, watch::Sender<bool>) {
    let (go, wait) = watch::channel(false);
    let origin = Origin::serving(move |mut connection| {
        let mut wait = wait.clone();
        async move {
            while connection.request().await.is_some() {
                tokio::select! {
                    _ = wait.wait_for(|go| *go) => {}
                    _ = connection.more() => return,
                }
                if connection.stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone").await.is_err() {
                    break;
                }
            }
        }
    })
    .await;
    (origin, go)
}

#[tokio::test]
async fn a_request_with_prior_knowledge_reaches_its_service_as_http_1() {
    let origin = Origin::start("a").await;
    let gateway = before(&origin, "").await;
    let client = Http2::connect(gateway.address).await;
    let request = Request::get("http://api.example.com:81/a/./%7Eb?x=/../1")
        .header("host", "other.example.com")
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .header("te", "trailers")
        .header("accept", "*/*");
    let came = client.ask(request.body(()).unwrap(), b"").await.unwrap();
    assert_eq!((came.head.status.as_u16(), &came.body[..]), (200, &b"a"[..]));
    assert!(came.head.headers.contains_key("x-request-id"));

    let got = origin.only();
    assert_eq!(got.line(), "GET /a/~b?x=/../1 HTTP/1.1");
    assert_eq!(got.fields("host").collect::<Vec<_>>(), ["api.example.com:81"]);
    assert_eq!(got.fields("cookie").collect::<Vec<_>>(), ["a=1; b=2"]);
    assert_eq!((got.field("x-forwarded-proto"), got.field("x-forwarded-for")), ("http", "127.0.0.1"));
    assert_eq!((got.field("te"), got.field("accept")), ("trailers", "*/*"));
    let counted = r#"lictor_request_total{service="web",route="/{*rest}",method="GET",status="200"}"#;
    until("the count", || async { gateway.metric(counted).await }).await;
}

#[tokio::test]
async fn bodies_go_both_ways_and_trailers_come_back() {
    let origin = Origin::answering(|got| {
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\nconnection: x-hop\r\n\r\n";
        let tail = "x-hop: 1\r\nx-sum: 7\r\nx-request-id: theirs\r\n";
        format!("{head}{:x}\r\n{}\r\n0\r\n{tail}\r\n", got.body.len(), "b".repeat(got.body.len())).into_bytes()
    })
    .await;
    let gateway = before(&origin, "").await;
    let client = Http2::connect(gateway.address).await;
    let body = vec![b'a'; 60_000];
    for announced in [true, false] {
        let mut request = Request::post("http://h/upload").body(()).unwrap();
        if announced {
            request.headers_mut().insert("content-length", body.len().into());
        }
        let came = client.ask(request, &body).await.unwrap();
        assert_eq!(came.body, vec![b'b'; body.len()]);
        let trailers = came.trailers.unwrap();
        assert_eq!((trailers.len(), &trailers["x-sum"]), (1, &HeaderValue::from_static("7")));
    }
    assert!(origin.got().iter().all(|got| got.body == body));
}

#[tokio::test]
async fn an_answer_to_head_and_our_own_answers_have_the_right_length() {
    let origin = Origin::answering(|_| b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n".to_vec()).await;
    let address = origin.address;
    let route = "[[routes]]\nmatch = { path = \"/a\" }\nservice = \"web\"\n";
    let gateway = Gateway::fixed(&format!("[services.web]\ninstances = [\"{address}\"]\n{route}")).await;
    let client = Http2::connect(gateway.address).await;
    let head = |path: &str| Request::head(format!("http://h{path}")).body(()).unwrap();
    let came = client.ask(head("/a"), b"").await.unwrap();
    assert_eq!((came.head.headers["content-length"].to_str().unwrap(), came.body.len()), ("5", 0));
    let came = client.ask(get("/nowhere"), b"").await.unwrap();
    assert_eq!(came.head.status, 404);
    let length = came.body.len().to_string();
    assert_eq!(came.head.headers["content-length"].to_str().unwrap(), length);
    let came = client.ask(head("/nowhere"), b"").await.unwrap();
    assert_eq!((came.head.headers["content-length"].to_str().unwrap(), came.body.len()), (length.as_str(), 0));
}

#[tokio::test]
async fn a_hundred_requests_are_under_way_at_once_and_the_next_waits() {
    let (origin, go) = held().await;
    let gateway = before(&origin, "").await;
    let client = Http2::connect(gateway.address).await;
    let mut answers = Vec::new();
    for n in 0..101 {
        answers.push(client.begin(get(&format!("/{n}")), b"").await.unwrap());
    }
    until("a hundred requests", || async { (origin.count() == 100).then_some(()) }).await;

    // Who does not wait is told to.
    let mut hasty = Frames::connect(gateway.address).await;
    for n in 0..101 {
        hasty.send(&frame(HEADERS, END_HEADERS | END_STREAM, n * 2 + 1, &fields(&GET))).await;
    }
    let (_, _, stream, reason) = hasty.until(&[RST_STREAM]).await.unwrap();
    assert_eq!((stream, &reason[..]), (201, &[0, 0, 0, REFUSED_STREAM][..]));
    until("two hundred requests", || async { (origin.count() == 200).then_some(()) }).await;

    go.send_replace(true);
    for answer in answers {
        assert_eq!(whole(answer.await.unwrap()).await.unwrap().body, "done");
    }
    assert_eq!(origin.count(), 201);
}

#[tokio::test]
async fn a_stream_that_the_client_resets_ends_its_request_at_the_service() {
    let gone = watch::Sender::new(false);
    let origin = Origin::serving({
        let gone = gone.clone();
        move |mut connection| {
            let gone = gone.clone();
            async move {
                let _ = connection.request().await;
                while connection.more().await.is_some() {}
                gone.send_replace(true);
            }
        }
    })
    .await;
    let gateway = before(&origin, "").await;
    let client = Http2::connect(gateway.address).await;
    let answer = client.begin(get("/"), b"").await.unwrap();
    until("the request", || async { (origin.count() == 1).then_some(()) }).await;
    drop(answer);
    timeout(PATIENCE, gone.subscribe().wait_for(|gone| *gone)).await.unwrap().unwrap();
    let counted = r#"lictor_request_total{service="web",route="/{*rest}",method="GET",status="499"}"#;
    until("the count", || async { gateway.metric(counted).await }).await;
}

#[tokio::test]
async fn a_client_that_still_sends_when_it_is_answered_is_not_reset() {
    let origin = Origin::start("a").await;
    let gateway = before(&origin, "max_body_size = \"10B\"").await;
    // As HPACK has them: 400 is in its table, 413 is three digits.
    for (target, length, status) in [("/../x", "3", b"\x8c".as_slice()), ("/", "30", b"\x08\x03413")] {
        let mut client = Frames::connect(gateway.address).await;
        let post = [(":method", "POST"), GET[1], GET[2], (":path", target), ("content-length", length)];
        client.send(&frame(HEADERS, END_HEADERS, 1, &fields(&post))).await;
        let (_, _, _, head) = client.until(&[HEADERS]).await.unwrap();
        assert!(head.starts_with(status), "{target}: {head:?}");
        let (_, flags, ..) = client.until(&[DATA]).await.unwrap();
        assert_eq!(flags, END_STREAM);
        client.send(&frame(DATA, END_STREAM, 1, &vec![b'a'; length.parse().unwrap()])).await;
        client.send(&frame(PING, 0, 0, &[7; 8])).await;
        assert_eq!(client.until(&[RST_STREAM, GOAWAY, PING]).await.unwrap().0, PING, "{target}");
    }
    // Who goes on and on is.
    let mut client = Frames::connect(gateway.address).await;
    client
        .send(&frame(HEADERS, END_HEADERS, 1, &fields(&[(":method", "POST"), GET[1], GET[2], (":path", "/../x")])))
        .await;
    let (_, _, _, reason) = client.until(&[RST_STREAM]).await.unwrap();
    assert_eq!(&reason[..], [0; 4], "NO_ERROR");
}

#[tokio::test]
async fn a_body_over_the_limit_is_413_whether_it_was_announced_or_not() {
    let origin = Origin::start("a").await;
    let gateway = before(&origin, "max_body_size = \"10KiB\"").await;
    let client = Http2::connect(gateway.address).await;
    let body = vec![b'a'; 20_000];
    for announced in [true, false] {
        let mut request = Request::post("http://h/").body(()).unwrap();
        if announced {
            request.headers_mut().insert("content-length", 20_000.into());
        }
        let came = client.ask(request, &body).await.unwrap();
        assert_eq!(came.head.status, 413, "announced: {announced}");
    }
    assert_eq!(client.ask(get("/"), b"").await.unwrap().head.status, 200, "the connection goes on");
    let call = Request::post("http://h/").header("content-type", "application/grpc+proto").body(()).unwrap();
    assert_eq!(client.ask(call, &body).await.unwrap().head.status, 200, "a conversation has no length");
}

#[tokio::test]
async fn an_answer_waits_for_a_client_that_is_slow_to_read() {
    let body = vec![b'x'; 8 << 20];
    let answer = [b"HTTP/1.1 200 OK\r\ncontent-length: 8388608\r\n\r\n", &body[..]].concat();
    let origin = Origin::answering(move |_| answer.clone()).await;
    let gateway = before(&origin, "").await;
    let client = Http2::connect(gateway.address).await;
    let unread = client.begin(get("/"), b"").await.unwrap().await.unwrap();
    // Another stream of the connection is not held up by it.
    let other = Request::builder().method(Method::HEAD).uri("http://h/").body(()).unwrap();
    assert_eq!(client.ask(other, b"").await.unwrap().head.status, 200);
    assert_eq!(whole(unread).await.unwrap().body, Bytes::from(body));
}

#[tokio::test]
async fn what_no_gateway_passes_on_is_refused() {
    let origin = Origin::start("a").await;
    let gateway = before(&origin, "").await;
    let client = Http2::connect(gateway.address).await;
    let status = async |request: http::request::Builder| {
        client.ask(request.body(()).unwrap(), b"").await.map(|came| came.head.status.as_u16())
    };
    assert_eq!(status(Request::builder().method("TRACE").uri("http://h/")).await.unwrap(), 501);
    assert_eq!(status(Request::builder().method("CONNECT").uri("h:443")).await.unwrap(), 501);
    assert_eq!(status(Request::get("http://h/../x")).await.unwrap(), 400);
    assert_eq!(status(Request::get("http://h/a%00")).await.unwrap(), 400);
    assert_eq!(origin.count(), 0);
}

#[tokio::test]
async fn the_drain_says_goaway_and_lets_a_stream_end() {
    let (origin, go) = held().await;
    let mut gateway = before(&origin, "drain = \"10m\"").await;
    let mut busy = Http2::connect(gateway.address).await;
    let mut idle = Http2::connect(gateway.address).await;
    let mut fresh = Frames::connect(gateway.address).await;
    let answer = busy.begin(get("/"), b"").await.unwrap();
    until("the request", || async { (origin.count() == 1).then_some(()) }).await;

    gateway.signal("TERM");

    idle.ended().await.unwrap();
    assert!(fresh.until(&[GOAWAY]).await.is_some());
    until("GOAWAY", || async { busy.send.clone().ready().await.is_err().then_some(()) }).await;
    go.send_replace(true);
    assert_eq!(whole(answer.await.unwrap()).await.unwrap().body, "done");
    busy.ended().await.unwrap();
    assert_eq!(gateway.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_request_that_does_not_end_is_cut_off_with_the_drain() {
    let (origin, _go) = held().await;
    let mut gateway = before(&origin, "drain = \"500ms\"").await;
    let client = Http2::connect(gateway.address).await;
    let answer = client.begin(get("/"), b"").await.unwrap();
    until("the request", || async { (origin.count() == 1).then_some(()) }).await;
    gateway.signal("TERM");
    assert_eq!(gateway.ended().await.code(), Some(0));
    assert!(answer.await.is_err());
}

#[tokio::test]
async fn during_drain_wait_a_new_client_gets_its_answer_and_goaway() {
    let origin = Origin::start("a").await;
    let mut gateway = before(&origin, "drain_wait = \"2s\"").await;
    gateway.signal("TERM");
    until("not ready", || async { (gateway.admin("/readyz").await.status == 503).then_some(()) }).await;
    let mut client = Http2::connect(gateway.address).await;
    assert_eq!(client.ask(get("/"), b"").await.unwrap().body, "a");
    client.ended().await.unwrap();
    assert_eq!(gateway.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_connection_without_requests_is_told_to_go() {
    let origin = Origin::start("a").await;
    let gateway = before(&origin, "header_timeout = \"300ms\"\nkeep_alive = \"600ms\"").await;
    // Nothing but the preface, and that not whole.
    assert_eq!(gateway.raw(b"PRI * HTTP/2.0\r\n\r\n").await.lines().next(), Some("HTTP/1.1 408 Request Timeout"));
    let mut silent = Frames::connect(gateway.address).await;
    assert!(silent.until(&[GOAWAY]).await.is_some());
    while silent.next().await.is_some() {}
    let mut client = Http2::connect(gateway.address).await;
    assert_eq!(client.ask(get("/"), b"").await.unwrap().body, "a");
    client.ended().await.unwrap();
}

#[tokio::test]
async fn a_later_head_that_stays_partial_ends_its_connection() {
    let origin = Origin::start("a").await;
    let gateway = before(&origin, "header_timeout = \"300ms\"\nkeep_alive = \"10m\"").await;
    let head = fields(&GET);
    let whole = |stream| frame(HEADERS, END_HEADERS | END_STREAM, stream, &head);
    for (part, what) in [
        (whole(3)[..9 + 5].to_vec(), "a part of a frame"),
        (frame(HEADERS, END_STREAM, 3, &head), "no frame that says that it is the last"),
    ] {
        let mut client = Frames::connect(gateway.address).await;
        client.send(&[whole(1), part].concat()).await;
        assert!(client.until(&[DATA]).await.is_some(), "{what}");
        assert!(client.until(&[GOAWAY]).await.is_some(), "{what}");
        while client.next().await.is_some() {}
    }
}
