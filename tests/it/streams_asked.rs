//! What the gateway asks of instances over HTTP/2, frame by frame: its requests keep the rules, and so do its answers to
//! pings, settings, limits and refusals. Source: RFC 9113.

use std::sync::Arc;

use http::Method;
use tokio::{sync::Notify, task::JoinSet};

use crate::support::{
    http2::{ACK, DATA, END_STREAM, GOAWAY, HEADERS, Http2, PING, RST_STREAM, SETTINGS, WINDOW_UPDATE, frame, get},
    instance::{Instance, answer, head},
    until,
    verdict::{REFUSED, setting},
};

/// Answers all requests with their paths.
async fn echo(settings: Vec<u8>) -> Instance {
    Instance::serving(settings, |mut peer| async move {
        while let Some(asked) = peer.request().await {
            peer.send(&answer(asked.stream, asked.field(":path"))).await;
        }
    })
    .await
}

#[tokio::test]
async fn a_connection_begins_with_settings_that_allow_no_push() {
    let instance = Instance::serving(Vec::new(), |mut peer| async move {
        let (kind, flags, stream, settings) = peer.frames.next().await.unwrap();
        let pushes = settings.chunks(6).filter(|setting| setting[..2] == [0, 2]);
        let right = (kind, flags, stream) == (SETTINGS, 0, 0) && pushes.eq([&[0, 2, 0, 0, 0, 0][..]]);
        let (kind, flags, _, payload) = peer.frames.until(&[SETTINGS, HEADERS]).await.unwrap();
        let acknowledged = (kind, flags, payload.len()) == (SETTINGS, ACK, 0);
        while let Some(asked) = peer.request().await {
            peer.send(&answer(asked.stream, &format!("{right} {acknowledged}"))).await;
        }
    })
    .await;
    let gateway = instance.before("h2c", "").await;
    assert_eq!(gateway.get("/").await.text, "true true");
}

#[tokio::test]
async fn requests_are_well_formed() {
    let instance = Instance::serving(Vec::new(), |mut peer| async move {
        while let Some(asked) = peer.request().await {
            let told: Vec<_> = asked.list.iter().map(|(name, value)| format!("{name}={value}")).collect();
            peer.send(&answer(asked.stream, &format!("{}\n{}", asked.stream, told.join("\n")))).await;
        }
    })
    .await;
    let hop = [
        ("X-Upper", "Ab"),
        ("connection", "keep-alive, x-hop"),
        ("keep-alive", "timeout=5"),
        ("x-hop", "1"),
        ("proxy-connection", "close"),
        ("cookie", "a=b"),
    ];
    for protocol in ["h2c", "grpc"] {
        let gateway = instance.before(protocol, "").await;
        for n in 0..30 {
            let te = if n % 2 == 0 { vec![("te", "gzip")] } else { Vec::new() };
            let answer = gateway.send(Method::GET, "/a/b?c=d", &[&hop[..], &te].concat(), "").await;
            let mut lines = answer.text.lines();
            assert_eq!(lines.next().unwrap(), (n * 2 + 1).to_string(), "odd, and rising");
            let list: Vec<_> = lines
                .map(|line| line[1..].split_once('=').map(|(n, v)| (format!("{}{n}", &line[..1]), v)).unwrap())
                .collect();
            let pseudo: Vec<_> = list.iter().take_while(|(name, _)| name.starts_with(':')).cloned().collect();
            assert_eq!(pseudo.len(), list.iter().filter(|(name, _)| name.starts_with(':')).count(), "in front");
            let value = |wanted: &str| {
                let mut values = list.iter().filter(|(name, _)| name == wanted).map(|(_, value)| *value);
                (values.next(), values.next())
            };
            assert_eq!(value(":method"), (Some("GET"), None));
            assert_eq!(value(":scheme"), (Some("http"), None));
            assert_eq!(value(":path"), (Some("/a/b?c=d"), None));
            assert!(value(":authority").0.is_some() && pseudo.len() == 4, "{pseudo:?}");
            assert_eq!((value("x-upper"), value("cookie")), ((Some("Ab"), None), (Some("a=b"), None)));
            assert_eq!(value("te").0, (protocol == "grpc").then_some("trailers"));
            for name in
                ["connection", "keep-alive", "x-hop", "proxy-connection", "transfer-encoding", "upgrade", "host"]
            {
                assert_eq!(value(name), (None, None), "{name}");
            }
            let lower = |name: &str| name.bytes().all(|letter| !letter.is_ascii_uppercase());
            assert!(list.iter().all(|(name, _)| lower(name)), "{list:?}");
        }
    }
}

#[tokio::test]
async fn pings_come_back_and_settings_are_acknowledged_in_the_middle_of_an_answer() {
    let instance = Instance::serving(Vec::new(), |mut peer| async move {
        while let Some(asked) = peer.request().await {
            peer.send(&head(asked.stream, &[(":status", "200")], 0)).await;
            for n in 0..20_u64 {
                peer.send(&frame(PING, 0, 0, &n.to_be_bytes())).await;
                let (_, flags, _, payload) = peer.frames.until(&[PING]).await.unwrap();
                assert_eq!((flags, &payload[..]), (ACK, &n.to_be_bytes()[..]));
                peer.send(&frame(SETTINGS, 0, 0, &setting(3, 50))).await;
                let (_, flags, _, payload) = peer.frames.until(&[SETTINGS]).await.unwrap();
                assert_eq!((flags, payload.len()), (ACK, 0));
                peer.send(&frame(DATA, 0, asked.stream, b".")).await;
            }
            peer.send(&frame(DATA, END_STREAM, asked.stream, b"!")).await;
        }
    })
    .await;
    let gateway = instance.before("h2c", "").await;
    assert_eq!(gateway.get("/").await.text, format!("{}!", ".".repeat(20)));
}

#[tokio::test]
async fn no_field_comes_from_a_table_that_the_instance_does_not_keep() {
    for size in [0, 4096] {
        let instance = Instance::serving(setting(1, size), move |mut peer| async move {
            while let Some(asked) = peer.request().await {
                let blocks = peer.blocks();
                let wrong = size == 0 && blocks.recalled > 0 || blocks.resized.iter().any(|new| *new > size as usize);
                peer.send(&answer(asked.stream, &format!("{wrong} {}", asked.field("x-n")))).await;
            }
        })
        .await;
        let gateway = instance.before("h2c", "").await;
        for n in 0..40 {
            let told = n.to_string();
            let answer = gateway.send(Method::GET, "/", &[("x-n", &told), ("x-same", "same")], "").await;
            assert_eq!(answer.text, format!("false {n}"));
        }
    }
}

/// Answers to so many requests at once have to be their paths.
async fn at_once(gateway: &crate::support::Gateway, count: usize) {
    let client = Arc::new(Http2::connect(gateway.address).await);
    let mut asking = JoinSet::new();
    for n in 0..count {
        let client = client.clone();
        asking.spawn(async move { client.ask(get(&format!("/{n}")), b"").await.unwrap().body == format!("/{n}") });
    }
    assert_eq!(asking.join_all().await, vec![true; count]);
}

#[tokio::test]
async fn an_instance_of_one_stream_at_once_answers_all() {
    let instance = Instance::serving(setting(3, 1), |mut peer| async move {
        while let Some(asked) = peer.request().await {
            // Nothing else comes before this one is answered.
            peer.send(&frame(PING, 0, 0, b"any more")).await;
            let (kind, ..) = peer.frames.until(&[PING, HEADERS]).await.unwrap();
            assert_eq!(kind, PING);
            peer.send(&answer(asked.stream, asked.field(":path"))).await;
        }
    })
    .await;
    let gateway = instance.before("h2c", "").await;
    at_once(&gateway, 40).await;
    assert!(instance.connections() <= 8, "{}", instance.connections());
}

#[tokio::test]
async fn an_instance_that_takes_no_streams_for_a_moment_answers_all() {
    let instance = Instance::serving(setting(3, 2), |mut peer| async move {
        for n in 0.. {
            let Some(asked) = peer.request().await else { return };
            if n % 5 == 4 {
                peer.send(&frame(SETTINGS, 0, 0, &setting(3, 0))).await;
                let (mut acknowledged, mut early) = (false, Vec::new());
                while !acknowledged {
                    let (kind, flags, stream, _) = peer.frames.until(&[SETTINGS, HEADERS]).await.unwrap();
                    acknowledged = kind == SETTINGS && flags & ACK != 0;
                    early.extend((kind == HEADERS).then_some(stream));
                }
                // What it had sent before it knew is refused, and sent again.
                for stream in early {
                    peer.send(&frame(RST_STREAM, 0, stream, &REFUSED.to_be_bytes())).await;
                }
                peer.send(&frame(SETTINGS, 0, 0, &setting(3, 2))).await;
            }
            peer.send(&answer(asked.stream, asked.field(":path"))).await;
        }
    })
    .await;
    let gateway = instance.before("h2c", "").await;
    for n in 0..30 {
        assert_eq!(gateway.get(&format!("/{n}")).await.text, format!("/{n}"));
    }
}

#[tokio::test]
async fn what_was_not_begun_is_sent_again() {
    let goaway = |last: u32| frame(GOAWAY, 0, 0, &[last.to_be_bytes(), [0; 4]].concat());
    let instance = Instance::serving(Vec::new(), move |mut peer| async move {
        let mut refused = false;
        while let Some(asked) = peer.request().await {
            match asked.field(":path") {
                "/refused" if !refused => {
                    refused = true;
                    peer.send(&frame(RST_STREAM, 0, asked.stream, &REFUSED.to_be_bytes())).await;
                }
                "/left" if peer.number == 0 => peer.send(&goaway(asked.stream.saturating_sub(2))).await,
                path => {
                    let body = format!("{path} {}", peer.number);
                    peer.send(&answer(asked.stream, &body)).await;
                }
            }
        }
    })
    .await;
    let gateway = instance.before("h2c", "").await;
    assert_eq!(gateway.get("/first").await.text, "/first 0");
    assert_eq!(gateway.get("/refused").await.text, "/refused 0");
    assert_eq!(gateway.get("/left").await.text, "/left 1");
    assert_eq!(gateway.get("/next").await.text, "/next 1");
    let left = gateway.send(Method::POST, "/refused", &[], "hello").await;
    assert_eq!(left.text, "/refused 1", "a body that was not begun is whole");
}

#[tokio::test]
async fn a_request_that_its_client_gives_up_is_reset() {
    let cancelled = Arc::new(Notify::new());
    let told = cancelled.clone();
    let instance = Instance::serving(Vec::new(), move |mut peer| {
        let told = told.clone();
        async move {
            let asked = peer.request().await.unwrap();
            peer.send(&head(asked.stream, &[(":status", "200")], 0)).await;
            let (_, _, stream, code) = peer.frames.until(&[RST_STREAM]).await.unwrap();
            assert_eq!((stream, &code[..]), (asked.stream, &[0, 0, 0, 8][..]));
            told.notify_one();
            // Frames that were on their way are no error.
            let late = [frame(DATA, END_STREAM, stream, b"late"), frame(WINDOW_UPDATE, 0, stream, &[0, 0, 0, 1])];
            peer.send(&late.concat()).await;
            while let Some(asked) = peer.request().await {
                peer.send(&answer(asked.stream, "fine")).await;
            }
        }
    })
    .await;
    let gateway = instance.before("h2c", "").await;
    let client = Http2::connect(gateway.address).await;
    let given_up = client.begin(get("/"), b"").await.unwrap().await.unwrap();
    drop(given_up);
    cancelled.notified().await;
    assert_eq!(gateway.get("/").await.text, "fine");
    until("one connection", || async { (instance.connections() == 1).then_some(()) }).await;
}

#[tokio::test]
async fn many_requests_are_answered_on_one_connection() {
    let instance = echo(setting(3, 100)).await;
    let gateway = instance.before("h2c", "").await;
    for _ in 0..5 {
        at_once(&gateway, 60).await;
    }
    assert_eq!(instance.connections(), 1);
}
