//! Instances that speak HTTP/2 frame by frame: answers that break the rules are refused or cut short for all to see, and
//! those that are odd but right are taken. Source: RFC 9113.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::support::{
    Gateway, PATIENCE,
    http2::{
        ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PADDED, PING, PRIORITY, PUSH_PROMISE,
        RST_STREAM, SETTINGS, WEIGHED, WINDOW_UPDATE, fields, frame,
    },
    instance::{Instance, answer, head},
    verdict::setting,
};

/// What becomes of an answer.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Whole,
    Cut,
    Refused,
}
use Fate::{Cut, Refused, Whole};

/// What is sent on the stream of a request, and what may become of it.
type Row = (&'static str, fn(u32) -> Vec<u8>, &'static [Fate]);

const OK: (&str, &str) = (":status", "200");

fn with(stream: u32, list: &[(&str, &str)]) -> Vec<u8> {
    [head(stream, list, 0), data(stream, "hello")].concat()
}

fn and(stream: u32, name: &str, value: &str) -> Vec<u8> {
    with(stream, &[OK, (name, value)])
}

fn data(stream: u32, text: &str) -> Vec<u8> {
    frame(DATA, END_STREAM, stream, text.as_bytes())
}

fn fate(answer: &str) -> Option<Fate> {
    let last = answer.rfind("HTTP/1.1 ").map(|at| &answer[at..])?;
    if last.starts_with("HTTP/1.1 502") {
        return Some(Refused);
    }
    let whole = last.starts_with("HTTP/1.1 200") && last.contains("hello") && {
        let length = last.split_once("content-length: ").map(|(_, rest)| rest.starts_with("5\r\n"));
        length.unwrap_or_else(|| last.contains("\r\n0\r\n"))
    };
    Some(if whole { Whole } else { Cut })
}

/// All that comes back for the request of a row.
async fn whole(gateway: &Gateway, row: usize) -> String {
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    let request = format!("GET /{row} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // An answer that is cut short may end with an error.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("it does not end");
    String::from_utf8_lossy(&answer).into_owned()
}

/// Each row answers a request of its own. Others are answered after each.
async fn hold(rows: Vec<Row>) {
    let bytes: Vec<_> = rows.iter().map(|(_, bytes, _)| *bytes).collect();
    let instance = Instance::serving(Vec::new(), move |mut peer| {
        let bytes = bytes.clone();
        async move {
            while let Some(asked) = peer.request().await {
                let row = asked.field(":path")[1..].parse::<usize>().ok();
                peer.send(&row.map_or_else(|| answer(asked.stream, "fine"), |row| bytes[row](asked.stream))).await;
            }
        }
    })
    .await;
    let gateway = instance.before("h2c", "").await;
    let mut wrong = Vec::new();
    for (n, (what, _, fates)) in rows.iter().enumerate() {
        let came = whole(&gateway, n).await;
        if !fate(&came).is_some_and(|fate| fates.contains(&fate)) {
            wrong.push(format!("{what}: {came:.300}, not {fates:?}"));
        }
        if gateway.get("/fine").await.text != "fine" {
            wrong.push(format!("{what}: nothing after it"));
        }
    }
    assert!(wrong.is_empty(), "{} rows:\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test]
async fn a_malformed_head_is_502() {
    const WRONG: &[Fate] = &[Refused];
    hold(vec![
        ("no status", |s| with(s, &[("x", "1")]), WRONG),
        ("no fields at all", |s| with(s, &[]), WRONG),
        ("two statuses", |s| with(s, &[OK, OK]), WRONG),
        ("a late status", |s| with(s, &[("x", "1"), OK]), WRONG),
        ("status 99", |s| with(s, &[(":status", "99")]), WRONG),
        ("status 099", |s| with(s, &[(":status", "099")]), WRONG),
        ("status 1000", |s| with(s, &[(":status", "1000")]), WRONG),
        ("status 999", |s| with(s, &[(":status", "999")]), WRONG),
        ("status abc", |s| with(s, &[(":status", "abc")]), WRONG),
        ("status +20", |s| with(s, &[(":status", "+20")]), WRONG),
        ("an empty status", |s| with(s, &[(":status", "")]), WRONG),
        ("a status with a reason", |s| with(s, &[(":status", "200 OK")]), WRONG),
        ("status 101", |s| with(s, &[(":status", "101")]), WRONG),
        ("status 100 that ends it", |s| head(s, &[(":status", "100")], END_STREAM), WRONG),
        ("status 103 and no answer", |s| [head(s, &[(":status", "103")], 0), data(s, "hello")].concat(), WRONG),
        ("a name in capitals", |s| and(s, "X-Upper", "1"), WRONG),
        ("a name with a space", |s| and(s, "x y", "1"), WRONG),
        ("a nameless field", |s| and(s, "", "1"), WRONG),
        ("a value with a line's end", |s| and(s, "x", "a\r\nb: c"), WRONG),
        ("a value with a zero", |s| and(s, "x", "a\0b"), WRONG),
        ("connection", |s| and(s, "connection", "close"), WRONG),
        ("keep-alive", |s| and(s, "keep-alive", "timeout=5"), WRONG),
        ("proxy-connection", |s| and(s, "proxy-connection", "close"), WRONG),
        ("transfer-encoding", |s| and(s, "transfer-encoding", "chunked"), WRONG),
        ("upgrade", |s| and(s, "upgrade", "h2c"), WRONG),
        ("a request's method", |s| and(s, ":method", "GET"), WRONG),
        ("a request's path", |s| with(s, &[(":path", "/"), OK]), WRONG),
        ("an unknown pseudo-field", |s| with(s, &[OK, (":other", "1")]), WRONG),
        ("two lengths", |s| with(s, &[OK, ("content-length", "5"), ("content-length", "6")]), WRONG),
        ("a length that is no number", |s| and(s, "content-length", "five"), WRONG),
        ("a length and no body", |s| head(s, &[OK, ("content-length", "5")], END_STREAM), &[Refused, Cut]),
    ])
    .await;
}

#[tokio::test]
async fn frames_that_break_the_rules_end_the_answer() {
    const WRONG: &[Fate] = &[Refused];
    hold(vec![
        ("DATA before HEADERS", |s| data(s, "hello"), WRONG),
        ("HEADERS on stream 0", |_| head(0, &[OK], END_STREAM), WRONG),
        ("HEADERS on an even stream", |_| head(2, &[OK], END_STREAM), WRONG),
        ("HEADERS on a stream that was never asked on", |s| head(s + 20, &[OK], END_STREAM), WRONG),
        ("DATA on stream 0", |_| data(0, "hello"), WRONG),
        ("DATA on a stream that was never asked on", |s| data(s + 20, "hello"), WRONG),
        ("RST_STREAM on stream 0", |_| frame(RST_STREAM, 0, 0, &[0; 4]), WRONG),
        ("RST_STREAM on a stream that was never asked on", |s| frame(RST_STREAM, 0, s + 20, &[0; 4]), WRONG),
        (
            "WINDOW_UPDATE on a stream that was never asked on",
            |s| frame(WINDOW_UPDATE, 0, s + 20, &[0, 0, 0, 1]),
            WRONG,
        ),
        ("SETTINGS on a stream", |s| frame(SETTINGS, 0, s, &[]), WRONG),
        ("PING on a stream", |s| frame(PING, 0, s, &[0; 8]), WRONG),
        ("GOAWAY on a stream", |s| frame(GOAWAY, 0, s, &[0; 8]), WRONG),
        ("CONTINUATION first", |s| frame(CONTINUATION, END_HEADERS, s, &fields(&[OK])), WRONG),
        ("PUSH_PROMISE", |s| frame(PUSH_PROMISE, END_HEADERS, s, &[&[0, 0, 0, 2], &fields(&[OK])[..]].concat()), WRONG),
        ("RST_STREAM of 3 bytes", |s| frame(RST_STREAM, 0, s, &[0; 3]), WRONG),
        ("SETTINGS of 5 bytes", |_| frame(SETTINGS, 0, 0, &[0; 5]), WRONG),
        ("an acknowledgement of settings", |_| frame(SETTINGS, ACK, 0, &[0; 6]), WRONG),
        ("PING of 6 bytes", |_| frame(PING, 0, 0, &[0; 6]), WRONG),
        ("WINDOW_UPDATE of 3 bytes", |s| frame(WINDOW_UPDATE, 0, s, &[0; 3]), WRONG),
        ("GOAWAY of 4 bytes", |_| frame(GOAWAY, 0, 0, &[0; 4]), WRONG),
        ("a frame over the limit", |s| frame(0x16, 0, s, &vec![0; 16_385]), WRONG),
        ("HEADERS over the limit", |s| frame(HEADERS, END_HEADERS, s, &vec![0; 16_385]), WRONG),
        ("WINDOW_UPDATE of 0", |_| frame(WINDOW_UPDATE, 0, 0, &[0; 4]), WRONG),
        ("WINDOW_UPDATE of 0 on the stream", |s| frame(WINDOW_UPDATE, 0, s, &[0; 4]), WRONG),
        ("a window over the limit", |_| frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]), WRONG),
        ("ENABLE_PUSH of 2", |_| frame(SETTINGS, 0, 0, &setting(2, 2)), WRONG),
        ("ENABLE_PUSH of 1", |s| [frame(SETTINGS, 0, 0, &setting(2, 1)), answer(s, "hello")].concat(), WRONG),
        ("a window of 2^31", |_| frame(SETTINGS, 0, 0, &setting(4, 1 << 31)), WRONG),
        ("frames of 16383", |_| frame(SETTINGS, 0, 0, &setting(5, 16_383)), WRONG),
        ("field 0", |s| frame(HEADERS, END_HEADERS | END_STREAM, s, b"\x88\x80"), WRONG),
        ("field 70", |s| frame(HEADERS, END_HEADERS | END_STREAM, s, b"\x88\xc6"), WRONG),
        ("a literal that is cut off", |s| frame(HEADERS, END_HEADERS | END_STREAM, s, b"\x88\x00\x05a"), WRONG),
        ("a table over the limit", |s| frame(HEADERS, END_HEADERS | END_STREAM, s, b"\x3f\xe2\x1f\x88"), WRONG),
        ("a padding of zeros", |s| frame(HEADERS, END_HEADERS | END_STREAM, s, b"\x88\x00\x01x\x81\x18"), WRONG),
        ("more padding than payload", |s| frame(HEADERS, END_HEADERS | PADDED, s, b"\x09\x88"), WRONG),
        ("PING within a head", |s| [frame(HEADERS, 0, s, b"\x88"), frame(PING, 0, 0, &[0; 8])].concat(), WRONG),
        ("an unknown frame within a head", |s| [frame(HEADERS, 0, s, b"\x88"), frame(0x16, 0, s, b"")].concat(), WRONG),
        ("the reset of the stream", |s| frame(RST_STREAM, 0, s, &[0, 0, 0, 2]), WRONG),
    ])
    .await;
}

#[tokio::test]
async fn a_body_that_breaks_the_rules_is_cut_short() {
    const WRONG: &[Fate] = &[Cut, Refused];
    // The whole of it may have gone on before more came, or what came was of no use any more.
    const GONE_ON: &[Fate] = &[Cut, Refused, Whole];
    fn begun(stream: u32, rest: &[u8]) -> Vec<u8> {
        [&head(stream, &[OK], 0), &frame(DATA, 0, stream, b"hello")[..], rest].concat()
    }
    hold(vec![
        ("shorter", |s| [head(s, &[OK, ("content-length", "9")], 0), data(s, "hello")].concat(), WRONG),
        ("longer", |s| [head(s, &[OK, ("content-length", "5")], 0), data(s, "hello world")].concat(), WRONG),
        (
            "longer in pieces",
            |s| [head(s, &[OK, ("content-length", "5")], 0), frame(DATA, 0, s, b"hello"), data(s, "s")].concat(),
            GONE_ON,
        ),
        (
            "shorter before trailers",
            |s| {
                let trailers = head(s, &[("x", "1")], END_STREAM);
                [head(s, &[OK, ("content-length", "9")], 0), frame(DATA, 0, s, b"hello"), trailers].concat()
            },
            WRONG,
        ),
        ("more padding than payload", |s| begun(s, &frame(DATA, PADDED, s, b"\x09ab")), WRONG),
        ("padding in a frame of nothing", |s| begun(s, &frame(DATA, PADDED, s, b"")), WRONG),
        ("trailers that do not end it", |s| begun(s, &head(s, &[("x", "1")], 0)), WRONG),
        ("a second head", |s| begun(s, &head(s, &[OK], 0)), WRONG),
        ("an interim head in the middle", |s| begun(s, &head(s, &[(":status", "103")], 0)), WRONG),
        ("trailers with a status", |s| begun(s, &head(s, &[OK], END_STREAM)), WRONG),
        ("trailers in capitals", |s| begun(s, &head(s, &[("X", "1")], END_STREAM)), WRONG),
        ("trailers that cannot be read", |s| begun(s, &frame(HEADERS, 5, s, b"\x80")), WRONG),
        ("DATA over the limit", |s| begun(s, &frame(DATA, END_STREAM, s, &vec![0; 16_385])), WRONG),
        ("a reset", |s| begun(s, &frame(RST_STREAM, 0, s, &[0, 0, 0, 2])), WRONG),
        ("a reset without an error", |s| begun(s, &frame(RST_STREAM, 0, s, &[0, 0, 0, 0])), WRONG),
        (
            "a window over the limit of a request that has ended",
            |s| {
                let room = frame(WINDOW_UPDATE, 0, s, &[0x7f, 0xff, 0xff, 0xff]);
                begun(s, &[room, data(s, "")].concat())
            },
            GONE_ON,
        ),
        ("another frame's wrong length", |s| begun(s, &frame(PING, 0, 0, &[0; 7])), WRONG),
        (
            "more than the windows let",
            |s| begun(s, &(0..1000).flat_map(|_| frame(DATA, 0, s, &[b'x'; 16_384])).collect::<Vec<u8>>()),
            WRONG,
        ),
    ])
    .await;
}

#[tokio::test]
async fn what_is_odd_but_right_is_taken() {
    const RIGHT: &[Fate] = &[Whole];
    fn fine(stream: u32, first: &[u8]) -> Vec<u8> {
        [first, &answer(stream, "hello")].concat()
    }
    fn begun(stream: u32, rest: &[u8]) -> Vec<u8> {
        [&head(stream, &[OK], 0), &frame(DATA, 0, stream, b"hello")[..], rest].concat()
    }
    hold(vec![
        ("an answer", |s| answer(s, "hello"), RIGHT),
        (
            "a padded head",
            |s| [frame(HEADERS, END_HEADERS | PADDED, s, b"\x03\x88\0\0\0"), data(s, "hello")].concat(),
            RIGHT,
        ),
        (
            "a weighed head",
            |s| [frame(HEADERS, END_HEADERS | WEIGHED, s, b"\0\0\0\0\x09\x88"), data(s, "hello")].concat(),
            RIGHT,
        ),
        (
            "padded DATA",
            |s| [head(s, &[OK], 0), frame(DATA, END_STREAM | PADDED, s, b"\x04hello\0\0\0\0")].concat(),
            RIGHT,
        ),
        (
            "DATA of padding alone",
            |s| begun(s, &[frame(DATA, PADDED, s, &[&[255][..], &[0; 255]].concat()), data(s, "")].concat()),
            RIGHT,
        ),
        ("empty DATA", |s| begun(s, &[frame(DATA, 0, s, b""), frame(DATA, 0, s, b""), data(s, "")].concat()), RIGHT),
        (
            "a head in pieces",
            |s| {
                let block = fields(&[OK, ("x-long", "value")]);
                let first = [frame(HEADERS, 0, s, &block[..3]), frame(CONTINUATION, 0, s, b"")].concat();
                [first, frame(CONTINUATION, END_HEADERS, s, &block[3..]), data(s, "hello")].concat()
            },
            RIGHT,
        ),
        ("PRIORITY", |s| fine(s, &frame(PRIORITY, 0, s, &[0, 0, 0, 0, 1])), RIGHT),
        ("PRIORITY of a stream that is idle", |s| fine(s, &frame(PRIORITY, 0, s + 40, &[0, 0, 0, 0, 1])), RIGHT),
        ("an unknown frame", |s| fine(s, &frame(0x16, 0xff, s, b"whatever")), RIGHT),
        ("an unknown frame on stream 0", |s| fine(s, &frame(0xfe, 0, 0, b"")), RIGHT),
        ("an unknown setting", |s| fine(s, &frame(SETTINGS, 0, 0, &setting(0xf0, 1))), RIGHT),
        ("ENABLE_PUSH of 0", |s| fine(s, &frame(SETTINGS, 0, 0, &setting(2, 0))), RIGHT),
        ("PING", |s| fine(s, &frame(PING, 0, 0, b"whatever")), RIGHT),
        ("an acknowledged PING that nobody sent", |s| fine(s, &frame(PING, ACK, 0, b"whatever")), RIGHT),
        ("the reserved bit", |s| [head(s | 1 << 31, &[OK], 0), data(s | 1 << 31, "hello")].concat(), RIGHT),
        ("unknown flags", |s| [head(s, &[OK], 0xd2), frame(DATA, 0xf7, s, b"hello")].concat(), RIGHT),
        ("an interim head", |s| fine(s, &head(s, &[(":status", "103"), ("link", "</a>")], 0)), RIGHT),
        (
            "interim heads",
            |s| fine(s, &[head(s, &[(":status", "100")], 0), head(s, &[(":status", "102")], 0)].concat()),
            RIGHT,
        ),
        ("an exact length", |s| and(s, "content-length", "5"), RIGHT),
        ("trailers", |s| begun(s, &head(s, &[("x-sum", "1")], END_STREAM)), RIGHT),
        ("trailers of nothing", |s| begun(s, &head(s, &[], END_STREAM)), RIGHT),
        (
            "a reset without an error after all of it",
            |s| [answer(s, "hello"), frame(RST_STREAM, 0, s, &[0; 4])].concat(),
            RIGHT,
        ),
        ("room after all of it", |s| [answer(s, "hello"), frame(WINDOW_UPDATE, 0, s, &[0, 0, 0, 9])].concat(), RIGHT),
        (
            "GOAWAY after all of it",
            |s| [answer(s, "hello"), frame(GOAWAY, 0, 0, &[&s.to_be_bytes()[..], &[0; 4]].concat())].concat(),
            RIGHT,
        ),
        ("GOAWAY before it", |s| fine(s, &frame(GOAWAY, 0, 0, &[&s.to_be_bytes()[..], &[0; 4]].concat())), RIGHT),
    ])
    .await;
}
