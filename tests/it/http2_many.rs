//! Many streams of one client: each has its own answer and its own end, whatever the others do, and none outlives its
//! client.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use http::Request;
use tokio::{io::AsyncWriteExt, sync::watch, task::JoinSet};

use crate::support::{
    Gateway, Origin,
    hpack::Blocks,
    http2::{
        CONTINUATION, DATA, END_HEADERS, END_STREAM, Frames, GET, GOAWAY, HEADERS, Http2, RST_STREAM, fields, frame,
        get,
    },
    until,
    verdict::{POST, ask, before, begin},
};

/// A service that answers with its request's path and body.
async fn echo() -> Origin {
    Origin::answering(|got| {
        let path = got.line().split(' ').nth(1).unwrap();
        let body = [path.as_bytes(), &got.body].concat();
        [format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len()).into_bytes(), body].concat()
    })
    .await
}

/// A service that answers once it is let to; the sender that lets it, and how many requests have ended unanswered.
async fn held() -> (Origin, watch::Sender<bool>, Arc<AtomicUsize>) {
    let (go, wait) = watch::channel(false);
    let gone = Arc::<AtomicUsize>::default();
    let counted = gone.clone();
    let origin = Origin::serving(move |mut connection| {
        let (mut wait, gone) = (wait.clone(), counted.clone());
        async move {
            while connection.request().await.is_some() {
                tokio::select! {
                    _ = wait.wait_for(|go| *go) => {}
                    _ = connection.more() => {
                        gone.fetch_add(1, SeqCst);
                        return;
                    }
                }
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone";
                connection.stream.write_all(answer).await.unwrap();
            }
        }
    })
    .await;
    (origin, go, gone)
}

fn id(n: usize) -> u32 {
    u32::try_from(n).unwrap() * 2 + 1
}

/// The bodies of so many answers, by their streams.
async fn bodies(client: &mut Frames, count: usize) -> BTreeMap<u32, Vec<u8>> {
    let (mut bodies, mut ended) = (BTreeMap::<u32, Vec<u8>>::new(), 0);
    while ended < count {
        let (kind, flags, stream, payload) = client.until(&[DATA, HEADERS, RST_STREAM]).await.expect("it ended");
        assert_ne!(kind, RST_STREAM, "{stream}");
        if kind == DATA {
            bodies.entry(stream).or_default().extend_from_slice(&payload);
        }
        ended += usize::from(flags & END_STREAM != 0);
    }
    bodies
}

#[tokio::test]
async fn two_hundred_streams_one_after_the_other_are_answered() {
    let origin = echo().await;
    let gateway = before(&origin).await;
    let mut client = Frames::connect(gateway.address).await;
    for n in 0..200 {
        let path = format!("/{n}");
        let list = [GET[0], GET[1], GET[2], (":path", path.as_str())];
        client.send(&frame(HEADERS, END_HEADERS | END_STREAM, id(n), &fields(&list))).await;
        assert_eq!(bodies(&mut client, 1).await, [(id(n), path.into_bytes())].into());
    }
}

#[tokio::test]
async fn a_hundred_streams_at_once_are_answered() {
    let origin = echo().await;
    let gateway = before(&origin).await;
    let mut client = Frames::connect(gateway.address).await;
    for round in 0..3 {
        let paths: Vec<_> = (0..100).map(|n| (id(round * 100 + n), format!("/{round}/{n}"))).collect();
        let asked = paths.iter().flat_map(|(stream, path)| {
            frame(HEADERS, END_HEADERS | END_STREAM, *stream, &fields(&[GET[0], GET[1], GET[2], (":path", path)]))
        });
        client.send(&asked.collect::<Vec<u8>>()).await;
        let want: BTreeMap<_, _> = paths.into_iter().map(|(stream, path)| (stream, path.into_bytes())).collect();
        assert_eq!(bodies(&mut client, 100).await, want);
    }
}

#[tokio::test]
async fn bodies_of_streams_that_take_turns_are_not_mixed_up() {
    let origin = echo().await;
    let gateway = before(&origin).await;
    let mut client = Frames::connect(gateway.address).await;
    let mut bytes: Vec<u8> = (0..20).flat_map(|n| begin(id(n))).collect();
    for piece in 0..50 {
        for n in 0..20 {
            // Each begins somewhere else.
            let n = (n * 7 + piece) % 20;
            bytes.extend(frame(DATA, 0, id(n), format!("{n}:{piece},").as_bytes()));
        }
    }
    for n in (0..20).rev() {
        let end = if n % 2 == 0 {
            frame(DATA, END_STREAM, id(n), b"")
        } else {
            frame(HEADERS, END_HEADERS | END_STREAM, id(n), &fields(&[("x-sum", "1")]))
        };
        bytes.extend(end);
    }
    client.send(&bytes).await;
    let bodies = bodies(&mut client, 20).await;
    for n in 0..20 {
        let want = (0..50).map(|piece| format!("{n}:{piece},")).collect::<Vec<_>>().concat();
        assert_eq!(String::from_utf8_lossy(&bodies[&id(n)]), format!("/{want}"));
    }
}

#[tokio::test]
async fn streams_of_many_clients_have_their_own_bodies() {
    let origin = echo().await;
    let gateway = before(&origin).await;
    let mut clients = JoinSet::new();
    for client in 0..8 {
        let http2 = Http2::connect(gateway.address).await;
        clients.spawn(async move {
            for n in 0..25_usize {
                let body = format!("{client} and {n} ").repeat(n * 40);
                let request = Request::post(format!("http://h/{client}")).body(()).unwrap();
                let came = http2.ask(request, body.as_bytes()).await.unwrap();
                assert!(came.body == format!("/{client}{body}"), "{client} {n}");
            }
        });
    }
    clients.join_all().await;
}

#[tokio::test]
async fn an_answer_without_a_body_ends_with_its_head() {
    let origin = Origin::answering(|got| {
        let status = got.line().split(['/', ' ']).nth(2).unwrap();
        let length = if status == "204" { "" } else { "content-length: 5\r\n" };
        format!("HTTP/1.1 {status} OK\r\n{length}etag: \"a\"\r\n\r\n").into()
    })
    .await;
    let gateway = before(&origin).await;
    let mut client = Frames::connect(gateway.address).await;
    let mut blocks = Blocks::default();
    for (n, (method, status)) in [("HEAD", "200"), ("GET", "204"), ("GET", "304"), ("HEAD", "404")].iter().enumerate() {
        let path = format!("/{status}");
        let list = [(":method", *method), GET[1], GET[2], (":path", path.as_str())];
        client.send(&frame(HEADERS, END_HEADERS | END_STREAM, id(n), &fields(&list))).await;
        let (_, flags, stream, head) = client.until(&[HEADERS]).await.unwrap();
        assert_eq!((flags & END_STREAM, stream), (END_STREAM, id(n)), "{method} {status}");
        let list = blocks.read(&head);
        assert_eq!(list[0].1, *status);
        assert!(list.iter().all(|(name, _)| !name.bytes().any(|letter| letter.is_ascii_uppercase())), "{list:?}");
        assert!(list[1..].iter().all(|(name, _)| !name.starts_with(':')), "{list:?}");
        let hop = ["connection", "keep-alive", "transfer-encoding", "upgrade", "proxy-connection"];
        assert!(list.iter().all(|(name, _)| !hop.contains(&name.as_str())), "{list:?}");
    }
}

#[tokio::test]
async fn a_client_that_says_goodbye_still_gets_its_answers() {
    let (origin, go, _) = held().await;
    let gateway = before(&origin).await;
    let mut client = Frames::connect(gateway.address).await;
    client.send(&[ask(1), begin(3), frame(GOAWAY, 0, 0, &[0; 8])].concat()).await;
    until("a request", || async { (origin.count() == 1).then_some(()) }).await;
    client.send(&frame(DATA, END_STREAM, 3, b"late")).await;
    until("both", || async { (origin.count() == 2).then_some(()) }).await;
    go.send_replace(true);
    let want = [(1, b"done".to_vec()), (3, b"done".to_vec())].into();
    assert_eq!(bodies(&mut client, 2).await, want);
}

/// What a client does that leaves.
enum Leaving {
    Close,
    Reset,
    Stop,
}

#[tokio::test]
async fn requests_end_with_their_client() {
    for leaving in [Leaving::Close, Leaving::Reset, Leaving::Stop] {
        let (origin, _go, gone) = held().await;
        let gateway: Gateway = before(&origin).await;
        let mut client = Frames::connect(gateway.address).await;
        client.send(&(0..10).flat_map(|n| ask(id(n))).collect::<Vec<_>>()).await;
        until("the requests", || async { (origin.count() == 10).then_some(()) }).await;
        let mut stopped = None;
        match leaving {
            Leaving::Close => drop(client),
            Leaving::Reset => {
                crate::support::reset_at_end(&client.stream);
                drop(client);
            }
            Leaving::Stop => {
                let bytes = (0..10).flat_map(|n| frame(RST_STREAM, 0, id(n), &[0, 0, 0, 8]));
                client.send(&bytes.collect::<Vec<_>>()).await;
                stopped = Some(client);
            }
        }
        until("their ends", || async { (gone.load(SeqCst) == 10).then_some(()) }).await;
        drop(stopped);
    }
}

#[tokio::test]
async fn a_stream_that_breaks_a_rule_leaves_its_neighbours_alone() {
    let (origin, go, _) = held().await;
    let gateway = before(&origin).await;
    let mut client = Frames::connect(gateway.address).await;
    let wrong = [
        frame(HEADERS, END_HEADERS | END_STREAM, 3, &fields(&[GET[0], GET[1], GET[2]])),
        frame(HEADERS, END_HEADERS | END_STREAM, 5, &fields(&[&GET[..], &[("te", "gzip")]].concat())),
        [
            frame(HEADERS, END_STREAM, 7, &fields(&GET)),
            frame(CONTINUATION, END_HEADERS, 7, &fields(&[("upgrade", "a")])),
        ]
        .concat(),
        frame(HEADERS, END_HEADERS | END_STREAM, 9, &fields(&[&POST[..], &[("content-length", "5")]].concat())),
    ];
    client.send(&[ask(1), wrong.concat(), ask(11)].concat()).await;
    until("the requests", || async { (origin.count() == 2).then_some(()) }).await;
    go.send_replace(true);
    let (mut right, mut refused) = (0, Vec::new());
    while right < 2 || refused.len() < 4 {
        let (kind, flags, stream, _) = client.until(&[DATA, HEADERS, RST_STREAM]).await.expect("it ended");
        if matches!(stream, 1 | 11) {
            assert_ne!(kind, RST_STREAM);
            right += usize::from(flags & END_STREAM != 0);
        } else if kind == RST_STREAM || flags & END_STREAM != 0 {
            refused.push(stream);
        }
    }
    refused.sort_unstable();
    refused.dedup();
    assert_eq!(refused, [3, 5, 7, 9]);
    let client = Http2::connect(gateway.address).await;
    assert_eq!(client.ask(get("/"), b"").await.unwrap().body, "done");
}
