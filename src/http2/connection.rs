//! One connection, from the side of a client or of a server: its state, how it begins, and how it ends. What comes is
//! `receive`'s, what goes out is `send`'s.

use std::{
    collections::VecDeque,
    io,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::{Buf, BytesMut};

use super::{
    Ended, PREFACE, Reason,
    flow::{Room, Window},
    frame::{FrameHead, MAX, kind},
    hpack::{Decoder, Encoder, Limits},
    lists::Block,
    message::RequestHead,
    out::Out,
    settings::{self, Settings},
    stream::{Reading, Stream, wait, wake},
    streams::{How, Streams},
};

/// Which side of a connection this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The one that asks.
    Client,
    /// The one that answers.
    Server,
}

/// What the other side may do.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Streams that it may open at once.
    pub streams: u32,
    /// What it may send ahead on one stream, in bytes.
    pub stream_window: u32,
    /// What it may send ahead on all of them, in bytes.
    pub connection_window: u32,
    /// What is kept of the fields of one head, or of trailers.
    pub limits: Limits,
}

/// A connection.
#[derive(Debug)]
pub struct Connection {
    pub(super) side: Side,
    pub(super) rules: Rules,
    pub(super) decoder: Decoder,
    pub(super) encoder: Encoder,
    /// Fields that have come in part.
    pub(super) block: Option<Block>,
    pub(super) streams: Streams,
    pub(super) window: Window,
    pub(super) room: Room,
    pub(super) peer: Settings,
    pub(super) out: Out,
    /// Who sends what waits.
    pub(super) driver: Option<Waker>,
    /// The places of streams that wait for room on the connection.
    pub(super) queue: VecDeque<usize>,
    /// How many may send now, and have not yet.
    pub(super) turns: usize,
    /// The number of the next stream of ours.
    pub(super) next: u32,
    /// The newest one of the other side's.
    pub(super) newest: u32,
    /// Bytes of a client's first words to come.
    pub(super) preface: usize,
    /// Whether the settings of the other side have come.
    pub(super) is_greeted: bool,
    /// Whether the other side said goodbye, and takes no new streams.
    pub(super) is_parting: bool,
    /// The last stream of the other side's that is looked at, since we say so.
    pub(super) last: Option<u32>,
    pub(super) over: Option<Ended>,
    /// Requests that came, by the places of their streams.
    pub(super) came: VecDeque<(usize, RequestHead)>,
    pub(super) ping: Ping,
    pub(super) counts: Counts,
}

/// A question whether the other side is there.
#[derive(Debug, Default)]
pub(super) struct Ping {
    pub is_awaited: bool,
    pub waiter: Option<Waker>,
}

/// What the other side has kept us busy with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Frames that carried nothing, neither fields nor bytes of a body, or fields or crumbs of a body that nobody looks at.
    pub idle: u64,
    /// Heads and trailers that have begun.
    pub lists: u64,
    /// Whether the last of them is not whole yet.
    pub is_partial: bool,
    /// Requests that were reset before the head of their answer was sent.
    pub given_up: u64,
    /// Heads of answers that were sent, or came.
    pub answered: u64,
    /// Streams that were reset since what came on them was malformed.
    pub broken: u64,
}

/// What the other side is asked with, where nothing is meant but that; and where the goodbye follows.
const PING: [u8; 8] = *b"lictor..";
pub(super) const FAREWELL: [u8; 8] = *b"lictor!!";
/// More waits to be sent only where the other side asks for it by frames of its own: nothing more is read then.
const FULL: usize = 256 * 1024;

impl Connection {
    /// A client's, which opens streams once the server has said how many it takes.
    #[must_use]
    pub fn client(rules: Rules) -> Self {
        let mut connection = Self::new(Side::Client, rules, 0);
        connection.out.text().extend_from_slice(PREFACE);
        connection.greet(&[(settings::ENABLE_PUSH, 0)]);
        connection
    }

    /// A server's, of which nothing was read yet.
    #[must_use]
    pub fn server(rules: Rules) -> Self {
        let mut connection = Self::new(Side::Server, rules, PREFACE.len());
        connection.greet(&[(settings::MAX_CONCURRENT_STREAMS, rules.streams)]);
        connection
    }

    fn new(side: Side, rules: Rules, preface: usize) -> Self {
        let peer = Settings::default();
        Self {
            side,
            rules,
            decoder: Decoder::new(),
            encoder: Encoder::new(),
            block: None,
            streams: Streams::default(),
            window: Window::new(rules.connection_window),
            room: Room::new(peer.window),
            peer,
            out: Out::default(),
            driver: None,
            queue: VecDeque::new(),
            turns: 0,
            next: 1,
            newest: 0,
            preface,
            is_greeted: false,
            is_parting: false,
            last: None,
            over: None,
            came: VecDeque::new(),
            ping: Ping::default(),
            counts: Counts::default(),
        }
    }

    fn greet(&mut self, first: &[(u16, u32)]) {
        let list = u32::try_from(self.rules.limits.max_list).unwrap_or(u32::MAX);
        let both = [(settings::INITIAL_WINDOW_SIZE, self.rules.stream_window), (settings::MAX_HEADER_LIST_SIZE, list)];
        let out = self.out.text();
        settings::write(out, &[first, &both].concat());
        // It is as large as all say at first. Source: RFC 9113 §6.9.2.
        if let Some(more @ 1..) = self.rules.connection_window.checked_sub(Settings::default().window) {
            write(out, kind::WINDOW_UPDATE, 0, 0, &more.to_be_bytes());
        }
    }

    /// Follows a client's first words. Source: RFC 9113 §3.4.
    ///
    /// # Errors
    /// They are others.
    pub(super) fn preface(&mut self, input: &mut BytesMut) -> Result<(), Reason> {
        let now = self.preface.min(input.len());
        let from = PREFACE.len() - self.preface;
        if input[..now] != PREFACE[from..from + now] {
            return Err(Reason::PROTOCOL_ERROR);
        }
        input.advance(now);
        self.preface -= now;
        Ok(())
    }

    /// Whether this side is the one that answers.
    #[must_use]
    pub fn is_server(&self) -> bool {
        self.side == Side::Server
    }

    /// Whether the other side has said that it speaks this version.
    #[must_use]
    pub fn is_greeted(&self) -> bool {
        self.is_greeted
    }

    /// What the other side has kept us busy with.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Streams that are open.
    #[must_use]
    pub fn open_streams(&self) -> usize {
        self.streams.open()
    }

    /// Requests that nobody has looked at yet.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.came.len()
    }

    /// Bytes that came and are not given back yet.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.window.kept() as usize
    }

    /// Whether nobody holds a stream, waits for room, or keeps any of what came.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        let is_idle = self.streams.is_empty() && self.came.is_empty();
        is_idle && self.queue.is_empty() && self.turns == 0 && self.kept() == 0
    }

    /// Streams that the other side takes at once.
    #[must_use]
    pub fn max_streams(&self) -> usize {
        self.peer.max_streams as usize
    }

    /// Whether no stream can be opened any more, ever.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.over.is_some() || self.is_parting || self.last.is_some() || self.next > MAX
    }

    /// Whether nothing more is to be done on it but to send what waits: one side said goodbye, and no stream is left.
    #[must_use]
    pub fn is_done(&self) -> bool {
        let has_parted = self.is_parting || self.last.is_some_and(|last| last < MAX);
        self.over.is_some() || (has_parted && self.streams.open() == 0 && self.came.is_empty())
    }

    /// Whether so much waits to be sent that nothing more should be read.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.out.len() > FULL
    }

    /// The next request, and the place of its stream, which is held from now on.
    pub fn accept(&mut self) -> Option<(usize, RequestHead)> {
        self.came.pop_front()
    }

    /// The stream at this place, which whoever asks holds.
    #[inline]
    pub fn stream(&mut self, at: usize) -> &mut Stream {
        &mut self.streams[at]
    }

    /// Asks for a sign of life.
    pub fn ask(&mut self) {
        self.ping.is_awaited = true;
        write(self.out.text(), kind::PING, 0, 0, &PING);
        wake(&mut self.driver);
    }

    /// Ready when it came.
    pub fn poll_sign(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.ping.is_awaited { wait(&mut self.ping.waiter, cx) } else { Poll::Ready(()) }
    }

    /// Has the task be woken when there is something to send.
    pub fn driven_by(&mut self, cx: &mut Context<'_>) {
        let _ = wait::<()>(&mut self.driver, cx);
    }

    /// Whoever drives it is at it.
    pub fn is_driven(&mut self) {
        self.driver = None;
    }

    /// What waits to be sent.
    #[must_use]
    pub fn out(&mut self) -> &mut Out {
        &mut self.out
    }

    /// Some of it has left.
    pub fn took(&mut self, bytes: usize) {
        self.out.took(bytes);
        self.pump();
    }

    /// Takes no more requests than those that come before the client has heard of it. Source: RFC 9113 §6.8.
    pub fn leave(&mut self) {
        if self.last.is_none() && self.over.is_none() {
            self.say_goodbye(MAX, Reason::NO_ERROR);
            write(self.out.text(), kind::PING, 0, 0, &FAREWELL);
        }
    }

    /// Says that nothing more is asked, or answered but what has come.
    pub fn part(&mut self) {
        if self.last.is_none_or(|last| last > self.newest) && self.over.is_none() {
            self.say_goodbye(self.newest, Reason::NO_ERROR);
        }
    }

    fn say_goodbye(&mut self, last: u32, reason: Reason) {
        self.last = Some(last);
        let payload = (u64::from(last) << 32) | u64::from(reason.0);
        write(self.out.text(), kind::GOAWAY, 0, 0, &payload.to_be_bytes());
        wake(&mut self.driver);
    }

    /// Ends it for what came, and tells the other side.
    pub fn fail(&mut self, reason: Reason) -> Ended {
        if self.over.is_none() {
            // What was said not to be looked at was not. Source: RFC 9113 §6.8.
            self.say_goodbye(self.last.map_or(self.newest, |last| last.min(self.newest)), reason);
        }
        self.end(Ended::Fault(reason))
    }

    /// The other side is gone.
    pub fn lost(&mut self, error: io::Error) -> Ended {
        self.out.clear();
        self.end(Ended::Io(Arc::new(error)))
    }

    fn end(&mut self, ended: Ended) -> Ended {
        let ended = self.over.get_or_insert(ended).clone();
        for at in self.streams.places() {
            self.cut(at, ended.clone(), How::ByUs);
        }
        wake(&mut self.ping.waiter);
        wake(&mut self.driver);
        ended
    }

    /// Ends a stream before its end; what came before is still there for who takes it.
    pub(super) fn cut(&mut self, at: usize, ended: Ended, how: How) {
        let stream = &mut self.streams[at];
        (stream.is_sending, stream.is_cut) = (false, true);
        if stream.reading != Reading::Done {
            stream.reading = Reading::Done;
            stream.ended = Some(ended);
        }
        stream.wake();
        self.leave_queue(at);
        self.streams.close(at, how);
        // Nobody has looked at it yet, and nobody will.
        if let Some(place) = self.came.iter().rposition(|(waiting, _)| *waiting == at) {
            self.came.remove(place);
            self.let_go(at);
        }
    }
}

/// Appends a frame whose payload is at hand.
pub(super) fn write(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    FrameHead { length: payload.len(), kind, flags, stream }.write(out);
    out.extend_from_slice(payload);
}
