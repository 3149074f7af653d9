//! The code of strings: two symbols are looked up at once where both are letters or the like. Source: RFC 7541 §5.2
//! and Appendix B.

use super::HpackError;

/// Decodes it behind what `out` holds, at most so many bytes of it, and says how many it has.
///
/// # Errors
/// It is no whole number of symbols with ones behind, or has the symbol of the end.
pub(super) fn decode(code: &[u8], out: &mut Vec<u8>, most: usize) -> Result<usize, HpackError> {
    let start = out.len();
    out.resize(start + most.min(code.len() * 8 / SHORTEST as usize), 0);
    let room = &mut out[start..];
    let written = fill(code, room);
    let kept = written.unwrap_or(0).min(room.len());
    out.truncate(start + kept);
    written
}

/// Puts a string into code behind what `out` holds, a bit at a time.
#[cfg(test)]
pub(super) fn encode(string: &[u8], out: &mut Vec<u8>) {
    let mut bits = Vec::new();
    for byte in string {
        let length = u32::from(LENGTHS[usize::from(*byte)]);
        let behind =
            CODES.symbols[..CODES.counts[length as usize]].iter().rev().position(|one| *one == u16::from(*byte));
        let code = (CODES.lasts[length as usize] >> (32 - length)) - u32::try_from(behind.unwrap()).unwrap();
        bits.extend((0..length).rev().map(|at| code >> at & 1));
    }
    bits.resize(bits.len().next_multiple_of(8), 1);
    out.extend(bits.chunks(8).map(|byte| byte.iter().fold(0, |all, bit| all << 1 | u8::from(*bit == 1))));
}

fn fill(code: &[u8], room: &mut [u8]) -> Result<usize, HpackError> {
    // The next bits, highest first, and how many of them are the code's.
    let (mut bits, mut known) = (0_u64, 0);
    let (mut rest, mut length) = (code, 0);
    while let Some(word) = rest.first_chunk() {
        // What is below the known bits comes once more with the next word, and is the same.
        bits |= u64::from_be_bytes(*word) >> known;
        let taken = (u64::BITS - 1 - known) / 8;
        known += 8 * taken;
        rest = &rest[taken as usize..];
        // As often as there are bits for it, whatever they are: to ask each time costs more than to look.
        for _ in 0..(u64::BITS - 8) / AT_ONCE {
            let used = take(bits, room, &mut length);
            if used == 0 {
                break;
            }
            bits <<= used;
            known -= used;
        }
        if known >= LONGEST {
            let used = take_one(bits, known, room, &mut length)?;
            bits <<= used;
            known -= used;
        }
    }
    while let Some((byte, behind)) = rest.split_first() {
        while known > u64::BITS - 16 {
            let used = take_one(bits, known, room, &mut length)?;
            bits <<= used;
            known -= used;
        }
        bits |= u64::from(*byte) << (u64::BITS - 8 - known);
        known += 8;
        rest = behind;
    }
    loop {
        let padded = bits | u64::MAX >> known;
        if known < 8 && padded == u64::MAX {
            return Ok(length);
        }
        let used = match PAIRS[(padded >> (u64::BITS - AT_ONCE)) as usize].used {
            used if (1..=known).contains(&u32::from(used)) => take(padded, room, &mut length),
            _ => take_one(padded, known, room, &mut length)?,
        };
        bits <<= used;
        known -= used;
    }
}

/// Puts down one symbol or two that the bits begin with, and says how many bits these are; 0: the first one has more.
#[inline]
fn take(bits: u64, room: &mut [u8], length: &mut usize) -> u32 {
    let (pair, at) = (&PAIRS[(bits >> (u64::BITS - AT_ONCE)) as usize], *length);
    *length += usize::from(pair.count);
    // What is put down where there is no second one is overwritten.
    match room.get_mut(at..at + 2) {
        Some(place) => place.copy_from_slice(&pair.symbols),
        None => room.iter_mut().skip(at).zip(pair.symbols).for_each(|(place, symbol)| *place = symbol),
    }
    u32::from(pair.used)
}

#[inline(never)]
fn take_one(bits: u64, known: u32, room: &mut [u8], length: &mut usize) -> Result<u32, HpackError> {
    let is_long = PAIRS[(bits >> (u64::BITS - AT_ONCE)) as usize].used == 0;
    let (symbol, used) = first((bits >> 32) as u32, if is_long { AT_ONCE + 1 } else { SHORTEST });
    if used > known {
        return Err(HpackError::Padding);
    }
    let byte = u8::try_from(symbol).map_err(|_| HpackError::EndOfString)?;
    if let Some(place) = room.get_mut(*length) {
        *place = byte;
    }
    *length += 1;
    Ok(used)
}

/// The symbol that the bits begin with, and how many they are, which is no less than `length`.
const fn first(bits: u32, mut length: u32) -> (u16, u32) {
    while bits > CODES.lasts[length as usize] {
        length += 1;
    }
    let behind = (CODES.lasts[length as usize] - bits) >> (32 - length);
    (CODES.symbols[CODES.counts[length as usize] - 1 - behind as usize], length)
}

/// How many bits are looked up at once.
const AT_ONCE: u32 = 12;
/// The lengths of codes, in bits.
const SHORTEST: u32 = 5;
const LONGEST: u32 = 30;

/// What so many bits begin with.
#[derive(Clone, Copy)]
struct Pair {
    symbols: [u8; 2],
    /// Bits of both; 0: not even one symbol is whole.
    used: u8,
    count: u8,
}

/// Letters have six bits or so, and two of them are found at once.
#[expect(clippy::cast_possible_truncation, reason = "codes of so few bits are those of ASCII")]
static PAIRS: [Pair; 1 << AT_ONCE] = {
    let mut pairs = [Pair { symbols: [0; 2], used: 0, count: 0 }; 1 << AT_ONCE];
    let mut at = 0;
    while at < pairs.len() {
        let mut used = 0;
        while pairs[at].count < 2 {
            // Ones behind, which no symbol that is whole needs.
            let (symbol, length) =
                first(((at as u32) << (32 - AT_ONCE) | u32::MAX >> AT_ONCE) << used | ((1 << used) - 1), SHORTEST);
            if used + length > AT_ONCE {
                break;
            }
            used += length;
            pairs[at].symbols[pairs[at].count as usize] = symbol as u8;
            pairs[at].used = used as u8;
            pairs[at].count += 1;
        }
        at += 1;
    }
    pairs
};

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
