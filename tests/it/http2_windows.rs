//! Flow control between clients and the gateway: answers come as windows let them, and uploads get room. Source: RFC
//! 9113 §5.2 and §6.9.

use tokio::time::timeout;

use crate::support::{
    Gateway, Origin, PATIENCE,
    http2::{ACK, DATA, END_STREAM, Frames, GOAWAY, HEADERS, PADDED, PING, RST_STREAM, SETTINGS, WINDOW_UPDATE, frame},
    verdict::{FLOW_CONTROL, ask, before, begin, setting},
};

/// What a window has at first. Source: RFC 9113 §6.9.2.
const WINDOW: usize = 65_535;

fn room(stream: u32, bytes: usize) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &u32::try_from(bytes).unwrap().to_be_bytes())
}

/// A gateway whose service answers with so many bytes.
async fn serving(bytes: usize) -> (Gateway, Origin) {
    let answer =
        [format!("HTTP/1.1 200 OK\r\ncontent-length: {bytes}\r\n\r\n").into_bytes(), vec![b'x'; bytes]].concat();
    let origin = Origin::answering(move |_| answer.clone()).await;
    (before(&origin).await, origin)
}

/// A connection whose streams have windows of `initial` bytes; its settings are acknowledged.
async fn windowed(gateway: &Gateway, initial: u32) -> Frames {
    let mut client = Frames::connect(gateway.address).await;
    client.send(&frame(SETTINGS, 0, 0, &setting(4, initial))).await;
    for _ in 0..2 {
        while client.until(&[SETTINGS]).await.unwrap().1 & ACK == 0 {}
    }
    client
}

/// The bytes of DATA of each stream until `bytes` of them came in all, and then until a PING has come back.
async fn read(client: &mut Frames, bytes: usize) -> [usize; 8] {
    let (mut came, mut pinged) = ([0; 8], false);
    loop {
        if !pinged && came.iter().sum::<usize>() >= bytes {
            client.send(&frame(PING, 0, 0, b"any more")).await;
            pinged = true;
        }
        let (kind, flags, stream, payload) = client.next().await.expect("the connection ended");
        assert!(kind != RST_STREAM && kind != GOAWAY, "{kind} {payload:?}");
        match kind {
            DATA => came[stream as usize / 2] += payload.len(),
            PING if flags & ACK != 0 => return came,
            _ => {}
        }
    }
}

#[tokio::test]
async fn an_answer_comes_exactly_as_its_stream_has_room() {
    let (gateway, _origin) = serving(100_000).await;
    for initial in [0, 1, 10, 16_384, 60_000] {
        let mut client = windowed(&gateway, u32::try_from(initial).unwrap()).await;
        client.send(&ask(1)).await;
        client.until(&[HEADERS]).await.unwrap();
        assert_eq!(read(&mut client, initial).await[0], initial, "at first");
        for more in [1, 2, 100, 3000] {
            client.send(&room(1, more)).await;
            assert_eq!(read(&mut client, more).await[0], more, "{initial} and {more}");
        }
        // New settings move the window by what they differ.
        client.send(&frame(SETTINGS, 0, 0, &setting(4, u32::try_from(initial + 500).unwrap()))).await;
        assert_eq!(read(&mut client, 500).await[0], 500, "{initial} and settings");
    }
}

#[tokio::test]
async fn a_window_below_nothing_has_to_be_filled_first() {
    let (gateway, _origin) = serving(100_000).await;
    let mut client = windowed(&gateway, 1000).await;
    client.send(&ask(1)).await;
    assert_eq!(read(&mut client, 1000).await[0], 1000);
    client.send(&frame(SETTINGS, 0, 0, &setting(4, 100))).await;
    assert_eq!(read(&mut client, 0).await[0], 0, "900 below nothing");
    for (more, came) in [(899, 0), (1, 0), (1, 1), (50, 50)] {
        client.send(&room(1, more)).await;
        assert_eq!(read(&mut client, came).await[0], came, "{more} more");
    }
    // What begins now has the new window.
    client.send(&ask(3)).await;
    assert_eq!(read(&mut client, 100).await[1], 100);
    client.send(&frame(SETTINGS, 0, 0, &setting(4, 1000))).await;
    assert_eq!(read(&mut client, 1800).await[..2], [900, 900], "both have 900 more");
}

#[tokio::test]
async fn the_window_of_the_connection_holds_for_all_its_streams() {
    let (gateway, _origin) = serving(50_000).await;
    let mut client = windowed(&gateway, 1 << 20).await;
    client.send(&[ask(1), ask(3)].concat()).await;
    let first = read(&mut client, WINDOW).await;
    assert_eq!(first[0] + first[1], WINDOW);
    client.send(&[room(1, 1000), room(3, 1000)].concat()).await;
    assert_eq!(read(&mut client, 0).await, [0; 8], "the streams had room before");
    client.send(&room(0, 777)).await;
    let next = read(&mut client, 777).await;
    assert_eq!(next[0] + next[1], 777);
    client.send(&room(0, 100_000)).await;
    let rest = read(&mut client, 100_000 - WINDOW - 777).await;
    for stream in 0..2 {
        assert_eq!(first[stream] + next[stream] + rest[stream], 50_000, "{stream}");
    }
}

#[tokio::test]
async fn room_of_a_stream_that_was_reset_is_not_lost_to_others() {
    let (gateway, _origin) = serving(30_000).await;
    let mut client = windowed(&gateway, 0).await;
    let id = |n: u32| n * 2 + 1;
    for n in 0..20 {
        client.send(&ask(id(n))).await;
        client.until(&[HEADERS]).await.unwrap();
        client.send(&frame(RST_STREAM, 0, id(n), &[0, 0, 0, 8])).await;
    }
    client.send(&[ask(id(20)), room(id(20), 30_000)].concat()).await;
    let mut came = 0;
    while came < 30_000 {
        let (_, _, stream, payload) = client.until(&[DATA]).await.unwrap();
        assert_eq!(stream, id(20));
        came += payload.len();
    }
}

#[tokio::test]
async fn frames_of_answers_are_no_larger_than_the_client_takes() {
    let (gateway, _origin) = serving(200_000).await;
    for (size, most) in [(None, 16_384), (Some(16_384), 16_384), (Some(20_000), 20_000), (Some(0xff_ffff), 200_000)] {
        let mut client = windowed(&gateway, 1 << 20).await;
        let settings = size.map(|size| frame(SETTINGS, 0, 0, &setting(5, size))).unwrap_or_default();
        client.send(&[settings, room(0, 1 << 20), ask(1)].concat()).await;
        let (mut came, mut ended) = (0, false);
        while !ended {
            let (kind, flags, _, payload) = client.next().await.unwrap();
            assert!(payload.len() <= most, "{} for {size:?}", payload.len());
            came += if kind == DATA { payload.len() } else { 0 };
            ended = kind == DATA && flags & END_STREAM != 0;
        }
        assert_eq!(came, 200_000);
    }
}

/// Uploads so many bytes on stream 1 in frames of `size` with so much padding, as the windows let it.
async fn upload(client: &mut Frames, mut bytes: usize, size: usize, padding: u8) {
    let mut windows = [WINDOW, 0];
    let (_, _, _, settings) = client.until(&[SETTINGS]).await.unwrap();
    let initial = settings
        .chunks(6)
        .find(|setting| setting[1] == 4)
        .map_or(WINDOW, |setting| u32::from_be_bytes(setting[2..].try_into().unwrap()) as usize);
    windows[1] = initial;
    client.send(&[frame(SETTINGS, ACK, 0, &[]), begin(1)].concat()).await;
    while bytes > 0 {
        let piece = size.min(bytes);
        let cost = piece + if padding > 0 { 1 + usize::from(padding) } else { 0 };
        if windows.iter().all(|window| *window >= cost) {
            let payload = match padding {
                0 => vec![b'u'; piece],
                _ => [vec![padding], vec![b'u'; piece], vec![0; padding.into()]].concat(),
            };
            client.send(&frame(DATA, if padding > 0 { PADDED } else { 0 }, 1, &payload)).await;
            for window in &mut windows {
                *window -= cost;
            }
            bytes -= piece;
            continue;
        }
        let (kind, _, stream, payload) = client.until(&[WINDOW_UPDATE, RST_STREAM, GOAWAY]).await.unwrap();
        assert_eq!(kind, WINDOW_UPDATE, "{payload:?}");
        let more = u32::from_be_bytes(payload[..].try_into().unwrap()) as usize;
        windows[usize::from(stream == 1)] += more;
        assert!(more > 0 && windows.iter().all(|window| *window < 1 << 31));
    }
    client.send(&frame(DATA, END_STREAM, 1, b"")).await;
    assert_eq!(client.until(&[HEADERS, RST_STREAM, GOAWAY]).await.unwrap().0, HEADERS);
}

#[tokio::test]
async fn a_large_upload_gets_room_again_and_again() {
    let origin = Origin::start("a").await;
    let gateway = before(&origin).await;
    for (bytes, size, padding) in [(10_000_000, 16_384, 0), (500_000, 1000, 0), (300_000, 100, 255), (20_000, 1, 255)] {
        let mut client = Frames::connect(gateway.address).await;
        timeout(PATIENCE, upload(&mut client, bytes, size, padding)).await.expect("it stands still");
        assert_eq!(origin.got().last().unwrap().body, vec![b'u'; bytes], "{bytes} by {size} and {padding}");
    }
}

#[tokio::test]
async fn a_client_that_does_not_care_for_its_windows_is_ended() {
    // Nobody reads it.
    let origin = Origin::serving(|mut connection| async move {
        let _ = connection.head().await;
        std::future::pending::<()>().await;
    })
    .await;
    let gateway = before(&origin).await;
    let piece = |stream| frame(DATA, 0, stream, &[b'x'; 16_384]);
    let padded = |stream| frame(DATA, PADDED, stream, &[&[255][..], &[0; 16_383]].concat());
    let whole = |stream: u32| -> Vec<u8> { (0..8).flat_map(|_| piece(stream)).collect() };
    for (what, bytes) in [
        ("one stream", [begin(1), (0..2000).flat_map(|_| piece(1)).collect()].concat()),
        ("one stream in padding", [begin(1), (0..2000).flat_map(|_| padded(1)).collect()].concat()),
        ("many streams", (0..90).flat_map(|n| [begin(n * 2 + 1), whole(n * 2 + 1)].concat()).collect()),
    ] {
        let mut client = Frames::connect(gateway.address).await;
        client.send(&bytes).await;
        let (kind, _, _, payload) = client.until(&[RST_STREAM, GOAWAY]).await.expect("no word");
        let code = &payload[if kind == GOAWAY { 4 } else { 0 }..][..4];
        assert_eq!(code, FLOW_CONTROL.to_be_bytes(), "{what}");
    }
}
