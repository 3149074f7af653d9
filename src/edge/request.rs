//! What requests of both versions have in common: the form of their target.

use std::borrow::Cow;

use bytes::Bytes;
use http::{Uri, uri::PathAndQuery};

use crate::{model::path, proxy::Refusal};

/// The target as the rest of the gateway sees it: the path in its one form (or `*`), the query as it came. Where that
/// changes nothing, it is what `as_it_came` gives, which has this very path and query.
///
/// # Errors
/// The path has no safe form.
pub fn target(
    path: &str,
    query: Option<&str>,
    as_it_came: impl FnOnce() -> Option<PathAndQuery>,
) -> Result<Uri, Refusal> {
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
    whole.map(Uri::from).ok_or(Refusal::Target)
}
