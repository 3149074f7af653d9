//! What requests of both versions have in common: the form of their target.

use std::borrow::Cow;

use bytes::Bytes;
use http::Uri;

use crate::{model::path, proxy::Refusal};

/// The target as the rest of the gateway sees it: the path in its one form (or `*`), the query as it came.
///
/// # Errors
/// The path has no safe form.
pub fn target(path: &str, query: Option<&str>) -> Result<Uri, Refusal> {
    let path = if path == "*" { Cow::Borrowed(path) } else { path::normalize(path).map_err(Refusal::Path)? };
    let mut text = String::with_capacity(path.len() + query.map_or(0, |q| q.len() + 1));
    text.push_str(&path);
    if let Some(query) = query {
        text.push('?');
        text.push_str(query);
    }
    Uri::from_maybe_shared(Bytes::from(text)).map_err(|_| Refusal::Target)
}
