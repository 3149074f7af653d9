//! The name of a field of a message.

use std::{fmt, ops::Deref};

use http::HeaderName;

use super::known;

/// The name of a field.
#[derive(Clone)]
pub enum Name {
    /// One that many messages have: to name it again copies nothing.
    Usual(&'static Usual),
    /// Any.
    Own(HeaderName),
}

/// One of the names that many messages have, and how it stands in a head.
#[derive(Debug)]
pub struct Usual {
    name: HeaderName,
    /// With the colon and the blank behind it, and whatever behind these.
    text: [u8; LONGEST],
    length: usize,
    is_of_connection: bool,
    is_claim: bool,
    static_index: u8,
}

/// The longest of them with the colon and the blank, and a little more, so that all are copied by the same few steps.
const LONGEST: usize = 48;

impl Usual {
    /// The one of this name, which is in lower case.
    ///
    /// # Panics
    /// It is none, or too long.
    #[must_use]
    pub const fn of(name: &'static str) -> Self {
        let (bytes, mut text, mut at) = (name.as_bytes(), [b' '; LONGEST], 0);
        while at < bytes.len() {
            text[at] = bytes[at];
            at += 1;
        }
        text[at] = b':';
        let (is_of_connection, is_claim) = (is_of_connection(bytes), is_claim(bytes));
        let static_index = known::first(bytes);
        Self { name: HeaderName::from_static(name), text, length: at + 2, is_of_connection, is_claim, static_index }
    }

    /// The name.
    #[must_use]
    pub const fn name(&self) -> &HeaderName {
        &self.name
    }

    /// The index of its first entry in HPACK's static table; 0: it has none. Source: RFC 7541 Appendix A.
    #[inline]
    #[must_use]
    pub const fn static_index(&self) -> u8 {
        self.static_index
    }
}

impl Name {
    /// Whether it belongs to the connection that its message came on, whatever `Connection` says. Source: RFC 9110 §7.6.1.
    #[inline]
    #[must_use]
    pub fn is_of_connection(&self) -> bool {
        match self {
            Self::Usual(usual) => usual.is_of_connection,
            Self::Own(name) => is_of_connection(name.as_str().as_bytes()),
        }
    }

    /// Whether it is a claim about who a client is or how it came, or a spelling that an upstream might take for one.
    #[inline]
    #[must_use]
    pub fn is_claim(&self) -> bool {
        match self {
            Self::Usual(usual) => usual.is_claim,
            Self::Own(name) => is_claim(name.as_str().as_bytes()),
        }
    }

    /// The index of its first entry in HPACK's static table; 0: it has none, or it was not looked for. Source: RFC 7541
    /// Appendix A.
    #[inline]
    #[must_use]
    pub fn static_index(&self) -> u8 {
        match self {
            Self::Usual(usual) => usual.static_index,
            Self::Own(_) => 0,
        }
    }

    /// Writes it behind what `out` holds, with a colon and a blank.
    #[inline]
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Usual(usual) => {
                let length = out.len() + usual.length;
                out.extend_from_slice(&usual.text);
                out.truncate(length);
            }
            Self::Own(name) => {
                out.extend_from_slice(name.as_str().as_bytes());
                out.extend_from_slice(b": ");
            }
        }
    }
}

const fn is_of_connection(name: &[u8]) -> bool {
    matches!(
        name,
        b"connection"
            | b"keep-alive"
            | b"proxy-authenticate"
            | b"proxy-authorization"
            | b"proxy-connection"
            | b"te"
            | b"http2-settings"
            | b"trailer"
            | b"transfer-encoding"
            | b"upgrade"
    )
}

const fn is_claim(name: &[u8]) -> bool {
    let mut at = 0;
    while at < name.len() {
        if name[at] == b'_' {
            return true;
        }
        at += 1;
    }
    matches!(
        name,
        b"expect"
            | b"forwarded"
            | b"host"
            | b"x-forwarded"
            | b"x-real-ip"
            | [b'x', b'-', b'f', b'o', b'r', b'w', b'a', b'r', b'd', b'e', b'd', b'-', ..]
    )
}

impl Deref for Name {
    type Target = HeaderName;

    #[inline]
    fn deref(&self) -> &HeaderName {
        match self {
            Self::Usual(usual) => &usual.name,
            Self::Own(name) => name,
        }
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Name {}

impl From<HeaderName> for Name {
    #[inline]
    fn from(name: HeaderName) -> Self {
        Self::Own(name)
    }
}

impl From<&'static Usual> for Name {
    #[inline]
    fn from(usual: &'static Usual) -> Self {
        Self::Usual(usual)
    }
}

impl From<Name> for HeaderName {
    fn from(name: Name) -> Self {
        match name {
            Name::Usual(usual) => usual.name.clone(),
            Name::Own(name) => name,
        }
    }
}

/// What names fields. Text has to be in lower case.
pub trait Named {
    /// Whether it is this name.
    fn is(&self, name: &HeaderName) -> bool;
}

impl Named for HeaderName {
    #[inline]
    fn is(&self, name: &HeaderName) -> bool {
        self == name
    }
}

impl Named for &HeaderName {
    #[inline]
    fn is(&self, name: &HeaderName) -> bool {
        *self == name
    }
}

impl Named for &str {
    #[inline]
    fn is(&self, name: &HeaderName) -> bool {
        *self == name.as_str()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static USUAL: [Usual; 6] = [
        Usual::of("accept"),
        Usual::of("host"),
        Usual::of("keep-alive"),
        Usual::of("te"),
        Usual::of("x-forwarded-proto"),
        Usual::of("access-control-allow-credentials"),
    ];

    #[test]
    fn a_usual_name_is_what_any_of_that_name_is_and_is_written_so() {
        for usual in &USUAL {
            let (known, own) = (Name::from(usual), Name::from(usual.name().clone()));
            assert_eq!(known, own);
            assert_eq!(
                (known.is_of_connection(), known.is_claim()),
                (own.is_of_connection(), own.is_claim()),
                "{own:?}"
            );
            let written = [known, own].map(|name| {
                let mut out = b"before".to_vec();
                name.write(&mut out);
                String::from_utf8(out).unwrap()
            });
            assert_eq!(written, [(); 2].map(|()| format!("before{}: ", usual.name())));
        }
    }

    #[test]
    fn claims_are_told_by_their_beginning_and_by_what_others_read_as_a_dash() {
        for (name, expected) in [
            ("x-forwarded-", true),
            ("x-forwarded-any", true),
            ("x-forwarded", true),
            ("x-forwardedfor", false),
            ("x_forwarded_for", true),
            ("a_", true),
            ("a", false),
            ("hosts", false),
        ] {
            assert_eq!(Name::from(HeaderName::from_static(name)).is_claim(), expected, "{name}");
        }
    }
}
