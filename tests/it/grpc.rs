//! Calls of gRPC that fail or take too long.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering::Relaxed},
    },
};

use crate::support::{
    Gateway, GrpcOrigin,
    grpc::{Reply, call},
    http2::{Came, Http2},
    now,
};

async fn before(address: SocketAddr, lines: &str) -> Gateway {
    let route = "[[routes]]\nmatch = { path = '/test.Calls/{*rest}' }\nservice = 'calls'\n";
    let service = format!("[services.calls]\nprotocol = 'grpc'\ninstances = ['{address}']\n{lines}\n");
    let gateway = Gateway::fixed(&format!("[http]\nworkers = 1\n{service}{route}")).await;
    gateway.until_ready().await;
    gateway
}

/// The status of a call, in its head or at its end.
fn status(came: &Came) -> &str {
    let trailers = came.trailers.as_ref();
    let status = trailers.and_then(|trailers| trailers.get("grpc-status")).or(came.head.headers.get("grpc-status"));
    status.expect("a status").to_str().unwrap()
}

#[tokio::test]
async fn what_is_left_of_the_time_that_a_client_waits_goes_to_the_instance() {
    let origin = GrpcOrigin::start(|_| Reply::Status(0)).await;
    let gateway = before(origin.address, "").await;
    let client = Http2::connect(gateway.address).await;
    for (sent, unit, most) in [("2S", "u", 2_000_000), ("90000m", "u", 90_000_000), ("3H", "m", 10_800_000)] {
        let came = client.ask(call("/test.Calls/Get", &[("grpc-timeout", sent)]), b"").await.unwrap();
        assert_eq!(status(&came), "0");
        let got = origin.got().pop().unwrap();
        assert_eq!(got.get_all("grpc-timeout").iter().count(), 1);
        let left = got["grpc-timeout"].to_str().unwrap().strip_suffix(unit);
        let left: u64 = left.unwrap_or_else(|| panic!("{got:?}")).parse().unwrap();
        assert!(left <= most && left > most / 2, "{left} of {sent}");
    }
    // Who says nothing gets no limit: it may be a stream.
    client.ask(call("/test.Calls/Get", &[]), b"").await.unwrap();
    assert!(!origin.got().pop().unwrap().contains_key("grpc-timeout"));
}

#[tokio::test]
async fn a_call_that_takes_longer_than_its_client_waits_ends_so_and_says_nothing_against_the_instance() {
    for reply in [Reply::Silence, Reply::Half] {
        let origin = GrpcOrigin::start(move |_| reply).await;
        let gateway = before(origin.address, "breaker.consecutive = 1").await;
        let client = Http2::connect(gateway.address).await;
        for _ in 0..3 {
            let begun = now();
            let came = client.ask(call("/test.Calls/Get", &[("grpc-timeout", "100m")]), b"").await.unwrap();
            assert_eq!((came.head.status.as_u16(), status(&came)), (200, "4"), "{came:?}");
            let fields = came.trailers.as_ref().unwrap_or(&came.head.headers);
            assert!(fields["grpc-message"].to_str().unwrap().contains("grpc-timeout"), "{fields:?}");
            assert!(begun.elapsed().as_secs() < 5);
        }
        assert_eq!(origin.got().len(), 3);
        assert!(gateway.events("circuit_opened").is_empty());
    }
}

#[tokio::test]
async fn a_circuit_opens_by_what_trailers_say_of_the_instance_and_by_nothing_that_they_say_of_the_request() {
    let says = Arc::new(AtomicU16::new(0));
    let origin = GrpcOrigin::start({
        let says = says.clone();
        move |_| Reply::Status(says.load(Relaxed))
    })
    .await;
    // OK, CANCELLED, INVALID_ARGUMENT, NOT_FOUND, RESOURCE_EXHAUSTED, UNIMPLEMENTED.
    let gateway = before(origin.address, "breaker = { open = '1h', max_open = '1h' }").await;
    let client = Http2::connect(gateway.address).await;
    for code in [0, 1, 3, 5, 8, 12] {
        says.store(code, Relaxed);
        for _ in 0..6 {
            assert_eq!(status(&client.ask(call("/test.Calls/Get", &[]), b"").await.unwrap()), code.to_string());
        }
    }
    assert!(gateway.events("circuit_opened").is_empty());
    // UNKNOWN, DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE, DATA_LOSS.
    for code in [2, 4, 13, 14, 15] {
        let gateway = before(origin.address, "breaker = { open = '1h', max_open = '1h' }").await;
        let client = Http2::connect(gateway.address).await;
        says.store(code, Relaxed);
        for _ in 0..5 {
            assert_eq!(status(&client.ask(call("/test.Calls/Get", &[]), b"").await.unwrap()), code.to_string());
        }
        let before = origin.got().len();
        let refused = client.ask(call("/test.Calls/Get", &[]), b"").await.unwrap();
        assert_eq!((status(&refused), origin.got().len()), ("14", before), "{code}");
        assert_eq!(refused.head.headers["retry-after"], "3600");
        assert_eq!(gateway.until_event("circuit_opened").await["service"], "calls");
    }
}
