//! The HTTP/2 codec (RFC 9113): bytes in, heads and pieces out, of either side of a connection. Pure; sockets are `wire`'s,
//! and what a message means is `edge`'s and `upstream`'s.
//!
//! What one stream's messages break is that stream's end alone, as far as the RFC lets it be; what breaks the framing, the
//! tables or a window of the connection ends the connection.

pub mod connection;
mod flow;
pub mod frame;
pub mod hpack;
mod lists;
pub mod message;
mod out;
mod receive;
mod send;
mod settings;
mod stream;
mod streams;
#[cfg(test)]
mod tests;

use std::{fmt, io, sync::Arc};

/// Why a stream or a connection ends, as a frame tells it. Source: RFC 9113 §7.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Reason(pub u32);

impl Reason {
    /// Nothing went wrong.
    pub const NO_ERROR: Self = Self(0);
    /// What came is against the rules of the protocol.
    pub const PROTOCOL_ERROR: Self = Self(1);
    /// Something went wrong on this side.
    pub const INTERNAL_ERROR: Self = Self(2);
    /// More came than there was room for.
    pub const FLOW_CONTROL_ERROR: Self = Self(3);
    /// Something came on a stream that had ended.
    pub const STREAM_CLOSED: Self = Self(5);
    /// A frame is of a size that it may not have.
    pub const FRAME_SIZE_ERROR: Self = Self(6);
    /// Nothing was done of it.
    pub const REFUSED_STREAM: Self = Self(7);
    /// It is of no more use.
    pub const CANCEL: Self = Self(8);
    /// The tables of names are out of step.
    pub const COMPRESSION_ERROR: Self = Self(9);
    /// The other side keeps this one busy for nothing.
    pub const ENHANCE_YOUR_CALM: Self = Self(11);
}

impl fmt::Debug for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.get(self.0 as usize) {
            Some(name) => f.write_str(name),
            None => write!(f, "error {}", self.0),
        }
    }
}

const NAMES: [&str; 14] = [
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED",
];

/// How a stream ended before its end.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Ended {
    /// The other side reset it.
    #[error("the other side reset the stream: {0}")]
    Reset(Reason),
    /// What came on it was against the rules, or this side gave it up.
    #[error("the stream was reset: {0}")]
    Broken(Reason),
    /// The other side says goodbye, and that it did nothing of it.
    #[error("the other side ends the connection: {0}")]
    Goodbye(Reason),
    /// What came on the connection was against the rules.
    #[error("the connection was ended: {0}")]
    Fault(Reason),
    /// The connection is gone.
    #[error("the connection broke")]
    Io(#[source] Arc<io::Error>),
}

impl Ended {
    /// Whether the other side did it, or the network.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        !matches!(self, Self::Broken(_) | Self::Fault(_))
    }

    /// Whether the connection broke without a word.
    #[must_use]
    pub fn is_io(&self) -> bool {
        matches!(self, Self::Io(_))
    }

    /// The cause, as who knows nothing of HTTP/2 takes it.
    #[must_use]
    pub fn into_io(self) -> io::Error {
        match self {
            Self::Io(error) => io::Error::new(error.kind(), error),
            other => io::Error::other(other),
        }
    }
}

/// What a client says first, before its first frame. Source: RFC 9113 §3.4.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
