//! The answers that we write ourselves. Every failure becomes a status here and nowhere else.
//! Source of the form: RFC 9457.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};
use serde::Serialize;

use super::{account::client_left, grpc, trail::Trail};
use crate::{
    body::{Body, BodyError},
    http1::request::RequestError,
    model::{message::Response, name::ServiceName, path::PathError},
    upstream::{ExchangeError, call::CallError},
};

/// Why something that came is no request of ours to forward.
#[derive(Debug)]
pub enum Refusal {
    /// Its head is not valid HTTP.
    Head(RequestError),
    /// Its path has no safe form.
    Path(PathError),
    /// Its target holds what no target may.
    Target,
    /// A method that no gateway passes on.
    Method,
    /// It expects what is not known here.
    Expectation,
    /// Its connection is one too many.
    Crowded,
    /// Its head did not come in time.
    TimedOut,
}

/// The members of a problem document.
#[derive(Serialize)]
struct Problem<'a> {
    r#type: &'a str,
    title: &'a str,
    status: u16,
    detail: &'a str,
    request_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<&'a str>,
}

/// Seconds after which a client may try again when there is nothing to reckon with.
const SOON: HeaderValue = HeaderValue::from_static("1");

fn problem(status: StatusCode, detail: &str, service: Option<&ServiceName>, trail: &Trail) -> Response<Body> {
    let title = status.canonical_reason().unwrap_or("Error");
    problem_with(status, title, detail, service, trail)
}

/// A problem whose `error` is not its title.
fn problem_with(
    status: StatusCode,
    error: &str,
    detail: &str,
    service: Option<&ServiceName>,
    trail: &Trail,
) -> Response<Body> {
    if trail.is_grpc {
        return grpc::failure(status, detail, trail);
    }
    let title = status.canonical_reason().unwrap_or("Error");
    let document = Problem {
        r#type: "about:blank",
        title,
        status: status.as_u16(),
        detail,
        request_id: trail.request_id.to_str().unwrap_or_default(),
        error: Some(error),
        service: service.map(ServiceName::as_str),
    };
    json(status, "application/problem+json", &document, trail)
}

/// An answer with a JSON body.
pub(super) fn json(status: StatusCode, kind: &'static str, document: &impl Serialize, trail: &Trail) -> Response<Body> {
    let text = serde_json::to_vec(document).unwrap_or_default();
    let mut response = Response::new(status, Body::from(Bytes::from(text)));
    response.fields.append(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response.fields.append(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    trail.mark(response)
}

fn later(mut response: Response<Body>) -> Response<Body> {
    response.fields.insert(header::RETRY_AFTER, SOON);
    response
}

/// 200 without content, to an OPTIONS that was not to go further. Source: RFC 9110 §7.6.2, §9.3.7.
pub(super) fn last_hop(trail: &Trail) -> Response<Body> {
    trail.mark(Response::new(StatusCode::OK, Body::empty()))
}

/// 404.
pub(super) fn no_route(trail: &Trail) -> Response<Body> {
    problem(StatusCode::NOT_FOUND, "no route serves this path", None, trail)
}

/// 503: nothing is known yet, so nothing can be said to be missing.
pub(super) fn not_ready(trail: &Trail) -> Response<Body> {
    let detail = "the gateway does not know its services yet";
    later(problem(StatusCode::SERVICE_UNAVAILABLE, detail, None, trail))
}

/// 405 with `Allow`.
pub(super) fn method_not_allowed(methods: &[Method], trail: &Trail) -> Response<Body> {
    let allowed = methods.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
    let detail = format!("this path is served for {allowed}");
    let mut response = problem(StatusCode::METHOD_NOT_ALLOWED, &detail, None, trail);
    if let Ok(allowed) = HeaderValue::from_str(&allowed) {
        response.fields.insert(header::ALLOW, allowed);
    }
    response
}

/// 503: a route, but nobody behind it.
pub(super) fn no_instance(service: &ServiceName, trail: &Trail) -> Response<Body> {
    later(problem(StatusCode::SERVICE_UNAVAILABLE, "no instance of the service can be used", Some(service), trail))
}

/// 503: the service has as many requests as it may have.
fn crowded(service: &ServiceName, trail: &Trail) -> Response<Body> {
    let detail = "too many requests to the service are under way; try again soon";
    later(problem(StatusCode::SERVICE_UNAVAILABLE, detail, Some(service), trail))
}

/// 503: all instances have failed so often that they get nothing for a while.
fn unavailable(wait: Duration, service: &ServiceName, trail: &Trail) -> Response<Body> {
    let (status, error) = (StatusCode::SERVICE_UNAVAILABLE, "Service temporarily unavailable");
    let detail = "the instances of the service have failed too often; they are tried again soon";
    let mut response = later(problem_with(status, error, detail, Some(service), trail));
    // Whole seconds, and not too early.
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    response.fields.insert(header::RETRY_AFTER, seconds.max(1).into());
    response
}

/// 4xx: what came is not to be forwarded.
pub(super) fn refused(refusal: &Refusal, trail: &Trail) -> Response<Body> {
    match refusal {
        Refusal::Head(e) => problem(e.status(), &e.to_string(), None, trail),
        Refusal::Path(e) => problem(StatusCode::BAD_REQUEST, &e.to_string(), None, trail),
        Refusal::Target => problem(StatusCode::BAD_REQUEST, "the target is not a valid path and query", None, trail),
        Refusal::Method => problem(StatusCode::NOT_IMPLEMENTED, "CONNECT and TRACE are not served here", None, trail),
        Refusal::Expectation => {
            problem(StatusCode::EXPECTATION_FAILED, "only `100-continue` can be expected here", None, trail)
        }
        Refusal::Crowded => {
            let detail = "too many connections are open; try again soon";
            later(problem(StatusCode::SERVICE_UNAVAILABLE, detail, None, trail))
        }
        Refusal::TimedOut => problem(StatusCode::REQUEST_TIMEOUT, "the request did not arrive in time", None, trail),
    }
}

/// 502: the body of an answer broke off before any of it was passed on.
pub(super) fn broken(trail: &Trail) -> Response<Body> {
    problem(StatusCode::BAD_GATEWAY, "the instance broke off its answer", None, trail)
}

/// 413: the body has more bytes than the route takes.
pub(super) fn too_large(limit: u64, trail: &Trail) -> Response<Body> {
    problem(StatusCode::PAYLOAD_TOO_LARGE, &format!("the body is over {limit} bytes"), None, trail)
}

/// 4xx or 5xx: the call to the service failed. Addresses and system errors are for the log, not for the client.
pub(super) fn failed(error: &CallError, service: &ServiceName, trail: &Trail) -> Response<Body> {
    use crate::upstream::dial::DialError;
    let say = |status, detail| problem(status, detail, Some(service), trail);
    match error {
        CallError::NoInstance(_) => no_instance(service, trail),
        CallError::Crowded(_) => crowded(service, trail),
        CallError::Open(_, wait) => unavailable(*wait, service, trail),
        CallError::Dial(DialError::Connect { .. } | DialError::Address { .. }) => {
            say(StatusCode::BAD_GATEWAY, "no connection to an instance of the service")
        }
        CallError::Dial(DialError::Tls { .. }) => {
            say(StatusCode::BAD_GATEWAY, "no secure connection to an instance of the service")
        }
        CallError::Dial(DialError::TimedOut { .. }) => {
            say(StatusCode::GATEWAY_TIMEOUT, "no connection to an instance within `timeout.connect`")
        }
        CallError::Exchange(e) => match e {
            ExchangeError::Closed { .. } => {
                say(StatusCode::BAD_GATEWAY, "the instance closed the connection without an answer")
            }
            ExchangeError::Malformed(_)
            | ExchangeError::Http2(_)
            | ExchangeError::MalformedBody(_)
            | ExchangeError::Switched => say(StatusCode::BAD_GATEWAY, "the instance's answer is not valid HTTP"),
            ExchangeError::Interim => {
                say(StatusCode::BAD_GATEWAY, "the instance sent interim answers over and over, and no other")
            }
            ExchangeError::ReadTimeout(_) => {
                say(StatusCode::GATEWAY_TIMEOUT, "no byte of an answer within `timeout.read`")
            }
            ExchangeError::Deadline(_) => say(StatusCode::GATEWAY_TIMEOUT, "no answer within `grpc-timeout`"),
            ExchangeError::TotalTimeout(_) => say(StatusCode::GATEWAY_TIMEOUT, "no answer within `timeout.total`"),
            ExchangeError::Body(e) => match e {
                BodyError::TooLarge { limit } => too_large(*limit, trail),
                BodyError::TooSlow => {
                    problem(StatusCode::REQUEST_TIMEOUT, "the request's body did not arrive in time", None, trail)
                }
                BodyError::Malformed(_) => {
                    problem(StatusCode::BAD_REQUEST, "the request's body is malformed", None, trail)
                }
                BodyError::CutShort(cause) => {
                    let mut response =
                        problem(StatusCode::BAD_REQUEST, "the request's body was cut short", None, trail);
                    if cause.is_some() {
                        // There is nobody to read that.
                        response.stands_for = Some(client_left());
                    }
                    response
                }
            },
        },
    }
}
