//! HTTP/2: what comes before the answer, and answers that break off.

use std::future::poll_fn;

use bytes::Bytes;
use h2::client::ResponseFuture;
use http::{Request, Response};
use tokio::{io::AsyncWriteExt, sync::watch, time::timeout};

use crate::support::{
    Gateway, Origin, PATIENCE,
    http2::{Http2, get, whole},
};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

async fn before(origin: &Origin) -> Gateway {
    let address = origin.address;
    let route = "[[routes]]\nmatch = { path = \"/{*rest}\" }\nservice = \"web\"\n";
    Gateway::fixed(&format!("[services.web]\ninstances = [\"{address}\"]\n{route}")).await
}

#[tokio::test]
async fn an_answer_that_has_no_body_announces_none() {
    let told = "content-length: 5\r\n";
    let origin = Origin::answering(move |got| match got.line().split(' ').nth(1) {
        Some("/none") => format!("HTTP/1.1 204 No Content\r\n{told}\r\n").into_bytes(),
        Some("/same") => format!("HTTP/1.1 304 Not Modified\r\n{told}\r\n").into_bytes(),
        Some("/early") => {
            let hint = format!("HTTP/1.1 103 Early Hints\r\n{told}\r\n");
            format!("{hint}HTTP/1.1 200 OK\r\n{told}\r\nhello").into_bytes()
        }
        _ => format!("HTTP/1.1 200 OK\r\n{told}\r\n").into_bytes(),
    })
    .await;
    let gateway = before(&origin).await;
    let client = Http2::connect(gateway.address).await;
    for (method, path, status, length) in
        [("GET", "/none", 204, None), ("GET", "/same", 304, Some("5")), ("HEAD", "/", 200, Some("5"))]
    {
        let request = Request::builder().method(method).uri(format!("http://h{path}")).body(()).unwrap();
        let came = client.ask(request, b"").await.unwrap();
        let told = came.head.headers.get("content-length").map(|length| length.to_str().unwrap());
        assert_eq!((came.head.status.as_u16(), told, came.body.len()), (status, length, 0), "{method} {path}");
    }
    let mut answer = client.begin(get("/early"), b"").await.unwrap();
    let hint = interim(&mut answer).await;
    assert_eq!((hint.status().as_u16(), hint.headers().len()), (103, 0));
    assert_eq!(whole(answer.await.unwrap()).await.unwrap().body, "hello");
}

async fn interim(answer: &mut ResponseFuture) -> Response<()> {
    let told = timeout(PATIENCE, poll_fn(|cx| answer.poll_informational(cx))).await;
    told.expect("no interim answer").unwrap().unwrap()
}

#[tokio::test]
async fn early_hints_come_before_the_answer() {
    let (go, wait) = watch::channel(false);
    let origin = Origin::hinting(wait).await;
    let gateway = before(&origin).await;
    let client = Http2::connect(gateway.address).await;
    let mut answer = client.begin(get("/"), b"").await.unwrap();
    let hint = interim(&mut answer).await;
    assert_eq!((hint.status().as_u16(), hint.headers().len()), (103, 1));
    assert_eq!(hint.headers()["link"], "</a.css>");
    go.send_replace(true);
    assert_eq!(whole(answer.await.unwrap()).await.unwrap().body, "ok");
}

#[tokio::test]
async fn who_expects_100_continue_gets_it_from_the_service_or_from_us() {
    for gives_leave in [true, false] {
        let origin = Origin::serving(move |mut connection| async move {
            connection.head().await.unwrap();
            if gives_leave {
                connection.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
            }
            connection.until_input(4).await;
            connection.stream.write_all(OK).await.unwrap();
        })
        .await;
        let gateway = before(&origin).await;
        let client = Http2::connect(gateway.address).await;
        let request = Request::post("http://h/").header("expect", "100-continue").header("content-length", "4");
        let mut send = client.send.clone().ready().await.unwrap();
        let (mut answer, mut body) = send.send_request(request.body(()).unwrap(), false).unwrap();
        assert_eq!(interim(&mut answer).await.status(), 100, "by the service: {gives_leave}");
        body.send_data(Bytes::from_static(b"body"), true).unwrap();
        assert_eq!(whole(answer.await.unwrap()).await.unwrap().body, "ok");
    }
}

#[tokio::test]
async fn who_does_not_wait_for_100_continue_is_not_told_it() {
    let origin = Origin::serving(|mut connection| async move {
        connection.head().await.unwrap();
        connection.until_input(4).await;
        connection.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
        connection.stream.write_all(OK).await.unwrap();
    })
    .await;
    let gateway = before(&origin).await;
    let client = Http2::connect(gateway.address).await;
    let mut answer = client.begin(Request::post("http://h/").body(()).unwrap(), b"body").await.unwrap();
    let told = poll_fn(|cx| answer.poll_informational(cx)).await;
    assert!(told.is_none(), "{told:?}");
    assert_eq!(answer.await.unwrap().status(), 200);
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_reset() {
    let half = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\nconnection: close\r\n\r\nhalf";
    let origin = Origin::serving(move |mut connection| async move {
        connection.request().await.unwrap();
        connection.stream.write_all(half).await.unwrap();
    })
    .await;
    let gateway = before(&origin).await;
    let client = Http2::connect(gateway.address).await;
    for _ in 0..2 {
        let broken = client.ask(get("/"), b"").await.unwrap_err();
        assert_eq!(broken.reason(), Some(h2::Reason::INTERNAL_ERROR), "the connection goes on");
    }
}
