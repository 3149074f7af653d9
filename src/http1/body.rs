//! Bodies: takes the framing off, gives the bytes as they came, in pieces.

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderName};
use thiserror::Error;

use super::{
    chunk::read_size,
    framing::{Length, nominated},
    head::{HeadError, Section, read_fields},
    lines::{LineError, Lines},
    trailer::{LIMITS, may_trail},
};
use crate::model::fields::Fields;

/// What a body is made of, in this order.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// Some of the body, never empty.
    Data(Bytes),
    /// The trailers that may be passed on, at least one; only the end follows.
    Trailers(HeaderMap),
    /// The body is whole; what `buf` holds belongs to the next message.
    End,
    /// More bytes are needed; `buf` may only grow before the next call.
    More,
}

/// Why the bytes are no body, which must then be aborted visibly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BodyError {
    /// The connection ended before the body.
    #[error("the body was cut short")]
    CutShort,
    /// Does not begin with a hexadecimal digit.
    #[error("a chunk has no size")]
    ChunkSize,
    /// 2^63 bytes or more, or more than 16 digits.
    #[error("the size of a chunk is too large")]
    ChunkTooLarge,
    /// Neither well formed nor ended by CRLF.
    #[error("what follows the size of a chunk is no extension")]
    ChunkExtension,
    /// The line beyond 1 KiB, or all extensions of the body beyond 16 KiB.
    #[error("the extensions of the chunks are too long")]
    ChunkExtensionTooLong,
    /// CRLF does not follow exactly where the size says.
    #[error("a chunk is not as long as its size says")]
    ChunkEnd,
    /// A bare line feed ends no line.
    #[error("a chunk's line ends in a line feed without a carriage return")]
    BareLineFeed,
    /// What is wrong with the trailers.
    #[error("the trailers are malformed")]
    Trailers(#[from] HeadError),
}

/// Decodes one body.
#[derive(Debug)]
pub struct Decoder {
    state: State,
    extensions: usize,
    /// Names that no trailer may have.
    barred: Vec<HeaderName>,
}

#[derive(Debug)]
enum State {
    Exact(u64),
    UntilClose,
    ChunkLine,
    ChunkData(u64),
    ChunkEnd,
    Trailers(Section),
    Done,
}

impl Decoder {
    /// A decoder for the body that a head has announced.
    #[must_use]
    pub fn new(length: Length) -> Self {
        let state = match length {
            Length::Empty | Length::Exact(0) => State::Done,
            Length::Exact(bytes) => State::Exact(bytes),
            Length::Chunked => State::ChunkLine,
            Length::UntilClose => State::UntilClose,
        };
        Self { state, extensions: 0, barred: Vec::new() }
    }

    /// A decoder for the body that the head with these fields has announced. What the head's `Connection` nominates passes
    /// as a trailer no more than as a field.
    #[must_use]
    pub fn of(length: Length, fields: &Fields) -> Self {
        let barred = if length == Length::Chunked { nominated(fields) } else { Vec::new() };
        Self { barred, ..Self::new(length) }
    }

    /// The body at the front of `buf`, where its length is known and all of it is there.
    pub fn whole(&mut self, buf: &mut BytesMut) -> Option<Bytes> {
        let State::Exact(bytes) = self.state else { return None };
        let bytes = usize::try_from(bytes).ok().filter(|&bytes| bytes <= buf.len())?;
        self.state = State::Done;
        Some(buf.split_to(bytes).freeze())
    }

    /// The next piece of the body at the front of `buf`.
    ///
    /// # Errors
    /// Final: where the message ends cannot be known any more.
    pub fn decode(&mut self, buf: &mut BytesMut) -> Result<Piece, BodyError> {
        loop {
            match &mut self.state {
                State::Done => return Ok(Piece::End),
                State::Exact(_) | State::ChunkData(_) | State::UntilClose if buf.is_empty() => return Ok(Piece::More),
                State::UntilClose => return Ok(Piece::Data(buf.split().freeze())),
                State::Exact(left) => {
                    let data = take(buf, left);
                    if *left == 0 {
                        self.state = State::Done;
                    }
                    return Ok(Piece::Data(data));
                }
                State::ChunkData(left) => {
                    let data = take(buf, left);
                    if *left == 0 {
                        self.state = State::ChunkEnd;
                    }
                    return Ok(Piece::Data(data));
                }
                State::ChunkEnd => match &buf[..] {
                    [] | [b'\r'] => return Ok(Piece::More),
                    [b'\r', b'\n', ..] => {
                        buf.advance(2);
                        self.state = State::ChunkLine;
                    }
                    _ => return Err(BodyError::ChunkEnd),
                },
                State::ChunkLine => match self.chunk_line(buf)? {
                    None => return Ok(Piece::More),
                    Some(0) => self.state = State::Trailers(Section::default()),
                    Some(size) => self.state = State::ChunkData(size),
                },
                State::Trailers(section) => {
                    let Some(end) = section.end(buf, &LIMITS)? else { return Ok(Piece::More) };
                    if section.is_bare() {
                        buf.advance(end);
                        self.state = State::Done;
                        return Ok(Piece::End);
                    }
                    let lines = buf.split_to(end).freeze();
                    let trailers = read_fields::<HeadError>(lines, 0, section, 0, |field| {
                        Ok(may_trail(field.name) && !self.barred.contains(field.name))
                    })?;
                    // Not before: a body whose trailers are malformed has no end behind which a message could begin.
                    self.state = State::Done;
                    return Ok(if trailers.is_empty() { Piece::End } else { Piece::Trailers(trailers.into_map()) });
                }
            }
        }
    }

    /// The peer has closed its side, and all that came before has been decoded.
    ///
    /// # Errors
    /// `CutShort`, unless the body was whole or ends so.
    pub fn eof(&mut self) -> Result<(), BodyError> {
        match self.state {
            State::UntilClose | State::Done => {
                self.state = State::Done;
                Ok(())
            }
            State::Exact(_) | State::ChunkLine | State::ChunkData(_) | State::ChunkEnd | State::Trailers(_) => {
                Err(BodyError::CutShort)
            }
        }
    }

    /// Whether the whole body has been given. Known with the last piece of a body of known length.
    #[must_use]
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// How many bytes have been announced that `decode` has not given yet: of the body, or of its present chunk.
    #[must_use]
    pub fn announced(&self) -> u64 {
        match self.state {
            State::Exact(left) | State::ChunkData(left) => left,
            _ => 0,
        }
    }

    /// Takes the line of a chunk and gives the chunk's size, or `None` when more bytes are needed.
    fn chunk_line(&mut self, buf: &mut BytesMut) -> Result<Option<u64>, BodyError> {
        // Said at once: noise need not send a line feed.
        if buf.first().is_some_and(|b| !b.is_ascii_hexdigit()) {
            return Err(BodyError::ChunkSize);
        }
        // Scanned anew with each read, which the line's limit makes cheap.
        let line = Lines::default().next(buf, MAX_CHUNK_LINE).map_err(|error| match error {
            LineError::BareLineFeed => BodyError::BareLineFeed,
            LineError::TooLong => BodyError::ChunkExtensionTooLong,
        })?;
        let Some(line) = line else { return Ok(None) };
        let length = line.end;
        let size = read_size(&buf[line])?;
        self.extensions += length.saturating_sub(MAX_DIGITS);
        if self.extensions > MAX_EXTENSIONS {
            return Err(BodyError::ChunkExtensionTooLong);
        }
        buf.advance(length + 2);
        Ok(Some(size))
    }
}

/// As much of `left` bytes as has come.
fn take(buf: &mut BytesMut, left: &mut u64) -> Bytes {
    let bytes = usize::try_from(*left).map_or(buf.len(), |left| left.min(buf.len()));
    *left -= bytes as u64;
    buf.split_to(bytes).freeze()
}

/// Size and extensions of one chunk, with the CRLF.
const MAX_CHUNK_LINE: usize = 1024;
/// Beyond the digits, over the whole body: else one byte of body may bring a kilobyte that nobody counts.
const MAX_EXTENSIONS: usize = 16 * 1024;
/// What a size may take up without counting as an extension.
const MAX_DIGITS: usize = 16;
