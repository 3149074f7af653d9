//! Frames: their heads, and what is alike in all of them. Source: RFC 9113 §4.1, §6.

use std::ops::Range;

use super::Reason;

/// What a frame says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHead {
    /// Bytes that follow it.
    pub length: usize,
    /// One of [`kind`], or one that nobody knows.
    pub kind: u8,
    /// Some of [`flag`].
    pub flags: u8,
    /// The stream; 0 is the connection.
    pub stream: u32,
}

/// The size of a frame's head, in bytes.
pub const HEAD: usize = 9;
/// The largest payload that is taken, in bytes, and that any other side takes. Source: RFC 9113 §4.2.
pub const LARGEST: usize = 16_384;

/// What a frame may be. Source: RFC 9113 §6.
pub mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PUSH_PROMISE: u8 = 5;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

/// What a frame may say beside its payload. Source: RFC 9113 §6.
pub mod flag {
    pub const ACK: u8 = 0x1;
    pub const END_STREAM: u8 = 0x1;
    pub const END_HEADERS: u8 = 0x4;
    pub const PADDED: u8 = 0x8;
    pub const PRIORITY: u8 = 0x20;
}

impl FrameHead {
    /// The head that these bytes begin with, where they are enough.
    #[inline]
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let &[a, b, c, kind, flags, ref stream @ ..] = bytes.first_chunk::<HEAD>()?;
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        Some(Self { length, kind, flags, stream: number(*stream) })
    }

    /// Appends it.
    #[inline]
    pub fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.bytes());
    }

    /// How it stands before its payload.
    #[inline]
    #[must_use]
    pub fn bytes(self) -> [u8; HEAD] {
        let [.., high, middle, low] = self.length.to_be_bytes();
        let stream = self.stream.to_be_bytes();
        let mut bytes = [high, middle, low, self.kind, self.flags, 0, 0, 0, 0];
        bytes[HEAD - stream.len()..].copy_from_slice(&stream);
        bytes
    }

    /// Whether it has this flag.
    #[inline]
    #[must_use]
    pub fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Where a payload lies without its padding. Source: RFC 9113 §6.1.
    ///
    /// # Errors
    /// `PROTOCOL_ERROR`: the padding is longer than what there is.
    #[inline]
    pub fn unpadded(self, payload: &[u8]) -> Result<Range<usize>, Reason> {
        if !self.has(flag::PADDED) {
            return Ok(0..payload.len());
        }
        let (&padding, rest) = payload.split_first().ok_or(Reason::FRAME_SIZE_ERROR)?;
        let length = rest.len().checked_sub(usize::from(padding)).ok_or(Reason::PROTOCOL_ERROR)?;
        Ok(1..1 + length)
    }
}

/// A number of 31 bits: the bit above says nothing, whatever it is. Source: RFC 9113 §4.1.
#[inline]
#[must_use]
pub fn number(bytes: [u8; 4]) -> u32 {
    u32::from_be_bytes(bytes) & MAX
}

/// The largest number of a stream, and the largest window.
pub const MAX: u32 = u32::MAX >> 1;
