//! HTTP/2 frame by frame, as clients may send it and as they may not: sizes, streams, flags and payloads. Source: RFC
//! 9113 §3.4, §4, §5.5 and §6. What fields are in them is `http2_blocks`, how streams live is `http2_states`.

use tokio::net::TcpStream;

use crate::support::{
    Origin,
    http2::{
        ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, Frames, GET, GOAWAY, HEADERS, PADDED, PING, PREFACE,
        PRIORITY, PUSH_PROMISE, RST_STREAM, SETTINGS, WEIGHED, WINDOW_UPDATE, fields, frame,
    },
    verdict::{
        FLOW_CONTROL, FRAME_SIZE, PROTOCOL, STREAM_CLOSED,
        Want::{self, Any, Connection, Stream, Taken},
        ask, before, begin, held, hold, setting,
    },
};

const UNKNOWN: u8 = 0x16;
const WRONG: Want = Connection(&[PROTOCOL]);
const FLOW: Want = Connection(&[FLOW_CONTROL]);
const SIZE: &[u32] = &[FRAME_SIZE];
/// One rule or the other is broken.
const ODD: &[u32] = &[FRAME_SIZE, PROTOCOL];

#[tokio::test]
async fn a_connection_begins_with_the_preface_and_settings() {
    let origin = Origin::start("a").await;
    let gateway = before(&origin).await;
    let settings = frame(SETTINGS, 0, 0, &[]);
    for (what, first, want) in [
        ("settings", settings.clone(), Taken),
        ("settings with a setting", frame(SETTINGS, 0, 0, &setting(3, 10)), Taken),
        ("PING first", frame(PING, 0, 0, &[0; 8]), Connection(&[PROTOCOL])),
        ("WINDOW_UPDATE first", frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]), Connection(&[PROTOCOL])),
        ("an unknown frame first", frame(UNKNOWN, 0, 0, &[0; 8]), Connection(&[PROTOCOL])),
        ("an acknowledgement first", frame(SETTINGS, ACK, 0, &[]), Connection(&[PROTOCOL])),
    ] {
        let came = held(&gateway, &[PREFACE, &first].concat(), &ask(1), want).await;
        assert_eq!(came, Ok(()), "{what}");
    }
    // Byte for byte.
    let mut client = Frames::over(TcpStream::connect(gateway.address).await.unwrap());
    for byte in [PREFACE, &settings, &ask(1)].concat() {
        client.send(&[byte]).await;
    }
    let (kind, flags, stream, _) = client.next().await.unwrap();
    assert_eq!((kind, flags, stream), (SETTINGS, 0, 0), "its settings are the first that a server says");
    let (_, flags, _, payload) = client.until(&[SETTINGS]).await.unwrap();
    assert_eq!((flags, payload.len()), (ACK, 0));
    assert_eq!(client.until(&[DATA, GOAWAY]).await.unwrap().0, DATA);
    for wrong in ["PRI * HTTP/2.0\r\n\r\nSM\r\n\r\r\0\0\0\x04\0\0\0\0\0", "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n"] {
        let mut client = Frames::over(TcpStream::connect(gateway.address).await.unwrap());
        client.send(wrong.as_bytes()).await;
        while client.next().await.is_some_and(|(kind, ..)| kind != HEADERS) {}
    }
}

#[tokio::test]
async fn what_a_client_may_send_is_taken() {
    let origin = Origin::start("a").await;
    let gateway = before(&origin).await;
    let get = fields(&GET);
    let (whole, end) = (END_HEADERS | END_STREAM, frame(DATA, END_STREAM, 1, b""));
    let weight = [0, 0, 0, 3, 9];
    let upload = |data: Vec<u8>| [begin(1), data, end.clone()].concat();
    let also = |bytes: Vec<u8>| [bytes, ask(1)].concat();
    let within = |bytes: Vec<u8>| [begin(1), bytes, end.clone()].concat();
    let pieces = |length: usize| -> Vec<u8> {
        let count = get.len().div_ceil(length);
        let frames = get.chunks(length).zip(1..).map(|(piece, n)| {
            let kind = if n == 1 { HEADERS } else { CONTINUATION };
            let flags = if n == 1 { END_STREAM } else { 0 } | if n == count { END_HEADERS } else { 0 };
            frame(kind, flags, 1, piece)
        });
        frames.flatten().collect()
    };
    hold(
        &gateway,
        vec![
            ("an unknown frame", also(frame(UNKNOWN, 0xff, 0, b"12345678")), Taken),
            ("an unknown frame on an idle stream", also(frame(UNKNOWN, 0, 7, b"")), Taken),
            ("an unknown frame on an open stream", within(frame(UNKNOWN, 0, 1, b"x")), Taken),
            ("every other type", also((10..=255).flat_map(|kind| frame(kind, 0, 0, b"x")).collect()), Taken),
            ("PING with unknown flags", also(frame(PING, 0xfe, 0, &[0; 8])), Taken),
            ("PING with the reserved bit", also(frame(PING, 0, 1 << 31, &[0; 8])), Taken),
            ("HEADERS with the reserved bit", frame(HEADERS, whole, 1 << 31 | 1, &get), Taken),
            ("HEADERS with unknown flags", frame(HEADERS, whole | 0xd2, 1, &get), Taken),
            ("DATA with unknown flags", upload(frame(DATA, 0xf6, 1, b"abc")), Taken),
            (
                "RST_STREAM with flags and an unknown code",
                [ask(1), begin(3), frame(RST_STREAM, 0xff, 3, &[9; 4])].concat(),
                Taken,
            ),
            ("SETTINGS with unknown flags", also(frame(SETTINGS, 0xfe, 0, &[])), Taken),
            ("WINDOW_UPDATE with flags", also(frame(WINDOW_UPDATE, 0xff, 0, &[0, 0, 0, 1])), Taken),
            ("WINDOW_UPDATE with the reserved bit", also(frame(WINDOW_UPDATE, 0, 0, &[0x80, 0, 0, 1])), Taken),
            ("DATA of the largest size", upload(frame(DATA, 0, 1, &[b'x'; 16_384])), Taken),
            ("an empty DATA", upload(frame(DATA, 0, 1, b"")), Taken),
            ("a padded DATA", upload(frame(DATA, PADDED, 1, b"\x05abc\0\0\0\0\0")), Taken),
            ("a DATA of padding alone", upload(frame(DATA, PADDED, 1, &[&[255][..], &[0; 255]].concat())), Taken),
            ("a DATA of a padding of none", upload(frame(DATA, PADDED, 1, b"\0")), Taken),
            ("padded HEADERS", frame(HEADERS, whole | PADDED, 1, &[&[9], &get[..], &[0; 9]].concat()), Taken),
            ("weighed HEADERS", frame(HEADERS, whole | WEIGHED, 1, &[&weight, &get[..]].concat()), Taken),
            ("both", frame(HEADERS, whole | WEIGHED | PADDED, 1, &[&[2][..], &weight, &get, &[0; 2]].concat()), Taken),
            ("PRIORITY of an idle stream", also(frame(PRIORITY, 0, 9, &weight)), Taken),
            ("PRIORITY of an open stream", within(frame(PRIORITY, 0, 1, &weight)), Taken),
            (
                "CONTINUATION",
                [frame(HEADERS, END_STREAM, 1, &get[..9]), frame(CONTINUATION, 4, 1, &get[9..])].concat(),
                Taken,
            ),
            ("CONTINUATION in five pieces", pieces(get.len().div_ceil(5)), Taken),
            ("CONTINUATION of single bytes", pieces(1), Taken),
            (
                "an empty CONTINUATION",
                [frame(HEADERS, END_STREAM, 1, &get), frame(CONTINUATION, 4, 1, b"")].concat(),
                Taken,
            ),
            ("an unknown setting", also(frame(SETTINGS, 0, 0, &setting(0xf0, 7))), Taken),
            ("settings of no room to push", also(frame(SETTINGS, 0, 0, &setting(2, 0))), Taken),
            (
                "the largest settings",
                also(frame(SETTINGS, 0, 0, &[setting(4, 0x7fff_ffff), setting(5, 0xff_ffff)].concat())),
                Taken,
            ),
            ("a setting twice", also(frame(SETTINGS, 0, 0, &[setting(4, 0), setting(4, 9)].concat())), Taken),
            ("an acknowledged PING that nobody sent", also(frame(PING, ACK, 0, b"whatever")), Taken),
            ("GOAWAY", also(frame(GOAWAY, 0, 0, &[&[0; 8][..], b"no more"].concat())), Taken),
        ],
    )
    .await;
}

#[tokio::test]
async fn frames_of_a_wrong_size_are_an_error() {
    let origin = Origin::start("a").await;
    let gateway = before(&origin).await;
    let large = vec![0; 16_385];
    let opened = |bytes: Vec<u8>| [begin(1), bytes].concat();
    hold(
        &gateway,
        vec![
            ("DATA over the limit", opened(frame(DATA, 0, 1, &large)), Stream(SIZE)),
            ("HEADERS over the limit", frame(HEADERS, END_HEADERS | END_STREAM, 1, &large), Connection(SIZE)),
            (
                "CONTINUATION over the limit",
                [frame(HEADERS, 1, 1, b""), frame(CONTINUATION, 4, 1, &large)].concat(),
                Connection(SIZE),
            ),
            ("SETTINGS over the limit", frame(SETTINGS, 0, 0, &vec![0; 16_386]), Connection(SIZE)),
            ("an unknown frame over the limit", frame(UNKNOWN, 0, 0, &large), Connection(SIZE)),
            ("a frame of 16 MiB", frame(UNKNOWN, 0, 1, &vec![0; 0xff_ffff])[..100].to_vec(), Connection(SIZE)),
            (
                "HEADERS too short for a weight",
                frame(HEADERS, END_HEADERS | END_STREAM | WEIGHED, 1, &[0; 4]),
                Connection(ODD),
            ),
            (
                "HEADERS too short for padding",
                frame(HEADERS, END_HEADERS | END_STREAM | PADDED, 1, &[]),
                Connection(ODD),
            ),
            ("DATA too short for padding", opened(frame(DATA, PADDED, 1, &[])), Connection(ODD)),
            ("PRIORITY of 4 bytes", frame(PRIORITY, 0, 1, &[0; 4]), Stream(SIZE)),
            ("PRIORITY of 6 bytes", frame(PRIORITY, 0, 1, &[0; 6]), Stream(SIZE)),
            ("PRIORITY of 4 bytes on an open stream", opened(frame(PRIORITY, 0, 1, &[0; 4])), Stream(SIZE)),
            ("RST_STREAM of 3 bytes", opened(frame(RST_STREAM, 0, 1, &[0; 3])), Connection(SIZE)),
            ("RST_STREAM of 5 bytes", opened(frame(RST_STREAM, 0, 1, &[0; 5])), Connection(SIZE)),
            ("SETTINGS of 3 bytes", frame(SETTINGS, 0, 0, &[0; 3]), Connection(SIZE)),
            ("SETTINGS of 7 bytes", frame(SETTINGS, 0, 0, &[0; 7]), Connection(SIZE)),
            ("an acknowledgement of settings", frame(SETTINGS, ACK, 0, &setting(4, 1)), Connection(SIZE)),
            ("PING of 6 bytes", frame(PING, 0, 0, &[0; 6]), Connection(SIZE)),
            ("PING of 9 bytes", frame(PING, 0, 0, &[0; 9]), Connection(SIZE)),
            ("GOAWAY of 7 bytes", frame(GOAWAY, 0, 0, &[0; 7]), Connection(SIZE)),
            ("WINDOW_UPDATE of 3 bytes", frame(WINDOW_UPDATE, 0, 0, &[0; 3]), Connection(SIZE)),
            (
                "WINDOW_UPDATE of 5 bytes on a stream",
                opened(frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1, 0])),
                Connection(SIZE),
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn frames_on_the_wrong_stream_are_an_error() {
    let origin = Origin::start("a").await;
    let gateway = before(&origin).await;
    hold(
        &gateway,
        vec![
            ("DATA on stream 0", frame(DATA, END_STREAM, 0, b"x"), WRONG),
            ("HEADERS on stream 0", ask(0), WRONG),
            ("PRIORITY on stream 0", frame(PRIORITY, 0, 0, &[0, 0, 0, 1, 1]), WRONG),
            ("RST_STREAM on stream 0", frame(RST_STREAM, 0, 0, &[0; 4]), WRONG),
            ("CONTINUATION on stream 0", frame(CONTINUATION, 4, 0, &fields(&GET)), WRONG),
            ("SETTINGS on a stream", frame(SETTINGS, 0, 1, &[]), WRONG),
            ("an acknowledgement on a stream", frame(SETTINGS, ACK, 1, &[]), WRONG),
            ("PING on a stream", frame(PING, 0, 1, &[0; 8]), WRONG),
            ("GOAWAY on a stream", frame(GOAWAY, 0, 1, &[0; 8]), WRONG),
            (
                "PUSH_PROMISE",
                [begin(1), frame(PUSH_PROMISE, END_HEADERS, 1, &[&[0, 0, 0, 2], &fields(&GET)[..]].concat())].concat(),
                WRONG,
            ),
            ("PUSH_PROMISE on stream 0", frame(PUSH_PROMISE, END_HEADERS, 0, &[0, 0, 0, 2]), WRONG),
        ],
    )
    .await;
}

#[tokio::test]
async fn what_a_frame_must_not_say_is_an_error() {
    let origin = Origin::start("a").await;
    let gateway = before(&origin).await;
    let opened = |bytes: Vec<u8>| [begin(1), bytes].concat();
    let set = |id, value| frame(SETTINGS, 0, 0, &setting(id, value));
    let padded = END_HEADERS | END_STREAM | PADDED;
    hold(
        &gateway,
        vec![
            ("DATA with more padding than payload", opened(frame(DATA, PADDED, 1, b"\x04abc")), WRONG),
            ("DATA with padding as long as its payload", opened(frame(DATA, PADDED, 1, b"\x01")), WRONG),
            (
                "HEADERS with more padding than payload",
                frame(HEADERS, padded, 1, &[&[99], &fields(&GET)[..]].concat()),
                WRONG,
            ),
            (
                "HEADERS with padding into the weight",
                frame(HEADERS, padded | WEIGHED, 1, &[3, 0, 0, 0, 3, 1, 0, 0]),
                WRONG,
            ),
            ("ENABLE_PUSH of 2", set(2, 2), WRONG),
            ("a window of 2^31", set(4, 1 << 31), FLOW),
            ("a window of 2^32 - 1", set(4, u32::MAX), FLOW),
            ("frames of 16383", set(5, 16_383), WRONG),
            ("frames of 2^24", set(5, 1 << 24), WRONG),
            ("WINDOW_UPDATE of 0", frame(WINDOW_UPDATE, 0, 0, &[0; 4]), WRONG),
            ("WINDOW_UPDATE of the reserved bit alone", frame(WINDOW_UPDATE, 0, 0, &[0x80, 0, 0, 0]), WRONG),
            ("WINDOW_UPDATE of 0 on a stream", opened(frame(WINDOW_UPDATE, 0, 1, &[0; 4])), Stream(&[PROTOCOL])),
            ("a window over the limit", frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]), FLOW),
            (
                "a window over the limit in steps",
                [frame(WINDOW_UPDATE, 0, 0, &[0x40, 0, 0, 0]), frame(WINDOW_UPDATE, 0, 0, &[0x40, 0, 0, 0])].concat(),
                FLOW,
            ),
            (
                "a stream's window over the limit",
                opened(frame(WINDOW_UPDATE, 0, 1, &[0x7f, 0xff, 0xff, 0xff])),
                Stream(&[FLOW_CONTROL]),
            ),
            (
                "a stream's window over the limit by settings",
                opened([frame(WINDOW_UPDATE, 0, 1, &[0x7f, 0xff, 0, 0]), set(4, 0x7fff_ffff)].concat()),
                FLOW,
            ),
            (
                "PRIORITY of a stream after itself",
                [frame(PRIORITY, 0, 1, &[0, 0, 0, 1, 9]), ask(1)].concat(),
                Any(&[PROTOCOL]),
            ),
            (
                "HEADERS of a stream after itself",
                frame(HEADERS, END_HEADERS | END_STREAM | WEIGHED, 1, &[&[0, 0, 0, 1, 9], &fields(&GET)[..]].concat()),
                Any(&[PROTOCOL]),
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_head_in_pieces_stands_alone() {
    let origin = Origin::start("a").await;
    let gateway = before(&origin).await;
    let get = fields(&GET);
    let (part, rest) = get.split_at(20);
    let half = frame(HEADERS, END_STREAM, 1, part);
    let then = |bytes: Vec<u8>| [half.clone(), bytes, frame(CONTINUATION, END_HEADERS, 1, rest)].concat();
    hold(
        &gateway,
        vec![
            ("DATA within", then(frame(DATA, 0, 1, b"x")), WRONG),
            ("HEADERS within", then(frame(HEADERS, END_HEADERS, 1, rest)), WRONG),
            ("HEADERS of another stream within", then(ask(3)), WRONG),
            ("PRIORITY within", then(frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1])), WRONG),
            ("RST_STREAM within", then(frame(RST_STREAM, 0, 1, &[0; 4])), WRONG),
            ("SETTINGS within", then(frame(SETTINGS, 0, 0, &[])), WRONG),
            ("PING within", then(frame(PING, 0, 0, &[0; 8])), WRONG),
            ("GOAWAY within", then(frame(GOAWAY, 0, 0, &[0; 8])), WRONG),
            ("WINDOW_UPDATE within", then(frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])), WRONG),
            ("an unknown frame within", then(frame(UNKNOWN, 0, 1, b"x")), WRONG),
            ("an unknown frame on stream 0 within", then(frame(UNKNOWN, 0, 0, b"x")), WRONG),
            ("CONTINUATION of another stream within", then(frame(CONTINUATION, END_HEADERS, 3, rest)), WRONG),
            ("CONTINUATION of stream 0 within", then(frame(CONTINUATION, END_HEADERS, 0, rest)), WRONG),
            (
                "CONTINUATION after the last",
                [ask(1), frame(CONTINUATION, END_HEADERS, 1, b"")].concat(),
                Connection(&[PROTOCOL, STREAM_CLOSED]),
            ),
            (
                "CONTINUATION after the last CONTINUATION",
                [then(Vec::new()), frame(CONTINUATION, END_HEADERS, 1, b"")].concat(),
                Connection(&[PROTOCOL, STREAM_CLOSED]),
            ),
            (
                "CONTINUATION after DATA",
                [begin(1), frame(DATA, 0, 1, b"x"), frame(CONTINUATION, END_HEADERS, 1, rest)].concat(),
                WRONG,
            ),
            ("CONTINUATION of an idle stream", frame(CONTINUATION, END_HEADERS, 1, &get), WRONG),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_ping_comes_back_and_settings_are_acknowledged() {
    let origin = Origin::start("a").await;
    let gateway = before(&origin).await;
    let mut client = Frames::connect(gateway.address).await;
    client.until(&[SETTINGS]).await.unwrap();
    client.until(&[SETTINGS]).await.unwrap();
    for n in 0..20_u64 {
        client.send(&frame(PING, 0, 0, &n.to_be_bytes())).await;
        let (kind, flags, stream, payload) = client.until(&[PING, SETTINGS]).await.unwrap();
        assert_eq!((kind, flags, stream, &payload[..]), (PING, ACK, 0, &n.to_be_bytes()[..]));
        client.send(&frame(SETTINGS, 0, 0, &setting(3, 5))).await;
        let (kind, flags, stream, payload) = client.until(&[PING, SETTINGS]).await.unwrap();
        assert_eq!((kind, flags, stream, payload.len()), (SETTINGS, ACK, 0, 0));
        // One that is an answer itself gets none.
        client.send(&frame(PING, ACK, 0, b"whatever")).await;
    }
}
