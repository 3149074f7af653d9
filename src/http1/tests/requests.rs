//! Request heads: what is read, what is refused and why.

use bytes::BytesMut;
use http::Version;

use super::{super::target::Form, *};
use crate::http1::{framing::FramingError, head::HeadError, host::HostError, target::TargetError};

#[test]
fn a_request_is_read_into_its_parts() {
    let head = request(
        b"POST /a/./b?c=d HTTP/1.1\r\nHost: A.example:80\r\nX-A: 1\r\nx-a:\t2 \r\nContent-Length: 5\r\n\r\nhello",
    );
    let head = head.unwrap();
    assert_eq!((head.method, head.version), (Method::POST, Version::HTTP_11));
    assert_eq!((head.target.form(), head.target.path(), head.target.query()), (Form::Origin, "/a/./b", Some("c=d")));
    assert_eq!((head.length, head.keep_alive, head.expect_continue), (Length::Exact(5), true, false));
    let expected: [(&str, &[u8]); 4] =
        [("host", b"A.example:80"), ("x-a", b"1"), ("x-a", b"2"), ("content-length", b"5")];
    assert_eq!(fields(head.fields.iter()), expected.map(|(name, value)| (name, Bytes::from(value))));
}

#[test]
fn a_head_holds_nothing_of_what_it_was_read_from_and_leaves_the_body() {
    for body in ["", "hello"] {
        let mut buf = BytesMut::with_capacity(1024);
        buf.extend_from_slice(b"GET /a HTTP/1.1\r\nHost: a\r\nX-A: 1\r\n\r\n");
        buf.extend_from_slice(body.as_bytes());
        let head = RequestReader::new(Limits::default()).read(&mut buf).unwrap().unwrap();
        assert_eq!(buf, body);
        drop(buf.split());
        assert!(buf.try_reclaim(1024), "{body}");
        assert_eq!((head.target.path(), head.fields.text("x-a")), ("/a", "1"));
    }
}

/// Refused whether or not a body follows.
#[test]
fn a_request_whose_end_two_parsers_could_see_in_two_places_is_refused() {
    use FramingError::{Both, ContentLength, RepeatedContentLength, TransferEncoding, TransferEncodingInHttp10};
    for (fields, error) in [
        ("Content-Length: 5\r\nTransfer-Encoding: chunked", Both),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5", Both),
        ("Transfer-Encoding: chunked\r\nContent-Length: 0", Both),
        ("Content-Length: 5\r\nContent-Length: 5", RepeatedContentLength),
        ("Content-Length: 5\r\nContent-Length: 6", RepeatedContentLength),
        ("Content-Length: 0\r\ncontent-length: 0", RepeatedContentLength),
        ("Content-Length: 5, 5", ContentLength),
        ("Content-Length: 5,6", ContentLength),
        ("Content-Length:", ContentLength),
        ("Content-Length: +5", ContentLength),
        ("Content-Length: -5", ContentLength),
        ("Content-Length: 0x5", ContentLength),
        ("Content-Length: 5 0", ContentLength),
        ("Content-Length: 5.0", ContentLength),
        ("Content-Length: 5;a", ContentLength),
        ("Content-Length: \"5\"", ContentLength),
        ("Content-Length: five", ContentLength),
        ("Content-Length: 9223372036854775808", ContentLength),
        ("Content-Length: 18446744073709551621", ContentLength),
        ("Transfer-Encoding:", TransferEncoding),
        ("Transfer-Encoding: identity", TransferEncoding),
        ("Transfer-Encoding: gzip", TransferEncoding),
        ("Transfer-Encoding: gzip, chunked", TransferEncoding),
        ("Transfer-Encoding: chunked, gzip", TransferEncoding),
        ("Transfer-Encoding: chunked, chunked", TransferEncoding),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", TransferEncoding),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", TransferEncoding),
        ("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked", TransferEncoding),
        ("Transfer-Encoding: chunked,", TransferEncoding),
        ("Transfer-Encoding: ,chunked", TransferEncoding),
        ("Transfer-Encoding: chunked;a=b", TransferEncoding),
        ("Transfer-Encoding: \"chunked\"", TransferEncoding),
        ("Transfer-Encoding: xchunked", TransferEncoding),
        ("Transfer-Encoding: chunked\u{a0}", TransferEncoding),
    ] {
        for version in ["HTTP/1.1", "HTTP/1.0"] {
            let found = request(format!("POST / {version}\r\nHost: a\r\n{fields}\r\n\r\n").as_bytes()).unwrap_err();
            assert_eq!(found, RequestError::Framing(error), "{version} {fields:?}");
            assert_eq!(found.status(), 400, "{version} {fields:?}");
        }
    }
    let old = request(b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap_err();
    assert_eq!(old, RequestError::Framing(TransferEncodingInHttp10));
}

#[test]
fn a_request_says_how_long_its_body_is() {
    for (fields, length) in [
        ("", Length::Empty),
        ("Content-Length: 0\r\n", Length::Exact(0)),
        ("Content-Length: \t 007 \r\n", Length::Exact(7)),
        ("content-length:9223372036854775807\r\n", Length::Exact(i64::MAX.unsigned_abs())),
        ("Transfer-Encoding: chunked\r\n", Length::Chunked),
        ("transfer-encoding:\tCHUNKED \r\n", Length::Chunked),
        ("X-Content-Length: 5\r\nContent_Length: 5\r\n", Length::Empty),
    ] {
        for method in ["GET", "POST", "HEAD", "DELETE", "OPTIONS"] {
            let head = request(format!("{method} / HTTP/1.1\r\nHost: a\r\n{fields}\r\n").as_bytes()).unwrap();
            assert_eq!(head.length, length, "{method} {fields:?}");
        }
    }
}

#[test]
fn the_request_line_has_three_parts_with_one_blank_between_them() {
    for (line, error) in [
        ("GET /\r\n", RequestError::Line),
        ("GET\r\n", RequestError::Line),
        ("GET  / HTTP/1.1\r\n", RequestError::Line),
        ("GET /  HTTP/1.1\r\n", RequestError::Version),
        ("GET / HTTP/1.1 \r\n", RequestError::Version),
        ("GET / a HTTP/1.1\r\n", RequestError::Version),
        ("GET\t/\tHTTP/1.1\r\n", RequestError::Line),
        ("GET /\tHTTP/1.1\r\n", RequestError::Line),
        ("GET\t/ HTTP/1.1\r\n", RequestError::Method),
        ("G(T / HTTP/1.1\r\n", RequestError::Method),
        ("GET: / HTTP/1.1\r\n", RequestError::Method),
        ("G\0T / HTTP/1.1\r\n", RequestError::Method),
        ("GÉT / HTTP/1.1\r\n", RequestError::Method),
        ("HTTP/1.1 200 OK\r\n", RequestError::Method),
        (" GET / HTTP/1.1\r\n", RequestError::NotHttp),
        ("\tGET / HTTP/1.1\r\n", RequestError::NotHttp),
        ("\0", RequestError::NotHttp),
        ("\u{16}\u{3}\u{1}", RequestError::NotHttp),
        ("\n", RequestError::NotHttp),
        ("\r\r", RequestError::NotHttp),
        ("\r\n\r\nGET / HTTP/1.1\r\n", RequestError::NotHttp),
        ("\r\n\nGET / HTTP/1.1\r\n", RequestError::NotHttp),
    ] {
        let found = request(format!("{line}Host: a\r\n\r\n").as_bytes()).unwrap_err();
        assert_eq!((found, found.status().as_u16()), (error, 400), "{line:?}");
    }
}

#[test]
fn one_empty_line_before_a_request_is_forgiven() {
    assert_eq!(request(b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap().method, Method::GET);
}

#[test]
fn a_method_is_any_token_in_its_own_case() {
    for method in ["GET", "get", "Get", "PURGE", "M-SEARCH", "!#$%&'*+-.^_`|~9", "CONNECTED", "TRACE"] {
        let head = request(format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).unwrap();
        assert_eq!(head.method.as_str(), method);
    }
}

#[test]
fn no_version_but_1_0_and_1_1_is_served() {
    for (version, error, status) in [
        ("HTTP/0.9", RequestError::UnknownVersion, 505),
        ("HTTP/1.2", RequestError::UnknownVersion, 505),
        ("HTTP/1.9", RequestError::UnknownVersion, 505),
        ("HTTP/2.0", RequestError::UnknownVersion, 505),
        ("HTTP/3.0", RequestError::UnknownVersion, 505),
        ("HTTP/2", RequestError::Version, 400),
        ("HTTP/1", RequestError::Version, 400),
        ("HTTP/1.", RequestError::Version, 400),
        ("HTTP/1.10", RequestError::Version, 400),
        ("HTTP/01.1", RequestError::Version, 400),
        ("HTTP/1,1", RequestError::Version, 400),
        ("http/1.1", RequestError::Version, 400),
        ("Http/1.1", RequestError::Version, 400),
        ("HTTPS/1.1", RequestError::Version, 400),
        ("HTTP 1.1", RequestError::Version, 400),
        ("HTTP/1.1\0", RequestError::Version, 400),
        ("ICY/1.1", RequestError::Version, 400),
        ("", RequestError::Version, 400),
    ] {
        let found = request(format!("GET / {version}\r\nHost: a\r\n\r\n").as_bytes()).unwrap_err();
        assert_eq!((found, found.status().as_u16()), (error, status), "{version:?}");
    }
}

#[test]
fn a_target_that_names_no_resource_of_ours_is_refused() {
    for (start, error) in [
        ("GET a", TargetError::Form),
        ("GET *", TargetError::Form),
        ("GET ?a", TargetError::Form),
        ("GET a:80", TargetError::Form),
        ("GET ftp://a/", TargetError::Form),
        ("OPTIONS **", TargetError::Form),
        ("GET /#a", TargetError::Fragment),
        ("GET /a?b#c", TargetError::Fragment),
        ("GET http://a/#", TargetError::Fragment),
        ("GET http://u@a/", TargetError::Host(HostError::UserInfo)),
        ("GET http://u:p@a/", TargetError::Host(HostError::UserInfo)),
        ("GET http:///", TargetError::Host(HostError::Empty)),
        ("GET http://a:99999/", TargetError::Host(HostError::Port)),
        ("CONNECT /", TargetError::Host(HostError::Name)),
        ("CONNECT a", TargetError::Connect),
        ("GET /\0", TargetError::Byte),
        ("GET /\u{7f}", TargetError::Byte),
        ("GET /a\rb", TargetError::Byte),
        ("GET /\u{e9}", TargetError::Byte),
    ] {
        let found = request(format!("{start} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).unwrap_err();
        assert_eq!((found, found.status().as_u16()), (RequestError::Target(error), 400), "{start:?}");
    }
}

#[test]
fn exactly_one_valid_host_is_wanted() {
    use HostError::{Empty, Name, Port, UserInfo};
    for (fields, error) in [
        ("", RequestError::NoHost),
        ("X-Host: a\r\n", RequestError::NoHost),
        ("Host: a\r\nHost: a\r\n", RequestError::RepeatedHost),
        ("Host: a\r\nhost: b\r\n", RequestError::RepeatedHost),
        ("Host:\r\n", RequestError::Host(Empty)),
        ("Host: :80\r\n", RequestError::Host(Empty)),
        ("Host: u@a\r\n", RequestError::Host(UserInfo)),
        ("Host: a/b\r\n", RequestError::Host(Name)),
        ("Host: http://a\r\n", RequestError::Host(Port)),
        ("Host: a b\r\n", RequestError::Host(Name)),
        ("Host: a,b\r\n", RequestError::Host(Name)),
        ("Host: a#b\r\n", RequestError::Host(Name)),
        ("Host: a?b\r\n", RequestError::Host(Name)),
        ("Host: a\\b\r\n", RequestError::Host(Name)),
        ("Host: a%00\r\n", RequestError::Host(Name)),
        ("Host: [::1\r\n", RequestError::Host(Name)),
        ("Host: a:b\r\n", RequestError::Host(Port)),
        ("Host: a:0\r\n", RequestError::Host(Port)),
        ("Host: a:65536\r\n", RequestError::Host(Port)),
        ("Host: a:80:80\r\n", RequestError::Host(Port)),
        ("Host: a\0\r\n", RequestError::Head(HeadError::Value)),
    ] {
        let found = request(format!("GET / HTTP/1.1\r\n{fields}\r\n").as_bytes()).unwrap_err();
        assert_eq!((found, found.status().as_u16()), (error, 400), "{fields:?}");
    }
}

#[test]
fn an_absolute_target_overrides_the_host_but_does_not_excuse_it() {
    for (start, fields, host) in [
        ("GET http://b/ HTTP/1.1", "Host: a\r\n", Ok("b")),
        ("GET http://b:8080?x HTTP/1.1", "Host: a:80\r\n", Ok("b:8080")),
        ("GET https://b/ HTTP/1.1", "Host:\r\n", Ok("b")),
        ("GET http://b/ HTTP/1.0", "", Ok("b")),
        ("OPTIONS http://b HTTP/1.1", "Host: a\r\n", Ok("b")),
        ("CONNECT b:443 HTTP/1.1", "Host: a\r\n", Ok("b:443")),
        ("GET http://b/ HTTP/1.1", "", Err(RequestError::NoHost)),
        ("GET http://b/ HTTP/1.1", "Host: b\r\nHost: b\r\n", Err(RequestError::RepeatedHost)),
        ("GET http://b/ HTTP/1.1", "Host: u@a\r\n", Err(RequestError::Host(HostError::UserInfo))),
    ] {
        let found = request(format!("{start}\r\n{fields}\r\n").as_bytes());
        let found = found.map(|head| {
            let told: Vec<_> = head.fields.get_all("host").collect();
            assert_eq!(told.len(), 1, "{start:?}");
            told[0].to_str().unwrap().to_owned()
        });
        assert_eq!(found, host.map(str::to_owned), "{start:?} {fields:?}");
    }
}

#[test]
fn http_1_0_may_leave_the_host_out_but_not_repeat_or_spoil_it() {
    assert!(request(b"GET / HTTP/1.0\r\n\r\n").unwrap().fields.is_empty());
    assert_eq!(request(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n").unwrap().fields.text("host"), "a");
    let twice = request(b"GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n").unwrap_err();
    assert_eq!(twice, RequestError::RepeatedHost);
    let spoilt = request(b"GET / HTTP/1.0\r\nHost: a/b\r\n\r\n").unwrap_err();
    assert_eq!(spoilt, RequestError::Host(HostError::Name));
}

#[test]
fn nothing_but_crlf_ends_a_line_and_nothing_is_folded() {
    use HeadError::{BareLineFeed, Folded, Name, NoColon, Value};
    for (bytes, error) in [
        ("GET / HTTP/1.1\nHost: a\r\n\r\n", BareLineFeed),
        ("GET / HTTP/1.1\r\nHost: a\n\r\n", BareLineFeed),
        ("GET / HTTP/1.1\r\nHost: a\r\n\n", BareLineFeed),
        ("GET / HTTP/1.1\r\n\nHost: a\r\n\r\n", BareLineFeed),
        ("GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n", Folded),
        ("GET / HTTP/1.1\r\nHost: a\r\n\tb\r\n\r\n", Folded),
        ("GET / HTTP/1.1\r\n Host: a\r\n\r\n", Folded),
        ("GET / HTTP/1.1\r\nHost: a\r\n \r\n\r\n", Folded),
        ("GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n", NoColon),
        ("GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", Name),
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", Name),
        ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n", Name),
        ("GET / HTTP/1.1\r\nHost: a\r\nX Y: b\r\n\r\n", Name),
        ("GET / HTTP/1.1\r\nHost: a\r\nX\u{b}: b\r\n\r\n", Name),
        ("GET / HTTP/1.1\r\nHost: a\r\n\u{e9}: b\r\n\r\n", Name),
        ("GET / HTTP/1.1\r\nHost: a\r\n\rX: b\r\n\r\n", Name),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: b\rY: c\r\n\r\n", Value),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: b\r\r\n\r\n", Value),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: b\0c\r\n\r\n", Value),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: \u{1b}[0m\r\n\r\n", Value),
    ] {
        let found = request(bytes.as_bytes()).unwrap_err();
        assert_eq!((found, found.status().as_u16()), (RequestError::Head(error), 400), "{bytes:?}");
    }
}

#[test]
fn a_connection_goes_on_where_both_version_and_client_want_it() {
    for (version, fields, keep_alive) in [
        ("1.1", "", true),
        ("1.1", "Connection: keep-alive\r\n", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "Connection: CLOSE\r\n", false),
        ("1.1", "Connection: x, close\r\n", false),
        ("1.1", "Connection: x\r\nConnection:\tclose \r\n", false),
        ("1.1", "Connection: keep-alive, close\r\n", false),
        ("1.1", "Connection: closed\r\n", true),
        ("1.1", "Proxy-Connection: close\r\n", true),
        ("1.0", "", false),
        ("1.0", "Connection: keep-alive\r\n", true),
        ("1.0", "Connection: Keep-Alive\r\n", true),
        ("1.0", "Connection: keep-alive, close\r\n", false),
        ("1.0", "Connection: close\r\n", false),
        ("1.0", "Keep-Alive: timeout=5\r\n", false),
    ] {
        let head = request(format!("GET / HTTP/{version}\r\nHost: a\r\n{fields}\r\n").as_bytes()).unwrap();
        assert_eq!(head.keep_alive, keep_alive, "{version} {fields:?}");
    }
}

#[test]
fn only_who_has_a_body_and_speaks_1_1_waits_for_100_continue() {
    for (version, fields, expected) in [
        ("1.1", "Content-Length: 5\r\nExpect: 100-continue\r\n", true),
        ("1.1", "Transfer-Encoding: chunked\r\nexpect: 100-Continue\r\n", true),
        ("1.1", "Content-Length: 5\r\nExpect: x, 100-continue\r\n", true),
        ("1.1", "Content-Length: 5\r\nExpect: 100-continued\r\n", false),
        ("1.1", "Content-Length: 5\r\n", false),
        ("1.1", "Content-Length: 0\r\nExpect: 100-continue\r\n", false),
        ("1.1", "Expect: 100-continue\r\n", false),
        ("1.0", "Content-Length: 5\r\nExpect: 100-continue\r\n", false),
    ] {
        let head = request(format!("POST / HTTP/{version}\r\nHost: a\r\n{fields}\r\n").as_bytes()).unwrap();
        assert_eq!(head.expect_continue, expected, "{version} {fields:?}");
    }
}

#[test]
fn pipelined_requests_are_read_one_by_one_in_order() {
    let mut buf = BytesMut::from(
        b"POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET /2 HTTP/1.1\r\nHost: b\r\n\r\n\r\nGET /3 HT"
            .as_slice(),
    );
    let mut reader = RequestReader::new(Limits::default());
    let first = reader.read(&mut buf).unwrap().unwrap();
    assert_eq!((first.target.path(), first.length), ("/1", Length::Exact(3)));
    let body = decode(first.length, [&buf[..]]);
    assert_eq!((body.data.as_slice(), body.whole), (b"abc".as_slice(), true));
    buf = BytesMut::from(&body.rest[..]);
    assert_eq!(reader.read(&mut buf).unwrap().unwrap().target.path(), "/2");
    assert!(reader.read(&mut buf).unwrap().is_none());
    buf.extend_from_slice(b"TP/1.1\r\nHost: c\r\n\r\n");
    assert_eq!(reader.read(&mut buf).unwrap().unwrap().target.path(), "/3");
    assert!(buf.is_empty());
}
