//! The head of an HTTP/2 request, in the form that the rest of the gateway sees.

use std::rc::Rc;

use http::{
    HeaderMap, HeaderValue, Method, header,
    request::Parts,
    uri::{Authority, PathAndQuery},
};

use super::received::{Incoming, Owed, Received};
use crate::{
    body::Body,
    http1::{
        head::{HeadError, Limits, is_padded},
        host,
        request::{
            MAX_TARGET,
            RequestError::{self, Host, NoHost, RepeatedHost},
        },
    },
    model::protocol,
    proxy::{Refusal, entry::target},
    upstream::aside::Aside,
    wire::Outlet,
};

/// What is owed to a client that waits for leave to send its body.
#[must_use]
pub fn awaits_leave(headers: &HeaderMap) -> Option<Owed> {
    headers.contains_key(header::EXPECT).then(Owed::new)
}

/// How long a head says that its body is.
#[must_use]
pub fn announced(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Brings the head to the form that the rest of the gateway sees: its path in its one form, its host and cookies in one
/// place. Gives the body. The head has at most `max_head` bytes, as [`size`] counts them.
///
/// # Errors
/// Why it may not enter.
pub fn read(
    head: &mut Parts,
    (incoming, outlet): (Option<&Incoming>, &Outlet),
    max_head: usize,
    (aside, owed): (&Rc<Aside>, Option<&Owed>),
) -> Result<(PathAndQuery, Body), Refusal> {
    if matches!(head.method, Method::CONNECT | Method::TRACE) {
        return Err(Refusal::Method);
    }
    check_path(head.uri.path_and_query().map_or("", PathAndQuery::as_str), &head.method)?;
    if head.uri.scheme_str().is_some_and(|scheme| !matches!(scheme, "http" | "https")) {
        return Err(Refusal::Target);
    }
    // The library refuses larger ones alone, with a status and nothing to it.
    if size(head) > max_head {
        return Err(Refusal::Head(RequestError::Head(HeadError::TooLarge)));
    }
    // Source: RFC 9113 §8.2.1, which the library leaves to us.
    if head.headers.values().any(is_padded) {
        return Err(Refusal::Head(RequestError::Head(HeadError::Value)));
    }
    if head.headers.get(header::EXPECT).is_some_and(|expect| !expect.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
        return Err(Refusal::Expectation);
    }
    let host = authority(head)?;
    head.headers.insert(header::HOST, host);
    join_cookies(&mut head.headers);
    if head.headers.len() > Limits::default().max_fields {
        return Err(Refusal::Head(RequestError::Head(HeadError::TooManyFields)));
    }
    let target = target(head.uri.path(), head.uri.query(), || head.uri.path_and_query().cloned())?;
    // The library has compared it with what comes.
    let announced = announced(&head.headers);
    let Some(incoming) = incoming.filter(|_| announced != Some(0)) else { return Ok((target, Body::empty())) };
    let body = Received::new((incoming.clone(), outlet.clone()), announced, aside.clone(), owed.cloned());
    // A call may be a conversation.
    Ok((target, Body::stream(if is_grpc(&head.headers) { body } else { body.limited() })))
}

/// Whether it is a path, or `*`. Source: RFC 9113 §8.3.1; how long it may be is no other than in HTTP/1.
fn check_path(text: &str, method: &Method) -> Result<(), Refusal> {
    if text.len() > MAX_TARGET {
        return Err(Refusal::Head(RequestError::TargetTooLong));
    }
    let is_path = text.starts_with('/') || (text == "*" && *method == Method::OPTIONS);
    if is_path { Ok(()) } else { Err(Refusal::Target) }
}

/// How large a head is. Source: RFC 9113 §6.5.2.
fn size(head: &Parts) -> usize {
    let text = |text: Option<&str>| text.map_or(0, |text| text.len() + FIELD);
    let pseudo = text(Some(head.method.as_str()))
        + text(head.uri.scheme_str())
        + text(head.uri.authority().map(Authority::as_str))
        + text(head.uri.path_and_query().map(PathAndQuery::as_str));
    let fields = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + FIELD);
    pseudo + PSEUDO + fields.sum::<usize>()
}

/// What a field counts for beside its name and value.
const FIELD: usize = 32;
/// The names of the pseudo-fields.
const PSEUDO: usize = ":method:scheme:authority:path".len();

/// What the request is for: `:authority`, else its one Host. Source: RFC 9113 §8.3.1.
fn authority(head: &Parts) -> Result<HeaderValue, Refusal> {
    let mut fields = head.headers.get_all(header::HOST).iter();
    let value = match (head.uri.authority(), fields.next(), fields.next()) {
        (Some(authority), _, _) => HeaderValue::from_str(authority.as_str()).map_err(|_| Refusal::Target)?,
        (None, Some(host), None) => host.clone(),
        (None, None, _) => return Err(Refusal::Head(NoHost)),
        (None, Some(_), Some(_)) => return Err(Refusal::Head(RepeatedHost)),
    };
    host::validate(value.as_bytes()).map_err(|e| Refusal::Head(Host(e)))?;
    Ok(value)
}

/// HTTP/1 has one line of cookies. Source: RFC 9113 §8.2.3.
fn join_cookies(headers: &mut HeaderMap) {
    let crumbs = headers.get_all(header::COOKIE);
    if crumbs.iter().nth(1).is_none() {
        return;
    }
    let joined = crumbs.iter().map(HeaderValue::as_bytes).collect::<Vec<_>>().join(&b"; "[..]);
    if let Ok(joined) = HeaderValue::from_bytes(&joined) {
        headers.insert(header::COOKIE, joined);
    }
}

/// Whether the body may be a conversation, which takes its time.
fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|kind| protocol::is_grpc(kind.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crumbs_become_one_line_of_cookies() {
        let mut headers = HeaderMap::new();
        for crumb in ["a=1", "b=2; c=3", "d=4"] {
            headers.append(header::COOKIE, HeaderValue::from_static(crumb));
        }
        join_cookies(&mut headers);
        assert_eq!(headers.get_all(header::COOKIE).iter().collect::<Vec<_>>(), ["a=1; b=2; c=3; d=4"]);
    }
}
