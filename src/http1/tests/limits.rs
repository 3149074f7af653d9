//! Heads that are too large, and that this is said before all of them has come.

use bytes::BytesMut;

use super::*;
use crate::http1::head::HeadError;

fn with(limits: Limits, bytes: &[u8]) -> Result<bool, RequestError> {
    RequestReader::new(limits).read(&mut BytesMut::from(bytes)).map(|head| head.is_some())
}

#[test]
fn a_head_may_have_as_many_bytes_as_the_limit_says_and_no_more() {
    let start = b"GET / HTTP/1.1\r\nHost: a\r\nX: ";
    for max_head in [64, 8 * 1024, 32 * 1024] {
        let limits = Limits { max_head, ..Limits::default() };
        let fill = vec![b'x'; max_head - start.len() - 4];
        assert_eq!(with(limits, &[start, &fill[..], b"\r\n\r\n"].concat()), Ok(true), "{max_head}");
        let found = with(limits, &[start, &fill[..], b"x\r\n\r\n"].concat());
        assert_eq!(found, Err(RequestError::Head(HeadError::TooLarge)), "{max_head}");
        let endless = with(limits, &[start, &fill[..], b"xxxx"].concat());
        assert_eq!(endless, Err(RequestError::Head(HeadError::TooLarge)), "{max_head}");
        assert_eq!(with(limits, &[start, &fill[..], b"xxx"].concat()), Ok(false), "{max_head}");
    }
}

#[test]
fn a_head_may_have_as_many_fields_as_the_limit_says_and_no_more() {
    let head = |fields: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}", "X: y\r\n".repeat(fields - 1));
    for max_fields in [1, 2, 128] {
        let limits = Limits { max_fields, ..Limits::default() };
        assert_eq!(with(limits, (head(max_fields) + "\r\n").as_bytes()), Ok(true), "{max_fields}");
        // Said with the first line too many, not with the empty line.
        let found = with(limits, head(max_fields + 1).as_bytes());
        assert_eq!(found, Err(RequestError::Head(HeadError::TooManyFields)), "{max_fields}");
    }
}

#[test]
fn a_target_of_8_kib_passes_and_a_longer_one_does_not() {
    let line = |length: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(length - 1));
    assert_eq!(with(Limits::default(), line(8 * 1024).as_bytes()), Ok(true));
    assert_eq!(with(Limits::default(), line(8 * 1024 + 1).as_bytes()), Err(RequestError::TargetTooLong));
    assert_eq!(with(Limits::default(), line(20 * 1024).as_bytes()), Err(RequestError::TargetTooLong));
    let endless = format!("GET /{}", "x".repeat(9 * 1024));
    assert_eq!(with(Limits::default(), endless.as_bytes()), Err(RequestError::TargetTooLong));
}

#[test]
fn a_method_longer_than_any_that_exists_is_not_implemented() {
    let line = |length: usize| format!("{} / HTTP/1.1\r\nHost: a\r\n\r\n", "M".repeat(length));
    assert_eq!(with(Limits::default(), line(32).as_bytes()), Ok(true));
    assert_eq!(with(Limits::default(), line(33).as_bytes()), Err(RequestError::MethodTooLong));
}

#[test]
fn each_excess_has_its_status() {
    for (error, status) in [
        (RequestError::TargetTooLong, 414),
        (RequestError::Head(HeadError::TooLarge), 431),
        (RequestError::Head(HeadError::TooManyFields), 431),
        (RequestError::MethodTooLong, 501),
    ] {
        assert_eq!(error.status(), status);
    }
}

#[test]
fn an_answer_whose_head_is_too_large_is_refused() {
    let with = |limits, bytes: &[u8]| {
        ResponseReader::new(limits).read(&mut BytesMut::from(bytes), &Method::GET).map(|head| head.is_some())
    };
    let limits = Limits { max_head: 40, max_fields: 2 };
    assert_eq!(with(limits, b"HTTP/1.1 200 OK\r\nX: 3456789012345678\r\n\r\n"), Ok(true));
    let too_large = Err(ResponseError::Head(HeadError::TooLarge));
    assert_eq!(with(limits, b"HTTP/1.1 200 OK\r\nX: 34567890123456789\r\n\r\n"), too_large);
    assert_eq!(with(limits, b"HTTP/1.1 200 OK, and so on without any end"), too_large);
    let too_many = Err(ResponseError::Head(HeadError::TooManyFields));
    assert_eq!(with(limits, b"HTTP/1.1 200 OK\r\na:1\r\nb:2\r\nc:3\r\n"), too_many);
}

#[test]
fn fields_are_the_same_wherever_in_a_head_they_stand() {
    let limits = Limits { max_head: 1 << 20, max_fields: 128 };
    // Among the first lines and behind them, below 64 KiB, on its border and above it, after a blank line too.
    for (lines, first) in
        [(3, 10), (23, 10), (24, 10), (25, 10), (127, 10), (3, 65_400), (30, 65_400), (3, 200_000), (127, 900_000)]
    {
        for shift in 0..140 {
            let fill = "x".repeat(first + shift);
            let rest: Vec<_> = (2..lines).map(|n| (format!("name-{n}"), format!("value {n}"))).collect();
            let fields: String = rest.iter().map(|(name, value)| [name, ":  ", value, " \r\n"].concat()).collect();
            let blank = if shift % 2 == 0 { "" } else { "\r\n" };
            let text = format!("{blank}GET / HTTP/1.1\r\nhost: a\r\nfill: {fill}\r\n{fields}\r\nGET /next");
            let mut buf = BytesMut::from(text.as_str());
            let head = RequestReader::new(limits).read(&mut buf).unwrap().expect("a whole head");
            assert_eq!(&buf[..], b"GET /next", "{lines} {first} {shift}");
            let read = head.fields.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
            let want = [("host", &b"a"[..]), ("fill", fill.as_bytes())].into_iter();
            assert!(
                read.eq(want.chain(rest.iter().map(|(n, v)| (n.as_str(), v.as_bytes())))),
                "{lines} {first} {shift}"
            );
        }
    }
}
