//! Who may look: the token, where the configuration has one. Who may change something: nobody whom a page of another
//! site could have sent.

use std::{net::IpAddr, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header, uri::Authority},
    middleware::Next,
    response::Response,
};
use subtle::ConstantTimeEq;

use super::{Admin, problem};

/// Lets a request pass that brings the token, or any where there is none.
pub async fn check(State(admin): State<Arc<Admin>>, request: Request, next: Next) -> Response {
    let world = admin.reader.load();
    let wanted = world.config.admin.token.as_ref();
    if wanted.is_none_or(|token| is_brought(request.headers().get(header::AUTHORIZATION), token.reveal())) {
        drop(world);
        return next.run(request).await;
    }
    let mut refusal = problem(StatusCode::UNAUTHORIZED, "expected `authorization: Bearer` with the token of `[admin]`");
    refusal.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    refusal
}

/// Lets a request to change something pass if it cannot come from a page of another site, and if it either comes from
/// this machine or has to bring a token.
pub async fn own(State((admin, local)): State<(Arc<Admin>, bool)>, request: Request, next: Next) -> Response {
    if let Err(why) = is_own(request.headers(), local) {
        return problem(StatusCode::FORBIDDEN, &why);
    }
    if !local && admin.reader.load().config.admin.token.is_none() {
        let why = "this listener can be reached from elsewhere, so changes need a token; set `token` in `[admin]`";
        return problem(StatusCode::FORBIDDEN, why);
    }
    next.run(request).await
}

/// Whether a browser, if it sent this, did so on behalf of a page from here. A name could be made to mean this machine
/// by who owns it (DNS rebinding), an address cannot. Source of the fields: the Fetch standard, W3C Fetch Metadata.
fn is_own(headers: &HeaderMap, local: bool) -> Result<(), String> {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let mut hosts = headers.get_all(header::HOST).iter().map(text);
    let host = hosts.next().unwrap_or_default();
    let foreign = |field: &str, value: &str| format!("`{field}: {value}` is foreign, so nothing was changed");
    if hosts.next().is_some() || !host.parse().is_ok_and(|host| is_here(&host, local)) {
        let expected = if local { "the loopback's address or `localhost`" } else { "an IP address or `localhost`" };
        return Err(format!("{}; expected {expected}", foreign("host", &host)));
    }
    for origin in headers.get_all(header::ORIGIN).iter().map(text) {
        if !origin.split_once("://").is_some_and(|(_, from)| from.eq_ignore_ascii_case(&host)) {
            return Err(foreign("origin", &origin));
        }
    }
    for site in headers.get_all("sec-fetch-site").iter().map(text) {
        if !["same-origin", "none"].contains(&site.as_str()) {
            return Err(foreign("sec-fetch-site", &site));
        }
    }
    Ok(())
}

fn is_here(host: &Authority, local: bool) -> bool {
    if host.as_str().contains('@') {
        return false;
    }
    let name = host.host().trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| !local || address.to_canonical().is_loopback())
}

/// Compares in a time that tells nothing of where they differ. Source of the form: RFC 6750 §2.1.
fn is_brought(field: Option<&HeaderValue>, token: &str) -> bool {
    let Some((scheme, brought)) = field.map(HeaderValue::as_bytes).and_then(|value| value.split_at_checked(7)) else {
        return false;
    };
    scheme.eq_ignore_ascii_case(b"bearer ") && bool::from(brought.ct_eq(token.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_token_is_asked_for() {
        let cases = [
            (Some("Bearer s3cret"), true),
            (Some("bearer s3cret"), true),
            (Some("Bearer s3cre"), false),
            (Some("Bearer s3cret "), false),
            (Some("Bearer "), false),
            (Some("Basic s3cret"), false),
            (Some("s3cret"), false),
            (None, false),
        ];
        for (field, want) in cases {
            assert_eq!(is_brought(field.map(HeaderValue::from_static).as_ref(), "s3cret"), want, "{field:?}");
        }
    }
    #[test]
    fn only_what_no_page_of_another_site_can_send_changes_something() {
        type Fields = &'static [(&'static str, &'static str)];
        const NEAR: (&str, &str) = ("host", "127.0.0.1:9901");
        let cases: &[(Fields, bool, bool)] = &[
            (&[NEAR], true, true),
            (&[("host", "localhost:9901")], true, true),
            (&[("host", "[::1]:9901")], true, true),
            (&[("host", "10.0.0.7:9901")], true, false),
            (&[("host", "10.0.0.7:9901")], false, true),
            (&[("host", "evil.example")], true, false),
            (&[("host", "evil.example")], false, false),
            (&[("host", "localhost.evil.example")], true, false),
            (&[("host", "evil.example@127.0.0.1")], true, false),
            (&[("host", "127.0.0.1"), ("host", "evil.example")], true, false),
            (&[("host", "")], true, false),
            (&[], true, false),
            (&[NEAR, ("origin", "http://127.0.0.1:9901")], true, true),
            (&[NEAR, ("origin", "http://127.0.0.1:8000")], true, false),
            (&[NEAR, ("origin", "https://evil.example")], true, false),
            (&[NEAR, ("origin", "null")], true, false),
            (&[NEAR, ("sec-fetch-site", "same-origin")], true, true),
            (&[NEAR, ("sec-fetch-site", "none")], true, true),
            (&[NEAR, ("sec-fetch-site", "same-site")], true, false),
            (&[NEAR, ("sec-fetch-site", "cross-site")], true, false),
        ];
        for (fields, local, want) in cases {
            let mut headers = HeaderMap::new();
            for (name, value) in *fields {
                headers.append(*name, HeaderValue::from_static(value));
            }
            assert_eq!(is_own(&headers, *local).is_ok(), *want, "{fields:?}");
        }
    }
}
