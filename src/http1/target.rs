//! The request target: path and query as they came, not normalised, and which of RFC 9112 §3.2's forms they came in.

use std::{fmt, ops::Range};

use bytes::Bytes;
use http::Method;
use thiserror::Error;

use super::{
    ascii,
    host::{self, HostError},
};
use crate::model::text::find;

/// The forms of RFC 9112 §3.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `/path?query`
    Origin,
    /// `http://host/path?query`
    Absolute,
    /// `*`, of OPTIONS alone; also OPTIONS of an absolute target without path and query.
    Asterisk,
    /// `host:port`, of CONNECT alone; it has neither path nor query.
    Authority,
}

/// Path and query of a request, without the authority: that is the head's `host`.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    form: Form,
    text: Bytes,
    path_end: usize,
}

/// What is wrong with a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TargetError {
    /// A control byte, DEL or a byte above ASCII.
    #[error("the request target holds a byte that must be percent-encoded")]
    Byte,
    /// A fragment is for the client alone.
    #[error("the request target has a fragment")]
    Fragment,
    /// None of the forms that this method may have.
    #[error("the request target is neither a path nor an http URL")]
    Form,
    /// CONNECT names no port.
    #[error("the request target of CONNECT is not a host and a port")]
    Connect,
    /// The authority of an absolute target, or CONNECT's.
    #[error(transparent)]
    Host(#[from] HostError),
}

impl Target {
    /// Which form the client chose.
    #[must_use]
    pub fn form(&self) -> Form {
        self.form
    }

    /// The path as it came; `/` for an absolute target without one.
    #[must_use]
    pub fn path(&self) -> &str {
        ascii(&self.text[..self.path_end])
    }

    /// What follows the first question mark, which may be nothing.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.text.get(self.path_end + 1..).map(ascii)
    }

    /// Path and query as they came.
    #[must_use]
    pub fn path_and_query(&self) -> &str {
        ascii(&self.text)
    }

    /// The same, to be kept.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.text
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Target").field(&self.form).field(&self.path_and_query()).finish()
    }
}

/// A checked target as places in the bytes that the request line began; `Target` follows when the whole head has come.
#[derive(Debug)]
pub(super) struct Parts {
    form: Form,
    text: Range<usize>,
    path_end: usize,
    /// Where the authority of an absolute target, or CONNECT's, lies.
    pub(super) authority: Option<Range<usize>>,
}

impl Parts {
    /// Checks the target that lies at `range` of `line`.
    pub(super) fn read(method: &Method, line: &[u8], range: Range<usize>) -> Result<Self, TargetError> {
        let target = &line[range.clone()];
        let (mut unseen, mut fragment) = (false, false);
        for &byte in target {
            unseen |= !byte.is_ascii_graphic();
            fragment |= byte == b'#';
        }
        if unseen {
            return Err(TargetError::Byte);
        }
        if fragment {
            return Err(TargetError::Fragment);
        }
        if *method == Method::CONNECT {
            return if host::check(target)? {
                Ok(Self { form: Form::Authority, text: 0..0, path_end: 0, authority: Some(range) })
            } else {
                Err(TargetError::Connect)
            };
        }
        if target.first() == Some(&b'/') {
            let path_end = find(target, b'?').unwrap_or(target.len());
            return Ok(Self { form: Form::Origin, text: range, path_end, authority: None });
        }
        if target == b"*" && *method == Method::OPTIONS {
            return Ok(Self { form: Form::Asterisk, text: range, path_end: 1, authority: None });
        }
        let authority = range.start + scheme(target).ok_or(TargetError::Form)?;
        let rest = &line[authority..range.end];
        let authority_end = authority + rest.iter().position(|&b| matches!(b, b'/' | b'?')).unwrap_or(rest.len());
        host::check(&line[authority..authority_end])?;
        let text = authority_end..range.end;
        let path_end = find(&line[text.clone()], b'?').unwrap_or(text.len());
        // RFC 9112 §3.2.4: how a client says `OPTIONS *` to a proxy.
        let form = if text.is_empty() && *method == Method::OPTIONS { Form::Asterisk } else { Form::Absolute };
        Ok(Self { form, text, path_end, authority: Some(authority..authority_end) })
    }

    /// The target as slices of `head`.
    pub(super) fn target(&self, head: &Bytes) -> Target {
        let text = head.slice(self.text.clone());
        match self.form {
            Form::Asterisk => Target { form: self.form, text: Bytes::from_static(b"*"), path_end: 1 },
            Form::Absolute if text.is_empty() => {
                Target { form: self.form, text: Bytes::from_static(b"/"), path_end: 1 }
            }
            Form::Absolute if self.path_end == 0 => {
                Target { form: self.form, text: [b"/", &text[..]].concat().into(), path_end: 1 }
            }
            Form::Origin | Form::Absolute | Form::Authority => {
                Target { form: self.form, text, path_end: self.path_end }
            }
        }
    }
}

/// The length of the scheme and its slashes, in any case.
fn scheme(target: &[u8]) -> Option<usize> {
    [b"http://".as_slice(), b"https://"]
        .into_iter()
        .find(|scheme| target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)))
        .map(<[u8]>::len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(method: &Method, target: &str) -> Result<(Target, Option<String>), TargetError> {
        let head = Bytes::from(format!("xx{target}yy"));
        let parts = Parts::read(method, &head, 2..head.len() - 2)?;
        let authority = parts.authority.clone().map(|at| ascii(&head[at]).to_owned());
        Ok((parts.target(&head), authority))
    }

    #[test]
    fn each_form_gives_path_query_and_authority() {
        let get = &Method::GET;
        let options = &Method::OPTIONS;
        for (method, target, form, path, query, authority) in [
            (get, "/", Form::Origin, "/", None, None),
            (get, "/a/../%41?x=1?y", Form::Origin, "/a/../%41", Some("x=1?y"), None),
            (get, "/a?", Form::Origin, "/a", Some(""), None),
            (get, "//evil/x", Form::Origin, "//evil/x", None, None),
            (get, "/http://b/", Form::Origin, "/http://b/", None, None),
            (get, "/a?u=user@b", Form::Origin, "/a", Some("u=user@b"), None),
            (get, "/|{}^`\"", Form::Origin, "/|{}^`\"", None, None),
            (get, "http://a", Form::Absolute, "/", None, Some("a")),
            (get, "HTTP://A:80/b?c", Form::Absolute, "/b", Some("c"), Some("A:80")),
            (get, "https://a?b/c", Form::Absolute, "/", Some("b/c"), Some("a")),
            (get, "http://[::1]:80/", Form::Absolute, "/", None, Some("[::1]:80")),
            (options, "*", Form::Asterisk, "*", None, None),
            (options, "http://a", Form::Asterisk, "*", None, Some("a")),
            (options, "http://a/", Form::Absolute, "/", None, Some("a")),
            (options, "/a", Form::Origin, "/a", None, None),
            (&Method::CONNECT, "a:443", Form::Authority, "", None, Some("a:443")),
        ] {
            let (found, host) = read(method, target).unwrap();
            assert_eq!((found.form(), found.path(), found.query()), (form, path, query), "{target}");
            assert_eq!(host.as_deref(), authority, "{target}");
        }
    }

    #[test]
    fn every_rule_for_a_target_has_its_error() {
        let get = &Method::GET;
        for (method, target, error) in [
            (get, "/a b", TargetError::Byte),
            (get, "/\t", TargetError::Byte),
            (get, "/\0", TargetError::Byte),
            (get, "/\r", TargetError::Byte),
            (get, "/\x7f", TargetError::Byte),
            (get, "/é", TargetError::Byte),
            (get, "/a#b", TargetError::Fragment),
            (get, "http://a/#b", TargetError::Fragment),
            (get, "a/b", TargetError::Form),
            (get, "*", TargetError::Form),
            (get, "*/a", TargetError::Form),
            (get, "?a", TargetError::Form),
            (get, "a:80", TargetError::Form),
            (get, "http:/a", TargetError::Form),
            (get, "ftp://a/", TargetError::Form),
            (get, "javascript:alert(1)", TargetError::Form),
            (get, "http://", TargetError::Host(HostError::Empty)),
            (get, "http:///a", TargetError::Host(HostError::Empty)),
            (get, "http://user@a/", TargetError::Host(HostError::UserInfo)),
            (get, "http://a\\b/", TargetError::Host(HostError::Name)),
            (get, "http://a:b/", TargetError::Host(HostError::Port)),
            (&Method::CONNECT, "a", TargetError::Connect),
            (&Method::CONNECT, "a:", TargetError::Connect),
            (&Method::CONNECT, "/", TargetError::Host(HostError::Name)),
        ] {
            assert_eq!(read(method, target).unwrap_err(), error, "{target:?}");
        }
    }
}
