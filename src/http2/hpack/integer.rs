//! Integers, which begin within a byte that says more. Source: RFC 7541 §5.1.

use super::HpackError;

/// Reads the one that begins in the lowest `prefix` bits of the byte there, and moves behind it.
///
/// # Errors
/// It has no end, or is too large.
#[inline]
pub(super) fn read(block: &[u8], at: &mut usize, prefix: u32) -> Result<usize, HpackError> {
    let first = *block.get(*at).ok_or(HpackError::Truncated)?;
    *at += 1;
    let most = u8::MAX >> (8 - prefix);
    let value = first & most;
    if value < most { Ok(usize::from(value)) } else { read_long(block, at, value) }
}

#[inline(never)]
fn read_long(block: &[u8], at: &mut usize, prefix: u8) -> Result<usize, HpackError> {
    let mut value = u64::from(prefix);
    for shift in [0, 7, 14, 21, 28] {
        let byte = *block.get(*at).ok_or(HpackError::Truncated)?;
        *at += 1;
        value += u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return u32::try_from(value).map(|value| value as usize).map_err(|_| HpackError::Integer);
        }
    }
    Err(HpackError::Integer)
}

/// Writes it behind what `out` holds, with these flags above the prefix.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "what is above seven bits is written next")]
pub(super) fn write(out: &mut Vec<u8>, flags: u8, prefix: u32, value: usize) {
    let most = usize::from(u8::MAX >> (8 - prefix));
    if value < most {
        return out.push(flags | value as u8);
    }
    out.push(flags | most as u8);
    let mut rest = value - most;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}
