//! The head of an HTTP/2 request, in the form that the rest of the gateway sees.

use std::rc::Rc;

use http::{HeaderValue, Method, header, uri::PathAndQuery};

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
    http2::message::RequestHead,
    model::{fields::Fields, protocol, value::Value},
    proxy::{Refusal, entry::target},
    upstream::aside::Aside,
};

/// What is owed to a client that waits for leave to send its body.
#[must_use]
pub fn awaits_leave(fields: &Fields) -> Option<Owed> {
    fields.contains_key(header::EXPECT).then(Owed::new)
}

/// Brings the head to the form that the rest of the gateway sees: its path in its one form, its cookies in one place. Gives the
/// body. The head has at most `max_head` bytes, as RFC 9113 §6.5.2 counts them.
///
/// # Errors
/// Why it may not enter.
pub fn read(
    head: &mut RequestHead,
    incoming: Option<&Incoming>,
    max_head: usize,
    (aside, owed): (&Rc<Aside>, Option<&Owed>),
) -> Result<(PathAndQuery, Body), Refusal> {
    if matches!(head.method, Method::CONNECT | Method::TRACE) {
        return Err(Refusal::Method);
    }
    check_path(head.target.as_str(), &head.method)?;
    if !head.is_http {
        return Err(Refusal::Target);
    }
    if head.is_cut || head.size > max_head {
        return Err(Refusal::Head(RequestError::Head(HeadError::TooLarge)));
    }
    // Source: RFC 9113 §8.2.1.
    if head.fields.iter().any(|(_, value)| is_padded(value.as_bytes())) {
        return Err(Refusal::Head(RequestError::Head(HeadError::Value)));
    }
    if head.fields.get(header::EXPECT).is_some_and(|expect| !expect.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
        return Err(Refusal::Expectation);
    }
    check_host(&head.fields)?;
    join_cookies(&mut head.fields);
    if head.fields.len() > Limits::default().max_fields {
        return Err(Refusal::Head(RequestError::Head(HeadError::TooManyFields)));
    }
    let target = target(head.target.path(), head.target.query(), || Some(head.target.clone()))?;
    // The codec compares it with what comes.
    let Some(incoming) = incoming.filter(|_| head.length != Some(0)) else { return Ok((target, Body::empty())) };
    let body = Received::new(incoming.clone(), head.length, aside.clone(), owed.cloned());
    // A call may be a conversation.
    Ok((target, Body::stream(if is_grpc(&head.fields) { body } else { body.limited() })))
}

/// Whether it is a path, or `*`. Source: RFC 9113 §8.3.1; how long it may be is no other than in HTTP/1.
fn check_path(text: &str, method: &Method) -> Result<(), Refusal> {
    if text.len() > MAX_TARGET {
        return Err(Refusal::Head(RequestError::TargetTooLong));
    }
    let is_path = text.starts_with('/') || (text == "*" && *method == Method::OPTIONS);
    if is_path { Ok(()) } else { Err(Refusal::Target) }
}

/// What the request is for: `:authority`, else its one Host. Source: RFC 9113 §8.3.1.
fn check_host(fields: &Fields) -> Result<(), Refusal> {
    let mut hosts = fields.get_all(header::HOST);
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host,
        (None, _) => return Err(Refusal::Head(NoHost)),
        (Some(_), Some(_)) => return Err(Refusal::Head(RepeatedHost)),
    };
    host::validate(host.as_bytes()).map_err(|e| Refusal::Head(Host(e)))
}

/// HTTP/1 has one line of cookies. Source: RFC 9113 §8.2.3.
fn join_cookies(fields: &mut Fields) {
    if fields.get_all(header::COOKIE).nth(1).is_none() {
        return;
    }
    let joined = fields.get_all(header::COOKIE).map(Value::as_bytes).collect::<Vec<_>>().join(&b"; "[..]);
    if let Ok(joined) = HeaderValue::from_bytes(&joined) {
        fields.insert(header::COOKIE, joined);
    }
}

/// Whether the body may be a conversation, which takes its time.
fn is_grpc(fields: &Fields) -> bool {
    fields.get(header::CONTENT_TYPE).is_some_and(|kind| protocol::is_grpc(kind.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crumbs_become_one_line_of_cookies() {
        let crumbs = ["a=1", "b=2; c=3", "d=4"];
        let mut fields: Fields =
            crumbs.into_iter().map(|crumb| (header::COOKIE, HeaderValue::from_static(crumb))).collect();
        join_cookies(&mut fields);
        assert_eq!(fields.get_all(header::COOKIE).collect::<Vec<_>>(), ["a=1; b=2; c=3; d=4"]);
    }
}
