//! Field sections as HTTP/2 sends them: HPACK. Strict: what does not keep the tables of both sides in step ends the
//! connection, and what makes a message malformed is told with the section. What single fields mean is for the callers.
//!
//! Source: RFC 7541.

mod decode;
mod encode;
mod huffman;
mod integer;
mod table;
#[cfg(test)]
mod tests;

use std::ops::Range;

use thiserror::Error;

pub use self::{
    decode::Decoder,
    encode::{Encoder, write_field, write_named, write_pseudo, write_status},
};
use crate::model::field::Name;

/// What a line of a section is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    /// A part of the start line.
    Pseudo(Pseudo),
    /// A field.
    Field(Name),
}

/// The pseudo-fields. Source: RFC 9113 §8.3, RFC 8441 §4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pseudo {
    /// Whom a request is for.
    Authority,
    /// The method of a request.
    Method,
    /// The path and the query of a request.
    Path,
    /// What a CONNECT wants to speak.
    Protocol,
    /// The scheme of a request.
    Scheme,
    /// The status of an answer.
    Status,
}

impl Pseudo {
    /// Its name, with the colon.
    #[inline]
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Authority => ":authority",
            Self::Method => ":method",
            Self::Path => ":path",
            Self::Protocol => ":protocol",
            Self::Scheme => ":scheme",
            Self::Status => ":status",
        }
    }

    /// The one of this name.
    fn of(name: &[u8]) -> Option<Self> {
        let all = [Self::Authority, Self::Method, Self::Path, Self::Protocol, Self::Scheme, Self::Status];
        all.into_iter().find(|pseudo| pseudo.as_str().as_bytes() == name)
    }
}

/// The lines of one field section, as they were decoded.
#[derive(Debug, Default)]
pub struct Section {
    /// Where the values lie.
    pub text: Vec<u8>,
    /// Those that were kept, in order.
    pub lines: Vec<Line>,
    /// The first that was found.
    pub fault: Option<Fault>,
    size: usize,
    count: usize,
}

/// One line of a section.
#[derive(Clone, Debug)]
pub struct Line {
    /// Its name.
    pub name: Token,
    /// Where its value lies in the text of its section.
    pub value: Range<u32>,
    /// Whether it was sent as one that no table may hold, on no further connection either. Source: RFC 7541 §7.1.3.
    pub never_indexed: bool,
}

/// What makes a message malformed or too large though the tables stay in step: the stream's fault, not the connection's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is empty, no token, not all in lower case, or a pseudo-field that nobody knows.
    Name,
    /// It holds a byte that no value may hold.
    Value,
    /// The section is larger than [`Limits::max_list`].
    TooLarge,
    /// The section has more lines than [`Limits::max_lines`].
    TooMany,
}

/// How much is taken of a section. Of what is beyond nothing is kept.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of all names and values, and 32 more for each line. Source: RFC 9113 §6.5.2.
    pub max_list: usize,
    /// Lines, also those of pseudo-fields.
    pub max_lines: usize,
}

impl Section {
    /// Takes all out and keeps the memory.
    pub fn clear(&mut self) {
        self.text.clear();
        self.lines.clear();
        (self.fault, self.size, self.count) = (None, 0, 0);
    }

    /// How large it is by the measure of [`Limits::max_list`], also what was not kept of it.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.size
    }

    /// How many bytes another line may have that is kept.
    #[inline]
    fn room(&self, limits: &Limits) -> usize {
        if self.count < limits.max_lines {
            limits.max_list.saturating_sub(self.size.saturating_add(OVERHEAD))
        } else {
            0
        }
    }

    /// Counts a line whose name and value have so many bytes, and says whether it is to be kept.
    #[inline]
    fn counts(&mut self, bytes: usize, limits: &Limits) -> bool {
        self.size = self.size.saturating_add(bytes).saturating_add(OVERHEAD);
        self.count += 1;
        let fault = match (self.size > limits.max_list, self.count > limits.max_lines) {
            (false, false) => return true,
            (true, _) => Fault::TooLarge,
            (false, true) => Fault::TooMany,
        };
        self.blame(fault);
        false
    }

    #[cold]
    fn blame(&mut self, fault: Fault) {
        self.fault.get_or_insert(fault);
    }
}

/// What each line costs beside its bytes. Source: RFC 7541 §4.1.
const OVERHEAD: usize = 32;

/// The tables are out of step: the connection has to end with `COMPRESSION_ERROR`. Source: RFC 9113 §4.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum HpackError {
    /// A number beyond 32 bits, or in more bytes than these need. Source: RFC 7541 §5.1.
    #[error("an integer is too large")]
    Integer,
    /// No table has an entry there. Source: RFC 7541 §2.3.3.
    #[error("an index is beyond the tables")]
    Index,
    /// The block ends within a line.
    #[error("the block ends within a line")]
    Truncated,
    /// The code ends within a symbol, or in more ones than fill a byte. Source: RFC 7541 §5.2.
    #[error("a string is not padded as it has to be")]
    Padding,
    /// The code has the symbol that no string may have. Source: RFC 7541 §5.2.
    #[error("a string has the symbol of its end")]
    EndOfString,
    /// Larger than we have allowed. Source: RFC 7541 §6.3.
    #[error("the table is to be larger than was allowed")]
    TableSize,
    /// Behind a line, or the third one. Source: RFC 7541 §4.2.
    #[error("a change of the table's size is out of place")]
    LateUpdate,
}
