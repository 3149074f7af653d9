//! Requests of clients over HTTP/2 as messages: which fields they have, in which order, and how long their bodies are.
//! What is malformed is reset or refused, and no service sees it. Source: RFC 9113 §8.

use crate::support::{
    Origin,
    hpack::{packed, plain},
    http2::{DATA, END_HEADERS, END_STREAM, GET, HEADERS, fields, frame},
    verdict::{
        POST, PROTOCOL, Row,
        Want::{self, Refused, Taken},
        ask, before, hold,
    },
};

const WRONG: Want = Refused(&[PROTOCOL]);

/// A whole request with these fields.
fn with(list: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, 1, &fields(list))
}

/// `GET /` with one field more.
fn and(name: &str, value: &str) -> Vec<u8> {
    with(&[&GET[..], &[(name, value)]].concat())
}

/// `GET /` with another value of a pseudo-field, or without it.
fn but(name: &str, value: Option<&str>) -> Vec<u8> {
    let list = GET.into_iter().filter_map(|(found, old)| Some((found, if found == name { value? } else { old })));
    with(&list.collect::<Vec<_>>())
}

#[tokio::test]
async fn pseudo_fields_are_those_of_a_request_once_and_first() {
    let origin = Origin::start("a").await;
    let gateway = before(&origin).await;
    let first = |field: (&'static str, &'static str)| with(&[&[field][..], &GET].concat());
    let between = [GET[0], GET[1], ("accept", "*/*"), GET[2], GET[3]];
    let mut rows: Vec<Row> = vec![
        ("an unknown one", and(":test", "ok"), WRONG),
        ("an unknown one in front", first((":test", "ok")), WRONG),
        ("an answer's", and(":status", "200"), WRONG),
        ("an answer's in front", first((":status", "200")), WRONG),
        ("an extension's", and(":protocol", "websocket"), WRONG),
        ("a nameless one", and(":", "x"), WRONG),
        ("one in capitals", and(":Path", "/"), WRONG),
        ("all after a field", first(("accept", "*/*")), WRONG),
        ("some after a field", with(&between), WRONG),
        ("no field at all", with(&[]), WRONG),
        ("fields alone", with(&[("accept", "*/*")]), WRONG),
        ("CONNECT with a path", but(":method", Some("CONNECT")), WRONG),
    ];
    for (name, value) in GET {
        rows.push(("one missing", but(name, None), WRONG));
        rows.push(("one twice", and(name, value), WRONG));
        rows.push(("one empty", but(name, Some("")), WRONG));
    }
    hold(&gateway, rows).await;
    assert_eq!(origin.count(), 1);
}

#[tokio::test]
async fn a_path_and_a_method_are_what_http_has() {
    let origin = Origin::start("a").await;
    let gateway = before(&origin).await;
    hold(
        &gateway,
        vec![
            ("a path without a slash", but(":path", Some("a")), WRONG),
            ("a path of a question alone", but(":path", Some("?a")), WRONG),
            ("a path of an asterisk", but(":path", Some("*")), WRONG),
            ("a path with a space", but(":path", Some("/a b")), WRONG),
            ("a path with a control", but(":path", Some("/a\u{1}")), WRONG),
            ("a path with a line's end", but(":path", Some("/a\r\nx: y")), WRONG),
            ("a whole address as a path", but(":path", Some("http://a/")), WRONG),
            ("a path with a fragment", but(":path", Some("/a#b")), WRONG),
            ("a method with a space", but(":method", Some("GE T")), WRONG),
            ("a method with a line's end", but(":method", Some("GET\n")), WRONG),
            ("a scheme with a space", but(":scheme", Some("ht tp")), WRONG),
            ("a host with a user", but(":authority", Some("a@b")), WRONG),
            ("a host with a space", but(":authority", Some("a b")), WRONG),
            ("a host with a path", but(":authority", Some("a/b")), WRONG),
            ("a question", but(":path", Some("/?a=b&c=d?e")), Taken),
            ("a method of its own", but(":method", Some("PURGE")), Taken),
            ("a host with a port", but(":authority", Some("a.example.com:8080")), Taken),
        ],
    )
    .await;
}

#[tokio::test]
async fn names_and_values_are_what_http_2_has() {
    let origin = Origin::start("a").await;
    let gateway = before(&origin).await;
    let mut rows: Vec<Row> = vec![
        ("a nameless field", and("", "x"), WRONG),
        ("a name with a colon", and("x:y", "x"), WRONG),
        ("a name with a colon behind", and("x:", "x"), WRONG),
        (
            "a packed name in capitals",
            {
                let block = [&fields(&GET)[..], b"\0", &packed("X-Test"), &plain("x")].concat();
                frame(HEADERS, END_HEADERS | END_STREAM, 1, &block)
            },
            WRONG,
        ),
        ("connection", and("connection", "close"), WRONG),
        ("connection: keep-alive", and("connection", "keep-alive"), WRONG),
        ("keep-alive", and("keep-alive", "timeout=5"), WRONG),
        ("proxy-connection", and("proxy-connection", "keep-alive"), WRONG),
        ("transfer-encoding", and("transfer-encoding", "chunked"), WRONG),
        ("upgrade", and("upgrade", "h2c"), WRONG),
        ("te: gzip", and("te", "gzip"), WRONG),
        ("te: trailers and more", and("te", "trailers, deflate"), WRONG),
        ("te: trailers", and("te", "trailers"), Taken),
        ("a value of more than ASCII", and("x", "\u{fc}ber"), Taken),
        ("a tab within a value", and("x", "a\tb"), Taken),
        ("cookies in crumbs", with(&[&GET[..], &[("cookie", "a=b"), ("cookie", "c=d")]].concat()), Taken),
    ];
    for name in ["X-Test", "x y", "x\t", "x\0", "x\n", "x\r", "x\u{7f}", "x\u{fc}", "x(", "x\"", "x,y"] {
        rows.push((name, and(name, "x"), WRONG));
    }
    for value in ["a\0", "a\nb", "a\rb", "a\r\nb: c", "\0", "\n"] {
        rows.push((value, and("x", value), WRONG));
    }
    let taken = rows.iter().filter(|(.., want)| matches!(want, Taken)).count();
    hold(&gateway, rows).await;
    assert_eq!(origin.count(), taken + 1);
}

/// `POST /` with one field more, whose body is to come.
fn post(more: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, 1, &fields(&[&POST[..], more].concat()))
}

fn data(text: &str, end: u8) -> Vec<u8> {
    frame(DATA, end, 1, text.as_bytes())
}

#[tokio::test]
async fn a_body_is_as_long_as_it_was_announced() {
    let origin = Origin::start("a").await;
    let gateway = before(&origin).await;
    let length = |length| post(&[("content-length", length)]);
    let none = |length| with(&[&POST[..], &[("content-length", length)]].concat());
    hold(
        &gateway,
        vec![
            ("shorter", [length("5"), data("abc", END_STREAM)].concat(), WRONG),
            ("shorter in pieces", [length("5"), data("ab", 0), data("ab", END_STREAM)].concat(), WRONG),
            ("longer", [length("5"), data("abcdef", END_STREAM)].concat(), WRONG),
            ("longer in pieces", [length("5"), data("abc", 0), data("abc", END_STREAM)].concat(), WRONG),
            ("longer without an end", [length("5"), data("abcdef", 0)].concat(), WRONG),
            (
                "shorter before trailers",
                {
                    [length("5"), data("abc", 0), frame(HEADERS, END_HEADERS | END_STREAM, 1, &fields(&[("x", "1")]))]
                        .concat()
                },
                WRONG,
            ),
            ("none where some was announced", none("5"), WRONG),
            ("some where none was announced", [length("0"), data("a", END_STREAM)].concat(), WRONG),
            ("two lengths", [post(&[("content-length", "1"), ("content-length", "2")]), data("a", 1)].concat(), WRONG),
            ("a length that is no number", [length("a"), data("a", END_STREAM)].concat(), WRONG),
            ("a length with a sign", [length("+1"), data("a", END_STREAM)].concat(), WRONG),
            ("a length below nothing", [length("-1"), data("a", END_STREAM)].concat(), WRONG),
            ("an empty length", [length(""), data("", END_STREAM)].concat(), WRONG),
            ("a length over all", [length("18446744073709551617"), data("a", END_STREAM)].concat(), WRONG),
            ("exactly", [length("5"), data("abcde", END_STREAM)].concat(), Taken),
            (
                "exactly in pieces",
                [length("5"), data("abc", 0), data("", 0), data("de", 0), data("", 1)].concat(),
                Taken,
            ),
            ("nothing", none("0"), Taken),
            ("not announced", [post(&[]), data("abcde", END_STREAM)].concat(), Taken),
        ],
    )
    .await;
}

#[tokio::test]
async fn trailers_end_the_stream_and_have_no_pseudo_fields() {
    let origin = Origin::start("a").await;
    let gateway = before(&origin).await;
    let after = |flags: u8, list: &[(&str, &str)]| {
        [post(&[]), data("abc", 0), frame(HEADERS, END_HEADERS | flags, 1, &fields(list))].concat()
    };
    hold(
        &gateway,
        vec![
            ("trailers", after(END_STREAM, &[("x-sum", "1")]), Taken),
            ("no trailers", after(END_STREAM, &[]), Taken),
            (
                "trailers without DATA",
                { [post(&[]), frame(HEADERS, END_HEADERS | END_STREAM, 1, &fields(&[("x-sum", "1")]))].concat() },
                Taken,
            ),
            ("trailers that do not end it", after(0, &[("x-sum", "1")]), WRONG),
            ("a second head", after(0, &POST), WRONG),
            ("a second head that ends it", after(END_STREAM, &POST), WRONG),
            ("a pseudo-field in trailers", after(END_STREAM, &[(":path", "/")]), WRONG),
            ("an unknown pseudo-field in trailers", after(END_STREAM, &[("x-sum", "1"), (":test", "1")]), WRONG),
            ("trailers in capitals", after(END_STREAM, &[("X-Sum", "1")]), WRONG),
            ("trailers with a line's end", after(END_STREAM, &[("x-sum", "1\n")]), WRONG),
            ("trailers of a connection", after(END_STREAM, &[("connection", "close")]), WRONG),
            ("trailers that are followed", [after(END_STREAM, &[("x-sum", "1")]), ask(3)].concat(), Taken),
        ],
    )
    .await;
}
