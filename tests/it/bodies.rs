//! How large the body of a request may be, as its route has it.

use http::{Method, Request};

use crate::support::{Gateway, Origin, http2::Http2, until};

/// Routes by what they allow: less than all others, more, and anything.
async fn before(origin: &Origin) -> Gateway {
    let route = |name: &str, more: &str| format!("[[routes]]\nmatch.path = '/{name}'\nservice = 'web'\n{more}\n");
    let address = origin.address;
    let routes = [
        route("usual", ""),
        route("small", "max_body_size = '1KiB'"),
        route("large", "max_body_size = '64KiB'"),
        route("any", "max_body_size = 0"),
    ];
    let routes = routes.concat();
    Gateway::fixed(&format!("[http]\nmax_body_size = '10KiB'\n[services.web]\ninstances = ['{address}']\n{routes}"))
        .await
}

/// A path, the bytes of a body, and whether it is taken.
const CASES: [(&str, usize, bool); 7] = [
    ("/small", 1024, true),
    ("/small", 1025, false),
    ("/usual", 10 << 10, true),
    ("/usual", (10 << 10) + 1, false),
    ("/large", 64 << 10, true),
    ("/large", (64 << 10) + 1, false),
    ("/any", 100_000, true),
];

fn status(taken: bool) -> u16 {
    if taken { 200 } else { 413 }
}

#[tokio::test]
async fn an_announced_body_may_be_as_large_as_its_route_has_it_and_a_larger_one_reaches_nobody() {
    let origin = Origin::start("a").await;
    let gateway = before(&origin).await;
    let client = Http2::connect(gateway.address).await;
    for (path, bytes, taken) in CASES {
        let (body, seen) = ("x".repeat(bytes), origin.count());
        let answer = gateway.send(Method::POST, path, &[], &body).await;
        assert_eq!(answer.status, status(taken), "HTTP/1: {path} {bytes}: {}", answer.text);
        let post = Request::post(format!("http://h{path}")).header("content-length", bytes).body(()).unwrap();
        let came = client.ask(post, body.as_bytes()).await.unwrap();
        assert_eq!(came.head.status, status(taken), "HTTP/2: {path} {bytes}");
        assert_eq!(origin.count() - seen, if taken { 2 } else { 0 }, "{path} {bytes}");
    }
    let refused = r#"lictor_request_total{service="web",route="/small",method="POST",status="413"}"#;
    gateway.until_metric(refused, 2.0).await;
    let call =
        Request::post("http://h/small").header("content-type", "application/grpc").header("content-length", 2000);
    let came = client.ask(call.body(()).unwrap(), &[0; 2000]).await.unwrap();
    assert_eq!(came.head.status, 200, "a conversation has no length");
}

#[tokio::test]
async fn a_body_that_comes_in_pieces_is_cut_where_its_route_has_the_limit() {
    let origin = Origin::start("a").await;
    let gateway = before(&origin).await;
    let client = Http2::connect(gateway.address).await;
    for (path, bytes, taken) in CASES {
        let chunk = |bytes: usize| format!("{bytes:x}\r\n{}\r\n", "x".repeat(bytes));
        let pieces: String = (0..bytes).step_by(1000).map(|at| chunk(1000.min(bytes - at))).collect();
        let head =
            format!("POST {path} HTTP/1.1\r\nhost: h\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n");
        let answer = gateway.raw(format!("{head}{pieces}0\r\n\r\n").as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {} ", status(taken))), "{path} {bytes}: {answer}");
        let post = Request::post(format!("http://h{path}")).body(()).unwrap();
        let came = client.ask(post, "x".repeat(bytes).as_bytes()).await.unwrap();
        assert_eq!(came.head.status, status(taken), "HTTP/2: {path} {bytes}");
    }
}

#[tokio::test]
async fn the_limit_of_a_route_is_shown_explained_and_changed_while_it_runs() {
    let origin = Origin::start("a").await;
    let gateway = before(&origin).await;
    let shown = gateway.admin("/api/config").await.json()["routes"].clone();
    let sizes: Vec<_> = shown.as_array().unwrap().iter().map(|route| route["max_body_size"].as_str()).collect();
    assert_eq!(sizes, [None, Some("1KiB"), Some("64KiB"), Some("0")]);
    let explain = async |length: &str| {
        let admin = gateway.admin.to_string();
        let header = format!("content-length: {length}");
        let said = gateway.command(&["explain", "POST", "/small", "-H", &header, "--admin", &admin], &[]).await;
        said.out + &said.err
    };
    assert!(explain("1025").await.contains("the body is over 1024 bytes"), "{}", explain("1025").await);
    assert!(!explain("1024").await.contains("the body is over"), "{}", explain("1024").await);

    let address = origin.address;
    gateway.configure(&format!(
        "[http]\nmax_body_size = '1B'\n[services.web]\ninstances = ['{address}']\n\
         [[routes]]\nmatch.path = '/small'\nservice = 'web'\nmax_body_size = '2KiB'\n"
    ));
    let body = "x".repeat(1025);
    until("the larger limit", || async {
        (gateway.send(Method::POST, "/small", &[], &body).await.status == 200).then_some(())
    })
    .await;
}
