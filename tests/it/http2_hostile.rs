//! HTTP/2 from clients that break the rules: their stream or connection ends, and nobody else notices.

use http::{HeaderName, Request};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use crate::support::{
    Gateway, Origin, PATIENCE, Streams,
    http2::{
        CONTINUATION, DATA, END_HEADERS, END_STREAM, Frames, GET, GOAWAY, HEADERS, Http2, PING, PRIORITY, RST_STREAM,
        SETTINGS, WINDOW_UPDATE, fields, frame, get,
    },
    streams::Stream,
};

async fn before(origin: &Origin) -> Gateway {
    let address = origin.address;
    let route = "[[routes]]\nmatch = { path = \"/{*rest}\" }\nservice = \"web\"\n";
    // Long times: a connection is not to end for having no requests.
    let http = "[http]\nheader_timeout = \"10m\"\nkeep_alive = \"10m\"\n";
    Gateway::fixed(&format!("{http}[services.web]\ninstances = [\"{address}\"]\n{route}")).await
}

async fn is_well(gateway: &Gateway) {
    let client = Http2::connect(gateway.address).await;
    assert_eq!(client.ask(get("/"), b"").await.unwrap().body, "a");
    assert_eq!(gateway.get("/").await.text, "a");
}

/// A request with these fields, on stream 1.
fn request(list: &[(&str, &str)], end: bool) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | if end { END_STREAM } else { 0 }, 1, &fields(list))
}

#[tokio::test]
async fn a_malformed_request_is_reset_before_anything_is_forwarded() {
    let origin = Origin::start("a").await;
    let gateway = before(&origin).await;
    let with = |field| [&GET[..], &[field]].concat();
    let without = |name| GET.into_iter().filter(|(found, _)| *found != name).collect::<Vec<_>>();
    for list in [
        with(("X-Upper", "1")),
        with(("connection", "close")),
        with(("transfer-encoding", "chunked")),
        with(("keep-alive", "timeout=5")),
        with(("proxy-connection", "close")),
        with(("upgrade", "websocket")),
        with(("te", "gzip")),
        with((":path", "/again")),
        with((":status", "200")),
        with((":unknown", "1")),
        with(("x y", "1")),
        with(("x-nul", "a\0b")),
        with(("x-line", "a\r\nb: c")),
        [&[("accept", "*/*")][..], &GET].concat(),
        without(":method"),
        without(":path"),
        [&without(":path")[..], &[(":path", "")]].concat(),
    ] {
        let mut client = Frames::connect(gateway.address).await;
        client.send(&request(&list, true)).await;
        let end = client.until(&[RST_STREAM, GOAWAY, HEADERS]).await;
        assert!(end.is_none_or(|(kind, ..)| kind != HEADERS), "{list:?} was answered");
    }
    for list in [
        [&without(":authority")[..], &[(":authority", "user@api.example.com")]].concat(),
        [&without(":authority")[..], &[("host", "user@api.example.com")]].concat(),
        [&without(":authority")[..], &[("host", "a/b")]].concat(),
        [&without(":authority")[..], &[("host", "a"), ("host", "b")]].concat(),
        without(":authority"),
        [&without(":path")[..], &[(":path", "/a\\b")]].concat(),
        [&without(":path")[..], &[(":path", "/a b")]].concat(),
        [&without(":path")[..], &[(":path", "*")]].concat(),
        [&without(":path")[..], &[(":path", "a")]].concat(),
        [&without(":path")[..], &[(":path", "?x")]].concat(),
        [&without(":path")[..], &[(":path", "?")]].concat(),
        [&without(":path")[..], &[(":path", "?/../x")]].concat(),
        [&without(":path")[..], &[(":path", "*?x")]].concat(),
        [(":method", "OPTIONS"), GET[1], GET[2], (":path", "?x")].to_vec(),
        [(":method", "OPTIONS"), GET[1], GET[2], (":path", "*/")].to_vec(),
    ] {
        let mut client = Frames::connect(gateway.address).await;
        client.send(&request(&list, true)).await;
        let (kind, _, _, payload) = client.until(&[RST_STREAM, GOAWAY, HEADERS]).await.unwrap();
        // 400 is at place 12 of HPACK's own table. Source: RFC 7541, Appendix A.
        assert!(kind != HEADERS || payload[0] == 0x8c, "{list:?}: {payload:?}");
    }
    assert_eq!(origin.count(), 0);
    is_well(&gateway).await;
}

#[tokio::test]
async fn a_body_of_another_length_than_announced_is_reset() {
    let origin = Origin::start("a").await;
    let gateway = before(&origin).await;
    let post = [(":method", "POST"), GET[1], GET[2], GET[3], ("content-length", "5")];
    for body in ["abc", "abcdef"] {
        let mut client = Frames::connect(gateway.address).await;
        client.send(&request(&post, false)).await;
        client.send(&frame(DATA, END_STREAM, 1, body.as_bytes())).await;
        let (kind, ..) = client.until(&[RST_STREAM, GOAWAY, HEADERS]).await.unwrap();
        assert_ne!(kind, HEADERS, "{body}");
    }
    let mut client = Frames::connect(gateway.address).await;
    client.send(&request(&post, true)).await;
    assert_ne!(client.until(&[RST_STREAM, GOAWAY, HEADERS]).await.unwrap().0, HEADERS);
    assert_eq!(origin.count(), 0);
    is_well(&gateway).await;
}

/// Fields in a section without any compression, of any length.
fn long(list: &[(String, String)]) -> Vec<u8> {
    let text = |text: &str| {
        // Source: RFC 7541 §5.1.
        let mut length = vec![127];
        let mut rest = text.len() - 127;
        while rest >= 128 {
            length.push(u8::try_from(rest % 128 + 128).unwrap());
            rest /= 128;
        }
        length.push(u8::try_from(rest).unwrap());
        [&length, text.as_bytes()].concat()
    };
    let short = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    let any = |value: &str| if value.len() < 127 { short(value) } else { text(value) };
    list.iter().flat_map(|(name, value)| [vec![0], short(name), any(value)].concat()).collect()
}

/// Trailers on stream 1, in as many frames as they need.
fn trailers(list: &[(String, String)]) -> Vec<u8> {
    let block = long(list);
    let pieces: Vec<_> = block.chunks(16_000).collect();
    let mut frames = Vec::new();
    for (n, piece) in pieces.iter().enumerate() {
        let kind = if n == 0 { HEADERS } else { CONTINUATION };
        let end = if n + 1 == pieces.len() { END_HEADERS } else { 0 };
        frames.extend(frame(kind, end | if n == 0 { END_STREAM } else { 0 }, 1, piece));
    }
    frames
}

#[tokio::test]
async fn trailers_are_held_to_the_rules_of_http_1() {
    let origin = Origin::start("a").await;
    let gateway = before(&origin).await;
    let post = [(":method", "POST"), GET[1], GET[2], GET[3]];
    let large = |bytes| vec![("x".to_owned(), "v".repeat(bytes))];
    let many = |count| (0..count).map(|n| (format!("x-{n}"), "1".to_owned())).collect::<Vec<_>>();
    for (list, passes) in [
        (many(64), true),
        (many(65), false),
        (many(300), false),
        (large(8_000), true),
        (large(9_000), false),
        (large(60_000), false),
        (large(200_000), false),
        (vec![("x".to_owned(), " lead".to_owned())], false),
        (vec![("x".to_owned(), "trail\t".to_owned())], false),
    ] {
        let so_far = origin.count();
        let mut client = Frames::connect(gateway.address).await;
        client.send(&request(&post, false)).await;
        client.send(&frame(DATA, 0, 1, b"hello")).await;
        client.send(&trailers(&list)).await;
        let came = client.until(&[RST_STREAM, GOAWAY, HEADERS]).await;
        // 200 is at place 8 of HPACK's own table. Source: RFC 7541, Appendix A.
        let passed = came.as_ref().is_some_and(|(kind, _, _, payload)| *kind == HEADERS && payload[0] == 0x88);
        assert_eq!(passed, passes, "{} {:?} {came:?}", list.len(), list[0].1.get(..20));
        assert_eq!(origin.count() - so_far, usize::from(passes));
    }
    is_well(&gateway).await;
}

#[tokio::test]
async fn trailers_may_be_larger_than_the_largest_head() {
    let origin = Streams::serving(|mut stream: Stream| async move {
        let (text, trailers) = stream.body().await;
        stream.answer(&format!("{text} {}", trailers["x"].len()));
    })
    .await;
    let route = "[[routes]]\nmatch = { path = \"/{*rest}\" }\nservice = \"web\"\n";
    let service = format!("[services.web]\nprotocol = \"h2c\"\ninstances = [\"{}\"]\n", origin.address);
    let gateway = Gateway::fixed(&format!("[http]\nmax_header_size = \"1KiB\"\n{service}{route}")).await;
    let mut client = Frames::connect(gateway.address).await;
    client.send(&request(&[(":method", "POST"), GET[1], GET[2], GET[3]], false)).await;
    client.send(&frame(DATA, 0, 1, b"hello")).await;
    client.send(&trailers(&[("x".to_owned(), "v".repeat(8_000))])).await;
    assert_eq!(client.until(&[DATA, RST_STREAM, GOAWAY]).await.unwrap().3, "hello 8000");
}

#[tokio::test]
async fn a_request_that_announces_nothing_is_forwarded_when_nothing_has_come() {
    let origin = Origin::start("a").await;
    let address = origin.address;
    let route = "[[routes]]\nmatch = { path = \"/{*rest}\" }\nservice = \"web\"\n";
    let http = "[http]\nheader_timeout = \"1s\"\n";
    let gateway = Gateway::fixed(&format!("{http}[services.web]\ninstances = [\"{address}\"]\n{route}")).await;
    let post = [(":method", "POST"), GET[1], GET[2], GET[3], ("content-length", "0")];
    let end = frame(DATA, END_STREAM, 1, b"");
    let trailers = frame(HEADERS, END_HEADERS | END_STREAM, 1, &fields(&[("x", "1")]));
    for (rest, status) in [
        (frame(DATA, END_STREAM, 1, b"hello"), None),
        (frame(DATA, 0, 1, b"hello"), None),
        // 408 is none of HPACK's own.
        (Vec::new(), Some(0x08)),
        ([frame(DATA, 0, 1, b""), end.clone()].concat(), Some(0x88)),
        (end, Some(0x88)),
        (trailers, Some(0x88)),
    ] {
        let so_far = origin.count();
        let mut client = Frames::connect(gateway.address).await;
        client.send(&request(&post, false)).await;
        // It is taken up before the rest comes.
        client.send(&frame(PING, 0, 0, b"12345678")).await;
        client.until(&[PING]).await;
        client.send(&rest).await;
        let (kind, _, _, payload) = client.until(&[RST_STREAM, GOAWAY, HEADERS]).await.unwrap();
        assert_eq!((kind == HEADERS).then(|| payload[0]), status, "{rest:?}");
        assert_eq!(origin.count() - so_far, usize::from(status == Some(0x88)), "{rest:?}");
    }
}

#[tokio::test]
async fn a_path_is_as_long_as_over_http_1_or_refused_with_414() {
    let origin = Origin::start("a").await;
    let gateway = before(&origin).await;
    let client = Http2::connect(gateway.address).await;
    for (length, status) in [(8192, 200), (8193, 414), (20_000, 414), (40_000, 414)] {
        let answer = client.ask(get(&format!("/{}", "p".repeat(length - 1))), b"").await.unwrap();
        assert_eq!(answer.head.status, status, "{length}");
    }
    assert_eq!(origin.only().line().len(), "GET  HTTP/1.1".len() + 8192);
}

#[tokio::test]
async fn a_head_over_the_limit_is_refused_also_in_crumbs() {
    let origin = Origin::start("a").await;
    let gateway = before(&origin).await;
    for name in ["x-large", "cookie"] {
        let client = Http2::connect(gateway.address).await;
        let mut request = get("/");
        for _ in 0..400 {
            request.headers_mut().append(name, "v".repeat(100).parse().unwrap());
        }
        let status = client.ask(request, b"").await.map(|came| came.head.status.as_u16());
        assert!(status.as_ref().map_or(true, |status| *status == 431), "{status:?}");
    }
    let client = Http2::connect(gateway.address).await;
    let large = |bytes| Request::get("http://h/").header("x-large", "v".repeat(bytes)).body(()).unwrap();
    let mut many = get("/");
    for n in 0..200 {
        many.headers_mut().append(format!("x-{n}").parse::<HeaderName>().unwrap(), "v".parse().unwrap());
    }
    for (request, why) in [(large(40_000), "the head is too large"), (many, "there are too many header fields")] {
        let refused = client.ask(request, b"").await.unwrap();
        let problem: serde_json::Value = serde_json::from_slice(&refused.body).unwrap();
        assert_eq!((refused.head.status.as_u16(), problem["detail"].as_str()), (431, Some(why)));
    }
    assert_eq!(origin.count(), 0);
    assert_eq!(client.ask(large(30_000), b"").await.unwrap().head.status, 200);
    let mut crumbs = get("/");
    for n in 0..200 {
        crumbs.headers_mut().append("cookie", format!("c{n}=v").parse().unwrap());
    }
    assert_eq!(client.ask(crumbs, b"").await.unwrap().head.status, 200, "a browser sends each cookie as a crumb");
    is_well(&gateway).await;
}

/// Sends `piece` again and again, `most` times, and reads what comes; whether the connection ended on it.
async fn flood(gateway: &Gateway, first: &[u8], most: u32, piece: impl Fn(u32) -> Vec<u8>) -> bool {
    let mut client = Frames::connect(gateway.address).await;
    client.send(first).await;
    let (mut read, mut write) = client.stream.into_split();
    let send = async {
        for start in (0..most).step_by(100) {
            let batch: Vec<u8> = (start..start + 100).flat_map(&piece).collect();
            if write.write_all(&batch).await.is_err() {
                break;
            }
        }
    };
    let mut rest = vec![0; 64 * 1024];
    let end = async { while let Ok(1..) = read.read(&mut rest).await {} };
    let ended = timeout(PATIENCE, async { tokio::join!(send, end) }).await.is_ok();
    is_well(gateway).await;
    ended
}

#[tokio::test]
async fn a_flood_ends_its_connection_and_not_the_program() {
    let origin = Origin::start("a").await;
    let mut gateway = before(&origin).await;
    let get = fields(&GET);
    let open = frame(HEADERS, END_HEADERS, 1, &fields(&GET));
    let id = |n: u32| n * 2 + 1;

    let resets =
        |n| [frame(HEADERS, END_HEADERS | END_STREAM, id(n), &get), frame(RST_STREAM, 0, id(n), &[0; 4])].concat();
    assert!(flood(&gateway, &[], 20_000, resets).await, "rapid reset");
    // Each makes the server reset a stream of its own accord.
    let provoked = |n| {
        let update = frame(WINDOW_UPDATE, 0, id(n), &[0; 4]);
        [frame(HEADERS, END_HEADERS | END_STREAM, id(n), &get), update].concat()
    };
    assert!(flood(&gateway, &[], 20_000, provoked).await, "resets that are provoked");
    let more = fields(&[("x", &"v".repeat(100))]);
    let begun = frame(HEADERS, END_STREAM, 1, &get);
    assert!(flood(&gateway, &begun, 100_000, |_| frame(CONTINUATION, 0, 1, &more)).await, "CONTINUATION");
    assert!(flood(&gateway, &begun, 100_000, |_| frame(CONTINUATION, 0, 1, &[])).await, "empty CONTINUATION");
    assert!(flood(&gateway, &[], 10, |_| frame(99, 0, 0, &vec![0; 20_000])).await, "a frame over the limit");
    let settings = |_| frame(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0]);
    assert!(flood(&gateway, &[], 100_000, settings).await, "SETTINGS");
    assert!(flood(&gateway, &[], 100_000, |_| frame(PING, 0, 0, &[7; 8])).await, "PING");
    assert!(flood(&gateway, &open, 100_000, |_| frame(DATA, 0, 1, &[])).await, "empty DATA");
    let post = [(":method", "POST"), GET[1], GET[2], GET[3], ("content-length", "1")];
    let reset = [frame(HEADERS, END_HEADERS, 1, &fields(&post)), frame(DATA, 0, 1, b"xx")].concat();
    assert!(flood(&gateway, &reset, 100_000, |_| frame(DATA, 0, 1, b"x")).await, "DATA of a stream that was reset");
    assert!(flood(&gateway, &[], 100_000, |_| frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])).await, "WINDOW_UPDATE");
    assert!(flood(&gateway, &[], 100_000, |_| frame(PRIORITY, 0, 1, &[0; 5])).await, "PRIORITY");

    assert_eq!(gateway.log().iter().filter(|line| line["level"] == "ERROR").count(), 0, "{:?}", gateway.log());
    gateway.signal("TERM");
    assert_eq!(timeout(PATIENCE, gateway.ended()).await.unwrap().code(), Some(0));
}

#[tokio::test]
async fn who_goes_on_after_breaking_the_rules_still_reads_why_it_ended() {
    let origin = Origin::start("a").await;
    let gateway = before(&origin).await;
    let mut client = Frames::connect(gateway.address).await;
    let more = frame(PING, 0, 0, b"12345678").repeat(5000);
    client.send(&[frame(DATA, 0, 0, b"x"), more.clone()].concat()).await;
    let (.., payload) = client.until(&[GOAWAY]).await.expect("no last word");
    assert_eq!(payload[4..8], [0, 0, 0, 1]);
    client.send(&more).await;
    let mut rest = [0; 100];
    assert_eq!(timeout(PATIENCE, client.stream.read(&mut rest)).await.unwrap().unwrap(), 0);
}
