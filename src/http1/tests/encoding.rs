//! What is written: byte for byte, and that our own readers take it back.

use std::num::NonZero;

use http::{HeaderName, HeaderValue, StatusCode};
use proptest::prelude::*;

use super::{
    super::encode::{
        Block, CHUNK_END, Connection, Framing, write_chunk_head, write_last_chunk, write_request_head,
        write_response_head,
    },
    *,
};
use crate::model::fields::Fields;

fn map(fields: &[(&'static str, &'static str)]) -> Fields {
    fields.iter().map(|&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
}

fn written_request(target: &str, fields: &[(&'static str, &'static str)], framing: Framing) -> String {
    let mut out = Vec::new();
    let host = HeaderValue::from_static("h");
    write_request_head(
        &mut out,
        &Method::POST,
        target,
        &host,
        (&map(fields), &Block::default()),
        framing,
        Connection::Implied,
    );
    String::from_utf8(out).unwrap()
}

fn written_answer(status: u16, fields: &[(&'static str, &'static str)], framing: Framing, told: Connection) -> String {
    let mut out = Vec::new();
    write_response_head(&mut out, StatusCode::from_u16(status).unwrap(), &map(fields), framing, told);
    String::from_utf8(out).unwrap()
}

#[test]
fn framing_host_and_connection_of_a_request_are_the_codecs_alone() {
    let came = [
        ("host", "evil"),
        ("content-length", "99"),
        ("transfer-encoding", "gzip"),
        ("connection", "upgrade"),
        ("x-a", "1"),
        ("x-a", "2"),
    ];
    for (framing, line) in [
        (Framing::None, ""),
        (Framing::Length(0), "content-length: 0\r\n"),
        (Framing::Length(7), "content-length: 7\r\n"),
        (Framing::Chunked, "transfer-encoding: chunked\r\n"),
    ] {
        let expected = format!("POST /a?b HTTP/1.1\r\nhost: h\r\nx-a: 1\r\nx-a: 2\r\n{line}\r\n");
        assert_eq!(written_request("/a?b", &came, framing), expected);
    }
}

#[test]
fn no_target_splits_a_request() {
    let written = written_request("/a b\r\nX: y\0\u{e9}", &[], Framing::None);
    assert_eq!(written, "POST /a%20b%0D%0AX:%20y%00%C3%A9 HTTP/1.1\r\nhost: h\r\n\r\n");
}

#[test]
fn what_many_messages_have_in_common_is_the_same_as_text_and_as_fields_and_splits_nothing() {
    let mut block = Block::with_room(8);
    assert_eq!(block.fields(), []);
    block.add(&HeaderName::from_static("x-a"), |out| out.extend_from_slice(b"http://a:80/, \"\xff\""));
    for evil in [&b"1\r\nx-evil: 1"[..], b"1\nx-evil: 1", b"\r", b"a\0", b"12345678\x7f"] {
        block.add(&HeaderName::from_static("x-b"), |out| out.extend_from_slice(evil));
    }
    assert_eq!(block.fields().len(), 1);
    block.add(&HeaderName::from_static("x-c"), |_| {});
    let want = [("x-a", &b"http://a:80/, \"\xff\""[..]), ("x-c", b"")];
    let fields = block.fields().iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    assert_eq!(fields.collect::<Vec<_>>(), want);

    let (mut out, host) = (Vec::new(), HeaderValue::from_static("h"));
    write_request_head(
        &mut out,
        &Method::GET,
        "/",
        &host,
        (&Fields::new(), &block),
        Framing::None,
        Connection::Implied,
    );
    let want = b"GET / HTTP/1.1\r\nhost: h\r\nx-a: http://a:80/, \"\xff\"\r\nx-c: \r\n\r\n";
    assert_eq!(out, want, "{}", out.escape_ascii());
}

#[test]
fn the_head_of_an_answer_tells_framing_and_connection_once() {
    let came = [("content-length", "99"), ("connection", "close"), ("transfer-encoding", "chunked"), ("x-a", "1")];
    for (status, framing, told, expected) in [
        (200, Framing::Length(5), Connection::Implied, "200 OK\r\nx-a: 1\r\ncontent-length: 5\r\n\r\n"),
        (200, Framing::Chunked, Connection::Implied, "200 OK\r\nx-a: 1\r\ntransfer-encoding: chunked\r\n\r\n"),
        (200, Framing::None, Connection::Close, "200 OK\r\nx-a: 1\r\nconnection: close\r\n\r\n"),
        (200, Framing::None, Connection::KeepAlive, "200 OK\r\nx-a: 1\r\nconnection: keep-alive\r\n\r\n"),
        (304, Framing::Length(5), Connection::Implied, "304 Not Modified\r\nx-a: 1\r\ncontent-length: 5\r\n\r\n"),
        (204, Framing::Length(5), Connection::Implied, "204 No Content\r\nx-a: 1\r\n\r\n"),
        (204, Framing::Chunked, Connection::Implied, "204 No Content\r\nx-a: 1\r\n\r\n"),
        (103, Framing::Length(5), Connection::Implied, "103 Early Hints\r\nx-a: 1\r\n\r\n"),
        (
            101,
            Framing::Chunked,
            Connection::Upgrade,
            "101 Switching Protocols\r\nx-a: 1\r\nconnection: upgrade\r\n\r\n",
        ),
        (299, Framing::Length(0), Connection::Implied, "299 \r\nx-a: 1\r\ncontent-length: 0\r\n\r\n"),
    ] {
        assert_eq!(written_answer(status, &came, framing, told), format!("HTTP/1.1 {expected}"));
    }
}

fn write_chunk(out: &mut Vec<u8>, data: &[u8]) {
    if let Some(bytes) = NonZero::new(data.len()) {
        write_chunk_head(out, bytes);
        out.extend_from_slice(data);
        out.extend_from_slice(CHUNK_END);
    }
}

#[test]
fn a_chunked_body_is_written_as_the_rfc_wants_it() {
    let mut out = Vec::new();
    write_chunk(&mut out, b"abc");
    write_chunk(&mut out, &[b'x'; 26]);
    write_last_chunk(&mut out, None);
    assert_eq!(out, b"3\r\nabc\r\n1a\r\nxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n0\r\n\r\n");
}

#[test]
fn only_trailers_that_may_be_passed_on_are_written() {
    let mut out = Vec::new();
    write_last_chunk(
        &mut out,
        Some(&map(&[("x-sum", "1"), ("content-length", "5"), ("set-cookie", "a=b")]).into_map()),
    );
    assert_eq!(out, b"0\r\nx-sum: 1\r\n\r\n");
}

fn value() -> impl Strategy<Value = HeaderValue> {
    let byte = prop_oneof![Just(b'\t'), 0x20..=0x7e_u8, 0x80..=0xff_u8];
    proptest::collection::vec(byte, 0..20).prop_map(|bytes| HeaderValue::from_bytes(bytes.trim_ascii()).unwrap())
}

fn some() -> impl Strategy<Value = Fields> {
    let name =
        proptest::sample::select(vec!["accept", "cookie", "x-a", "x-b", "etag"]).prop_map(HeaderName::from_static);
    proptest::collection::vec((name, value()), 0..10).prop_map(|fields| fields.into_iter().collect())
}

proptest! {
    #[test]
    fn what_was_written_is_read_as_it_was(sent in some(), length in 1..=i64::MAX.unsigned_abs()) {
        let mut out = Vec::new();
        let host = HeaderValue::from_static("h:80");
        let framing = Framing::Length(length);
        write_request_head(&mut out, &Method::PUT, "/a?b", &host, (&sent, &Block::default()), framing, Connection::Close);
        let mut head = request(&out).unwrap();
        prop_assert_eq!((head.length, head.keep_alive), (Length::Exact(length), false));
        prop_assert_eq!(head.fields.text("host"), "h:80");
        for name in ["host", "content-length", "connection"] {
            head.fields.remove(name);
        }
        prop_assert_eq!(&head.fields, &sent);

        out.clear();
        write_response_head(&mut out, StatusCode::OK, &sent, Framing::Chunked, Connection::Implied);
        let mut head = answer(&out, &Method::GET).unwrap();
        prop_assert_eq!((head.length, head.keep_alive), (Length::Chunked, true));
        head.fields.remove("transfer-encoding");
        prop_assert_eq!(&head.fields, &sent);
    }

    #[test]
    fn chunks_that_were_written_are_read_as_they_were(
        pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..8),
        trailers in some(),
        rest in proptest::collection::vec(any::<u8>(), 0..10),
    ) {
        let mut out = Vec::new();
        for piece in &pieces {
            write_chunk(&mut out, piece);
        }
        write_last_chunk(&mut out, Some(&trailers.clone().into_map()));
        out.extend_from_slice(&rest);
        let body = chunked(&out);
        prop_assert_eq!(body.error, None);
        prop_assert!(body.whole);
        prop_assert_eq!(body.data, pieces.concat());
        prop_assert_eq!(body.rest, rest);
        let mut kept = trailers;
        kept.remove("cookie");
        prop_assert_eq!(body.trailers.unwrap_or_default(), kept.into_map());
    }

    #[test]
    fn no_text_makes_a_request_of_two_lines(target in any::<String>()) {
        let mut out = Vec::new();
        let host = HeaderValue::from_static("h");
        write_request_head(&mut out, &Method::GET, &format!("/{target}"), &host, (&Fields::new(), &Block::default()), Framing::None, Connection::Implied);
        prop_assert_eq!(out.split(|&b| b == b'\n').count(), 4);
        prop_assert_eq!(out.split(|&b| b == b' ').count(), 4);
    }
}
