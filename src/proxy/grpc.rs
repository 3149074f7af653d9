//! Our own failures as gRPC's clients read them: 200 without a body, and the status among the fields.
//! Source: gRPC over HTTP/2, "Trailers-Only" and "Responses".

use http::{HeaderName, HeaderValue, StatusCode, header::CONTENT_TYPE};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::trail::Trail;
use crate::{
    body::Body,
    model::{message::Response, protocol::grpc_status},
};

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// What a message may not have in it as it is, beside bytes outside ASCII.
const ESCAPED: &AsciiSet = &CONTROLS.add(b'%');

/// An answer that says in gRPC what `status` says in HTTP.
pub fn failure(status: StatusCode, detail: &str, trail: &Trail) -> Response<Body> {
    let mut response = Response::new(StatusCode::OK, Body::empty());
    response.stands_for = Some(status);
    let fields = &mut response.fields;
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    fields.insert(GRPC_STATUS, grpc_status(status.as_u16()).into());
    if let Ok(message) = HeaderValue::try_from(utf8_percent_encode(detail, ESCAPED).to_string()) {
        fields.insert(GRPC_MESSAGE, message);
    }
    trail.mark(response)
}

#[cfg(test)]
mod tests {
    use http::Method;

    use crate::model::fields::Fields;

    use super::{
        super::reply::{method_not_allowed, no_instance, no_route},
        *,
    };

    #[test]
    fn a_client_that_speaks_grpc_is_told_failures_in_grpc() {
        let mut asked = Fields::new();
        asked.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc+proto"));
        let trail = Trail::begin(&mut asked, None);
        for (answer, code, status) in [
            (no_route(&trail), "12", 404),
            (no_instance(&"s".into(), &trail), "14", 503),
            (method_not_allowed(&[Method::GET], &trail), "12", 405),
        ] {
            assert_eq!((answer.status, answer.body.length()), (StatusCode::OK, Some(0)));
            assert_eq!(answer.fields.text("content-type"), "application/grpc");
            assert_eq!(answer.fields.text("grpc-status"), code);
            assert_eq!(answer.fields.text("x-request-id"), trail.request_id);
            assert_eq!(answer.stands_for.unwrap(), status);
        }
    }

    #[test]
    fn a_message_is_escaped_as_grpc_wants_it() {
        let answer = failure(StatusCode::BAD_GATEWAY, "50% of ä\n", &Trail::begin(&mut Fields::new(), None));
        assert_eq!(answer.fields.text("grpc-message"), "50%25 of %C3%A4%0A");
    }
}
