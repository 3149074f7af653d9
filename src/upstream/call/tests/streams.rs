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
    stream.read_exact(&mut [0; 24]).await.unwrap();
    while next_frame(stream).await != 1 {}
}

/// Reads a frame and gives its kind.
async fn next_frame(stream: &mut TcpStream) -> u8 {
    let mut frame = [0; 9];
    stream.read_exact(&mut frame).await.unwrap();
    let mut rest = vec![0; usize::from(frame[1]) << 8 | usize::from(frame[2])];
    stream.read_exact(&mut rest).await.unwrap();
    frame[3]
}

const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";
/// Says that no stream was begun.
const GOAWAY: &[u8] = &goodbye(0);
/// The answer 200 without a body on the first stream.
const ANSWER: &[u8] = b"\0\0\x01\x01\x05\0\0\0\x01\x88";

/// Says that no stream after `last` was begun.
const fn goodbye(last: u8) -> [u8; 17] {
    [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, last, 0, 0, 0, 0]
}

#[tokio::test(start_paused = true)]
async fn a_new_connection_that_says_goodbye_to_a_request_is_a_try_that_failed() {
    let run = async {
        for (method, attempts) in [(Method::GET, 1), (Method::POST, 1), (Method::GET, 3), (Method::POST, 3)] {
            let mut policy = Policy::default();
            (policy.retry.attempts, policy.breaker.consecutive) = (attempts, attempts);
            let stage = speaking(Protocol::H2c, policy).await;
            let play = async {
                let mut gone = Vec::new();
                for _ in 0..attempts {
                    let mut leaving = stage.accept(0).await;
                    leaving.write_all(SETTINGS).await.unwrap();
                    until_head(&mut leaving).await;
                    leaving.write_all(GOAWAY).await.unwrap();
                    gone.push(leaving);
                }
                gone
            };
            let (called, _gone) = tokio::join!(stage.call(method.clone(), Body::from("xxx".to_owned())), play);
            let failed = called.unwrap_err();
            assert!(matches!(failed, CallError::Exchange(ExchangeError::Closed { .. })), "{failed:?}");
            assert!(stage.is_left_alone(0).await, "{method} {attempts}");
            let next = stage.call(method, Body::empty()).await.unwrap_err();
            assert!(matches!(next, CallError::Open(..)), "each counts against the instance: {next:?}");
        }
    };
    LocalSet::new().run_until(run).await;
}

#[tokio::test(start_paused = true)]
async fn a_kept_connection_that_says_goodbye_to_a_request_is_no_try() {
    let run = async {
        let mut policy = Policy::default();
        (policy.retry.attempts, policy.breaker.consecutive) = (1, 1);
        let stage = speaking(Protocol::H2c, policy).await;
        let play = async {
            let mut kept = stage.accept(0).await;
            kept.write_all(SETTINGS).await.unwrap();
            until_head(&mut kept).await;
            kept.write_all(ANSWER).await.unwrap();
            // The next request is on its way when the word comes.
            while next_frame(&mut kept).await != 1 {}
            kept.write_all(&goodbye(1)).await.unwrap();
            serve(accept(&stage).await).await;
        };
        let calls = async {
            assert_eq!(stage.call(Method::GET, Body::empty()).await.unwrap(), 200);
            assert_eq!(stage.call(Method::POST, Body::from("xxx".to_owned())).await.unwrap(), 200);
        };
        tokio::select! {
            () = calls => {}
            () = play => panic!("the connection ended"),
        }
    };
    LocalSet::new().run_until(run).await;
}

/// The body of the next request, read to its end, and the way to answer it.
async fn take(server: &mut Server) -> (usize, h2::server::SendResponse<Bytes>) {
    let (request, respond) = server.accept().await.unwrap().unwrap();
    let (mut body, mut read) = (request.into_body(), 0);
    loop {
        tokio::select! {
            data = body.data() => {
                let Some(data) = data else { return (read, respond) };
                let data = data.unwrap();
                body.flow_control().release_capacity(data.len()).unwrap();
                read += data.len();
            }
            _ = server.accept() => panic!("another request"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_was_taken_and_refused_is_sent_again_where_it_was_kept() {
    let run = async {
        for (length, answered) in [(3, true), (60_000, true), (70_000, false)] {
            let stage = several_speaking(2, Protocol::H2c, Policy::default()).await;
            let play = async {
                let mut first = accept(&stage).await;
                let (read, mut respond) = take(&mut first).await;
                assert_eq!(read, length);
                respond.send_reset(h2::Reason::REFUSED_STREAM);
                let second = async {
                    let mut second = h2::server::handshake(stage.accept(1).await).await.unwrap();
                    let (read, mut respond) = take(&mut second).await;
                    assert_eq!(read, length);
                    respond.send_response(http::Response::new(()), true).unwrap();
                    serve(second).await;
                };
                tokio::join!(serve(first), second);
            };
            tokio::select! {
                called = stage.call(Method::POST, Body::from("x".repeat(length))) => {
                    assert_eq!(called.is_ok(), answered, "{length}: {called:?}");
                }
                () = play => panic!("the connections ended"),
            }
        }
    };
    Box::pin(LocalSet::new().run_until(run)).await;
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
