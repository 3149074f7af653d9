//! The head of an HTTP/2 request, in the form that the rest of the gateway sees.

use std::rc::Rc;

use http::{HeaderMap, HeaderValue, Method, header, request::Parts, uri::PathAndQuery};

use super::received::{Incoming, Owed, Received};
use crate::{
    body::Body,
    http1::{
        head::HeadError,
        host,
        request::RequestError::{self, Host, NoHost, RepeatedHost},
    },
    proxy::{Refusal, entry::target},
    upstream::aside::Aside,
};

/// What is owed to a client that waits for leave to send its body.
#[must_use]
pub fn awaits_leave(headers: &HeaderMap) -> Option<Owed> {
    headers.contains_key(header::EXPECT).then(Owed::new)
}

/// Brings the head to the form that the rest of the gateway sees: its path in its one form, its host and cookies in one
/// place. Gives the body.
///
/// # Errors
/// Why it may not enter.
pub fn read(
    head: &mut Parts,
    incoming: Option<&Incoming>,
    limit: u64,
    (aside, owed): (&Rc<Aside>, Option<&Owed>),
) -> Result<(PathAndQuery, Body), Refusal> {
    if matches!(head.method, Method::CONNECT | Method::TRACE) {
        return Err(Refusal::Method);
    }
    if head.uri.path() == "*" && head.method != Method::OPTIONS {
        return Err(Refusal::Target);
    }
    if head.uri.scheme_str().is_some_and(|scheme| !matches!(scheme, "http" | "https")) {
        return Err(Refusal::Target);
    }
    // Source: RFC 9113 §8.2.1, which the library leaves to us.
    let blank = |value: &HeaderValue| value.as_bytes().trim_ascii().len() != value.len();
    if head.headers.values().any(blank) {
        return Err(Refusal::Head(RequestError::Head(HeadError::Value)));
    }
    if head.headers.get(header::EXPECT).is_some_and(|expect| !expect.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
        return Err(Refusal::Expectation);
    }
    let host = authority(head)?;
    head.headers.insert(header::HOST, host);
    join_cookies(&mut head.headers);
    let target = target(head.uri.path(), head.uri.query(), || head.uri.path_and_query().cloned())?;
    // The library has compared it with what comes.
    let announced = head.headers.get(header::CONTENT_LENGTH);
    let announced = announced.and_then(|length| length.to_str().ok()?.parse().ok());
    let Some(incoming) = incoming.filter(|_| announced != Some(0)) else { return Ok((target, Body::empty())) };
    let is_grpc = is_grpc(&head.headers);
    if !is_grpc && limit != 0 && announced.is_some_and(|length| length > limit) {
        return Err(Refusal::TooLarge { limit });
    }
    let body = Received::new(incoming.clone(), announced, aside.clone(), owed.cloned());
    // A call may be a conversation.
    Ok((target, Body::stream(if is_grpc { body } else { body.limited(limit) })))
}

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
    headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
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
