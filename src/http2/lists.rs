//! Fields as they come: in one frame or in several, as the head of a request or of an answer, or as trailers.
//! Source: RFC 9113 §4.3, §6.2, §6.10, §8.1.

use super::{
    Reason,
    connection::{Connection, Side},
    frame::{FrameHead, flag},
    hpack::Section,
    message,
    receive::{Fault, priority},
    stream::{Reading, Stream, wake},
    streams::How,
};

/// Fields of which a part has come.
#[derive(Debug)]
pub(super) struct Block {
    pub head: FrameHead,
    bytes: Vec<u8>,
    pieces: usize,
}

/// In so many frames a head may come, however small they are.
const PIECES: usize = 128;
/// So many interim answers to one request are kept: more than anybody passes on.
const INTERIM: usize = 32;
/// What a head says of its priority, in bytes.
const PRIORITY: usize = 5;

thread_local! {
    /// What fields are decoded to, before they are kept.
    static SECTION: std::cell::RefCell<Section> = std::cell::RefCell::default();
}

impl Connection {
    pub(super) fn headers(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Fault> {
        if head.stream == 0 {
            return Err(Reason::PROTOCOL_ERROR.into());
        }
        self.counts.lists += 1;
        let mut block = &payload[head.unpadded(payload)?];
        if head.has(flag::PRIORITY) {
            // Either it is too short, or its padding takes what it should say.
            let is_padded = head.has(flag::PADDED);
            let short = if is_padded { Reason::PROTOCOL_ERROR } else { Reason::FRAME_SIZE_ERROR };
            let (parent, rest) = block.split_at_checked(PRIORITY).ok_or(short)?;
            priority(head, parent)?;
            block = rest;
        }
        if head.has(flag::END_HEADERS) {
            return self.list(head, block);
        }
        self.block = Some(Block { head, bytes: block.to_vec(), pieces: 1 });
        Ok(())
    }

    pub(super) fn continuation(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Fault> {
        let Some(mut block) = self.block.take() else { return Err(Reason::PROTOCOL_ERROR.into()) };
        block.bytes.extend_from_slice(payload);
        block.pieces += 1;
        // What is kept of it is bounded when it is read; this bounds what waits for that.
        if block.pieces > PIECES || block.bytes.len() > 2 * self.rules.limits.max_list {
            return Err(Reason::ENHANCE_YOUR_CALM.into());
        }
        if head.has(flag::END_HEADERS) {
            return self.list(block.head, &block.bytes);
        }
        self.block = Some(block);
        Ok(())
    }

    /// A whole head, or trailers. It is decoded whatever becomes of it, lest the tables get out of step.
    fn list(&mut self, head: FrameHead, block: &[u8]) -> Result<(), Fault> {
        SECTION.with_borrow_mut(|section| {
            section.clear();
            let decoded = self.decoder.decode(block, section, &self.rules.limits);
            decoded.map_err(|_| Reason::COMPRESSION_ERROR)?;
            match (self.streams.find(head.stream), self.side) {
                (Some(at), _) => match self.streams[at].reading {
                    Reading::Head => self.answer(at, head, section),
                    Reading::Body => self.trailers(at, head, section),
                    Reading::Done => Err(Fault::Stream(head.stream, Reason::STREAM_CLOSED)),
                },
                (None, Side::Server) if head.stream % 2 == 1 && head.stream > self.newest => {
                    self.request(head, section)
                }
                (None, _) => {
                    self.counts.idle += 1;
                    self.stranger(head)
                }
            }
        })
    }

    fn request(&mut self, head: FrameHead, section: &Section) -> Result<(), Fault> {
        let id = head.stream;
        self.newest = id;
        if self.last.is_some_and(|last| id > last) {
            // The client has not heard yet that nobody looks at it.
            self.streams.remember(id, How::ByUs);
            self.counts.idle += 1;
            return Ok(());
        }
        if self.streams.open() >= self.rules.streams as usize {
            return Err(Fault::Stream(id, Reason::REFUSED_STREAM));
        }
        let malformed = |_| Fault::Stream(id, Reason::PROTOCOL_ERROR);
        let request = message::request(section).map_err(malformed)?;
        let is_all = head.has(flag::END_STREAM);
        if is_all && request.length.is_some_and(|length| length > 0) {
            return Err(Fault::Stream(id, Reason::PROTOCOL_ERROR));
        }
        let reading = if is_all { Reading::Done } else { Reading::Body };
        let mut stream = Stream::new(id, reading, self.rules.stream_window, self.peer.window);
        stream.left = request.length;
        let at = self.streams.insert(stream);
        self.came.push_back((at, request));
        Ok(())
    }

    fn answer(&mut self, at: usize, head: FrameHead, section: &Section) -> Result<(), Fault> {
        let fault = Fault::Stream(head.stream, Reason::PROTOCOL_ERROR);
        let answer = message::response(section).map_err(|_| fault)?;
        let (stream, is_all) = (&mut self.streams[at], head.has(flag::END_STREAM));
        wake(&mut stream.reader);
        if answer.status.is_informational() {
            if is_all {
                return Err(fault);
            }
            // Those that nobody has taken yet, who may not look for a while.
            if stream.interim.len() == INTERIM {
                return Err(Fault::Stream(head.stream, Reason::ENHANCE_YOUR_CALM));
            }
            stream.interim.push_back(answer);
            return Ok(());
        }
        self.counts.answered += 1;
        // Source: RFC 9110 §6.4.1.
        stream.is_bodyless |= matches!(answer.status.as_u16(), 204 | 304);
        stream.left = answer.length.filter(|_| !stream.is_bodyless);
        if is_all && stream.left.is_some_and(|left| left > 0) {
            return Err(fault);
        }
        stream.head = Some(answer);
        stream.reading = Reading::Body;
        if is_all {
            self.read_whole(at);
        }
        Ok(())
    }

    fn trailers(&mut self, at: usize, head: FrameHead, section: &Section) -> Result<(), Fault> {
        let fault = Fault::Stream(head.stream, Reason::PROTOCOL_ERROR);
        let stream = &mut self.streams[at];
        if !head.has(flag::END_STREAM) || stream.left.is_some_and(|left| left > 0) {
            return Err(fault);
        }
        let trailers = message::trailers(section).map_err(|_| fault)?;
        stream.trailers = Some(trailers).filter(|(fields, is_cut)| *is_cut || !fields.is_empty());
        wake(&mut stream.reader);
        self.read_whole(at);
        Ok(())
    }
}
