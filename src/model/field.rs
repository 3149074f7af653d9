//! The name of a field of a message.

use std::{fmt, ops::Deref};

use http::HeaderName;

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
        Self { name: HeaderName::from_static(name), text, length: at + 2 }
    }

    /// The name.
    #[must_use]
    pub const fn name(&self) -> &HeaderName {
        &self.name
    }
}

impl Name {
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
