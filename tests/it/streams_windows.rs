//! Flow control between the gateway and instances that speak HTTP/2: uploads keep to the windows whatever becomes of
//! them, and answers get room. Source: RFC 9113 §5.2 and §6.9.

use http::Method;

use crate::support::{
    http2::{DATA, END_STREAM, Http2, PADDED, PING, RST_STREAM, SETTINGS, WINDOW_UPDATE, frame, get},
    instance::{Instance, Peer, answer, head},
    verdict::setting,
};

fn room(stream: u32, bytes: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes())
}

/// What DATA comes until a PING has come back, in bytes; whether it ended the stream, and the largest frame.
async fn sent(peer: &mut Peer) -> (usize, bool, usize) {
    let (mut bytes, mut ended, mut largest) = (0, false, 0);
    peer.send(&frame(PING, 0, 0, b"any more")).await;
    loop {
        let (kind, flags, _, payload) = peer.frames.until(&[DATA, PING]).await.unwrap();
        if kind == PING {
            return (bytes, ended, largest);
        }
        bytes += payload.len();
        ended |= flags & END_STREAM != 0;
        largest = largest.max(payload.len());
    }
}

/// Reads an upload that has room for `first` bytes and then for what each step of `more` gives, and answers with how
/// much came, or with what went wrong.
async fn uploaded(
    settings: Vec<u8>,
    bytes: usize,
    more: impl FnMut(u32) -> (Vec<u8>, i64) + Clone + Send + 'static,
    first: i64,
) {
    let instance = Instance::serving(settings, move |mut peer| {
        let mut more = more.clone();
        async move {
            while let Some(asked) = peer.request().await {
                let (mut may, mut came, mut ended) = (first, 0_usize, asked.ended);
                let mut right = true;
                while !ended {
                    let (bytes, last, largest) = sent(&mut peer).await;
                    came += bytes;
                    ended = last;
                    may -= i64::try_from(bytes).unwrap();
                    right &= (may >= 0 || bytes == 0) && largest <= 16_384;
                    if !ended && may <= 0 {
                        let (frames, by) = more(asked.stream);
                        peer.send(&frames).await;
                        may += by;
                    }
                }
                peer.send(&answer(asked.stream, &format!("{came} {right}"))).await;
            }
        }
    })
    .await;
    let gateway = instance.before("h2c", "").await;
    let body = "u".repeat(bytes);
    assert_eq!(gateway.send(Method::POST, "/", &[], &body).await.text, format!("{bytes} true"));
}

#[tokio::test]
async fn an_upload_keeps_to_tiny_windows() {
    let hundred = |stream| ([room(stream, 100), room(0, 100)].concat(), 100);
    uploaded(setting(4, 100), 100_000, hundred, 100).await;
    uploaded(setting(4, 0), 1000, |stream| ([room(stream, 1), room(0, 1)].concat(), 1), 0).await;
}

#[tokio::test]
async fn an_upload_keeps_to_the_window_of_the_connection() {
    let thousand = |_| (room(0, 1000), 1000);
    uploaded(setting(4, 0x7fff_ffff), 100_000, thousand, 65_535).await;
}

#[tokio::test]
async fn an_upload_keeps_to_windows_that_settings_move_up_and_down() {
    let mut step = 0;
    // Up by 3000, then down by 2000 and room for 2500: each time there is more in the end.
    let more = move |stream| {
        step += 1;
        let initial = 1000 + step * 1000;
        let settings = |value| frame(SETTINGS, 0, 0, &setting(4, value));
        let frames = [settings(initial + 2000), settings(initial), room(stream, 500), room(0, 1500)].concat();
        (frames, 1500)
    };
    uploaded(setting(4, 1000), 60_000, more, 1000).await;
}

#[tokio::test]
async fn frames_of_requests_are_no_larger_than_the_instance_takes() {
    for (size, most) in [(None, 16_384), (Some(16_384), 16_384), (Some(100_000), 100_000)] {
        let settings = [setting(4, 1 << 20), size.map(|size| setting(5, size)).unwrap_or_default()].concat();
        let instance = Instance::serving(settings, move |mut peer| async move {
            peer.send(&room(0, 1 << 20)).await;
            while let Some(asked) = peer.request().await {
                let (mut came, mut largest, mut ended) = (0, 0, false);
                while !ended {
                    let (_, flags, _, payload) = peer.frames.until(&[DATA]).await.unwrap();
                    (came, largest) = (came + payload.len(), largest.max(payload.len()));
                    ended = flags & END_STREAM != 0;
                }
                peer.send(&answer(asked.stream, &format!("{came} {}", largest <= most))).await;
            }
        })
        .await;
        let gateway = instance.before("h2c", "").await;
        assert_eq!(gateway.send(Method::POST, "/", &[], &"u".repeat(500_000)).await.text, "500000 true");
    }
}

#[tokio::test]
async fn an_answer_before_the_end_of_the_request_is_taken() {
    let instance = Instance::serving(Vec::new(), |mut peer| async move {
        while let Some(asked) = peer.request().await {
            peer.send(&answer(asked.stream, "early")).await;
            if asked.field(":path") == "/reset" {
                peer.send(&frame(RST_STREAM, 0, asked.stream, &[0; 4])).await;
            } else {
                let mut ended = asked.ended;
                while !ended {
                    let (kind, flags, _, payload) = peer.frames.until(&[DATA, RST_STREAM]).await.unwrap();
                    let bytes = u32::try_from(payload.len()).unwrap();
                    if kind == DATA && bytes > 0 {
                        peer.send(&[room(0, bytes), room(asked.stream, bytes)].concat()).await;
                    }
                    ended = kind == RST_STREAM || flags & END_STREAM != 0;
                }
            }
        }
    })
    .await;
    let gateway = instance.before("h2c", "").await;
    for path in ["/reset", "/read", "/reset", "/read"] {
        let client = Http2::connect(gateway.address).await;
        let request = http::Request::post(format!("http://h{path}")).body(()).unwrap();
        let came = client.ask(request, &vec![b'u'; 300_000]).await.unwrap();
        assert_eq!((came.head.status.as_u16(), &came.body[..]), (200, &b"early"[..]), "{path}");
    }
    assert_eq!(instance.connections(), 1);
}

/// Sends so many bytes on a stream as the windows let it, padded or not, and ends it.
async fn pour(peer: &mut Peer, stream: u32, mut bytes: usize, padding: u8, windows: &mut [usize; 2]) {
    while bytes > 0 {
        let piece = bytes.min(10_000);
        let cost = piece + if padding > 0 { 1 + usize::from(padding) } else { 0 };
        if windows.iter().all(|window| *window >= cost) {
            let payload = match padding {
                0 => vec![b'x'; piece],
                _ => [vec![padding], vec![b'x'; piece], vec![0; padding.into()]].concat(),
            };
            peer.send(&frame(DATA, if padding > 0 { PADDED } else { 0 }, stream, &payload)).await;
            for window in windows.iter_mut() {
                *window -= cost;
            }
            bytes -= piece;
        } else {
            let (_, _, on, payload) = peer.frames.until(&[WINDOW_UPDATE]).await.unwrap();
            let more = u32::from_be_bytes(payload[..].try_into().unwrap()) as usize;
            if on == 0 || on == stream {
                windows[usize::from(on != 0)] += more;
            }
        }
    }
    peer.send(&frame(DATA, END_STREAM, stream, b"")).await;
}

#[tokio::test]
async fn a_large_answer_gets_room_again_and_again() {
    for padding in [0, 200] {
        let instance = Instance::serving(Vec::new(), move |mut peer| async move {
            let (_, _, _, settings) = peer.frames.until(&[SETTINGS]).await.unwrap();
            let initial = settings
                .chunks(6)
                .find(|setting| setting[1] == 4)
                .map_or(65_535, |setting| u32::from_be_bytes(setting[2..].try_into().unwrap()) as usize);
            peer.send(&frame(SETTINGS, 1, 0, &[])).await;
            while let Some(asked) = peer.request().await {
                peer.send(&head(asked.stream, &[(":status", "200")], 0)).await;
                let mut windows = [peer.room, initial];
                pour(&mut peer, asked.stream, 10_000_000, padding, &mut windows).await;
                peer.room = windows[0];
            }
        })
        .await;
        let gateway = instance.before("h2c", "").await;
        for _ in 0..2 {
            let text = gateway.get("/").await.text;
            assert_eq!(text.len(), 10_000_000, "{padding}");
        }
        assert_eq!(instance.connections(), 1);
    }
}

#[tokio::test]
async fn room_comes_back_for_the_last_piece_of_each_answer_too() {
    const PIECE: [u8; 16_000] = [b'x'; 16_000];
    let instance = Instance::serving(Vec::new(), |mut peer| async move {
        while let Some(asked) = peer.request().await {
            let Some(room) = peer.room.checked_sub(PIECE.len()) else {
                return peer.send(&answer(asked.stream, "no room")).await;
            };
            peer.room = room;
            let head = head(asked.stream, &[(":status", "200")], 0);
            peer.send(&[head, frame(DATA, END_STREAM, asked.stream, &PIECE)].concat()).await;
        }
    })
    .await;
    let gateway = instance.before("h2c", "").await;
    // More than there was room for at first.
    for _ in 0..1500 {
        assert_eq!(gateway.get("/").await.text.len(), PIECE.len());
    }
    assert_eq!(instance.connections(), 1);
}

#[tokio::test]
async fn an_answer_that_nobody_reads_leaves_room_for_others() {
    let instance = Instance::serving(Vec::new(), |mut peer| async move {
        while let Some(asked) = peer.request().await {
            if asked.field(":path") == "/unread" {
                peer.send(&head(asked.stream, &[(":status", "200")], 0)).await;
                // As much as a stream has room for at least.
                let pieces = [&[b'x'; 16_384][..], &[b'x'; 16_384], &[b'x'; 16_384], &[b'x'; 16_383]];
                peer.send(&pieces.iter().flat_map(|piece| frame(DATA, 0, asked.stream, piece)).collect::<Vec<_>>())
                    .await;
            } else {
                peer.send(&answer(asked.stream, "fine")).await;
            }
        }
    })
    .await;
    let gateway = instance.before("h2c", "").await;
    let client = Http2::connect(gateway.address).await;
    let mut unread = Vec::new();
    for _ in 0..10 {
        unread.push(client.begin(get("/unread"), b"").await.unwrap().await.unwrap());
        assert_eq!(gateway.get("/").await.text, "fine");
    }
    assert_eq!(instance.connections(), 1);
}
