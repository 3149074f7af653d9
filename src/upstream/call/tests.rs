//! Calls to instances that are played by the test: which is asked, how often, and for how long.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::Frame;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Sleep, sleep},
};

use super::*;
use crate::{
    body::BodyError,
    telemetry::{events::Events, metrics::Metrics},
    upstream::{
        balance::{Balance, stage::member},
        cluster::Rules,
        endpoint::Transport,
        policy::Policy,
        service::Service,
    },
};

mod bodies;
mod breaks;
mod retries;
mod streams;

/// A service with instances that listen, in the order of their turns.
struct Stage {
    cluster: Cluster,
    local: Rc<Local>,
    instances: Vec<TcpListener>,
}

impl Stage {
    async fn new(instances: usize, policy: Policy) -> Self {
        let metrics = Metrics::new(1);
        let mut listeners = Vec::new();
        let mut members = Vec::new();
        for _ in 0..instances {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            members.push(member(&metrics, listener.local_addr().unwrap(), 1));
            listeners.push(listener);
        }
        let rules = Rules {
            service: "s".into(),
            policy: Policy { balance: Balance::RoundRobin, ..policy }.into(),
            host: None,
            barred: std::sync::Arc::default(),
            transport: Transport::default(),
            tls: None,
            datacenters: std::sync::Arc::default(),
        };
        let service = Service::new("s".into(), &metrics, &Events::new());
        let cluster = Cluster::new(rules, members, Vec::new(), service.into());
        // Whose turn it is first is the order's business.
        let now = Instant::now();
        let ask = Ask { worker: 0, now, draw: 0, key: None, tried: &[] };
        let first = cluster.pick(&ask).unwrap().endpoint.key.address.to_string();
        let first = listeners.iter().position(|l| l.local_addr().unwrap().to_string() == first).unwrap();
        listeners.rotate_left(first);
        for _ in 1..instances {
            cluster.pick(&ask).unwrap();
        }
        Self { cluster, local: Rc::new(Local::new(0)), instances: listeners }
    }

    async fn call(&self, method: Method, body: Body) -> Result<http::StatusCode, CallError> {
        Ok(self.ask(method, body).await?.status)
    }

    async fn ask(&self, method: Method, body: Body) -> Result<Response<Body>, CallError> {
        let mut request = Outbound {
            method,
            target: Path::Rewritten("/".into()),
            host: HeaderValue::from_static("h"),
            fields: Fields::new(),
            ours: Rc::default(),
            body,
            aside: Rc::default(),
            key: None,
            deadline: None,
        };
        call(&self.cluster, &self.cluster.policy.clone().into(), &self.local, &mut request, Instant::now()).await
    }

    /// A call that the next instance in turn answers on a new connection, which is then kept.
    async fn keep(&self, instance: usize) -> TcpStream {
        let play = async {
            let mut stream = self.accept(instance).await;
            request(&mut stream).await;
            answer(&mut stream).await;
            stream
        };
        let (called, stream) = tokio::join!(self.call(Method::GET, Body::empty()), play);
        assert_eq!(called.unwrap(), 200);
        stream
    }

    async fn accept(&self, instance: usize) -> TcpStream {
        let accepted = tokio::time::timeout(Duration::from_hours(1), self.instances[instance].accept());
        let stream = accepted.await.expect("a connection to this instance").unwrap().0;
        // The clock of these tests stands still: what is held back by a moment comes hours too late.
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// Nobody has asked this instance for one more connection.
    async fn is_left_alone(&self, instance: usize) -> bool {
        tokio::time::timeout(Duration::from_secs(1), self.accept(instance)).await.is_err()
    }
}

/// The start of a request, up to its empty line.
async fn request(stream: &mut TcpStream) -> String {
    let mut read = Vec::new();
    while !read.ends_with(b"\r\n\r\n") {
        read.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(read).unwrap()
}

async fn answer(stream: &mut TcpStream) {
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
}

fn timeouts(total: u64, read: u64) -> Policy {
    let mut policy = Policy::default();
    policy.timeout.total = Duration::from_secs(total);
    policy.timeout.read = Duration::from_secs(read);
    policy.retry.attempts = 1;
    policy
}

#[tokio::test(start_paused = true)]
async fn a_request_that_may_be_repeated_goes_to_another_instance_when_its_kept_connection_was_closed() {
    let stage = Stage::new(2, Policy::default()).await;
    let (mut first, second) = (stage.keep(0).await, stage.keep(1).await);
    let play = async {
        request(&mut first).await;
        drop(first);
        // Not on the connection that is kept there: it may be as dead.
        let mut other = stage.accept(1).await;
        request(&mut other).await;
        answer(&mut other).await;
    };
    let (called, ()) = tokio::join!(stage.call(Method::GET, Body::empty()), play);
    assert_eq!(called.unwrap(), 200);
    assert!(stage.is_left_alone(0).await);
    drop(second);
}

#[tokio::test(start_paused = true)]
async fn where_there_is_no_other_instance_the_same_one_gets_a_new_connection() {
    // A connection that was closed already was no try.
    let stage = Stage::new(1, timeouts(30, 10)).await;
    let mut first = stage.keep(0).await;
    let play = async {
        request(&mut first).await;
        drop(first);
        let mut again = stage.accept(0).await;
        request(&mut again).await;
        // And once is enough.
        drop(again);
    };
    let (called, ()) = tokio::join!(stage.call(Method::GET, Body::empty()), play);
    let failed = called.unwrap_err();
    assert!(matches!(failed, CallError::Exchange(ExchangeError::Closed { untouched: true, .. })), "{failed:?}");
    assert!(stage.is_left_alone(0).await);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_may_not_be_repeated_is_sent_once() {
    for (method, body) in
        [(Method::POST, Body::empty()), (Method::PATCH, Body::empty()), (Method::PUT, Body::from("a".repeat(65_537)))]
    {
        let stage = Stage::new(2, Policy::default()).await;
        let (mut first, second) = (stage.keep(0).await, stage.keep(1).await);
        let play = async {
            assert!(request(&mut first).await.starts_with(method.as_str()));
            drop(first);
        };
        let (called, ()) = tokio::join!(stage.call(method.clone(), body), play);
        let failed = called.unwrap_err();
        assert!(matches!(failed, CallError::Exchange(ExchangeError::Closed { untouched: true, .. })), "{failed:?}");
        assert!(stage.is_left_alone(0).await && stage.is_left_alone(1).await, "{method}");
        drop(second);
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_may_not_be_repeated_takes_only_a_connection_that_was_used_a_moment_ago() {
    let stage = Stage::new(1, Policy::default()).await;
    let mut kept = stage.keep(0).await;
    sleep(Duration::from_millis(1_900)).await;
    let play = async {
        assert!(request(&mut kept).await.starts_with("POST"));
        answer(&mut kept).await;
    };
    let (called, ()) = tokio::join!(stage.call(Method::POST, Body::empty()), play);
    assert_eq!(called.unwrap(), 200);

    sleep(Duration::from_secs(2)).await;
    let play = async {
        let mut new = stage.accept(0).await;
        assert!(request(&mut new).await.starts_with("POST"));
        answer(&mut new).await;
    };
    let (called, ()) = tokio::join!(stage.call(Method::POST, Body::empty()), play);
    assert_eq!(called.unwrap(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_connection_on_which_something_came_meanwhile_is_not_used_again() {
    let stage = Stage::new(1, Policy::default()).await;
    let mut kept = stage.keep(0).await;
    kept.write_all(b"HTTP/1.1 200 OK\r\nX-For: somebody else\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    sleep(Duration::from_millis(1)).await;
    let play = async {
        let mut new = stage.accept(0).await;
        request(&mut new).await;
        answer(&mut new).await;
    };
    let (called, ()) = tokio::join!(stage.call(Method::GET, Body::empty()), play);
    assert_eq!(called.unwrap(), 200);
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_says_nothing_is_given_up_after_the_read_timeout() {
    let stage = Stage::new(1, timeouts(30, 10)).await;
    let begun = Instant::now();
    let play = async {
        let mut silent = stage.accept(0).await;
        request(&mut silent).await;
        silent
    };
    let (called, _silent) = tokio::join!(stage.call(Method::GET, Body::empty()), play);
    let failed = called.unwrap_err();
    assert!(matches!(failed, CallError::Exchange(ExchangeError::ReadTimeout(_))), "{failed:?}");
    assert_eq!(begun.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_head_that_comes_byte_by_byte_does_not_outlast_the_total_timeout() {
    let stage = Stage::new(1, timeouts(30, 10)).await;
    let begun = Instant::now();
    let play = async {
        let mut slow = stage.accept(0).await;
        request(&mut slow).await;
        for byte in b"HTTP/1.1 200 OK" {
            if slow.write_all(&[*byte]).await.is_err() || begun.elapsed().as_secs() > 60 {
                break;
            }
            sleep(Duration::from_secs(9)).await;
        }
    };
    let (called, ()) = tokio::join!(
        async {
            let called = stage.call(Method::GET, Body::empty()).await;
            assert_eq!(begun.elapsed().as_secs(), 30);
            called
        },
        play
    );
    let failed = called.unwrap_err();
    assert!(matches!(failed, CallError::Exchange(ExchangeError::TotalTimeout(_))), "{failed:?}");
}

#[tokio::test(start_paused = true)]
async fn the_total_timeout_is_over_all_tries() {
    let stage = Stage::new(2, timeouts(30, 60)).await;
    let (mut first, second) = (stage.keep(0).await, stage.keep(1).await);
    let begun = Instant::now();
    let play = async {
        request(&mut first).await;
        sleep(Duration::from_secs(20)).await;
        drop(first);
        let mut silent = stage.accept(1).await;
        request(&mut silent).await;
        silent
    };
    let (called, _silent) = tokio::join!(stage.call(Method::GET, Body::empty()), play);
    let failed = called.unwrap_err();
    assert!(matches!(failed, CallError::Exchange(ExchangeError::TotalTimeout(_))), "{failed:?}");
    assert_eq!(begun.elapsed().as_secs(), 30);
    drop(second);
}

/// A body of so many bytes, one every nine seconds.
struct Dripping(u8, Pin<Box<Sleep>>);

impl http_body::Body for Dripping {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(left) = self.0.checked_sub(1) else { return Poll::Ready(None) };
        ready!(self.1.as_mut().poll(cx));
        self.0 = left;
        self.1 = Box::pin(sleep(Duration::from_secs(9)));
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"x")))))
    }
}

#[tokio::test(start_paused = true)]
async fn the_total_timeout_begins_when_the_request_is_whole() {
    let stage = Stage::new(1, timeouts(30, 60)).await;
    let begun = Instant::now();
    let play = async {
        let mut silent = stage.accept(0).await;
        request(&mut silent).await;
        let mut body = [0; 12];
        while !body.ends_with(b"0\r\n\r\n") {
            body.rotate_left(1);
            body[11] = silent.read_u8().await.unwrap();
        }
        silent
    };
    let body = Body::stream(Dripping(10, Box::pin(sleep(Duration::from_secs(9)))));
    let (called, _silent) = tokio::join!(stage.call(Method::POST, body), play);
    let failed = called.unwrap_err();
    assert!(matches!(failed, CallError::Exchange(ExchangeError::TotalTimeout(_))), "{failed:?}");
    assert_eq!(begun.elapsed().as_secs(), 10 * 9 + 30);
}
