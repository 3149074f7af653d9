//! The one form of a request path, in which it is matched, authorised and forwarded.
//! Nothing is decoded twice: what comes out is as encoded as what came in. Queries are not ours.

use std::{borrow::Cow, fmt::Write as _};

/// Brings a path (without its query) to its one form: percent-encoded unreserved bytes decoded,
/// other escapes in capitals, bytes that no path may hold escaped, dot segments resolved.
/// `%2F` and empty segments stay. A path that has this form already is given back as it is.
///
/// # Errors
/// A path that servers read in different ways, so that what we match might not be what they serve.
///
/// Source: RFC 3986 §6.2.2.
pub fn normalize(path: &str) -> Result<Cow<'_, str>, PathError> {
    if !path.starts_with('/') {
        return Err(PathError::Relative);
    }
    let mut before = 0;
    for &byte in path.as_bytes() {
        // A leading dot may make a dot segment; anywhere else it is a letter like others.
        if KIND[usize::from(byte)] != PLAIN || (byte == b'.' && before == b'/') {
            return rewrite(path);
        }
        before = byte;
    }
    Ok(Cow::Borrowed(path))
}

/// Text as one path segment: all but unreserved bytes escaped.
#[must_use]
pub fn encode_segment(text: &str) -> String {
    let mut segment = String::with_capacity(text.len());
    for byte in text.bytes() {
        if is_unreserved(byte) {
            segment.push(char::from(byte));
        } else {
            escape(&mut segment, byte);
        }
    }
    segment
}

/// Adds `byte` as `%XX`.
pub(super) fn escape(text: &mut String, byte: u8) {
    // Writing to a string cannot fail.
    let _ = write!(text, "%{byte:02X}");
}

/// Why a path is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// The first byte is no slash.
    #[error("a path starts with `/`")]
    Relative,
    /// More `..` than segments before them.
    #[error("`..` climbs out of the root")]
    ClimbsOut,
    /// `..;`, or dots beside `%2F`: some servers resolve these, others do not.
    #[error("dots beside `;` or `%2F` mean different things to different servers")]
    HiddenDots,
    /// `\` or `%5C`, which some servers take for a slash.
    #[error("a backslash, or `%5C`, has no place in a path")]
    Backslash,
    /// `%00`.
    #[error("`%00` has no place in a path")]
    Nul,
    /// A percent sign that two hexadecimal digits do not follow.
    #[error("`%` is followed by two hexadecimal digits")]
    Percent,
    /// The escapes are not UTF-8, or not in its shortest form.
    #[error("the escaped bytes are not UTF-8")]
    Utf8,
    /// A control byte, blank, `?`, `#`, or byte beyond ASCII, not escaped.
    #[error("`{}` has to be percent-encoded", .0.escape_ascii())]
    Raw(u8),
}

/// The long way, for a path that may not have its form yet.
fn rewrite(path: &str) -> Result<Cow<'_, str>, PathError> {
    let escaped = unescape(path)?;
    let mut out = String::with_capacity(escaped.len());
    let mut segments = escaped[1..].split('/').peekable();
    while let Some(segment) = segments.next() {
        if segment != "." && segment != ".." {
            if hides_dots(segment) {
                return Err(PathError::HiddenDots);
            }
            out.push('/');
            out.push_str(segment);
            continue;
        }
        if segment == ".." {
            let parent = out.rfind('/').ok_or(PathError::ClimbsOut)?;
            out.truncate(parent);
        }
        // A dot segment at the end names a directory: `/a/b/..` is `/a/`.
        if segments.peek().is_none() {
            out.push('/');
        }
    }
    Ok(if out == path { Cow::Borrowed(path) } else { Cow::Owned(out) })
}

/// Escapes in their one form, without regard to segments.
pub(super) fn unescape(path: &str) -> Result<String, PathError> {
    let mut out = String::with_capacity(path.len() + 16);
    let mut decoded = Vec::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        match KIND[usize::from(byte)] {
            PLAIN => {
                out.push(char::from(byte));
                decoded.push(byte);
            }
            ESCAPE => {
                escape(&mut out, byte);
                decoded.push(byte);
            }
            PERCENT => {
                let high = bytes.next().and_then(hex).ok_or(PathError::Percent)?;
                let low = bytes.next().and_then(hex).ok_or(PathError::Percent)?;
                let value = high << 4 | low;
                match value {
                    0 => return Err(PathError::Nul),
                    b'\\' => return Err(PathError::Backslash),
                    _ if is_unreserved(value) => out.push(char::from(value)),
                    _ => escape(&mut out, value),
                }
                decoded.push(value);
            }
            BACKSLASH => return Err(PathError::Backslash),
            _ => return Err(PathError::Raw(byte)),
        }
    }
    std::str::from_utf8(&decoded).map_err(|_| PathError::Utf8)?;
    Ok(out)
}

/// Whether a server that decodes `%2F`, or cuts parameters at `;`, would see a dot segment here.
fn hides_dots(segment: &str) -> bool {
    segment.contains('.')
        && segment.split("%2F").any(|part| {
            let bare = part.split("%3B").next().unwrap_or(part);
            let bare = bare.split(';').next().unwrap_or(bare);
            bare == "." || bare == ".."
        })
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

const PLAIN: u8 = 0;
const PERCENT: u8 = 1;
const ESCAPE: u8 = 2;
const BACKSLASH: u8 = 3;
const REFUSE: u8 = 4;

/// What to do with each byte of a path.
const KIND: [u8; 256] = {
    let mut kinds = [REFUSE; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        kinds[byte as usize] = match byte {
            b'%' => PERCENT,
            b'\\' => BACKSLASH,
            b'"' | b'<' | b'>' | b'[' | b']' | b'^' | b'`' | b'{' | b'|' | b'}' => ESCAPE,
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' | b':' | b'@' | b'/' => PLAIN,
            _ if is_unreserved(byte) => PLAIN,
            _ => REFUSE,
        };
        byte += 1;
    }
    kinds
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_path_is_brought_to_its_one_form() {
        let cases = [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/%61%7E%2d%2E%5F", "/a~-._"),
            ("/a%2fb", "/a%2Fb"),
            ("/%c3%a9", "/%C3%A9"),
            ("/a%20b", "/a%20b"),
            ("/%0d%0a", "/%0D%0A"),
            ("/a%2525", "/a%2525"),
            ("/%252e%252e/a", "/%252e%252e/a"),
            ("/a!$&'()*+,;=:@", "/a!$&'()*+,;=:@"),
            ("/a%21", "/a%21"),
            ("/a|b{c}[d]", "/a%7Cb%7Bc%7D%5Bd%5D"),
            ("//a///b//", "//a///b//"),
            ("/.", "/"),
            ("/./", "/"),
            ("/a/.", "/a/"),
            ("/a/./b", "/a/b"),
            ("/a/..", "/"),
            ("/a/../", "/"),
            ("/a/b/..", "/a/"),
            ("/a/b/../", "/a/"),
            ("/a/b/../c", "/a/c"),
            ("/a/b/../../c", "/c"),
            ("/a/%2e%2E/b", "/b"),
            ("/a/.%2e/b", "/b"),
            ("/a/%2e/b", "/a/b"),
            ("/a//../b", "/a/b"),
            ("//..", "/"),
            ("//../a", "/a"),
            ("/a/..//b", "//b"),
            ("/...", "/..."),
            ("/.a/..b/c..", "/.a/..b/c.."),
            ("/a;b=../c", "/a;b=../c"),
            ("/a.%2Fb", "/a.%2Fb"),
        ];
        for (path, want) in cases {
            assert_eq!(normalize(path).as_deref(), Ok(want), "{path}");
        }
    }

    #[test]
    fn a_path_that_has_its_form_is_not_copied() {
        for path in ["/", "/api/v1/users/1", "//a//", "/a.b/c..", "/a%20b/%C3%A9", "/.well-known/x"] {
            assert!(matches!(normalize(path), Ok(Cow::Borrowed(_))), "{path}");
        }
    }

    #[test]
    fn a_hostile_path_is_refused() {
        use PathError::{Backslash, ClimbsOut, HiddenDots, Nul, Percent, Raw, Relative, Utf8};
        let cases = [
            ("", Relative),
            ("a", Relative),
            ("*", Relative),
            ("http://x/", Relative),
            ("/..", ClimbsOut),
            ("/../a", ClimbsOut),
            ("/a/../..", ClimbsOut),
            ("/a/../../b", ClimbsOut),
            ("/%2e%2e/a", ClimbsOut),
            ("/./../a", ClimbsOut),
            ("/a/..;/b", HiddenDots),
            ("/a/..;x=1/b", HiddenDots),
            ("/a/%2e%2e;/b", HiddenDots),
            ("/a/..%3b/b", HiddenDots),
            ("/a/.;/b", HiddenDots),
            ("/a/..%2fb", HiddenDots),
            ("/a%2f..", HiddenDots),
            ("/a%2F..%2Fb", HiddenDots),
            ("/a/%2e%2e%2fb", HiddenDots),
            ("/a%2f.%2fb", HiddenDots),
            ("/a%2f..;x", HiddenDots),
            ("/a\\b", Backslash),
            ("/a/..\\b", Backslash),
            ("/a%5cb", Backslash),
            ("/a%5Cb", Backslash),
            ("/a%00", Nul),
            ("/%", Percent),
            ("/%a", Percent),
            ("/%zz", Percent),
            ("/%+1", Percent),
            ("/%%31", Percent),
            ("/%c3", Utf8),
            ("/%c3a", Utf8),
            ("/%c0%af", Utf8),
            ("/%c0%ae%c0%ae/a", Utf8),
            ("/%e0%80%af", Utf8),
            ("/%ed%a0%80", Utf8),
            ("/%ff", Utf8),
            ("/a b", Raw(b' ')),
            ("/a\tb", Raw(b'\t')),
            ("/a\0b", Raw(0)),
            ("/a\u{7f}", Raw(0x7f)),
            ("/é", Raw(0xc3)),
            ("/a?b", Raw(b'?')),
            ("/a#b", Raw(b'#')),
        ];
        for (path, want) in cases {
            assert_eq!(normalize(path), Err(want), "{path}");
        }
    }

    #[test]
    fn a_segment_holds_any_text() {
        assert_eq!(encode_segment("user-service"), "user-service");
        assert_eq!(encode_segment("a/b é%"), "a%2Fb%20%C3%A9%25");
    }

    fn hostile() -> impl Strategy<Value = String> {
        let part = prop_oneof![
            Just("/".to_owned()),
            Just(".".to_owned()),
            Just("..".to_owned()),
            Just("%2e".to_owned()),
            Just("%2f".to_owned()),
            Just("%25".to_owned()),
            Just(";".to_owned()),
            Just("%3b".to_owned()),
            Just("%c3%a9".to_owned()),
            "[ -~]",
            "%[0-9a-fA-F]{2}",
            "[a-c0-9]{1,3}",
        ];
        proptest::collection::vec(part, 0..16).prop_map(|parts| format!("/{}", parts.concat()))
    }

    proptest! {
        #[test]
        fn the_form_of_a_form_is_itself(path in hostile()) {
            if let Ok(form) = normalize(&path) {
                prop_assert!(matches!(normalize(&form), Ok(Cow::Borrowed(same)) if same == form), "{} {}", path, form);
            }
        }

        #[test]
        fn no_form_has_a_dot_segment_however_read(path in hostile()) {
            if let Ok(form) = normalize(&path) {
                let decoded = percent_encoding::percent_decode_str(&form).decode_utf8().unwrap();
                let climbs = |part: &str| matches!(part.split(';').next(), Some("." | ".."));
                prop_assert!(form.starts_with('/') && !decoded.split(['/', '\\', '\0']).any(climbs), "{} {}", path, form);
            }
        }
    }
}
