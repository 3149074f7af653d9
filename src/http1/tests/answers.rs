//! Heads of answers: what is read, what is refused, and which have a body.

use bytes::BytesMut;
use http::Version;

use super::*;
use crate::http1::{framing::FramingError, head::HeadError};

#[test]
fn an_answer_is_read_into_its_parts() {
    let head = answer(b"HTTP/1.1 404 Not Found\r\nX-A: 1\r\nContent-Length: 5\r\n\r\nhello", &Method::GET).unwrap();
    assert_eq!((head.status.as_u16(), head.version), (404, Version::HTTP_11));
    assert_eq!((head.length, head.content_length, head.keep_alive), (Length::Exact(5), Some(5), true));
    let expected: [(&str, &[u8]); 2] = [("x-a", b"1"), ("content-length", b"5")];
    assert_eq!(fields(head.fields.iter()), expected.map(|(name, value)| (name, Bytes::from(value))));
}

#[test]
fn a_status_line_has_a_known_version_and_three_digits() {
    use ResponseError::{NotHttp, Reason, Status, Version};
    for (line, expected) in [
        ("HTTP/1.1 200 OK", Ok(200)),
        ("HTTP/1.0 200 OK", Ok(200)),
        ("HTTP/1.1 200 ", Ok(200)),
        ("HTTP/1.1 200", Ok(200)),
        ("HTTP/1.1 299 Fine\tand \u{e9}", Ok(299)),
        ("HTTP/1.1 599 x", Ok(599)),
        ("HTTP/1.1 099 x", Err(Status)),
        ("HTTP/1.1 000 x", Err(Status)),
        ("HTTP/1.1 600 x", Err(Status)),
        ("HTTP/1.1 999 x", Err(Status)),
        ("HTTP/1.1 20 OK", Err(Status)),
        ("HTTP/1.1 2000 OK", Err(Status)),
        ("HTTP/1.1 -20 OK", Err(Status)),
        ("HTTP/1.1 +200", Err(Status)),
        ("HTTP/1.1 2x0 OK", Err(Status)),
        ("HTTP/1.1 200OK", Err(Status)),
        ("HTTP/1.1  200 OK", Err(Status)),
        ("HTTP/1.1\t200 OK", Err(Status)),
        ("HTTP/1.1 OK", Err(Status)),
        ("HTTP/1.1 ", Err(Status)),
        ("HTTP/1.1", Err(Status)),
        ("HTTP/1.2 200 OK", Err(Version)),
        ("HTTP/2.0 200 OK", Err(Version)),
        ("HTTP/2 200 OK", Err(Version)),
        ("HTTP/0.9 200 OK", Err(Version)),
        ("HTTP/11 200 OK", Err(Version)),
        ("HTTP/ 200 OK", Err(Version)),
        ("http/1.1 200 OK", Err(NotHttp)),
        ("ICY 200 OK", Err(NotHttp)),
        ("220 mail.example ESMTP", Err(NotHttp)),
        ("SSH-2.0-OpenSSH_9.6", Err(NotHttp)),
        ("<html>", Err(NotHttp)),
        (" HTTP/1.1 200 OK", Err(NotHttp)),
        ("\r\nHTTP/1.1 200 OK", Err(NotHttp)),
        ("HTTP/1.1 200 O\0K", Err(Reason)),
        ("HTTP/1.1 200 O\rK", Err(Reason)),
        ("HTTP/1.1 200 OK\u{7f}", Err(Reason)),
        ("HTTP/1.1 200 OK\nX: y", Err(ResponseError::Head(HeadError::BareLineFeed))),
    ] {
        let found = answer(format!("{line}\r\nContent-Length: 0\r\n\r\n").as_bytes(), &Method::GET);
        assert_eq!(found.map(|head| head.status.as_u16()), expected, "{line:?}");
    }
}

#[test]
fn what_is_not_http_is_known_by_its_first_bytes() {
    for bytes in ["<", "HTTQ", "h", "\0", "\u{15}"] {
        let found = ResponseReader::new(Limits::default()).read(&mut BytesMut::from(bytes), &Method::GET);
        assert_eq!(found.unwrap_err(), ResponseError::NotHttp, "{bytes:?}");
    }
}

#[test]
fn an_answer_whose_end_two_parsers_could_see_in_two_places_is_refused() {
    use FramingError::{Both, ContentLength, RepeatedContentLength, TransferEncoding};
    for (fields, error) in [
        ("Content-Length: 5\r\nTransfer-Encoding: chunked", Both),
        ("Content-Length: 5\r\nContent-Length: 5", RepeatedContentLength),
        ("Content-Length: 5\r\nContent-Length: 6", RepeatedContentLength),
        ("Content-Length: 5, 5", ContentLength),
        ("Content-Length: -1", ContentLength),
        ("Content-Length:", ContentLength),
        ("Content-Length: 99999999999999999999", ContentLength),
        ("Transfer-Encoding: gzip, chunked", TransferEncoding),
        ("Transfer-Encoding: identity", TransferEncoding),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", TransferEncoding),
    ] {
        for (status, method) in [(200, Method::GET), (200, Method::HEAD), (304, Method::GET), (204, Method::GET)] {
            let found = answer(format!("HTTP/1.1 {status} x\r\n{fields}\r\n\r\n").as_bytes(), &method);
            assert_eq!(found.unwrap_err(), ResponseError::Framing(error), "{method} {status} {fields:?}");
        }
    }
    let old = answer(b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", &Method::GET).unwrap_err();
    assert_eq!(old, ResponseError::Framing(FramingError::TransferEncodingInHttp10));
}

#[test]
fn no_line_of_an_answer_is_folded_or_holds_a_control_byte() {
    for (fields, error) in [
        ("X: a\r\n b", HeadError::Folded),
        (" X: a", HeadError::Folded),
        ("X : a", HeadError::Name),
        ("X", HeadError::NoColon),
        ("X: a\rSet-Cookie: b", HeadError::Value),
        ("X: a\0", HeadError::Value),
        ("X: a\nSet-Cookie: b", HeadError::BareLineFeed),
    ] {
        let found = answer(format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n").as_bytes(), &Method::GET);
        assert_eq!(found.unwrap_err(), ResponseError::Head(error), "{fields:?}");
    }
}

#[test]
fn an_answer_has_the_body_that_status_method_and_fields_say() {
    let get = &Method::GET;
    let head = &Method::HEAD;
    for (method, status, fields, length, content_length) in [
        (get, 200, "Content-Length: 5\r\n", Length::Exact(5), Some(5)),
        (get, 200, "Content-Length: 0\r\n", Length::Exact(0), Some(0)),
        (get, 200, "Transfer-Encoding: chunked\r\n", Length::Chunked, None),
        (get, 200, "", Length::UntilClose, None),
        (get, 500, "", Length::UntilClose, None),
        (get, 205, "Content-Length: 5\r\n", Length::Exact(5), Some(5)),
        (get, 204, "", Length::Empty, None),
        (get, 204, "Content-Length: 5\r\n", Length::Empty, Some(5)),
        (get, 204, "Transfer-Encoding: chunked\r\n", Length::Empty, None),
        (get, 304, "", Length::Empty, None),
        (get, 304, "Content-Length: 5\r\n", Length::Empty, Some(5)),
        (get, 304, "Transfer-Encoding: chunked\r\n", Length::Empty, None),
        (get, 100, "", Length::Empty, None),
        (get, 101, "", Length::Empty, None),
        (get, 103, "Content-Length: 5\r\n", Length::Empty, Some(5)),
        (head, 200, "", Length::Empty, None),
        (head, 200, "Content-Length: 5\r\n", Length::Empty, Some(5)),
        (head, 200, "Transfer-Encoding: chunked\r\n", Length::Empty, None),
        (head, 404, "Content-Length: 5\r\n", Length::Empty, Some(5)),
    ] {
        let found = answer(format!("HTTP/1.1 {status} x\r\n{fields}\r\n").as_bytes(), method).unwrap();
        assert_eq!((found.length, found.content_length), (length, content_length), "{method} {status} {fields:?}");
    }
}

#[test]
fn a_connection_to_an_instance_goes_on_where_version_fields_and_framing_let_it() {
    for (version, fields, keep_alive) in [
        ("1.1", "Content-Length: 0\r\n", true),
        ("1.1", "Transfer-Encoding: chunked\r\n", true),
        ("1.1", "Content-Length: 0\r\nConnection: close\r\n", false),
        ("1.1", "Content-Length: 0\r\nConnection: x, Close\r\n", false),
        ("1.1", "", false),
        ("1.1", "Connection: keep-alive\r\n", false),
        ("1.0", "Content-Length: 0\r\n", false),
        ("1.0", "Content-Length: 0\r\nConnection: keep-alive\r\n", true),
        ("1.0", "Connection: keep-alive\r\n", false),
    ] {
        let found = answer(format!("HTTP/{version} 200 OK\r\n{fields}\r\n").as_bytes(), &Method::GET).unwrap();
        assert_eq!(found.keep_alive, keep_alive, "{version} {fields:?}");
    }
}

#[test]
fn interim_answers_are_read_before_the_real_one() {
    let mut buf = BytesMut::from(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
            .as_slice(),
    );
    let mut reader = ResponseReader::new(Limits::default());
    for status in [100, 103, 200] {
        assert_eq!(reader.read(&mut buf, &Method::GET).unwrap().unwrap().status, status);
    }
    assert_eq!(&buf[..], b"ok");
}

#[test]
fn bytes_behind_an_answer_without_body_stay_in_the_buffer_to_be_seen() {
    for (start, method) in [("200 OK", Method::HEAD), ("204 No Content", Method::GET), ("304 x", Method::GET)] {
        let mut buf = BytesMut::from(format!("HTTP/1.1 {start}\r\nContent-Length: 5\r\n\r\nhello").as_bytes());
        let head = ResponseReader::new(Limits::default()).read(&mut buf, &method).unwrap().unwrap();
        assert!(Decoder::new(head.length).is_done(), "{start}");
        assert_eq!(&buf[..], b"hello", "{start}");
    }
}
