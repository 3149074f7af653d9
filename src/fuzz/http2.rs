//! Frames to either side of a connection of HTTP/2.

use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use http::StatusCode;

use super::in_halves;
use crate::http2::{
    Ended, PREFACE,
    connection::{Connection, Rules},
    hpack::{Limits, Pseudo, write_pseudo, write_status},
};

const RULES: Rules =
    Rules { streams: 4, stream_window: 256, connection_window: 600, limits: Limits { max_list: 1024, max_lines: 16 } };
/// Settings that change nothing.
const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];

/// What comes to a server after the first words, and to a client with a stream that is open. The first byte says where it is
/// split.
///
/// # Panics
/// When a split changes what the bytes mean, when more is kept or said than may be, or when something is still kept of streams that
/// nobody holds.
pub fn http2(data: &[u8]) {
    for begin in [server, client] {
        in_halves(data, |parts| listened(begin(), parts));
        let step = data.first().map_or(1, |&first| usize::from(first).max(1));
        conversed(begin(), data.get(1..).unwrap_or_default(), step);
    }
}

/// A connection, what has come to it in part, and places of its streams.
struct Side {
    codec: Connection,
    input: BytesMut,
    places: Vec<usize>,
}

fn server() -> Side {
    let mut side = Side { codec: Connection::server(RULES), input: BytesMut::new(), places: Vec::new() };
    let begun = side.receive(&[PREFACE, &SETTINGS].concat());
    assert!(begun.is_ok() && side.codec.is_greeted());
    side
}

fn client() -> Side {
    let mut side = Side { codec: Connection::client(RULES), input: BytesMut::new(), places: Vec::new() };
    let begun = side.receive(&SETTINGS);
    let opened = side.codec.open(false, false, |out| {
        for (name, value) in [(Pseudo::Method, "POST"), (Pseudo::Scheme, "http"), (Pseudo::Path, "/")] {
            write_pseudo(out, name, value.as_bytes());
        }
    });
    assert!(begun.is_ok());
    side.places.extend(opened);
    side
}

impl Side {
    /// What comes; no more may be kept, or said to it, than this.
    fn receive(&mut self, bytes: &[u8]) -> Result<(), Ended> {
        let before = self.codec.out().len();
        self.input.extend_from_slice(bytes);
        let most = before + 3 * self.input.len() + 64;
        let received = self.codec.receive(&mut self.input);
        assert!(self.codec.open_streams() <= RULES.streams as usize && self.codec.waiting() <= RULES.streams as usize);
        assert!(self.codec.kept() <= RULES.connection_window as usize);
        assert!(self.codec.out().len() <= most, "{} of {most}", self.codec.out().len());
        received
    }

    /// All that waits to be sent.
    fn say(&mut self) -> Vec<u8> {
        let mut said = Vec::new();
        while self.codec.out().len() > 0 {
            let (slices, count) = self.codec.out().slices();
            let from = said.len();
            slices[..count].iter().for_each(|slice| said.extend_from_slice(slice));
            let length = said.len() - from;
            self.codec.took(length);
        }
        said
    }

    /// All that came on a stream, in words. `gives_back`: there is room for more then.
    fn read(&mut self, at: usize, gives_back: bool) -> String {
        let cx = &mut Context::from_waker(Waker::noop());
        let stream = self.codec.stream(at);
        let interim = std::mem::take(&mut stream.interim);
        let (head, mut body) = (stream.poll_head(cx), Vec::new());
        let end = loop {
            match self.codec.stream(at).poll_data(cx) {
                Poll::Ready(Some(Ok(piece))) => {
                    body.extend_from_slice(&piece);
                    if gives_back {
                        self.codec.release(at, piece.len());
                    }
                }
                other => break other,
            }
        };
        let stream = self.codec.stream(at);
        let (trailers, reset) = (stream.trailers.take(), stream.poll_reset(cx));
        format!("{interim:?} {head:?} {} {end:?} {trailers:?} {reset:?}", body.escape_ascii())
    }

    /// Sends what there is room for.
    fn write(&mut self, at: usize, length: usize, is_all: bool) {
        let cx = &mut Context::from_waker(Waker::noop());
        if let Poll::Ready(Some(room)) = self.codec.poll_room(at, cx) {
            self.codec.data(at, Bytes::from(vec![b'x'; room.min(length)]), is_all && room >= length);
        }
    }

    fn end(mut self) {
        for at in std::mem::take(&mut self.places) {
            self.codec.let_go(at);
        }
        while let Some((at, _)) = self.codec.accept() {
            self.codec.let_go(at);
        }
        assert!(self.codec.is_at_rest(), "something is kept: {:?}", self.codec);
    }
}

/// All that the parts come to, where nobody does anything before the last.
fn listened(mut side: Side, parts: &[&[u8]]) -> Vec<String> {
    let mut ended = Ok(());
    for part in parts {
        ended = ended.and_then(|()| side.receive(part));
    }
    let mut counts = side.codec.counts();
    counts.is_partial &= ended.is_ok(); // of what came before the end, nobody asks
    let mut all = vec![format!("{ended:?} {counts:?} {}", side.say().escape_ascii())];
    while let Some((at, head)) = side.codec.accept() {
        all.push(format!("{head:?}"));
        side.places.push(at);
    }
    all.extend(side.places.clone().into_iter().map(|at| side.read(at, false)));
    side.end();
    all
}

/// The same, with somebody who does this or that after every few bytes.
fn conversed(mut side: Side, data: &[u8], step: usize) {
    for (turn, piece) in data.chunks(step).enumerate() {
        let ended = side.receive(piece).is_err();
        while let Some((at, _)) = side.codec.accept() {
            side.places.push(at);
        }
        for (nth, at) in side.places.clone().into_iter().enumerate() {
            match (turn + nth) % 7 {
                0 => drop(side.read(at, true)),
                1 => drop(side.read(at, false)),
                2 if side.codec.is_server() => {
                    side.codec.head(at, true, turn % 2 == 0, |out| write_status(out, StatusCode::OK));
                }
                3 => side.write(at, 10 * step, turn % 2 == 0),
                4 => side.write(at, 40_000, false),
                5 if turn % 3 == 0 => side.codec.trail(at, |_| {}),
                6 if turn % 5 == 0 => {
                    side.places.retain(|&place| place != at);
                    side.codec.let_go(at);
                }
                _ => {}
            }
        }
        if turn % 4 == 0 {
            side.say();
        }
        if ended {
            break;
        }
    }
    side.end();
}
