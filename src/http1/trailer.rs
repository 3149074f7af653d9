//! Which fields may follow a body. Source: RFC 9110 §6.5.1, and what a gateway must not learn too late.

use http::{
    HeaderName,
    header::{
        AGE, AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE,
        COOKIE, DATE, EXPECT, EXPIRES, FORWARDED, HOST, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE,
        IF_UNMODIFIED_SINCE, LOCATION, MAX_FORWARDS, PRAGMA, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, RANGE,
        RETRY_AFTER, SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, VARY, WARNING, WWW_AUTHENTICATE,
    },
};

/// Whether a trailer of this name may be passed on. Not: framing, routing, conditions and controls, authentication, cookies,
/// what describes the content, what concerns one connection, where a request came from; nor a name with `_`, which others read
/// as `-`. Identity names are the configuration's and for the caller to remove.
#[must_use]
pub fn may_trail(name: &HeaderName) -> bool {
    let text = name.as_str();
    !NEVER.contains(name)
        && !text.starts_with("x-forwarded-")
        && !matches!(text, "keep-alive" | "proxy-connection" | "x-real-ip")
        && !text.contains('_')
}

const NEVER: [HeaderName; 34] = [
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
    WARNING,
    WWW_AUTHENTICATE,
];
