//! The code of strings: most symbols of text have eight bits or less, and these are looked up at once. Source: RFC 7541 §5.2
//! and Appendix B.

use super::HpackError;

/// Decodes it behind what `out` holds, at most so many bytes of it, and says how many it has.
///
/// # Errors
/// It is no whole number of symbols with ones behind, or has the symbol of the end.
pub(super) fn decode(code: &[u8], out: &mut Vec<u8>, most: usize) -> Result<usize, HpackError> {
    let start = out.len();
    out.resize(start + most.min(code.len() * 8 / SHORTEST), 0);
    let room = &mut out[start..];
    let written = fill(code, room);
    let kept = written.unwrap_or(0).min(room.len());
    out.truncate(start + kept);
    written
}

fn fill(code: &[u8], room: &mut [u8]) -> Result<usize, HpackError> {
    // The next bits, highest first, and how many of them are the code's.
    let (mut bits, mut known) = (0_u64, 0);
    let (mut rest, mut length) = (code, 0);
    while !rest.is_empty() {
        if let Some(word) = rest.first_chunk() {
            // What is below the known bits comes once more with the next word, and is the same.
            bits |= u64::from_be_bytes(*word) >> known;
            let taken = (u64::BITS - 1 - known) / 8;
            known += 8 * taken;
            rest = &rest[taken as usize..];
        } else {
            while known <= u64::BITS - 8
                && let Some((byte, behind)) = rest.split_first()
            {
                bits |= u64::from(*byte) << (u64::BITS - 8 - known);
                known += 8;
                rest = behind;
            }
        }
        while known >= LONGEST {
            let (symbol, used) = next(bits);
            put(room, length, symbol)?;
            length += 1;
            bits <<= used;
            known -= used;
        }
    }
    loop {
        let padded = bits | u64::MAX >> known;
        if known < 8 && padded == u64::MAX {
            return Ok(length);
        }
        let (symbol, used) = next(padded);
        if used > known {
            return Err(HpackError::Padding);
        }
        put(room, length, symbol)?;
        length += 1;
        bits <<= used;
        known -= used;
    }
}

#[inline]
fn put(room: &mut [u8], at: usize, symbol: u16) -> Result<(), HpackError> {
    let byte = u8::try_from(symbol).map_err(|_| HpackError::EndOfString)?;
    if let Some(place) = room.get_mut(at) {
        *place = byte;
    }
    Ok(())
}

/// The symbol that the bits begin with, and how many they are.
#[inline]
fn next(bits: u64) -> (u16, u32) {
    let (symbol, length) = SHORT[(bits >> (u64::BITS - AT_ONCE)) as usize];
    if length > 0 { (u16::from(symbol), u32::from(length)) } else { long(bits) }
}

#[inline(never)]
fn long(bits: u64) -> (u16, u32) {
    let bits = (bits >> 32) as u32;
    let mut length = AT_ONCE + 1;
    while bits > CODES.lasts[length as usize] {
        length += 1;
    }
    let behind = (CODES.lasts[length as usize] - bits) >> (32 - length);
    (CODES.symbols[CODES.counts[length as usize] - 1 - behind as usize], length)
}

/// How many bits are looked up at once.
const AT_ONCE: u32 = 8;
/// The lengths of codes, in bits.
const SHORTEST: usize = 5;
const LONGEST: u32 = 30;

/// What eight bits begin with: a symbol and the length of its code; 0: it is longer.
static SHORT: [(u8, u8); 1 << AT_ONCE] = {
    let (mut short, mut at, mut filled) = ([(0, 0); 1 << AT_ONCE], 0, 0);
    while LENGTHS[CODES.symbols[at] as usize] as u32 <= AT_ONCE {
        let length = LENGTHS[CODES.symbols[at] as usize];
        let mut left = 1 << (AT_ONCE - length as u32);
        while left > 0 {
            short[filled] = (symbol(at), length);
            filled += 1;
            left -= 1;
        }
        at += 1;
    }
    short
};

#[expect(clippy::cast_possible_truncation, reason = "the end's code is a long one")]
const fn symbol(at: usize) -> u8 {
    CODES.symbols[at] as u8
}

/// The codes in their order, which is that of their lengths, and of the symbols where these are the same.
struct Codes {
    symbols: [u16; LENGTHS.len()],
    /// How many there are up to each length.
    counts: [usize; LONGEST as usize + 1],
    /// The last one of each length, or of those below, in the upper ones of 32 bits, with ones behind.
    lasts: [u32; LONGEST as usize + 1],
}

static CODES: Codes = {
    let mut codes =
        Codes { symbols: [0; LENGTHS.len()], counts: [0; LONGEST as usize + 1], lasts: [0; LONGEST as usize + 1] };
    let (mut length, mut count, mut end) = (1, 0, 0_u32);
    while length <= LONGEST {
        let mut symbol = 0;
        while (symbol as usize) < LENGTHS.len() {
            if LENGTHS[symbol as usize] as u32 == length {
                codes.symbols[count] = symbol;
                count += 1;
                end = end.wrapping_add(1 << (32 - length));
            }
            symbol += 1;
        }
        codes.counts[length as usize] = count;
        codes.lasts[length as usize] = end.wrapping_sub(1);
        length += 1;
    }
    assert!(end == 0 && count == LENGTHS.len(), "the codes leave something out");
    codes
};

/// How many bits the code of each symbol has; the last one is the end's. The codes follow from these: each is the next one
/// in their order. Source: RFC 7541 Appendix B.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];
