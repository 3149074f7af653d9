//! The line that begins a chunk: its size, and extensions, which are checked and dropped. Source: RFC 9112 §7.1.

use super::{
    body::BodyError,
    head::{is_blank, is_token},
};

/// Reads a chunk's line without its CRLF.
pub(super) fn read_size(line: &[u8]) -> Result<u64, BodyError> {
    let digits = line.iter().position(|b| !b.is_ascii_hexdigit()).unwrap_or(line.len());
    if digits == 0 {
        return Err(BodyError::ChunkSize);
    }
    let mut size = 0u64;
    for &digit in &line[..digits] {
        if size > MAX_SIZE >> 4 || digits > MAX_DIGITS {
            return Err(BodyError::ChunkTooLarge);
        }
        size = size << 4 | u64::from(value(digit));
    }
    match &line[digits..] {
        [] => Ok(size),
        extensions => are_extensions(extensions).then_some(size).ok_or(BodyError::ChunkExtension),
    }
}

fn value(hex_digit: u8) -> u8 {
    match hex_digit {
        b'0'..=b'9' => hex_digit - b'0',
        _ => (hex_digit | 0x20) - b'a' + 10,
    }
}

/// `*( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] )`
fn are_extensions(mut rest: &[u8]) -> bool {
    while !rest.is_empty() {
        let [b';', name @ ..] = skip_blanks(rest) else { return false };
        let Some(after) = skip_token(skip_blanks(name)) else { return false };
        rest = after;
        if let [b'=', value @ ..] = skip_blanks(rest) {
            let value = skip_blanks(value);
            let after = if value.first() == Some(&b'"') { skip_quoted(&value[1..]) } else { skip_token(value) };
            let Some(after) = after else { return false };
            rest = after;
        }
    }
    true
}

fn skip_blanks(bytes: &[u8]) -> &[u8] {
    let blanks = bytes.iter().position(|&b| !is_blank(b)).unwrap_or(bytes.len());
    &bytes[blanks..]
}

/// What follows a token; `None` if there is none.
fn skip_token(bytes: &[u8]) -> Option<&[u8]> {
    let length = bytes.iter().position(|&b| !is_token(b)).unwrap_or(bytes.len());
    (length > 0).then(|| &bytes[length..])
}

/// What follows a quoted string whose first quote is gone; `None` if it does not end or holds a control byte.
fn skip_quoted(mut bytes: &[u8]) -> Option<&[u8]> {
    loop {
        match bytes {
            [b'"', rest @ ..] => return Some(rest),
            [b'\\', escaped, rest @ ..] if is_text(*escaped) => bytes = rest,
            [byte, rest @ ..] if is_text(*byte) && *byte != b'\\' => bytes = rest,
            _ => return None,
        }
    }
}

fn is_text(byte: u8) -> bool {
    byte == b'\t' || !byte.is_ascii_control()
}

/// What fits a signed number, as others read it.
const MAX_SIZE: u64 = i64::MAX.unsigned_abs();
/// Leading zeros are no reason to read on for ever.
const MAX_DIGITS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_hexadecimal_digits_that_fit() {
        for (line, expected) in [
            ("0", Ok(0)),
            ("000", Ok(0)),
            ("9", Ok(9)),
            ("aF", Ok(0xaf)),
            ("0000000000000010", Ok(16)),
            ("7fffffffffffffff", Ok(MAX_SIZE)),
            ("8000000000000000", Err(BodyError::ChunkTooLarge)),
            ("ffffffffffffffff", Err(BodyError::ChunkTooLarge)),
            ("10000000000000000", Err(BodyError::ChunkTooLarge)),
            ("00000000000000010", Err(BodyError::ChunkTooLarge)),
            ("", Err(BodyError::ChunkSize)),
            (";a", Err(BodyError::ChunkSize)),
            (" 5", Err(BodyError::ChunkSize)),
            ("+5", Err(BodyError::ChunkSize)),
            ("-5", Err(BodyError::ChunkSize)),
            ("g", Err(BodyError::ChunkSize)),
            ("0x5", Err(BodyError::ChunkExtension)),
            ("5g", Err(BodyError::ChunkExtension)),
            ("5 5", Err(BodyError::ChunkExtension)),
            ("5_0", Err(BodyError::ChunkExtension)),
        ] {
            assert_eq!(read_size(line.as_bytes()), expected, "{line:?}");
        }
    }

    #[test]
    fn extensions_are_dropped_when_they_are_well_formed() {
        for extensions in [
            "",
            ";a",
            ";a=b",
            " ; a = b",
            "\t;a",
            ";a;b=c;d",
            ";a=\"b;\tc\\\"\"",
            ";a=\"\"",
            ";a=\"\";b",
            ";a=\"\u{e9}\"",
        ] {
            assert_eq!(read_size(format!("5{extensions}").as_bytes()), Ok(5), "{extensions:?}");
        }
        for extensions in [
            " ",
            "\t",
            ";",
            "; ",
            ";a;",
            ";a=",
            ";=b",
            ";a b",
            ";a=b ",
            ";a=\"b",
            ";a=\"b\\",
            ";a=\"b\"c",
            ";a\0",
            ";\r",
            ";a=\"\r\"",
            ";a=\"\\\0\"",
            ";\u{e9}",
            "\r",
            ",a",
        ] {
            let found = read_size(format!("5{extensions}").as_bytes());
            assert_eq!(found, Err(BodyError::ChunkExtension), "{extensions:?}");
        }
    }
}
