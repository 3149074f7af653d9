//! Who may look: the token, where the configuration has one.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
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
}
