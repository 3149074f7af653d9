//! What goes out on the streams of a connection, as the other side has room for it; and who of those that wait for the same
//! room is the next.

use std::{
    collections::VecDeque,
    task::{Context, Poll},
};

use bytes::Bytes;

use super::{
    Ended, Reason,
    connection::{Connection, Side, write},
    frame::{FrameHead, HEAD, LARGEST, flag, kind},
    stream::{Reading, Stream, Turn, wait, wake},
    streams::How,
};

/// Bytes of bodies that wait on a connection to be sent; beyond them its streams have to.
const MOST: usize = 32 * 1024;
/// A connection without streams keeps room for so many requests that come at once.
const IDLE: usize = 8;

impl Connection {
    /// Opens a stream with the head of a request, which `write` appends to what waits; gives its place.
    ///
    /// # Errors
    /// The other side takes no more streams.
    pub fn open(&mut self, is_all: bool, is_bodyless: bool, write: impl FnOnce(&mut Vec<u8>)) -> Result<usize, Ended> {
        if self.is_closing() {
            return Err(self.over.clone().unwrap_or(Ended::Goodbye(Reason::NO_ERROR)));
        }
        let id = self.next;
        self.next += 2;
        let mut stream = Stream::new(id, Reading::Head, self.rules.stream_window, self.peer.window);
        stream.is_bodyless = is_bodyless;
        let at = self.streams.insert(stream);
        self.write_list(at, is_all, write);
        Ok(at)
    }

    /// Sends the head of an answer, an interim one or the last; nothing where nobody waits for it any more.
    pub fn head(&mut self, at: usize, is_last: bool, is_all: bool, write: impl FnOnce(&mut Vec<u8>)) {
        if !self.streams[at].is_sending {
            return;
        }
        if is_last && !std::mem::replace(&mut self.streams[at].is_answered, true) {
            self.counts.answered += 1;
        }
        self.write_list(at, is_all, write);
    }

    /// Sends trailers, and with them the end.
    pub fn trail(&mut self, at: usize, write: impl FnOnce(&mut Vec<u8>)) {
        if self.streams[at].is_sending {
            self.write_list(at, true, write);
        }
    }

    /// Appends fields, in as many frames as they take.
    fn write_list(&mut self, at: usize, is_all: bool, write: impl FnOnce(&mut Vec<u8>)) {
        let (id, most) = (self.streams[at].id, self.peer.max_frame);
        let out = self.out.text();
        let start = out.len();
        out.extend_from_slice(&[0; HEAD]);
        self.encoder.begin(out);
        write(out);
        let length = out.len() - start - HEAD;
        let end = if is_all { flag::END_STREAM } else { 0 };
        if length <= most {
            let head = FrameHead { length, kind: kind::HEADERS, flags: flag::END_HEADERS | end, stream: id };
            out[start..start + HEAD].copy_from_slice(&head.bytes());
        } else {
            let block = out.split_off(start + HEAD);
            out.truncate(start);
            let (mut kind, mut flags) = (kind::HEADERS, end);
            let mut pieces = block.chunks(most).peekable();
            while let Some(piece) = pieces.next() {
                if pieces.peek().is_none() {
                    flags |= flag::END_HEADERS;
                }
                self::write(out, kind, flags, id, piece);
                (kind, flags) = (kind::CONTINUATION, 0);
            }
        }
        if is_all {
            self.sent_whole(at);
        }
        wake(&mut self.driver);
    }

    /// How many bytes of a body may be sent on the stream now: some, or the task is woken when it may be so. `None`: nobody wants any
    /// of it any more.
    pub fn poll_room(&mut self, at: usize, cx: &mut Context<'_>) -> Poll<Option<usize>> {
        let (room, stream) = (self.shared_room(), &mut self.streams[at]);
        if !stream.is_sending {
            return Poll::Ready(None);
        }
        let own = stream.room.bytes();
        if own == 0 {
            let _ = wait::<()>(&mut stream.writer, cx);
            self.leave_queue(at);
            return Poll::Pending;
        }
        let room = match stream.turn {
            Turn::Has => room,
            // What others have their turn for is theirs.
            Turn::None if self.queue.is_empty() => room.saturating_sub(self.turns * LARGEST),
            Turn::None | Turn::Waits => 0,
        };
        if room > 0 {
            return Poll::Ready(Some(own.min(room).min(LARGEST)));
        }
        let _ = wait::<()>(&mut stream.writer, cx);
        match stream.turn {
            Turn::Waits => {}
            Turn::Has => {
                // Its room went to frames of another kind.
                self.turns -= 1;
                stream.turn = Turn::Waits;
                self.queue.push_front(at);
            }
            Turn::None => {
                stream.turn = Turn::Waits;
                if std::mem::take(&mut stream.is_short) {
                    self.queue.push_front(at);
                } else {
                    stream.had = 0;
                    self.queue.push_back(at);
                }
            }
        }
        self.pump();
        Poll::Pending
    }

    /// Sends a piece of a body, for which there was room, and the end behind it where that is it.
    pub fn data(&mut self, at: usize, piece: Bytes, is_all: bool) {
        let stream = &mut self.streams[at];
        if !stream.is_sending {
            return;
        }
        let length = piece.len();
        stream.room.take(length);
        self.room.take(length);
        let flags = if is_all { flag::END_STREAM } else { 0 };
        FrameHead { length, kind: kind::DATA, flags, stream: stream.id }.write(self.out.text());
        self.out.push(piece);
        let is_over = self.shared_room() == 0;
        let stream = &mut self.streams[at];
        stream.had = stream.had.saturating_add(length);
        stream.is_short = is_over && stream.had < LARGEST / 2;
        self.leave_queue(at);
        if is_all {
            self.sent_whole(at);
        }
        self.pump();
        wake(&mut self.driver);
    }

    /// Ends a stream before its end.
    pub fn reset(&mut self, at: usize, reason: Reason) {
        let stream = &self.streams[at];
        if stream.is_open {
            write(self.out.text(), kind::RST_STREAM, 0, stream.id, &reason.0.to_be_bytes());
            self.cut(at, Ended::Broken(reason), How::ByUs);
            wake(&mut self.driver);
        }
    }

    /// Nobody holds the stream any more: what is not at its end is of no more use.
    pub fn let_go(&mut self, at: usize) {
        let stream = &mut self.streams[at];
        stream.data.clear();
        // Also what was taken: who lets go of it in the middle, or at its end, need not give it back.
        let kept = std::mem::take(&mut stream.kept);
        let reason = match (self.side, stream.is_sending) {
            // Source: RFC 9113 §8.1.
            (Side::Server, false) => Reason::NO_ERROR,
            (Side::Server, true) => Reason::INTERNAL_ERROR,
            (Side::Client, _) => Reason::CANCEL,
        };
        self.reset(at, reason);
        self.release_connection(kept);
        self.streams.let_go(at);
        if self.came.capacity() > IDLE && self.streams.is_empty() {
            self.came = VecDeque::new();
        }
    }

    /// So many bytes that came are done with: the other side may send as many again.
    pub fn release(&mut self, at: usize, bytes: usize) {
        let stream = &mut self.streams[at];
        stream.kept = stream.kept.saturating_sub(bytes);
        let more = if stream.reading == Reading::Done { None } else { stream.window.release(bytes) };
        if let Some(more) = more {
            write(self.out.text(), kind::WINDOW_UPDATE, 0, stream.id, &more.to_be_bytes());
            wake(&mut self.driver);
        }
        self.release_connection(bytes);
    }

    pub(super) fn release_connection(&mut self, bytes: usize) {
        if let Some(more) = self.window.release(bytes)
            && self.over.is_none()
        {
            write(self.out.text(), kind::WINDOW_UPDATE, 0, 0, &more.to_be_bytes());
            wake(&mut self.driver);
        }
    }

    fn sent_whole(&mut self, at: usize) {
        self.leave_queue(at);
        let stream = &mut self.streams[at];
        stream.is_sending = false;
        if stream.reading == Reading::Done {
            self.streams.close(at, How::Whole);
        }
    }

    /// What any stream may send now.
    fn shared_room(&self) -> usize {
        self.room.bytes().min(MOST.saturating_sub(self.out.len()))
    }

    /// Lets as many streams go on as there is room for, those first that have waited for longest.
    pub(super) fn pump(&mut self) {
        // A full turn for each; the last of the room for who has no other beside it.
        let least = |turns| if turns == 0 { 1 } else { (turns + 1) * LARGEST };
        while self.shared_room() >= least(self.turns) {
            let Some(at) = self.queue.pop_front() else { return };
            let stream = &mut self.streams[at];
            stream.turn = Turn::Has;
            self.turns += 1;
            wake(&mut stream.writer);
        }
    }

    /// The stream neither waits any more nor has its turn, which is another's then.
    pub(super) fn leave_queue(&mut self, at: usize) {
        match std::mem::replace(&mut self.streams[at].turn, Turn::None) {
            Turn::None => {}
            Turn::Waits => self.queue.retain(|&waiting| waiting != at),
            Turn::Has => {
                self.turns -= 1;
                self.pump();
            }
        }
    }
}
