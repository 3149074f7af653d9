//! Both sides of a connection against each other, without a socket: whatever a peer may break is tried from outside.

mod ends;
mod hostile;

use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::{
    Ended, Reason,
    connection::{Connection, Rules, write},
    frame::{FrameHead, HEAD, flag, kind},
    hpack::{Limits, Pseudo, write_pseudo, write_status},
};

const RULES: Rules = Rules {
    streams: 100,
    stream_window: 65_535,
    connection_window: 1 << 20,
    limits: Limits { max_list: 16 * 1024, max_lines: 100 },
};

fn cx() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

/// Takes what waits to be sent.
fn take(from: &mut Connection) -> Vec<u8> {
    let mut bytes = Vec::new();
    while from.out().len() > 0 {
        let (slices, count) = from.out().slices();
        let before = bytes.len();
        slices[..count].iter().for_each(|slice| bytes.extend_from_slice(slice));
        let taken = bytes.len() - before;
        from.took(taken);
    }
    bytes
}

/// A side of a connection, and what has come to it in part.
struct Side(Connection, BytesMut);

impl Side {
    fn receive(&mut self, bytes: &[u8], step: usize) -> Result<(), Ended> {
        for piece in bytes.chunks(step) {
            self.1.extend_from_slice(piece);
            self.0.receive(&mut self.1)?;
        }
        Ok(())
    }
}

struct Pair {
    client: Side,
    server: Side,
    step: usize,
}

impl Pair {
    fn new(client: Rules, server: Rules, step: usize) -> Self {
        let (client, server) = (Connection::client(client), Connection::server(server));
        let mut pair = Self { client: Side(client, BytesMut::new()), server: Side(server, BytesMut::new()), step };
        pair.settle();
        assert!(pair.client.0.is_greeted() && pair.server.0.is_greeted());
        pair
    }

    /// Passes everything on until nobody has anything to say.
    fn settle(&mut self) {
        loop {
            let (asked, told) = (take(&mut self.client.0), take(&mut self.server.0));
            if asked.is_empty() && told.is_empty() {
                return;
            }
            self.server.receive(&asked, self.step).unwrap();
            self.client.receive(&told, self.step).unwrap();
        }
    }

    /// Opens a stream; its places on both sides.
    fn open(&mut self, is_all: bool) -> (usize, usize) {
        let asked = self.client.0.open(is_all, false, request).unwrap();
        self.settle();
        (asked, self.server.0.accept().unwrap().0)
    }
}

fn request(out: &mut Vec<u8>) {
    write_pseudo(out, Pseudo::Method, b"POST");
    write_pseudo(out, Pseudo::Scheme, b"http");
    write_pseudo(out, Pseudo::Authority, b"a.test");
    write_pseudo(out, Pseudo::Path, b"/here");
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    write(&mut frame, kind, flags, stream, payload);
    frame
}

/// Sends as much of a body as there is room for, from one side.
fn send(side: &mut Connection, at: usize, body: &mut Bytes) {
    while !body.is_empty() {
        let Poll::Ready(Some(room)) = side.poll_room(at, &mut cx()) else { return };
        let piece = body.split_to(room.min(body.len()));
        let is_all = body.is_empty();
        side.data(at, piece, is_all);
    }
}

/// Reads what came, and gives back its room.
fn read(side: &mut Connection, at: usize, into: &mut Vec<u8>) {
    while let Poll::Ready(Some(piece)) = side.stream(at).poll_data(&mut cx()) {
        let piece = piece.unwrap();
        side.release(at, piece.len());
        into.extend_from_slice(&piece);
    }
}

fn bytes(length: usize) -> Bytes {
    (0..=250).cycle().take(length).collect::<Vec<u8>>().into()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn bodies_arrive_whole_however_the_bytes_are_split_and_however_small_the_windows(
        sizes in proptest::collection::vec(0_usize..200_000, 1..5),
        step in prop_oneof![1_usize..40, 1000_usize..70_000],
        window in prop_oneof![2_u32..2000, 65_535_u32..200_000],
    ) {
        let rules = Rules { stream_window: window, connection_window: 65_535, ..RULES };
        let mut pair = Pair::new(RULES, rules, step);
        let sizes: Vec<_> = sizes.into_iter().map(|size| size.min(window as usize * 200)).collect();
        let mut all: Vec<_> = sizes.iter().map(|&size| (pair.open(false), bytes(size), Vec::new())).collect();
        for round in 0.. {
            for ((asked, _), body, _) in &mut all {
                send(&mut pair.client.0, *asked, body);
            }
            pair.settle();
            for ((_, told), _, came) in &mut all {
                read(&mut pair.server.0, *told, came);
            }
            pair.settle();
            if all.iter().all(|(_, body, _)| body.is_empty()) {
                break;
            }
            prop_assert!(round < 10_000, "it does not go on");
        }
        for ((asked, told), _, came) in &mut all {
            pair.client.0.data(*asked, Bytes::new(), true);
            pair.settle();
            read(&mut pair.server.0, *told, came);
        }
        for ((_, _), _, came) in &all {
            prop_assert!(*came == bytes(came.len()));
        }
        prop_assert_eq!(all.iter().map(|(_, _, came)| came.len()).collect::<Vec<_>>(), sizes);
    }

    #[test]
    fn whatever_comes_there_is_no_panic_and_what_follows_an_error_is_nothing(
        frames in proptest::collection::vec((0_u8..11, any::<u8>(), 0_u32..8, proptest::collection::vec(any::<u8>(), 0..40)), 0..20),
    ) {
        for client in [false, true] {
            let mut pair = Pair::new(RULES, RULES, usize::MAX);
            let (at, _) = pair.open(false);
            let side = if client { &mut pair.client } else { &mut pair.server };
            for (kind, flags, stream, payload) in &frames {
                let mut bytes = Vec::new();
                FrameHead { length: payload.len(), kind: *kind, flags: *flags, stream: *stream }.write(&mut bytes);
                bytes.extend_from_slice(payload);
                if let Err(first) = side.receive(&bytes, usize::MAX) {
                    let again = side.receive(&bytes, usize::MAX).unwrap_err();
                    prop_assert_eq!(format!("{first:?}"), format!("{again:?}"));
                    let told = take(&mut side.0);
                    prop_assert!(told.windows(HEAD).any(|head| head[3] == kind::GOAWAY), "it is told");
                    break;
                }
            }
            if client {
                pair.client.0.let_go(at);
            }
        }
    }
}

#[test]
fn streams_that_wait_for_the_same_room_take_turns() {
    let rules = Rules { connection_window: 65_535, ..RULES };
    let mut pair = Pair::new(RULES, Rules { stream_window: 1 << 20, ..rules }, usize::MAX);
    let mut all: Vec<_> = (0..4).map(|_| (pair.open(false), bytes(400_000), Vec::new())).collect();
    let mut turns = 0;
    while all.iter().all(|(_, body, _)| !body.is_empty()) {
        // The first one is always asked first.
        for ((asked, _), body, _) in &mut all {
            send(&mut pair.client.0, *asked, body);
        }
        pair.settle();
        for ((_, told), _, came) in &mut all {
            read(&mut pair.server.0, *told, came);
        }
        pair.settle();
        turns += 1;
        assert!(turns < 1000, "it does not go on");
    }
    let left: Vec<_> = all.iter().map(|(_, body, _)| body.len()).collect();
    assert!(left.iter().max().unwrap() - left.iter().min().unwrap() <= 100_000, "{left:?}");
}

#[test]
fn who_leaves_its_turn_leaves_it_to_another() {
    let rules = Rules { connection_window: 65_535, ..RULES };
    let mut pair = Pair::new(RULES, Rules { stream_window: 1 << 20, ..rules }, usize::MAX);
    let [(first, told), (second, _), (third, _)] = [(); 3].map(|()| pair.open(false));
    send(&mut pair.client.0, first, &mut bytes(100_000));
    let mut waiting = [bytes(10), bytes(10)];
    send(&mut pair.client.0, second, &mut waiting[0]);
    send(&mut pair.client.0, third, &mut waiting[1]);
    assert!(waiting.iter().all(|body| body.len() == 10));
    pair.settle();
    read(&mut pair.server.0, told, &mut Vec::new());
    pair.settle();
    // The first two have their turn, and take nothing.
    pair.client.0.let_go(first);
    pair.client.0.let_go(second);
    send(&mut pair.client.0, third, &mut waiting[1]);
    assert!(waiting[1].is_empty());
}

#[test]
fn an_answer_comes_with_its_body_and_its_trailers_and_both_sides_forget_it() {
    let mut pair = Pair::new(RULES, RULES, 3);
    let (asked, told) = pair.open(true);
    pair.server.0.head(told, false, false, |out| write_status(out, http::StatusCode::EARLY_HINTS));
    pair.server.0.head(told, true, false, |out| write_status(out, http::StatusCode::OK));
    send(&mut pair.server.0, told, &mut bytes(10).clone().split_to(5));
    pair.settle();
    assert!(pair.client.0.stream(asked).interim.pop_front().is_some_and(|head| head.status == 103));
    let head = pair.client.0.stream(asked).poll_head(&mut cx());
    assert!(matches!(head, Poll::Ready(Ok(head)) if head.status == 200));
    assert_eq!((pair.client.0.open_streams(), pair.server.0.open_streams()), (0, 0));
    assert!(!pair.client.0.stream(asked).is_taken());
    let mut came = Vec::new();
    read(&mut pair.client.0, asked, &mut came);
    assert!(came == bytes(5) && pair.client.0.stream(asked).is_taken());
}

#[test]
fn who_says_goodbye_still_answers_what_it_has_begun() {
    let mut pair = Pair::new(RULES, RULES, 7);
    let (_, told) = pair.open(true);
    pair.server.0.leave();
    // What is on its way meanwhile is answered too.
    let late = pair.client.0.open(true, false, request).unwrap();
    pair.settle();
    let (late_told, _) = pair.server.0.accept().unwrap();
    assert!(pair.client.0.is_closing() && !pair.server.0.is_done());
    assert!(pair.client.0.open(true, false, request).is_err());
    for at in [told, late_told] {
        pair.server.0.head(at, true, true, |out| write_status(out, http::StatusCode::OK));
    }
    pair.settle();
    assert!(pair.server.0.is_done() && pair.client.0.is_done());
    assert!(pair.client.0.stream(late).poll_head(&mut cx()).is_ready());
}

#[test]
fn a_stream_beyond_the_last_one_of_a_goodbye_was_not_looked_at() {
    let mut pair = Pair::new(RULES, RULES, 7);
    let (asked, _) = pair.open(true);
    pair.server.0.part();
    let late = pair.client.0.open(true, false, request).unwrap();
    pair.settle();
    assert!(pair.server.0.accept().is_none());
    let head = pair.client.0.stream(late).poll_head(&mut cx());
    assert!(matches!(head, Poll::Ready(Err(Ended::Goodbye(Reason::NO_ERROR)))), "{head:?}");
    assert!(pair.client.0.stream(asked).poll_head(&mut cx()).is_pending());
}

#[test]
fn a_request_that_is_given_up_before_anybody_looks_at_it_reaches_nobody() {
    let mut pair = Pair::new(RULES, RULES, 7);
    for _ in 0..3 {
        let at = pair.client.0.open(true, false, request).unwrap();
        pair.client.0.let_go(at);
    }
    pair.settle();
    assert!(pair.server.0.accept().is_none());
    assert_eq!((pair.server.0.counts().given_up, pair.server.0.open_streams()), (3, 0));
}
