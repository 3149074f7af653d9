//! Our own failures as gRPC's clients read them: 200 without a body, and the status among the fields.
//! Source: gRPC over HTTP/2, "Trailers-Only" and "Responses".

use http::{HeaderName, HeaderValue, Response, StatusCode, header::CONTENT_TYPE};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::trail::Trail;
use crate::{body::Body, model::protocol::grpc_status};

/// The status that an answer would have had in plain HTTP: it is counted as that.
#[derive(Clone, Copy, Debug)]
pub struct StandsFor(pub StatusCode);

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// What a message may not have in it as it is, beside bytes outside ASCII.
const ESCAPED: &AsciiSet = &CONTROLS.add(b'%');

/// An answer that says in gRPC what `status` says in HTTP.
pub fn failure(status: StatusCode, detail: &str, trail: &Trail) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(GRPC_STATUS, grpc_status(status.as_u16()).into());
    if let Ok(message) = HeaderValue::try_from(utf8_percent_encode(detail, ESCAPED).to_string()) {
        headers.insert(GRPC_MESSAGE, message);
    }
    response.extensions_mut().insert(StandsFor(status));
    trail.mark(response)
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, Method};

    use super::{
        super::reply::{method_not_allowed, no_instance, no_route},
        *,
    };

    #[test]
    fn a_client_that_speaks_grpc_is_told_failures_in_grpc() {
        let mut asked = HeaderMap::new();
        asked.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc+proto"));
        let trail = Trail::begin(&mut asked, None);
        for (answer, code, status) in [
            (no_route(&trail), "12", 404),
            (no_instance(&"s".into(), &trail), "14", 503),
            (method_not_allowed(&[Method::GET], &trail), "12", 405),
        ] {
            assert_eq!((answer.status(), answer.body().length()), (StatusCode::OK, Some(0)));
            assert_eq!(answer.headers()["content-type"], "application/grpc");
            assert_eq!(answer.headers()["grpc-status"], code);
            assert_eq!(answer.headers()["x-request-id"], trail.request_id);
            assert_eq!(answer.extensions().get::<StandsFor>().unwrap().0, status);
        }
    }

    #[test]
    fn a_message_is_escaped_as_grpc_wants_it() {
        let answer = failure(StatusCode::BAD_GATEWAY, "50% of ä\n", &Trail::begin(&mut HeaderMap::new(), None));
        assert_eq!(answer.headers()["grpc-message"], "50%25 of %C3%A4%0A");
    }
}
