//! Calls to instances that break off before the head of their answer, or leave meanwhile.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_request_that_may_be_repeated_goes_elsewhere_when_its_answer_breaks_off_in_the_head() {
    // On a kept connection or on a new one; with or without a byte of the answer.
    for (kept, begun) in [(true, "HTTP/1.1 2"), (false, "HTTP/1.1 200 OK\r\na: b\r\n"), (false, "")] {
        let stage = Stage::new(2, Policy::default()).await;
        let at_first = if kept { Some((stage.keep(0).await, stage.keep(1).await)) } else { None };
        let play = async {
            let mut first = match at_first {
                Some((first, _)) => first,
                None => stage.accept(0).await,
            };
            request(&mut first).await;
            first.write_all(begun.as_bytes()).await.unwrap();
            drop(first);
            let mut other = stage.accept(1).await;
            request(&mut other).await;
            answer(&mut other).await;
            other
        };
        let (called, _other) = tokio::join!(stage.call(Method::GET, Body::empty()), play);
        assert_eq!(called.unwrap(), 200, "{kept} {begun:?}");
        // It has seen the request: it is not asked again.
        assert!(stage.is_left_alone(0).await);
    }
}

#[tokio::test(start_paused = true)]
async fn who_broke_off_is_asked_again_where_there_is_no_other_but_three_times_in_all() {
    let stage = Stage::new(1, Policy::default()).await;
    let play = async {
        for _ in 0..3 {
            let mut stream = stage.accept(0).await;
            request(&mut stream).await;
        }
    };
    let (called, ()) = tokio::join!(stage.call(Method::GET, Body::empty()), play);
    let failed = called.unwrap_err();
    assert!(matches!(failed, CallError::Exchange(ExchangeError::Closed { untouched: true, .. })), "{failed:?}");
    assert!(stage.is_left_alone(0).await);
}

#[tokio::test(start_paused = true)]
async fn a_repeated_request_does_not_go_to_an_instance_that_left_meanwhile() {
    let stage = Stage::new(3, Policy::default()).await;
    let play = async {
        let mut first = stage.accept(0).await;
        request(&mut first).await;
        for member in stage.cluster.members.iter() {
            let its = |instance: usize| stage.instances[instance].local_addr().unwrap().to_string();
            member.endpoint.set_listed(member.endpoint.key.address.to_string() == its(2));
        }
        drop(first);
        let mut last = stage.accept(2).await;
        request(&mut last).await;
        answer(&mut last).await;
        last
    };
    let (called, _last) = tokio::join!(stage.call(Method::GET, Body::empty()), play);
    assert_eq!(called.unwrap(), 200);
    assert!(stage.is_left_alone(1).await);
}
