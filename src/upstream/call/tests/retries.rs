//! Calls that are tried again: after what, how often, with which body, and at whose expense.

use super::*;
use crate::upstream::retry::RetryRules;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
const BUSY: &str = "HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy";

fn rules(change: impl FnOnce(&mut RetryRules)) -> Policy {
    let mut policy = Policy::default();
    change(&mut policy.retry);
    policy
}

/// Takes one request on a new connection and answers with that.
async fn say(stage: &Stage, instance: usize, text: &str) -> TcpStream {
    let mut stream = stage.accept(instance).await;
    request(&mut stream).await;
    stream.write_all(text.as_bytes()).await.unwrap();
    stream
}

#[tokio::test(start_paused = true)]
async fn a_bad_answer_is_tried_elsewhere_unless_it_says_when_to_come_again() {
    let stage = Stage::new(2, Policy::default()).await;
    let play = async { (say(&stage, 0, BUSY).await, say(&stage, 1, OK).await) };
    let (called, _streams) = tokio::join!(stage.call(Method::GET, Body::empty()), play);
    assert_eq!(called.unwrap(), 200);

    for text in ["HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n", &BUSY.replace("503", "500")] {
        let stage = Stage::new(2, Policy::default()).await;
        let play = say(&stage, 0, text);
        let (called, _stream) = tokio::join!(stage.call(Method::GET, Body::empty()), play);
        assert!(called.unwrap().is_server_error(), "{text}");
        assert!(stage.is_left_alone(1).await);
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_bad_answer_is_passed_on_with_its_body() {
    let stage = Stage::new(1, Policy::default()).await;
    let play = async {
        let first = say(&stage, 0, BUSY).await;
        let mut same = first;
        for _ in 0..2 {
            request(&mut same).await;
            same.write_all(BUSY.as_bytes()).await.unwrap();
        }
        same
    };
    let (called, _stream) = tokio::join!(stage.ask(Method::GET, Body::empty()), play);
    let answer = called.unwrap();
    assert_eq!((answer.status.as_u16(), answer.body.length()), (503, Some(4)));
}

#[tokio::test(start_paused = true)]
async fn silence_is_tried_elsewhere_within_the_total_timeout() {
    let mut policy = timeouts(30, 10);
    policy.retry.attempts = 9;
    let stage = Stage::new(2, policy).await;
    let begun = Instant::now();
    let play = async { (say(&stage, 0, "").await, say(&stage, 1, "").await, say(&stage, 0, "").await) };
    let (called, _streams) = tokio::join!(stage.call(Method::GET, Body::empty()), play);
    let failed = called.unwrap_err();
    assert!(matches!(failed, CallError::Exchange(ExchangeError::TotalTimeout(_))), "{failed:?}");
    assert_eq!(begun.elapsed().as_secs(), 30);
}

#[tokio::test(start_paused = true)]
async fn a_kept_body_is_sent_again_from_its_beginning() {
    for chunked in [false, true] {
        let stage = Stage::new(2, Policy::default()).await;
        let (body, read) = if chunked {
            (Body::stream(Dripping(3, Box::pin(sleep(Duration::from_secs(9))))), 18)
        } else {
            (Body::from("xxx".to_owned()), 3)
        };
        let play = async {
            let mut first = stage.accept(0).await;
            request(&mut first).await;
            first.read_u8().await.unwrap();
            drop(first);
            let mut second = stage.accept(1).await;
            let head = request(&mut second).await;
            let mut body = vec![0; read];
            second.read_exact(&mut body).await.unwrap();
            if chunked {
                second.read_exact(&mut [0; 5]).await.unwrap();
            }
            answer(&mut second).await;
            (head, String::from_utf8(body).unwrap(), second)
        };
        let (called, (head, body, _second)) = tokio::join!(stage.call(Method::PUT, body), play);
        assert_eq!(called.unwrap(), 200, "{chunked}");
        assert_eq!(head.to_lowercase().contains("content-length: 3"), !chunked, "{head}");
        assert_eq!(body.matches('x').count(), 3, "{body}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_tried_again_and_after_what_can_be_said() {
    let post = rules(|rules| rules.methods = vec![Method::POST]);
    let stage = Stage::new(2, post.clone()).await;
    let play = async { (say(&stage, 0, BUSY).await, say(&stage, 1, OK).await) };
    let (called, _streams) = tokio::join!(stage.call(Method::POST, Body::from("x".to_owned())), play);
    assert_eq!(called.unwrap(), 200);

    for policy in [post, rules(|rules| rules.on = vec!["connect".parse().unwrap()]), rules(|rules| rules.attempts = 1)]
    {
        let stage = Stage::new(2, policy).await;
        let play = say(&stage, 0, BUSY);
        let (called, _stream) = tokio::join!(stage.call(Method::GET, Body::empty()), play);
        assert_eq!(called.unwrap(), 503);
    }
}

#[tokio::test(start_paused = true)]
async fn any_request_of_which_nothing_was_sent_goes_elsewhere_and_costs_no_budget() {
    let mut stage = Stage::new(2, rules(|rules| rules.budget = crate::model::units::Share::NONE)).await;
    drop(stage.instances.remove(0));
    let play = say(&stage, 0, OK);
    let (called, _stream) = tokio::join!(stage.call(Method::POST, Body::from("x".to_owned())), play);
    assert_eq!(called.unwrap(), 200);
}

#[tokio::test(start_paused = true)]
async fn retries_stay_within_the_budget_of_the_service() {
    let mut policy = Policy::default();
    policy.breaker.max_ejected = crate::model::units::Share::NONE;
    let stage = Stage::new(1, policy).await;
    let clients = 500;
    let serve = async {
        let mut stream = stage.accept(0).await;
        let mut seen = 0;
        loop {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let Ok(byte) = stream.read_u8().await else { return seen };
                head.push(byte);
            }
            seen += 1;
            stream.write_all(BUSY.as_bytes()).await.unwrap();
        }
    };
    let ask = async {
        for _ in 0..clients {
            let begun = Instant::now();
            assert_eq!(stage.call(Method::GET, Body::empty()).await.unwrap(), 503);
            tokio::time::sleep_until(begun + Duration::from_millis(10)).await;
        }
        stage.local.pool.tidy(Instant::now() + Duration::from_hours(1));
    };
    let (seen, ()) = tokio::join!(serve, ask);
    let factor = f64::from(seen) / f64::from(clients);
    assert!((1.15..=1.25).contains(&factor), "{factor}");
}
