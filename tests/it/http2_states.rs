//! Streams of clients through their states: which frames fit, and which numbers they have. Source: RFC 9113 §5.1.

use crate::support::{
    Origin,
    http2::{
        CONTINUATION, DATA, END_HEADERS, END_STREAM, Frames, HEADERS, PRIORITY, RST_STREAM, WINDOW_UPDATE, fields,
        frame,
    },
    verdict::{
        PROTOCOL, REFUSED, Row, STREAM_CLOSED,
        Want::{self, Connection, Stream, Taken},
        ask, before, begin, hold, judged,
    },
};

const WRONG: Want = Connection(&[PROTOCOL]);
const CLOSED: Want = Stream(&[STREAM_CLOSED]);

/// A service that answers nothing but what is asked last.
async fn silent() -> Origin {
    Origin::serving(|mut connection| async move {
        while let Some(got) = connection.request().await {
            if got.line().starts_with("GET /other") {
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                tokio::io::AsyncWriteExt::write_all(&mut connection.stream, answer).await.unwrap();
            }
        }
    })
    .await
}

fn trailers(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &fields(&[("x-sum", "1")]))
}

#[tokio::test]
async fn an_idle_stream_takes_no_frame_but_headers_and_priority() {
    let origin = silent().await;
    let gateway = before(&origin).await;
    hold(
        &gateway,
        vec![
            ("DATA", frame(DATA, END_STREAM, 1, b"x"), WRONG),
            ("DATA behind an open stream", [ask(1), frame(DATA, END_STREAM, 3, b"x")].concat(), WRONG),
            ("RST_STREAM", frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]), WRONG),
            ("RST_STREAM behind an open stream", [ask(1), frame(RST_STREAM, 0, 3, &[0, 0, 0, 8])].concat(), WRONG),
            ("WINDOW_UPDATE", frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 9]), WRONG),
            (
                "WINDOW_UPDATE behind an open stream",
                [ask(1), frame(WINDOW_UPDATE, 0, 3, &[0, 0, 0, 9])].concat(),
                WRONG,
            ),
            ("CONTINUATION", frame(CONTINUATION, END_HEADERS, 1, &fields(&[])), WRONG),
            ("DATA of an even number", frame(DATA, END_STREAM, 2, b"x"), WRONG),
            ("WINDOW_UPDATE of an even number", frame(WINDOW_UPDATE, 0, 2, &[0, 0, 0, 9]), WRONG),
            ("RST_STREAM of an even number", frame(RST_STREAM, 0, 2, &[0, 0, 0, 8]), WRONG),
        ],
    )
    .await;
}

#[tokio::test]
async fn numbers_are_odd_and_rise() {
    let origin = silent().await;
    let gateway = before(&origin).await;
    let many: Vec<u8> = (0..101).flat_map(|n| ask(n * 2 + 1)).collect();
    let open: Vec<u8> = (0..101).flat_map(|n| begin(n * 2 + 1)).collect();
    hold(
        &gateway,
        vec![
            ("stream 2", ask(2), WRONG),
            ("stream 2 after 1", [ask(1), ask(2)].concat(), WRONG),
            ("stream 3 after 5", [ask(5), ask(3)].concat(), Connection(&[PROTOCOL, STREAM_CLOSED])),
            ("stream 1 after 3", [begin(3), begin(1)].concat(), Connection(&[PROTOCOL, STREAM_CLOSED])),
            (
                "stream 3 after 5 that was reset",
                { [begin(5), frame(RST_STREAM, 0, 5, &[0, 0, 0, 8]), ask(3)].concat() },
                Connection(&[PROTOCOL, STREAM_CLOSED]),
            ),
            ("a hundred and one", many, Stream(&[REFUSED, PROTOCOL])),
            ("a hundred and one that are open", open, Stream(&[REFUSED, PROTOCOL])),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_stream_that_the_client_has_ended_takes_no_more_of_it() {
    let origin = silent().await;
    let gateway = before(&origin).await;
    let ended = [begin(1), frame(DATA, END_STREAM, 1, b"x")].concat();
    let told = [begin(1), frame(DATA, 0, 1, b"x"), trailers(1)].concat();
    let then = |first: &[u8], bytes: Vec<u8>| [first, &bytes].concat();
    let data = || frame(DATA, END_STREAM, 1, b"x");
    let rows: Vec<Row> = vec![
        ("DATA after HEADERS", then(&ask(1), data()), CLOSED),
        ("DATA after DATA", then(&ended, data()), CLOSED),
        ("DATA after trailers", then(&told, data()), CLOSED),
        ("an empty DATA", then(&ask(1), frame(DATA, END_STREAM, 1, b"")), CLOSED),
        ("HEADERS after HEADERS", then(&ask(1), ask(1)), CLOSED),
        ("trailers after DATA", then(&ended, trailers(1)), CLOSED),
        ("trailers after trailers", then(&told, trailers(1)), CLOSED),
        ("CONTINUATION", then(&ended, frame(CONTINUATION, END_HEADERS, 1, b"")), WRONG),
    ];
    hold(&gateway, rows).await;
}

#[tokio::test]
async fn a_stream_that_the_client_has_reset_takes_no_more_of_it() {
    let origin = silent().await;
    let gateway = before(&origin).await;
    let reset = [begin(1), frame(RST_STREAM, 0, 1, &[0, 0, 0, 8])].concat();
    let then = |bytes: Vec<u8>| [&reset[..], &bytes].concat();
    let rows: Vec<Row> = vec![
        ("DATA", then(frame(DATA, END_STREAM, 1, b"x")), CLOSED),
        ("HEADERS", then(ask(1)), CLOSED),
        ("trailers", then(trailers(1)), CLOSED),
        ("CONTINUATION", then(frame(CONTINUATION, END_HEADERS, 1, b"")), Connection(&[PROTOCOL, STREAM_CLOSED])),
    ];
    hold(&gateway, rows).await;
}

#[tokio::test]
async fn a_stream_that_is_answered_takes_only_what_may_have_been_on_its_way() {
    let origin = Origin::start("a").await;
    let gateway = before(&origin).await;
    let reset = frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]);
    let room = frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 9]);
    let rows: Vec<Row> = vec![
        ("WINDOW_UPDATE", room.clone(), Taken),
        ("RST_STREAM", reset.clone(), Taken),
        ("PRIORITY", frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1]), Taken),
        ("all of them", [room, reset, frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1]), ask(3)].concat(), Taken),
        ("DATA", frame(DATA, END_STREAM, 1, b"x"), CLOSED),
        ("HEADERS", ask(1), CLOSED),
        ("trailers", trailers(1), CLOSED),
        ("CONTINUATION", frame(CONTINUATION, END_HEADERS, 1, b""), Connection(&[PROTOCOL, STREAM_CLOSED])),
        ("a stream of a lower number", [ask(9), ask(7)].concat(), Connection(&[PROTOCOL, STREAM_CLOSED])),
    ];
    for (what, bytes, want) in rows {
        let mut client = Frames::connect(gateway.address).await;
        client.send(&ask(1)).await;
        while client.until(&[DATA]).await.unwrap().1 & END_STREAM == 0 {}
        assert_eq!(judged(&mut client, &bytes, true, want).await, Ok(()), "{what}");
    }
    assert_eq!(gateway.get("/").await.text, "a");
}

#[tokio::test]
async fn numbers_may_be_left_out_up_to_the_largest() {
    let origin = Origin::start("a").await;
    let gateway = before(&origin).await;
    let mut client = Frames::connect(gateway.address).await;
    for stream in [1, 3, 9, 1001, 0x7fff_ffff] {
        client.send(&ask(stream)).await;
        assert_eq!(client.until(&[DATA]).await.unwrap().2, stream);
    }
}
