//! What comes on a connection, frame by frame. Source: RFC 9113 §4 to §6.

use bytes::{Buf, Bytes, BytesMut};

use super::{
    Ended, Reason,
    connection::{Connection, FAREWELL, Side, write},
    frame::{FrameHead, HEAD, LARGEST, MAX, flag, kind, number},
    stream::{Reading, wake},
    streams::How,
};

/// What a frame breaks.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    /// The connection.
    Connection(Reason),
    /// The stream of this number.
    Stream(u32, Reason),
}

/// A piece of a body that is not copied, in bytes: to share it costs as much as to copy less, and holds all that it was read with.
const SHARED: usize = 8 * 1024;
/// A smaller piece, in bytes, costs more to take than it brings.
const CRUMB: usize = 256;
/// So many streams may be malformed, beyond as many as were answered, before their connection is.
const BROKEN: u64 = 1024;

impl From<Reason> for Fault {
    fn from(reason: Reason) -> Self {
        Self::Connection(reason)
    }
}

impl Connection {
    /// Takes the whole frames at the front of `input`; the rest may only grow before the next call.
    ///
    /// # Errors
    /// The connection has ended by this: what waits is still to be sent, and nothing more to be read.
    pub fn receive(&mut self, input: &mut BytesMut) -> Result<(), Ended> {
        if let Some(over) = &self.over {
            return Err(over.clone());
        }
        if self.preface > 0 {
            self.preface(input).map_err(|reason| self.fail(reason))?;
        }
        while self.preface == 0 {
            match self.frame(input) {
                Ok(true) => {}
                Ok(false) => break,
                Err(fault) => self.broken(fault)?,
            }
        }
        let begun = FrameHead::read(input);
        let is_list = begun.is_some_and(|head| matches!(head.kind, kind::HEADERS | kind::CONTINUATION));
        self.counts.is_partial = self.block.is_some() || is_list;
        Ok(())
    }

    fn broken(&mut self, fault: Fault) -> Result<(), Ended> {
        match fault {
            Fault::Connection(reason) => return Err(self.fail(reason)),
            Fault::Stream(id, reason) => {
                write(self.out.text(), kind::RST_STREAM, 0, id, &reason.0.to_be_bytes());
                match self.streams.find(id) {
                    Some(at) => self.cut(at, Ended::Broken(reason), How::ByUs),
                    None => self.streams.remember(id, How::ByUs),
                }
            }
        }
        self.counts.broken += 1;
        if self.counts.broken > BROKEN + self.counts.answered {
            Err(self.fail(Reason::ENHANCE_YOUR_CALM))
        } else {
            Ok(())
        }
    }

    /// Takes one frame, if it is whole.
    fn frame(&mut self, input: &mut BytesMut) -> Result<bool, Fault> {
        let Some(head) = FrameHead::read(input) else { return Ok(false) };
        if head.length > LARGEST {
            return Err(Reason::FRAME_SIZE_ERROR.into());
        }
        self.may_come(head)?;
        let whole = HEAD + head.length;
        if input.len() < whole {
            return Ok(false);
        }
        if head.kind == kind::DATA {
            let place = head.unpadded(&input[HEAD..whole])?;
            let piece = if place.len() < SHARED {
                let piece = Bytes::copy_from_slice(&input[HEAD..whole][place]);
                input.advance(whole);
                piece
            } else {
                input.split_to(whole).freeze().slice(HEAD + place.start..HEAD + place.end)
            };
            return self.came(head, piece).map(|()| true);
        }
        let taken = self.other(head, &input[HEAD..whole]);
        input.advance(whole);
        taken.map(|()| true)
    }

    /// Whether such a frame may come now at all.
    fn may_come(&self, head: FrameHead) -> Result<(), Fault> {
        if !self.is_greeted && (head.kind != kind::SETTINGS || head.has(flag::ACK)) {
            return Err(Reason::PROTOCOL_ERROR.into());
        }
        let goes_on = self.block.as_ref().map(|block| block.head.stream);
        let continues = (head.kind == kind::CONTINUATION).then_some(head.stream);
        if goes_on == continues { Ok(()) } else { Err(Reason::PROTOCOL_ERROR.into()) }
    }

    fn other(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Fault> {
        match head.kind {
            kind::HEADERS => return self.headers(head, payload),
            kind::CONTINUATION => return self.continuation(head, payload),
            _ => self.counts.idle += 1,
        }
        match head.kind {
            kind::PRIORITY => priority(head, payload),
            kind::RST_STREAM => self.reset_by_other(head, payload),
            kind::SETTINGS => self.settings(head, payload),
            kind::PUSH_PROMISE => Err(Reason::PROTOCOL_ERROR.into()),
            kind::PING => self.pinged(head, payload),
            kind::GOAWAY => self.goodbye(head, payload),
            kind::WINDOW_UPDATE => self.window_update(head, payload),
            _ => Ok(()),
        }
    }

    fn came(&mut self, head: FrameHead, piece: Bytes) -> Result<(), Fault> {
        if head.stream == 0 {
            return Err(Reason::PROTOCOL_ERROR.into());
        }
        self.window.came(head.length)?;
        let taken = self.piece(head, piece);
        if taken.is_err() {
            self.release_connection(head.length);
        }
        taken
    }

    fn piece(&mut self, head: FrameHead, piece: Bytes) -> Result<(), Fault> {
        let fault = |reason| Fault::Stream(head.stream, reason);
        let Some(at) = self.streams.find(head.stream) else {
            self.stranger(head)?;
            self.counts.idle += u64::from(piece.len() < CRUMB);
            self.release_connection(head.length);
            return Ok(());
        };
        let (stream, is_last) = (&mut self.streams[at], head.has(flag::END_STREAM));
        match stream.reading {
            Reading::Done => return Err(fault(Reason::STREAM_CLOSED)),
            Reading::Head => return Err(fault(Reason::PROTOCOL_ERROR)),
            Reading::Body => {}
        }
        stream.window.came(head.length).map_err(fault)?;
        if let Some(left) = &mut stream.left {
            *left = left.checked_sub(piece.len() as u64).ok_or(fault(Reason::PROTOCOL_ERROR))?;
        }
        let is_short = is_last && stream.left.is_some_and(|left| left > 0);
        if is_short || (stream.is_bodyless && !piece.is_empty()) {
            return Err(fault(Reason::PROTOCOL_ERROR));
        }
        let padding = head.length - piece.len();
        stream.kept += head.length;
        if !piece.is_empty() {
            stream.push(piece);
        } else if !is_last {
            self.counts.idle += 1;
        }
        wake(&mut stream.reader);
        if is_last {
            self.read_whole(at);
        }
        if padding > 0 {
            self.release(at, padding);
        }
        Ok(())
    }

    /// The other side has said all on a stream.
    pub(super) fn read_whole(&mut self, at: usize) {
        let stream = &mut self.streams[at];
        stream.reading = Reading::Done;
        if !stream.is_sending {
            self.streams.close(at, How::Whole);
        }
    }

    /// Something came on a stream that is not open.
    pub(super) fn stranger(&self, head: FrameHead) -> Result<(), Fault> {
        if self.is_idle(head.stream) {
            return Err(Reason::PROTOCOL_ERROR.into());
        }
        let is_list = matches!(head.kind, kind::HEADERS | kind::CONTINUATION);
        match self.streams.how(head.stream) {
            // It was on its way when we reset the stream.
            Some(How::ByUs) => Ok(()),
            Some(How::Whole) if is_list => Err(Reason::STREAM_CLOSED.into()),
            None if is_list => Err(Reason::PROTOCOL_ERROR.into()),
            _ => Err(Fault::Stream(head.stream, Reason::STREAM_CLOSED)),
        }
    }

    /// Whether a stream of this number has never been, and may yet be.
    fn is_idle(&self, id: u32) -> bool {
        match self.side {
            Side::Client => id.is_multiple_of(2) || id >= self.next,
            Side::Server => id.is_multiple_of(2) || id > self.newest,
        }
    }

    fn reset_by_other(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Fault> {
        let reason = Reason(u32::from_be_bytes(payload.try_into().map_err(|_| Reason::FRAME_SIZE_ERROR)?));
        if head.stream == 0 || self.is_idle(head.stream) {
            return Err(Reason::PROTOCOL_ERROR.into());
        }
        let Some(at) = self.streams.find(head.stream) else { return Ok(()) };
        let stream = &mut self.streams[at];
        if self.side == Side::Server && !stream.is_answered {
            self.counts.given_up += 1;
        }
        self.cut(at, Ended::Reset(reason), How::ByOther);
        Ok(())
    }

    fn settings(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Fault> {
        if head.stream != 0 {
            return Err(Reason::PROTOCOL_ERROR.into());
        }
        if head.has(flag::ACK) {
            return if payload.is_empty() { Ok(()) } else { Err(Reason::FRAME_SIZE_ERROR.into()) };
        }
        let before = self.peer.window;
        self.peer.apply(payload, self.side == Side::Client)?;
        self.encoder.allow(self.peer.least_table);
        self.encoder.allow(self.peer.header_table);
        self.is_greeted = true;
        if self.peer.window != before {
            let more = i64::from(self.peer.window) - i64::from(before);
            for at in self.streams.places() {
                let stream = &mut self.streams[at];
                stream.room.give(more)?;
                wake(&mut stream.writer);
            }
        }
        write(self.out.text(), kind::SETTINGS, flag::ACK, 0, &[]);
        Ok(())
    }

    fn pinged(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Fault> {
        if head.stream != 0 {
            return Err(Reason::PROTOCOL_ERROR.into());
        }
        let payload: &[u8; 8] = payload.try_into().map_err(|_| Reason::FRAME_SIZE_ERROR)?;
        if !head.has(flag::ACK) {
            write(self.out.text(), kind::PING, flag::ACK, 0, payload);
        } else if *payload == FAREWELL && self.last == Some(MAX) {
            self.part();
        } else {
            self.ping.is_awaited = false;
            wake(&mut self.ping.waiter);
        }
        Ok(())
    }

    fn goodbye(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Fault> {
        if head.stream != 0 {
            return Err(Reason::PROTOCOL_ERROR.into());
        }
        let (last, rest) = payload.split_first_chunk().ok_or(Reason::FRAME_SIZE_ERROR)?;
        let reason = Reason(u32::from_be_bytes(*rest.first_chunk().ok_or(Reason::FRAME_SIZE_ERROR)?));
        self.is_parting = true;
        if self.side == Side::Client {
            for at in self.streams.places() {
                if self.streams[at].id > number(*last) {
                    self.cut(at, Ended::Goodbye(reason), How::ByOther);
                }
            }
        }
        Ok(())
    }

    fn window_update(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Fault> {
        let more = number(payload.try_into().map_err(|_| Reason::FRAME_SIZE_ERROR)?);
        let (id, more) = (head.stream, i64::from(more));
        if id == 0 {
            if more == 0 {
                return Err(Reason::PROTOCOL_ERROR.into());
            }
            self.room.give(more)?;
            self.pump();
            return Ok(());
        }
        let Some(at) = self.streams.find(id) else {
            return if self.is_idle(id) { Err(Reason::PROTOCOL_ERROR.into()) } else { Ok(()) };
        };
        if more == 0 {
            return Err(Fault::Stream(id, Reason::PROTOCOL_ERROR));
        }
        let stream = &mut self.streams[at];
        stream.room.give(more).map_err(|reason| Fault::Stream(id, reason))?;
        wake(&mut stream.writer);
        Ok(())
    }
}

/// Says nothing any more, but may not be wrong. Source: RFC 9113 §5.3, §6.3.
pub(super) fn priority(head: FrameHead, payload: &[u8]) -> Result<(), Fault> {
    match *payload {
        _ if head.stream == 0 => Err(Reason::PROTOCOL_ERROR.into()),
        [a, b, c, d, _] if number([a, b, c, d]) == head.stream => Err(Reason::PROTOCOL_ERROR.into()),
        [_, _, _, _, _] => Ok(()),
        _ => Err(Reason::FRAME_SIZE_ERROR.into()),
    }
}
