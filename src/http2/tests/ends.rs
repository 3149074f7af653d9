//! What is left of streams that end early, or of which nobody takes all that came: no room, no memory, and no work.

use super::*;

#[test]
fn what_was_taken_and_never_given_back_is_given_back_with_the_stream() {
    let mut pair = Pair::new(RULES, RULES, usize::MAX);
    // Together more than the connection has room for.
    for taken in [0, 1, 100].into_iter().cycle().take(60) {
        let (asked, told) = pair.open(true);
        pair.server.0.head(told, true, false, |out| write_status(out, http::StatusCode::OK));
        let mut body = bytes(30_000);
        send(&mut pair.server.0, told, &mut body);
        assert!(body.is_empty(), "there is no room");
        pair.settle();
        for _ in 0..taken {
            let _ = pair.client.0.stream(asked).poll_data(&mut cx());
        }
        pair.client.0.let_go(asked);
        pair.server.0.let_go(told);
        pair.settle();
    }
}

/// What is against the rules of streams: no room more.
fn nothing_more(stream: u32) -> Vec<u8> {
    frame(kind::WINDOW_UPDATE, 0, stream, &[0; 4])
}

#[test]
fn a_request_whose_stream_this_side_had_to_reset_is_given_up() {
    let mut pair = Pair::new(RULES, RULES, usize::MAX);
    for is_all in [true, false] {
        let (asked, told) = pair.open(is_all);
        assert!(pair.server.0.stream(told).poll_reset(&mut cx()).is_pending());
        let id = pair.server.0.stream(told).id;
        pair.server.receive(&nothing_more(id), usize::MAX).unwrap();
        assert!(pair.server.0.stream(told).poll_reset(&mut cx()).is_ready(), "{is_all}");
        pair.server.0.let_go(told);
        pair.settle();
        pair.client.0.let_go(asked);
    }
}

#[test]
fn a_request_that_has_ended_before_anybody_looks_at_it_takes_no_place() {
    let mut pair = Pair::new(RULES, RULES, usize::MAX);
    for round in 0..50 {
        let ids: Vec<_> = (0..10).map(|at| 20 * round + 2 * at + 1).collect();
        let asked: Vec<_> = ids.iter().map(|_| pair.client.0.open(false, false, request).unwrap()).collect();
        for &at in asked.iter().step_by(2) {
            pair.client.0.data(at, bytes(1000), false);
            pair.client.0.let_go(at);
        }
        // Nobody accepts any meanwhile.
        pair.settle();
        for id in ids.iter().skip(1).step_by(2) {
            pair.server.receive(&nothing_more(*id), usize::MAX).unwrap();
        }
        pair.settle();
        asked.iter().skip(1).step_by(2).for_each(|&at| pair.client.0.let_go(at));
        assert_eq!((pair.server.0.open_streams(), pair.server.0.waiting()), (0, 0));
        assert!(pair.server.0.accept().is_none());
    }
    // All is as it was.
    let (asked, _) = pair.open(false);
    let mut body = bytes(30_000);
    send(&mut pair.client.0, asked, &mut body);
    assert!(body.is_empty());
}
