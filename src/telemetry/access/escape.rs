//! What clients wrote, within the quotes of a line of the access log: escaped, so that a line is one line, and no text can
//! pass for another field.

use std::io::Write as _;

use crate::model::text::{each, words};

/// Writes a text of JSON, and the quotes that end it.
pub fn text(out: &mut Vec<u8>, value: &[u8]) {
    // To stop at the first that is not costs more than to look at all.
    if is_plain(value) {
        out.extend_from_slice(value);
    } else {
        escaped(out, value);
    }
    out.push(b'"');
}

#[cold]
fn escaped(out: &mut Vec<u8>, value: &[u8]) {
    for c in String::from_utf8_lossy(value).chars() {
        match c {
            '"' | '\\' => out.extend_from_slice(&[b'\\', if c == '"' { b'"' } else { b'\\' }]),
            // The separators of Unicode end a line to some readers.
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
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

/// Whether all bytes are `PLAIN`: eight at a time, by arithmetic that sets the highest bit of a byte that is not.
fn is_plain(value: &[u8]) -> bool {
    let Some(words) = words(value) else { return value.iter().all(|&byte| PLAIN[usize::from(byte)]) };
    let odd = words.fold(0, |odd, word| {
        // Only what stands above one that is not plain itself can be taken for another.
        let is = |byte| (word ^ each(byte)).wrapping_sub(each(1));
        odd | word | word.wrapping_sub(each(b' ')) | word.wrapping_add(each(1)) | is(b'"') | is(b'\\')
    });
    odd & each(0x80) == 0
}

/// Visible ASCII as it is, but for what would end the quotes; all else as `\xHH`, as nginx does.
pub fn quoted(out: &mut Vec<u8>, value: &[u8]) {
    for &byte in value {
        if PLAIN[usize::from(byte)] {
            out.push(byte);
        } else {
            let _ = write!(out, "\\x{byte:02X}");
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
