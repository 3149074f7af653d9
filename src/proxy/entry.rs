//! What may enter as a request: its kind, and its target in its one form. The same for all versions of HTTP.

use std::borrow::Cow;

use bytes::Bytes;
use http::{Method, uri::PathAndQuery};

use super::Refusal;
use crate::{
    http1::{request::RequestHead, target::Form},
    model::path,
};

/// The target of a request that HTTP/1.1 brought and that may enter.
///
/// # Errors
/// Why it may not.
pub fn admit(head: &RequestHead) -> Result<PathAndQuery, Refusal> {
    if matches!(head.method, Method::CONNECT | Method::TRACE) {
        return Err(Refusal::Method);
    }
    if head.expects_more {
        return Err(Refusal::Expectation);
    }
    match head.target.form() {
        Form::Authority => Err(Refusal::Method),
        Form::Asterisk | Form::Origin | Form::Absolute => {
            let as_it_came = || PathAndQuery::from_maybe_shared(head.target.bytes().clone()).ok();
            target(head.target.path(), head.target.query(), as_it_came)
        }
    }
}

/// The target as the rest of the gateway sees it: the path in its one form (or `*`), the query as it came. Where that
/// changes nothing, it is what `as_it_came` gives, which has this very path and query.
///
/// # Errors
/// The path has no safe form.
pub fn target(
    path: &str,
    query: Option<&str>,
    as_it_came: impl FnOnce() -> Option<PathAndQuery>,
) -> Result<PathAndQuery, Refusal> {
    let path = if path == "*" { Cow::Borrowed(path) } else { path::normalize(path).map_err(Refusal::Path)? };
    let whole = match path {
        Cow::Borrowed(_) => as_it_came(),
        Cow::Owned(mut text) => {
            if let Some(query) = query {
                text.push('?');
                text.push_str(query);
            }
            PathAndQuery::from_maybe_shared(Bytes::from(text)).ok()
        }
    };
    whole.ok_or(Refusal::Target)
}
