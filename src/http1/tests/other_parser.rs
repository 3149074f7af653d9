//! What another parser makes of valid heads: the same.

use http::{HeaderName, HeaderValue, Version};
use proptest::{collection::vec, prelude::*, sample::select};

use super::*;

fn text(alphabet: &'static [u8], length: std::ops::Range<usize>) -> impl Strategy<Value = String> {
    vec(select(alphabet), length).prop_map(|bytes| bytes.into_iter().map(char::from).collect())
}

const TOKEN: &[u8] = b"!#$%&'*+-.^_`|~0189ABYZabyz";
const PATH: &[u8] = b"abzABZ059-._~!$&'()*+,;=:@/%?";
const VALUE: &[u8] = b"abzAZ09 \t\"(),/:;<=>?@[\\]{}!#$%&'*+-.^_`|~";

/// A head's field lines, blanks around the values and all; the names are of no meaning to the codec.
fn lines() -> impl Strategy<Value = String> {
    let blank = || text(b" \t", 0..3);
    let line = (text(TOKEN, 1..12), blank(), text(VALUE, 0..40), blank())
        .prop_map(|(name, before, value, after)| format!("x{name}:{before}{}{after}\r\n", value.trim()));
    vec(line, 0..20).prop_map(|lines| lines.concat())
}

fn collected(fields: &[httparse::Header<'_>]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for field in fields {
        let value = HeaderValue::from_bytes(field.value.trim_ascii()).unwrap();
        headers.append(HeaderName::from_bytes(field.name.as_bytes()).unwrap(), value);
    }
    headers
}

proptest! {
    #[test]
    fn both_parsers_read_the_same_request(
        method in text(TOKEN, 1..10),
        path in text(PATH, 0..60),
        minor in 0..=1_u8,
        lines in lines(),
        rest in vec(any::<u8>(), 0..10),
    ) {
        let mut bytes = format!("{method} /{path} HTTP/1.{minor}\r\nHost: a.example\r\n{lines}\r\n").into_bytes();
        let whole = bytes.len();
        bytes.extend_from_slice(&rest);
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let mut theirs = httparse::Request::new(&mut fields);
        prop_assert_eq!(theirs.parse(&bytes), Ok(httparse::Status::Complete(whole)));

        prop_assume!(method != "CONNECT");
        let mut buf = BytesMut::from(&bytes[..]);
        let ours = RequestReader::new(Limits::default()).read(&mut buf).unwrap().unwrap();
        prop_assert_eq!(&buf[..], &rest[..]);
        prop_assert_eq!(Some(ours.method.as_str()), theirs.method);
        prop_assert_eq!(Some(ours.target.path_and_query()), theirs.path);
        prop_assert_eq!(ours.version == Version::HTTP_11, theirs.version == Some(1));
        prop_assert_eq!(ours.fields.into_map(), collected(theirs.headers));
    }

    #[test]
    fn both_parsers_read_the_same_answer(
        status in 100..=599_u16,
        reason in text(VALUE, 0..20),
        minor in 0..=1_u8,
        lines in lines(),
        rest in vec(any::<u8>(), 0..10),
    ) {
        let mut bytes = format!("HTTP/1.{minor} {status} {reason}\r\n{lines}\r\n").into_bytes();
        let whole = bytes.len();
        bytes.extend_from_slice(&rest);
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let mut theirs = httparse::Response::new(&mut fields);
        prop_assert_eq!(theirs.parse(&bytes), Ok(httparse::Status::Complete(whole)));

        let mut buf = BytesMut::from(&bytes[..]);
        let ours = ResponseReader::new(Limits::default()).read(&mut buf, &Method::GET).unwrap().unwrap();
        prop_assert_eq!(&buf[..], &rest[..]);
        prop_assert_eq!(Some(ours.status.as_u16()), theirs.code);
        prop_assert_eq!(ours.version == Version::HTTP_11, theirs.version == Some(1));
        prop_assert_eq!(ours.fields.into_map(), collected(theirs.headers));
    }

    /// It is the laxer of the two: what it refuses, nobody should forward.
    #[test]
    fn no_request_is_read_that_the_other_parser_refuses(
        start in select(vec!["GET / HTTP/1.1\r\nHost: a\r\n", "GET / HTTP/1.0\r\n", "GET"]),
        soup in vec(select(vec!["\r\n", "\r", "\n", " ", ":", "a", "\0", "Host: a", "X: y", " / HTTP/1.1", "\t", "é"]), 0..12),
    ) {
        let bytes = format!("{start}{}\r\n\r\n", soup.concat());
        let ours = RequestReader::new(Limits::default()).read(&mut BytesMut::from(bytes.as_bytes()));
        let mut fields = [httparse::EMPTY_HEADER; 64];
        if let Ok(Some(_)) = ours {
            let theirs = httparse::Request::new(&mut fields).parse(bytes.as_bytes());
            prop_assert!(matches!(theirs, Ok(httparse::Status::Complete(_))), "{:?}: {:?}", bytes, theirs);
        }
    }
}
