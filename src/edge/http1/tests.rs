//! How answers are framed for those who asked.

use std::{collections::VecDeque, task::Context};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::*;
use crate::{
    body::{BodyError, Duplex},
    proxy::Account,
    telemetry::metrics::Metrics,
    wire::socket::is_quiet,
};

/// A body whose length is told, or not; the last piece may be an error.
struct Pieces(VecDeque<Result<&'static str, ()>>, Option<u64>);

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Poll::Ready(self.0.pop_front().map(|piece| match piece {
            Ok(data) => Ok(Frame::data(Bytes::from(data))),
            Err(()) => Err(BodyError::CutShort(None)),
        }))
    }

    fn size_hint(&self) -> SizeHint {
        self.1.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

fn pieces(pieces: &[Result<&'static str, ()>], length: Option<u64>) -> Body {
    Body::stream(Pieces(pieces.iter().copied().collect(), length))
}

/// What the client reads of an answer, and whether it ended in order.
async fn written(status: u16, told: Option<&'static str>, body: Body, asked: &Asked) -> (String, bool) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
    let connection = Downstream::new(Io::new(accepted.unwrap().0));
    let mut response = Response::new(StatusCode::from_u16(status).unwrap(), body);
    if let Some(told) = told {
        response.fields.insert(header::CONTENT_LENGTH, http::HeaderValue::from_static(told));
    }
    let (mut sender, _) = sender(Vec::new(), response, asked);
    let sent = send(&connection, &mut sender).await;
    let whole = sent.is_ok();
    assert!(whole || sent == Err(Broken::Body));
    drop(connection);
    let mut read = String::new();
    client.unwrap().read_to_string(&mut read).await.unwrap();
    (read, whole)
}

const ASKED: Asked = Asked { head_only: false, http10: false, keep_alive: true };
const BY_HEAD: Asked = Asked { head_only: true, ..ASKED };
const BY_1_0: Asked = Asked { http10: true, ..ASKED };
const BY_1_0_ONCE: Asked = Asked { keep_alive: false, ..BY_1_0 };

#[tokio::test]
async fn an_answer_is_framed_for_who_asked() {
    let known = || Body::from("hello".to_owned());
    let streamed = || pieces(&[Ok("hel"), Ok("lo")], None);
    for (asked, status, told, body, expected) in [
        (&ASKED, 200, None, known(), "200 OK\r\ncontent-length: 5\r\n\r\nhello"),
        (&ASKED, 200, Some("5"), pieces(&[Ok("hel"), Ok("lo")], Some(5)), "200 OK\r\ncontent-length: 5\r\n\r\nhello"),
        (&ASKED, 200, None, Body::empty(), "200 OK\r\ncontent-length: 0\r\n\r\n"),
        (&ASKED, 200, None, streamed(), "200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"),
        (&ASKED, 204, Some("5"), known(), "204 No Content\r\n\r\n"),
        (&ASKED, 304, Some("5"), Body::empty(), "304 Not Modified\r\ncontent-length: 5\r\n\r\n"),
        (&ASKED, 304, None, Body::empty(), "304 Not Modified\r\n\r\n"),
        (&BY_HEAD, 200, Some("5"), Body::empty(), "200 OK\r\ncontent-length: 5\r\n\r\n"),
        (&BY_HEAD, 200, None, Body::empty(), "200 OK\r\n\r\n"),
        (&BY_HEAD, 404, None, known(), "404 Not Found\r\ncontent-length: 5\r\n\r\n"),
        (&BY_1_0, 200, None, known(), "200 OK\r\ncontent-length: 5\r\nconnection: keep-alive\r\n\r\nhello"),
        (&BY_1_0, 200, None, streamed(), "200 OK\r\nconnection: close\r\n\r\nhello"),
        (&BY_1_0_ONCE, 200, None, known(), "200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello"),
    ] {
        let (read, whole) = written(status, told, body, asked).await;
        assert_eq!((read.as_str(), whole), (format!("HTTP/1.1 {expected}").as_str(), true));
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_or_has_another_length_is_not_ended_in_order() {
    for (body, expected) in [
        (pieces(&[Ok("hel"), Err(())], None), "transfer-encoding: chunked\r\n\r\n3\r\nhel\r\n"),
        (pieces(&[Ok("hel"), Err(())], Some(5)), "content-length: 5\r\n\r\nhel"),
        (pieces(&[Ok("hel")], Some(5)), "content-length: 5\r\n\r\nhel"),
        (pieces(&[Ok("hel"), Ok("lo!")], Some(5)), "content-length: 5\r\n\r\nhel"),
    ] {
        let (read, whole) = written(200, None, body, &ASKED).await;
        assert_eq!((read.as_str(), whole), (format!("HTTP/1.1 200 OK\r\n{expected}").as_str(), false));
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_at_once_leaves_nothing_written() {
    for length in [None, Some(5)] {
        assert_eq!(written(200, None, pieces(&[Err(())], length), &ASKED).await, (String::new(), false));
    }
}

#[test]
fn what_is_written_instead_counts_in_place_of_what_was_not() {
    let metrics = Metrics::new(1);
    let cells = metrics.route("s", "r");
    let account = Account::open(cells.clone().into(), 0, Method::GET, Instant::now(), None);
    let mut response = Response::new(StatusCode::OK, Body::empty());
    response.fields.insert(http::HeaderName::from_static("x-request-id"), http::HeaderValue::from_static("abc"));
    let mut account = account.close(response).account;
    let instead = account.instead();
    assert_eq!((instead.status, instead.fields.text("x-request-id")), (StatusCode::BAD_GATEWAY, "abc"));
    drop(account);
    let counted = metrics.render();
    assert!(counted.contains("method=\"GET\",status=\"502\"} 1") && !counted.contains("status=\"200\""), "{counted}");
}

/// A body without an end, and how often its request was gone on with.
struct Endless(Rc<Cell<u32>>);

impl http_body::Body for Endless {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(vec![0; 32 * 1024])))))
    }
}

impl Duplex for Endless {
    fn poll_request(self: std::pin::Pin<&mut Self>, _: &mut Context<'_>) {
        self.0.set(self.0.get() + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_nothing_is_cut_and_its_request_goes_on_until_then() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (_client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
    let connection = Downstream::new(Io::new(accepted.unwrap().0));
    let went_on = Rc::new(Cell::new(0));
    let response = Response::new(StatusCode::OK, Body::duplex(Endless(went_on.clone())));
    let (mut sender, _) = sender(Vec::new(), response, &ASKED);
    let begun = Instant::now();
    assert_eq!(send(&connection, &mut sender).await, Err(Broken::Client));
    assert_eq!(begun.elapsed(), STALL);
    assert!(went_on.get() > 0);
}

#[tokio::test]
async fn what_is_sent_ahead_of_an_answer_is_held_within_bounds() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
    let connection = Downstream::new(Io::new(accepted.unwrap().0));
    let mut client = client.unwrap();
    let piece = vec![b'x'; 64 * 1024];
    let flood = async { while tokio::time::timeout(STALL / 100, client.write_all(&piece)).await.is_ok() {} };
    tokio::select! {
        () = poll_fn(|cx| connection.poll_gone(cx, false)) => panic!("the client is there"),
        () = flood => {}
    }
    assert!((1..=64 * 1024).contains(&connection.input.borrow().len()), "{}", connection.input.borrow().len());
}

/// The system holds it back for a fifth of a second at most, which a busy machine may take to look.
#[tokio::test]
async fn the_last_answer_of_a_connection_leaves_with_its_end_and_others_at_once() {
    for keep_alive in [true, false] {
        let mut waited = false;
        for _ in 0..20 {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
            let (mut client, connection) = (client.unwrap(), Downstream::new(Io::new(accepted.unwrap().0)));
            let response = Response::new(StatusCode::OK, Body::from("hello".to_owned()));
            let (mut sender, _) = sender(Vec::new(), response, &Asked { keep_alive, ..ASKED });
            send(&connection, &mut sender).await.unwrap();
            waited |= is_quiet(&client);
            connection.io.finish();
            let mut read = String::new();
            client.read_to_string(&mut read).await.unwrap();
            assert!(read.ends_with("\r\n\r\nhello"), "{read}");
        }
        assert_eq!(waited, !keep_alive);
    }
}
