//! Which fields may follow a body. Source: RFC 9110 §6.5.1, and what a gateway must not learn too late.

use http::{
    HeaderMap, HeaderName,
    header::{
        AGE, AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE,
        COOKIE, DATE, EXPECT, EXPIRES, FORWARDED, HOST, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE,
        IF_UNMODIFIED_SINCE, LOCATION, MAX_FORWARDS, PRAGMA, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, RANGE,
        RETRY_AFTER, SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, VARY, VIA, WARNING, WWW_AUTHENTICATE,
    },
};

use super::head::{HeadError, Limits};

/// Whether a trailer of this name may be passed on, either way and whatever the versions. Not: framing, routing, conditions
/// and controls, authentication, cookies, what describes the content, what concerns one connection, where a request came
/// from and what it is told by; nor a name with `_`, which others read as `-`. What `Connection` nominates is the message's
/// own, and identity names are the configuration's: both are for the caller to remove.
#[must_use]
pub fn may_trail(name: &HeaderName) -> bool {
    let text = name.as_str();
    // Of all trailers, most.
    if matches!(text, "grpc-status" | "grpc-message") {
        return true;
    }
    !NEVER.contains(name) && !text.starts_with("x-forwarded") && !NEVER_EITHER.contains(&text) && !text.contains('_')
}

/// Takes out those trailers that may not be passed on.
pub fn strip(trailers: &mut HeaderMap) {
    while let Some(name) = trailers.keys().find(|name| !may_trail(name)).cloned() {
        trailers.remove(name);
    }
}

/// Whether trailers that were read elsewhere are within these limits.
///
/// # Errors
/// `TooManyFields` or `TooLarge`.
pub fn check(trailers: &HeaderMap, limits: &Limits) -> Result<(), HeadError> {
    if trailers.len() > limits.max_fields {
        return Err(HeadError::TooManyFields);
    }
    let size: usize = trailers.iter().map(|(name, value)| name.as_str().len() + value.len() + LINE).sum();
    if size > limits.max_head { Err(HeadError::TooLarge) } else { Ok(()) }
}

/// What a client may send of them, and an instance over HTTP/1: few, such as a checksum, a status and its message.
pub const LIMITS: Limits = Limits { max_head: 8 * 1024, max_fields: 64 };
/// What a field takes beside its name and value: a colon, a blank and the end of the line.
const LINE: usize = 4;

/// Those of [`NEVER`] for which there is no constant.
const NEVER_EITHER: [&str; 7] =
    ["http2-settings", "keep-alive", "proxy-connection", "traceparent", "tracestate", "x-real-ip", "x-request-id"];

const NEVER: [HeaderName; 35] = [
    AGE,
    AUTHORIZATION,
    CACHE_CONTROL,
    CONNECTION,
    CONTENT_ENCODING,
    CONTENT_LENGTH,
    CONTENT_RANGE,
    CONTENT_TYPE,
    COOKIE,
    DATE,
    EXPECT,
    EXPIRES,
    FORWARDED,
    HOST,
    IF_MATCH,
    IF_MODIFIED_SINCE,
    IF_NONE_MATCH,
    IF_RANGE,
    IF_UNMODIFIED_SINCE,
    LOCATION,
    MAX_FORWARDS,
    PRAGMA,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    RANGE,
    RETRY_AFTER,
    SET_COOKIE,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    VARY,
    VIA,
    WARNING,
    WWW_AUTHENTICATE,
];
