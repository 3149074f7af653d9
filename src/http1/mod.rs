//! The strict HTTP/1.1 codec: bytes in, heads and pieces out. Pure; sockets are `edge`'s and `upstream`'s.
//!
//! Where RFC 9112 leaves a choice, this refuses: what two parsers could read in two ways passes no gateway. An error of a
//! reader or of [`body::Decoder`] is final: the bytes behind it have no meaning, so the connection ends.

pub mod body;
mod chunk;
pub mod encode;
pub mod framing;
pub mod head;
pub mod host;
mod lines;
pub mod request;
pub mod response;
pub mod target;
#[cfg(test)]
mod tests;
pub mod trailer;

/// Which bytes are letters, digits, or among `others`.
const fn among(others: &[u8]) -> [bool; 256] {
    let mut among = [false; 256];
    let mut byte = 0_u8;
    while byte.is_ascii() {
        among[byte as usize] = byte.is_ascii_alphanumeric();
        byte += 1;
    }
    let mut other = 0;
    while other < others.len() {
        among[others[other] as usize] = true;
        other += 1;
    }
    among
}

/// The text of bytes that were found to be ASCII when they were read.
fn ascii(bytes: &[u8]) -> &str {
    #[expect(clippy::expect_used, reason = "callers pass bytes that a reader has checked")]
    std::str::from_utf8(bytes).expect("checked to be ASCII when read")
}
