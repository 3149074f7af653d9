//! Text that others wrote as a part of one line: nothing in it ends the line, or tells the terminal anything.

use std::borrow::Cow;

/// The text with all that is odd escaped, as `\n` or `\u{1b}`.
#[must_use]
pub fn one(text: &str) -> Cow<'_, str> {
    if !text.contains(is_odd) {
        return text.into();
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_odd(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out.into()
}

/// The separators of Unicode are no control characters, yet line ends to some readers.
#[must_use]
pub fn is_odd(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_ends_a_line_or_moves_the_cursor() {
        assert_eq!(one("Zürich – `a\\b`"), "Zürich – `a\\b`");
        assert_eq!(one("a\nb\r\u{1b}[8m\u{9b}\u{2028}c"), "a\\nb\\r\\u{1b}[8m\\u{9b}\\u{2028}c");
    }
}
