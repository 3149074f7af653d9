//! What clients wrote, within the quotes of a line of the access log: escaped, so that a line is one line, and no text can
//! pass for another field.

use std::fmt::Write as _;

use super::pen::Pen;
use crate::model::text::{each, words};

/// Writes a text of JSON, but for the quotes that end it.
#[expect(clippy::inline_always, reason = "the pen is to stay in registers")]
#[inline(always)]
pub fn text(pen: &mut Pen<'_>, value: &[u8]) {
    plain_or(pen, value, escaped);
}

/// Writes it as it is, or in this way where it is not all plain.
#[expect(clippy::inline_always, reason = "the pen is to stay in registers")]
#[inline(always)]
fn plain_or(pen: &mut Pen<'_>, value: &[u8], write: fn(&mut Pen<'_>, &[u8])) {
    // To stop at the first that is not costs more than to look at all.
    if is_plain(value) {
        pen.few(value);
    } else {
        pen.aside(|pen| write(pen, value));
    }
}

#[cold]
#[inline(never)]
fn escaped(pen: &mut Pen<'_>, value: &[u8]) {
    for c in String::from_utf8_lossy(value).chars() {
        match c {
            '"' => pen.put(b"\\\""),
            '\\' => pen.put(b"\\\\"),
            // The separators of Unicode end a line to some readers.
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => {
                let _ = write!(pen, "\\u{:04x}", u32::from(c));
            }
            c => pen.word(c.encode_utf8(&mut [0; 4])),
        }
    }
}

/// Visible ASCII and the blank, but for what would end the quotes.
const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = b' ';
    while byte <= b'~' {
        plain[byte as usize] = byte != b'"' && byte != b'\\';
        byte += 1;
    }
    plain
};

/// Whether all bytes are `PLAIN`. Most texts are no longer than two words.
#[inline]
fn is_plain(value: &[u8]) -> bool {
    let odd = match (value.first_chunk(), value.last_chunk()) {
        (Some(first), Some(last)) if value.len() <= 16 => {
            odd(u64::from_ne_bytes(*first)) | odd(u64::from_ne_bytes(*last))
        }
        _ => match words(value) {
            Some(words) => words.fold(0, |all, word| all | odd(word)),
            None => return value.iter().all(|&byte| PLAIN[usize::from(byte)]),
        },
    };
    odd & each(0x80) == 0
}

/// Has the highest bit of each byte set that is not `PLAIN`, and of others only above such a one.
#[inline]
const fn odd(word: u64) -> u64 {
    let quote = (word ^ each(b'"')).wrapping_sub(each(1));
    let backslash = (word ^ each(b'\\')).wrapping_sub(each(1));
    word | word.wrapping_sub(each(b' ')) | word.wrapping_add(each(1)) | quote | backslash
}

/// Visible ASCII as it is, but for what would end the quotes; all else as `\xHH`, as nginx does.
#[expect(clippy::inline_always, reason = "the pen is to stay in registers")]
#[inline(always)]
pub fn quoted(pen: &mut Pen<'_>, value: &[u8]) {
    plain_or(pen, value, in_hexadecimal);
}

#[cold]
#[inline(never)]
fn in_hexadecimal(pen: &mut Pen<'_>, value: &[u8]) {
    for &byte in value {
        if PLAIN[usize::from(byte)] {
            pen.put(&[byte]);
        } else {
            let _ = write!(pen, "\\x{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_plain_is_seen_wherever_it_stands() {
        for byte in 0..=u8::MAX {
            for length in 1..=17 {
                for place in 0..length {
                    for beside in [b' ', b'~', b'!', b'#', b'[', b']'] {
                        let mut value = vec![beside; length];
                        value[place] = byte;
                        assert_eq!(is_plain(&value), PLAIN[usize::from(byte)], "{}", value.escape_ascii());
                    }
                }
            }
        }
        assert!(is_plain(b""));
    }
}
