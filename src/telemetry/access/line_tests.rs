//! Lines, whole: what they say, in which form, and what no client can make them say.

use std::{rc::Rc, time::Duration};

use http::{HeaderValue, Method, StatusCode, Version, header};
use tokio::time::Instant;

use super::{
    super::{
        cells::Outcome,
        journey::{Asked, Ending, Found, Journey, TRACEPARENT},
    },
    clock::Clock,
    line::Format,
};
use crate::model::fields::Fields;

const EVIL: &[u8] = b"x\" 200 1 \"-\"\\ \t\x80\xff\xe2\x80\xa8 \"z\":1, \xc3\xbc";

fn journey(format: Format, user_agent: &[u8]) -> Journey {
    begun(format, user_agent, Some("/u/7?x=1"), Some(Version::HTTP_11))
}

fn begun(format: Format, user_agent: &[u8], target: Option<&str>, version: Option<Version>) -> Journey {
    let mut fields = Fields::new();
    fields.insert(header::USER_AGENT, HeaderValue::from_bytes(user_agent).unwrap());
    fields.insert(header::HOST, HeaderValue::from_static("api.example.com"));
    let context = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    fields.insert(TRACEPARENT, HeaderValue::from_static(context));
    let (id, target) = (HeaderValue::from_static("abc"), target.map(|target| target.parse().unwrap()));
    let by = Asked::by("2001:db8::7".parse().unwrap(), &Method::GET, &fields, &id);
    Journey::new(&Asked { target: target.as_ref(), version, ..by }, Instant::now(), Some(format), None)
}

fn written(journey: &Journey) -> String {
    let mut clock = Clock::default();
    clock.set(Duration::from_millis(784_111_777_089));
    let (status, took) = (StatusCode::BAD_GATEWAY, Duration::from_micros(1_000_250));
    let ending = Ending { status, at: Instant::now(), took, received: 12 };
    let line = journey.line.as_ref().unwrap().end(&clock, journey, ending).unwrap();
    String::from_utf8(line.text().to_vec()).unwrap()
}

#[test]
fn a_line_of_json_has_all_that_is_known() {
    let journey = journey(Format::Json, b"curl/8");
    journey.taken_by(&Rc::new(Found::new("users".into(), "user-service".into(), "/u/{id}".into())));
    journey.begin_try("10.0.0.6:8002");
    journey.end_try(0, Duration::from_millis(2), Outcome::ConnectError);
    journey.begin_try("10.0.0.7:8002");
    journey.answered(1, StatusCode::BAD_GATEWAY);
    journey.end_try(1, Duration::from_millis(3), Outcome::Failure);
    journey.sent.set(u64::MAX);
    let line = written(&journey);
    let want = serde_json::json!({
        "time": "1994-11-06T08:49:37.089Z", "client": "2001:db8::7", "method": "GET", "path": "/u/7?x=1",
        "host": "api.example.com", "protocol": "HTTP/1.1", "scheme": "http", "status": 502, "bytes_in": 12,
        "bytes_out": u64::MAX, "duration_seconds": 1.000_250, "route": "users", "service": "user-service",
        "upstream": "10.0.0.7:8002", "upstream_status": 502, "upstream_seconds": 0.005, "tries": 2,
        "request_id": "abc", "trace_id": "0af7651916cd43dd8448eb211c80319c", "user_agent": "curl/8",
    });
    assert_eq!(serde_json::from_str::<serde_json::Value>(&line).unwrap(), want, "{line}");
    assert!(!line.contains("10.0.0.6"), "the last alone: {line}");
    let ending = Ending { status: StatusCode::OK, at: Instant::now(), took: Duration::ZERO, received: 0 };
    assert!(journey.line.as_ref().unwrap().end(&Clock::default(), &journey, ending).is_none(), "it ends once");
}

#[test]
fn of_tries_the_last_one_says_what_it_was_answered() {
    let status = |answered: &[usize]| {
        let journey = journey(Format::Json, b"x");
        journey.begin_try("10.0.0.6:8002");
        // The first may be answered before the second begins, and after it.
        if let Some((&first, rest)) = answered.split_first() {
            journey.answered(first, StatusCode::SERVICE_UNAVAILABLE);
            journey.begin_try("10.0.0.7:8002");
            for &number in rest {
                journey.answered(number, StatusCode::OK);
            }
        }
        let line: serde_json::Value = serde_json::from_str(&written(&journey)).unwrap();
        (line["tries"].as_u64().unwrap(), line["upstream_status"].as_u64())
    };
    assert_eq!(status(&[]), (1, None));
    assert_eq!(status(&[0]), (2, None));
    assert_eq!(status(&[0, 0]), (2, None));
    assert_eq!(status(&[0, 1]), (2, Some(200)));
    assert_eq!(status(&[0, 1, 0]), (2, Some(200)));
}

#[test]
fn what_is_not_usual_is_said_in_the_same_places() {
    let (fields, id) = (Fields::new(), HeaderValue::from_static("abc"));
    for method in [Method::GET, Method::POST, Method::from_bytes(b"PROPPATCH-LIKE-NOTHING-ELSE-THAT-IS-KNOWN").unwrap()]
    {
        for (version, protocol) in
            [(Version::HTTP_10, "HTTP/1.0"), (Version::HTTP_11, "HTTP/1.1"), (Version::HTTP_2, "HTTP/2.0")]
        {
            for (scheme, tls) in [("http", None), ("https", Some("TLSv1.3"))] {
                let by = Asked::by("192.0.2.7".parse().unwrap(), &method, &fields, &id);
                let asked = Asked { version: Some(version), scheme, tls, ..by };
                let line = written(&Journey::new(&asked, Instant::now(), Some(Format::Json), None));
                let mut want = serde_json::json!({
                    "time": "1994-11-06T08:49:37.089Z", "client": "192.0.2.7", "method": method.as_str(),
                    "protocol": protocol, "scheme": scheme, "request_id": "abc", "trace_id": "", "status": 502,
                    "bytes_in": 12, "bytes_out": 0, "duration_seconds": 1.000_250, "tries": 0,
                });
                if let Some(tls) = tls {
                    want["tls"] = tls.into();
                }
                assert_eq!(serde_json::from_str::<serde_json::Value>(&line).unwrap(), want, "{line}");
            }
        }
    }
}

#[test]
fn a_line_is_whole_however_much_a_client_says_of_itself() {
    for length in 1..2200 {
        let agent = vec![b'x'; length];
        let said = String::from_utf8(agent.clone()).unwrap();
        assert_eq!(
            written(&journey(Format::Combined, &agent)),
            format!("2001:db8::7 - - [06/Nov/1994:08:49:37 +0000] \"GET /u/7?x=1 HTTP/1.1\" 502 0 \"-\" \"{said}\"\n")
        );
        let line: serde_json::Value = serde_json::from_str(&written(&journey(Format::Json, &agent))).unwrap();
        assert_eq!(line["user_agent"], said);
    }
}

#[test]
fn the_combined_form_is_that_of_other_servers() {
    assert_eq!(
        written(&journey(Format::Combined, b"curl/8")),
        "2001:db8::7 - - [06/Nov/1994:08:49:37 +0000] \"GET /u/7?x=1 HTTP/1.1\" 502 0 \"-\" \"curl/8\"\n"
    );
}

#[test]
fn what_was_not_understood_is_left_out() {
    let line = written(&begun(Format::Json, b"x", None, None));
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    for left_out in ["method", "path", "protocol", "upstream"] {
        assert_eq!(line.get(left_out), None);
    }
    let line = written(&begun(Format::Combined, b"x", None, None));
    assert!(line.contains("\"-\" 502 0"));
}

#[test]
fn no_text_of_a_clients_can_forge_a_line_or_a_field() {
    let line = written(&journey(Format::Json, EVIL));
    let read: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(read["user_agent"].as_str().unwrap(), String::from_utf8_lossy(EVIL));
    assert_eq!(read.get("z"), None);
    let line = line.strip_suffix('\n').unwrap();
    assert!(!line.contains(|c: char| c.is_control() || c == '\u{2028}'), "{line:?}");

    let line = written(&journey(Format::Combined, EVIL));
    let line = line.strip_suffix('\n').unwrap();
    assert!(line.bytes().all(|b| matches!(b, b' '..=b'~')), "{line:?}");
    assert_eq!(line.matches('"').count(), 6, "{line:?}");
    assert!(line.ends_with(r#""x\x22 200 1 \x22-\x22\x5C \x09\x80\xFF\xE2\x80\xA8 \x22z\x22:1, \xC3\xBC""#), "{line}");
}
