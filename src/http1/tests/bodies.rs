//! Bodies: every way to tell their end, and what a chunked one may not look like.

use super::{super::trailer::may_trail, *};
use crate::http1::head::HeadError;

fn whole(data: &[u8], rest: &[u8]) -> Decoded {
    Decoded { data: data.to_vec(), whole: true, rest: rest.to_vec(), ..Decoded::default() }
}

#[test]
fn a_body_of_known_length_takes_its_bytes_and_no_more() {
    let body = |length, bytes: &[u8]| decode(length, [bytes]);
    assert_eq!(body(Length::Empty, b"GET "), whole(b"", b"GET "));
    assert_eq!(body(Length::Exact(0), b"GET "), whole(b"", b"GET "));
    assert_eq!(body(Length::Exact(3), b"abcGET "), whole(b"abc", b"GET "));
    assert_eq!(body(Length::Exact(3), b"ab"), Decoded { data: b"ab".to_vec(), ..Decoded::default() });
    assert_eq!(body(Length::UntilClose, b"abc"), Decoded { data: b"abc".to_vec(), ..Decoded::default() });
}

#[test]
fn the_end_of_a_known_length_is_known_with_its_last_byte() {
    let mut decoder = Decoder::new(Length::Exact(3));
    let mut buf = BytesMut::from(b"abc".as_slice());
    assert!(!decoder.is_done());
    assert_eq!(decoder.decode(&mut buf), Ok(Piece::Data(Bytes::from("abc"))));
    assert!(decoder.is_done());
}

#[test]
fn a_body_that_came_with_its_head_is_taken_whole_and_others_are_left() {
    for (length, bytes, taken, rest) in [
        (Length::Exact(3), "abc", Some("abc"), ""),
        (Length::Exact(3), "abcGET ", Some("abc"), "GET "),
        (Length::Exact(3), "ab", None, "ab"),
        (Length::Exact(u64::MAX), "ab", None, "ab"),
        (Length::Chunked, "3\r\nabc\r\n0\r\n\r\n", None, "3\r\nabc\r\n0\r\n\r\n"),
        (Length::UntilClose, "abc", None, "abc"),
        (Length::Empty, "GET ", None, "GET "),
    ] {
        let (mut decoder, mut buf) = (Decoder::new(length), BytesMut::from(bytes));
        let before = decoder.is_done();
        assert_eq!(decoder.whole(&mut buf).as_deref(), taken.map(str::as_bytes), "{length:?} {bytes:?}");
        assert_eq!((&buf[..], decoder.is_done()), (rest.as_bytes(), before || taken.is_some()));
    }
}

#[test]
fn chunks_are_read_up_to_the_last_and_what_follows_stays() {
    for (bytes, data) in [
        ("0\r\n\r\n", ""),
        ("3\r\nabc\r\n0\r\n\r\n", "abc"),
        ("003\r\nabc\r\n000\r\n\r\n", "abc"),
        ("a\r\n0123456789\r\nA\r\nabcdefghij\r\n0\r\n\r\n", "0123456789abcdefghij"),
        ("2\r\n\r\n\r\n0\r\n\r\n", "\r\n"),
        ("3;a=b\r\nabc\r\n0;c\r\n\r\n", "abc"),
        ("3 ;a=\"b;\\\"\"\r\nabc\r\n0\r\n\r\n", "abc"),
    ] {
        assert_eq!(chunked(bytes.as_bytes()), whole(data.as_bytes(), b""), "{bytes:?}");
        let followed = format!("{bytes}GET / HTTP/1.1\r\n");
        assert_eq!(chunked(followed.as_bytes()), whole(data.as_bytes(), b"GET / HTTP/1.1\r\n"), "{bytes:?}");
    }
}

#[test]
fn every_rule_for_a_chunk_has_its_error() {
    use BodyError::{BareLineFeed, ChunkEnd, ChunkExtension, ChunkSize, ChunkTooLarge};
    for (bytes, error) in [
        ("\r\nabc", ChunkSize),
        ("\n", ChunkSize),
        (";a\r\n", ChunkSize),
        (" 3\r\nabc", ChunkSize),
        ("+3\r\nabc", ChunkSize),
        ("-3\r\nabc", ChunkSize),
        ("g\r\n", ChunkSize),
        ("0x3\r\nabc", ChunkExtension),
        ("3 \r\nabc", ChunkExtension),
        ("3\t\r\nabc", ChunkExtension),
        ("3 3\r\nabc", ChunkExtension),
        ("3_\r\nabc", ChunkExtension),
        ("3,3\r\nabc", ChunkExtension),
        ("3\r\r\nabc", ChunkExtension),
        ("3;\r\nabc", ChunkExtension),
        ("3;a\0\r\nabc", ChunkExtension),
        ("3;a\rb\r\nabc", ChunkExtension),
        ("3;a=\"b\r\nabc", ChunkExtension),
        ("3\nabc\r\n", BareLineFeed),
        ("3;a\nabc\r\n", BareLineFeed),
        ("8000000000000000\r\n", ChunkTooLarge),
        ("ffffffffffffffff\r\n", ChunkTooLarge),
        ("10000000000000003\r\n", ChunkTooLarge),
        ("00000000000000003\r\n", ChunkTooLarge),
        ("3\r\nabcd\r\n", ChunkEnd),
        ("3\r\nabc\n0\r\n", ChunkEnd),
        ("3\r\nabc0\r\n", ChunkEnd),
        ("3\r\nabc\rx", ChunkEnd),
        ("3\r\nabc \r\n", ChunkEnd),
        ("4\r\nabc\r\n0\r\n\r\n", ChunkEnd),
    ] {
        assert_eq!(chunked(bytes.as_bytes()).error, Some(error), "{bytes:?}");
    }
    // Behind a chunk, a size is a size again.
    assert_eq!(chunked(b"3\r\nabc\r\n\r\n").error, Some(ChunkSize));
}

#[test]
fn extensions_are_bounded_in_each_line_and_over_the_body() {
    let line = |bytes: usize| format!("1;{}\r\n", "x".repeat(bytes - 4));
    assert_eq!(chunked((line(1024) + "a\r\n0\r\n\r\n").as_bytes()), whole(b"a", b""));
    assert_eq!(chunked(line(1025).as_bytes()).error, Some(BodyError::ChunkExtensionTooLong));
    assert_eq!(chunked(format!("1;{}", "x".repeat(1022)).as_bytes()).error, Some(BodyError::ChunkExtensionTooLong));
    let chunk = line(1024) + "a\r\n";
    assert_eq!(chunked((chunk.repeat(16) + "0\r\n\r\n").as_bytes()), whole(&[b'a'; 16], b""));
    assert_eq!(chunked(chunk.repeat(20).as_bytes()).error, Some(BodyError::ChunkExtensionTooLong));
    // Sizes alone, however many, are no extensions.
    assert_eq!(chunked(("0001\r\na\r\n".repeat(20_000) + "0\r\n\r\n").as_bytes()), whole(&b"a".repeat(20_000), b""));
}

#[test]
fn trailers_are_given_apart_and_only_those_that_may_be_passed_on() {
    let body = chunked(
        b"1\r\na\r\n0\r\nX-Sum: 1\r\nHost: evil\r\nContent-Length: 5\r\nAuthorization: x\r\nx_sum: 2\r\n\r\nGET ",
    );
    assert_eq!((body.data.as_slice(), body.whole, body.rest.as_slice()), (b"a".as_slice(), true, b"GET ".as_slice()));
    assert_eq!(
        fields(body.trailers.unwrap().iter().map(|(name, value)| (name, value.into()))),
        [("x-sum", Bytes::from("1"))]
    );
    assert_eq!(chunked(b"0\r\nHost: evil\r\n\r\n"), whole(b"", b""), "trailers of which none is left are none");
}

#[test]
fn no_trailer_carries_framing_routing_identity_or_control() {
    for name in [
        "authorization",
        "cache-control",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "cookie",
        "expect",
        "forwarded",
        "host",
        "keep-alive",
        "max-forwards",
        "proxy-authorization",
        "proxy-connection",
        "set-cookie",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "forwarded",
        "http2-settings",
        "traceparent",
        "tracestate",
        "via",
        "x-forwarded",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-real-ip",
        "x-request-id",
        "x_forwarded_for",
    ] {
        assert!(!may_trail(&name.parse().unwrap()), "{name}");
    }
    for name in ["grpc-status", "grpc-message", "server-timing", "x-checksum", "etag", "digest"] {
        assert!(may_trail(&name.parse().unwrap()), "{name}");
    }
}

#[test]
fn what_connection_nominates_is_no_trailer() {
    let fields = [("connection", "close, X-Mine"), ("connection", "x-other,,host")];
    let fields = fields.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).into_iter().collect();
    let mut buf = BytesMut::from("0\r\nX-Mine: 1\r\nx-sum: 2\r\nX-OTHER: 3\r\n\r\n");
    let piece = Decoder::of(Length::Chunked, &fields).decode(&mut buf).unwrap();
    let Piece::Trailers(trailers) = piece else { panic!("{piece:?}") };
    assert_eq!(trailers.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["x-sum"]);
    let mut buf = BytesMut::from("0\r\nX-Mine: 1\r\n\r\n");
    assert_eq!(Decoder::of(Length::Chunked, &fields).decode(&mut buf), Ok(Piece::End));
}

#[test]
fn trailers_are_held_to_the_rules_of_a_head_and_bounded() {
    use HeadError::{BareLineFeed, Folded, Name, NoColon, TooLarge, TooManyFields, Value};
    for (trailers, error) in [
        ("X: 1\n\r\n".to_owned(), BareLineFeed),
        ("\n".to_owned(), BareLineFeed),
        (" X: 1\r\n\r\n".to_owned(), Folded),
        ("X : 1\r\n\r\n".to_owned(), Name),
        ("X\r\n\r\n".to_owned(), NoColon),
        ("X: \0\r\n\r\n".to_owned(), Value),
        // Also in a trailer that is not passed on.
        ("Host: \0\r\n\r\n".to_owned(), Value),
        ("X: 1\r\n".repeat(65), TooManyFields),
        (format!("X: {}", "y".repeat(8 * 1024)), TooLarge),
    ] {
        let error = Some(BodyError::Trailers(error));
        assert_eq!(chunked(format!("0\r\n{trailers}").as_bytes()).error, error, "{trailers:.40?}");
    }
}

#[test]
fn a_malformed_body_has_no_end() {
    for bytes in ["0\r\nX : y\r\n\r\n", "0\r\nX: y\n\r\n", "1\r\nabc", "x"] {
        let (mut decoder, mut buf) = (Decoder::new(Length::Chunked), BytesMut::from(bytes));
        while decoder.decode(&mut buf).is_ok() {}
        assert!(!decoder.is_done(), "{bytes:?}");
    }
}

#[test]
fn a_body_that_ends_with_its_connection_is_whole_only_where_nothing_else_was_said() {
    for (length, bytes, end) in [
        (Length::UntilClose, "", Ok(())),
        (Length::UntilClose, "abc", Ok(())),
        (Length::Empty, "", Ok(())),
        (Length::Exact(3), "abc", Ok(())),
        (Length::Exact(3), "ab", Err(BodyError::CutShort)),
        (Length::Exact(3), "", Err(BodyError::CutShort)),
        (Length::Chunked, "", Err(BodyError::CutShort)),
        (Length::Chunked, "3", Err(BodyError::CutShort)),
        (Length::Chunked, "3\r\nab", Err(BodyError::CutShort)),
        (Length::Chunked, "3\r\nabc", Err(BodyError::CutShort)),
        (Length::Chunked, "3\r\nabc\r\n", Err(BodyError::CutShort)),
        (Length::Chunked, "3\r\nabc\r\n0\r\n", Err(BodyError::CutShort)),
        (Length::Chunked, "3\r\nabc\r\n0\r\nX: y\r\n", Err(BodyError::CutShort)),
        (Length::Chunked, "3\r\nabc\r\n0\r\n\r\n", Ok(())),
    ] {
        let mut decoder = Decoder::new(length);
        let mut buf = BytesMut::from(bytes);
        while !matches!(decoder.decode(&mut buf).unwrap(), Piece::More | Piece::End) {}
        assert_eq!(decoder.eof(), end, "{length:?} {bytes:?}");
    }
}
