//! Calls over HTTP/2 that depend on time: silence, idle connections, connections that died unnoticed.

use tokio::task::LocalSet;

use super::*;
use crate::model::protocol::Protocol;

async fn speaking(protocol: Protocol, policy: Policy) -> Stage {
    several_speaking(1, protocol, policy).await
}

async fn several_speaking(instances: usize, protocol: Protocol, policy: Policy) -> Stage {
    let mut stage = Stage::new(instances, policy).await;
    stage.cluster.transport.protocol = protocol;
    stage
}

type Server = h2::server::Connection<TcpStream, Bytes>;

async fn accept(stage: &Stage) -> Server {
    h2::server::handshake(stage.accept(0).await).await.unwrap()
}

/// Answers the next request, and goes on until the connection ends.
async fn serve(mut server: Server) {
    while let Some(Ok((_, mut respond))) = server.accept().await {
        respond.send_response(http::Response::new(()), true).unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn silence_ends_a_request_after_the_read_timeout_but_a_grpc_call_much_later() {
    let run = async {
        for (protocol, patience) in [(Protocol::H2c, 10), (Protocol::Grpc, 5 * 60)] {
            let stage = speaking(protocol, timeouts(30, 10)).await;
            let begun = Instant::now();
            let play = async {
                let mut server = accept(&stage).await;
                let _kept = server.accept().await;
                // It answers pings, and lives as long as it is asked to.
                let _ = server.accept().await;
            };
            let failed = tokio::select! {
                called = stage.call(Method::GET, Body::empty()) => called.unwrap_err(),
                () = play => panic!("the connection ended"),
            };
            let late =
                matches!(failed, CallError::Exchange(ExchangeError::ReadTimeout(_) | ExchangeError::TotalTimeout(_)));
            assert!(late, "{protocol}: {failed:?}");
            assert_eq!(begun.elapsed().as_secs(), patience, "{protocol}");
        }
    };
    LocalSet::new().run_until(run).await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_on_which_nobody_answers_a_ping_is_given_up() {
    let run = async {
        let stage = speaking(Protocol::Grpc, Policy::default()).await;
        let begun = Instant::now();
        let play = async {
            let mut dead = stage.accept(0).await;
            // And never a word again.
            dead.write_all(SETTINGS).await.unwrap();
            dead
        };
        let (called, _dead) = tokio::join!(stage.call(Method::POST, Body::empty()), play);
        let failed = called.unwrap_err();
        assert!(matches!(failed, CallError::Exchange(ExchangeError::Closed { .. })), "{failed:?}");
        assert_eq!(begun.elapsed().as_secs(), 40);
    };
    LocalSet::new().run_until(run).await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_used_again_until_it_was_idle_for_too_long() {
    let run = async {
        let stage = speaking(Protocol::H2c, Policy::default()).await;
        let play = async {
            // Ends when the other side does.
            serve(accept(&stage).await).await;
            serve(accept(&stage).await).await;
        };
        let calls = async {
            for _ in 0..3 {
                assert_eq!(stage.call(Method::GET, Body::empty()).await.unwrap(), 200);
                sleep(Duration::from_secs(80)).await;
                stage.local.tidy(Instant::now());
            }
            assert!(stage.is_left_alone(0).await);
            sleep(Duration::from_secs(80)).await;
            stage.local.tidy(Instant::now());
            // The first connection is gone, so this is answered on a second one.
            assert_eq!(stage.call(Method::GET, Body::empty()).await.unwrap(), 200);
        };
        tokio::select! {
            () = calls => {}
            () = play => panic!("a third connection"),
        }
    };
    LocalSet::new().run_until(run).await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_of_which_nobody_is_left_to_wait_for_is_given_up() {
    let run = async {
        let stage = speaking(Protocol::H2c, Policy::default()).await;
        // It connects and is told nothing: what listens does not accept.
        let left = tokio::time::timeout(Duration::from_secs(1), stage.call(Method::GET, Body::empty()));
        assert!(left.await.is_err());
        stage.accept(0).await;
        let play = async { serve(accept(&stage).await).await };
        tokio::select! {
            called = stage.call(Method::GET, Body::empty()) => assert_eq!(called.unwrap(), 200),
            () = play => panic!("the connection ended"),
        }
    };
    LocalSet::new().run_until(run).await;
}

/// Reads frames up to the head of a request.
async fn until_head(stream: &mut TcpStream) {
    let mut frame = [0; 9];
    stream.read_exact(&mut [0; 24]).await.unwrap();
    while frame[3] != 1 {
        stream.read_exact(&mut frame).await.unwrap();
        let mut rest = vec![0; usize::from(frame[1]) << 8 | usize::from(frame[2])];
        stream.read_exact(&mut rest).await.unwrap();
    }
}

const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";
/// Says that no stream was begun.
const GOAWAY: &[u8] = b"\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\0";

#[tokio::test(start_paused = true)]
async fn connections_that_end_before_they_began_a_request_say_nothing_against_their_instance() {
    let run = async {
        let stage = speaking(Protocol::H2c, Policy::default()).await;
        let play = async {
            for _ in 0..5 {
                let mut leaving = stage.accept(0).await;
                leaving.write_all(SETTINGS).await.unwrap();
                until_head(&mut leaving).await;
                leaving.write_all(GOAWAY).await.unwrap();
            }
            serve(accept(&stage).await).await;
        };
        tokio::select! {
            called = stage.call(Method::POST, Body::empty()) => assert_eq!(called.unwrap(), 200),
            () = play => panic!("the connection ended"),
        }
    };
    LocalSet::new().run_until(run).await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_ends_as_it_begins_is_none() {
    let run = async {
        let stage = speaking(Protocol::H2c, timeouts(30, 10)).await;
        let play = async {
            let mut leaving = stage.accept(0).await;
            leaving.write_all(&[SETTINGS, GOAWAY].concat()).await.unwrap();
            assert!(stage.is_left_alone(0).await);
        };
        let (called, ()) = tokio::join!(stage.call(Method::GET, Body::empty()), play);
        let failed = called.unwrap_err();
        assert!(matches!(failed, CallError::Dial(DialError::Connect { .. })), "{failed:?}");
    };
    LocalSet::new().run_until(run).await;
}

#[tokio::test(start_paused = true)]
async fn a_new_connection_that_breaks_before_the_answer_sends_elsewhere_what_may_be_repeated() {
    let run = async {
        for (method, answered) in [(Method::GET, true), (Method::POST, false)] {
            let stage = several_speaking(2, Protocol::H2c, Policy::default()).await;
            let play = async {
                let mut broken = stage.accept(0).await;
                broken.write_all(SETTINGS).await.unwrap();
                until_head(&mut broken).await;
                drop(broken);
                serve(h2::server::handshake(stage.accept(1).await).await.unwrap()).await;
            };
            tokio::select! {
                called = stage.call(method.clone(), Body::empty()) => assert_eq!(called.is_ok(), answered, "{method}"),
                () = play => panic!("the connection ended"),
            }
            assert!(stage.is_left_alone(0).await, "{method}");
        }
    };
    LocalSet::new().run_until(run).await;
}
