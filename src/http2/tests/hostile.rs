//! What the other side may have this one hold, or do for nothing.

use super::*;
use crate::http2::{frame::number, settings};

fn answered(pair: &mut Pair, (asked, told): (usize, usize)) {
    pair.server.0.head(told, true, true, |out| write_status(out, http::StatusCode::OK));
    pair.server.0.let_go(told);
    pair.settle();
    pair.client.0.let_go(asked);
}

#[test]
fn an_instance_may_not_tell_things_before_its_answer_for_ever() {
    let mut pair = Pair::new(RULES, RULES, usize::MAX);
    let (asked, told) = pair.open(true);
    for _ in 0..10_000 {
        pair.server.0.head(told, false, false, |out| write_status(out, http::StatusCode::EARLY_HINTS));
    }
    pair.settle();
    let stream = pair.client.0.stream(asked);
    assert!(stream.interim.len() < 100, "{} are kept", stream.interim.len());
    assert!(matches!(stream.poll_head(&mut cx()), Poll::Ready(Err(Ended::Broken(_)))));
}

#[test]
fn streams_may_be_broken_as_often_as_others_are_answered() {
    for (answers, want) in [(0, false), (1000, true)] {
        let mut pair = Pair::new(RULES, RULES, usize::MAX);
        for _ in 0..answers {
            let places = pair.open(true);
            answered(&mut pair, places);
        }
        let mut is_well = true;
        for _ in 0..1500 {
            let (asked, told) = pair.open(false);
            let id = pair.server.0.stream(told).id;
            is_well &= pair.server.receive(&frame(kind::WINDOW_UPDATE, 0, id, &[0; 4]), usize::MAX).is_ok();
            pair.server.0.let_go(told);
            if !is_well {
                break;
            }
            pair.settle();
            pair.client.0.let_go(asked);
        }
        assert_eq!(is_well, want, "{answers}");
    }
}

#[test]
fn what_says_nothing_on_a_stream_that_was_reset_is_counted() {
    let mut pair = Pair::new(RULES, RULES, usize::MAX);
    let (_, told) = pair.open(false);
    pair.server.0.reset(told, Reason::CANCEL);
    let before = pair.server.0.counts().idle;
    let id = pair.server.0.stream(told).id;
    for _ in 0..10 {
        pair.server.receive(&frame(kind::DATA, 0, id, b""), usize::MAX).unwrap();
        pair.server.receive(&frame(kind::HEADERS, flag::END_HEADERS, id, &[0x82]), usize::MAX).unwrap();
        pair.server.receive(&frame(kind::DATA, 0, id, b"x"), usize::MAX).unwrap();
        pair.server.receive(&frame(kind::DATA, 0, id, &b"it was on its way".repeat(20)), usize::MAX).unwrap();
    }
    assert_eq!(pair.server.0.counts().idle - before, 30);
}

#[test]
fn who_said_goodbye_never_says_that_it_looked_at_more() {
    let mut pair = Pair::new(RULES, RULES, usize::MAX);
    pair.open(true);
    pair.server.0.part();
    for _ in 0..5 {
        pair.client.0.open(true, false, request).unwrap();
    }
    let asked = take(&mut pair.client.0);
    pair.server.receive(&asked, usize::MAX).unwrap();
    take(&mut pair.server.0);
    pair.server.0.fail(Reason::ENHANCE_YOUR_CALM);
    let told = take(&mut pair.server.0);
    let at = told.windows(HEAD).position(|head| head[3] == kind::GOAWAY).unwrap() + HEAD;
    assert_eq!(number(told[at..at + 4].try_into().unwrap()), 1);
}

#[test]
fn a_table_that_was_small_in_between_is_owed_an_update() {
    let mut pair = Pair::new(RULES, RULES, usize::MAX);
    let mut both = Vec::new();
    settings::write(&mut both, &[(settings::HEADER_TABLE_SIZE, 0), (settings::HEADER_TABLE_SIZE, 4096)]);
    pair.client.receive(&both, usize::MAX).unwrap();
    take(&mut pair.client.0);
    for first in [0x20, 0x83] {
        pair.client.0.open(true, false, request).unwrap();
        assert_eq!(take(&mut pair.client.0)[HEAD], first);
    }
}

#[test]
fn a_connection_at_rest_keeps_no_room_for_the_crowd_that_it_had() {
    let mut pair = Pair::new(RULES, RULES, usize::MAX);
    let asked: Vec<_> = (0..100).map(|_| pair.client.0.open(true, false, request).unwrap()).collect();
    pair.settle();
    while let Some((told, _)) = pair.server.0.accept() {
        pair.server.0.let_go(told);
    }
    pair.settle();
    for at in asked {
        pair.client.0.let_go(at);
    }
    assert!(pair.server.0.is_at_rest() && pair.client.0.is_at_rest());
    assert_eq!(pair.server.0.came.capacity(), 0);
}

#[test]
fn streams_take_turns_also_where_room_comes_in_crumbs() {
    let mut pair = Pair::new(RULES, Rules { stream_window: 1 << 20, connection_window: 65_535, ..RULES }, usize::MAX);
    let mut all = [(); 3].map(|()| (pair.open(false).0, bytes(400_000)));
    for _ in 0..300 {
        for (at, body) in &mut all {
            send(&mut pair.client.0, *at, body);
        }
        take(&mut pair.client.0);
        pair.client.receive(&frame(kind::WINDOW_UPDATE, 0, 0, &1000_u32.to_be_bytes()), usize::MAX).unwrap();
    }
    let left = all.map(|(_, body)| body.len());
    assert!(left.iter().max().unwrap() - left.iter().min().unwrap() <= 100_000, "{left:?}");
}
