//! How a request is told from others on its way: `x-request-id`, and the W3C trace context in `traceparent`.

use std::cell::RefCell;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Response,
    header::{CONTENT_TYPE, Entry},
};

use crate::{body::Body, model::random::Draws};

/// The marks of one request.
#[derive(Debug)]
pub struct Trail {
    /// The client's own where it is well formed, else a new one.
    pub request_id: HeaderValue,
    /// Whether the client speaks gRPC, so that answers of ours have to as well.
    pub is_grpc: bool,
}

/// The field of the request's id.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The field of the trace context. Source: W3C Trace Context §3.2.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

impl Trail {
    /// Reads the marks that came with a request, and sets those that did not, or not well formed.
    pub fn begin(headers: &mut HeaderMap) -> Self {
        let mut fresh = None;
        let mut fresh = || fresh.get_or_insert_with(Fresh::new).clone();
        let request_id = match headers.entry(X_REQUEST_ID) {
            Entry::Occupied(mut came) if came.iter().count() > 1 || !is_request_id(came.get()) => {
                let id = fresh().id;
                came.insert(id.clone());
                id
            }
            Entry::Occupied(came) => came.get().clone(),
            Entry::Vacant(none) => none.insert(fresh().id).clone(),
        };
        let mut contexts = headers.get_all(TRACEPARENT).iter();
        let kept = contexts.next().is_some_and(is_traceparent) && contexts.next().is_none();
        if !kept {
            headers.remove(TRACESTATE); // it belongs to the context that was not to be read
            headers.insert(TRACEPARENT, fresh().context);
        }
        let is_grpc = headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
        Self { request_id, is_grpc }
    }

    /// Puts the request's id on its answer.
    #[must_use]
    pub fn mark(&self, mut response: Response<Body>) -> Response<Body> {
        response.headers_mut().insert(X_REQUEST_ID, unique(self.request_id.clone()));
        response
    }
}

/// An id that can stand in a log line or a label of somebody's without doing harm.
fn is_request_id(value: &HeaderValue) -> bool {
    let plain =
        |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':' | b'/' | b'+' | b'=' | b'@');
    (1..=128).contains(&value.len()) && value.as_bytes().iter().all(plain)
}

/// Source: W3C Trace Context §3.2.2 (version 00) and §4.3 (later versions may go on after a dash).
fn is_traceparent(value: &HeaderValue) -> bool {
    let bytes = value.as_bytes();
    let hex = |range: std::ops::Range<usize>| {
        bytes.get(range).is_some_and(|part| part.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
    };
    let some = |range: std::ops::Range<usize>| bytes[range].iter().any(|&b| b != b'0');
    let dash = |at: usize| bytes.get(at) == Some(&b'-');
    let shaped = hex(0..2) && dash(2) && hex(3..35) && dash(35) && hex(36..52) && dash(52) && hex(53..55);
    let long_enough = if bytes.starts_with(b"00") { bytes.len() == 55 } else { bytes.len() == 55 || dash(55) };
    shaped && long_enough && !bytes.starts_with(b"ff") && some(3..35) && some(36..52)
}

/// Marks of a request that came without: most need both, and so they share one piece of memory.
#[derive(Clone)]
struct Fresh {
    id: HeaderValue,
    /// Not sampled: nobody records spans for it.
    context: HeaderValue,
}

impl Fresh {
    fn new() -> Self {
        let mut text = [b'0'; ID + CONTEXT];
        text[..ID].copy_from_slice(&hex::<ID>());
        let context = &mut text[ID..];
        context[..3].copy_from_slice(b"00-");
        context[3..35].copy_from_slice(&hex::<32>());
        context[35] = b'-';
        context[36..52].copy_from_slice(&hex::<16>());
        context[52..].copy_from_slice(b"-00");
        let both = Bytes::from_owner(text);
        Self { id: value(both.slice(..ID)), context: value(both.slice(ID..)) }
    }
}

/// The lengths of an id and of a trace context.
const ID: usize = 16;
const CONTEXT: usize = 55;

fn value(hex: Bytes) -> HeaderValue {
    unique(HeaderValue::from_maybe_shared(hex).unwrap_or_else(|_| HeaderValue::from_static("0")))
}

/// A value that will not come again: HTTP/2 is not to keep it in its table of those that do. Source: RFC 7541 §6.2.3.
fn unique(mut value: HeaderValue) -> HeaderValue {
    value.set_sensitive(true);
    value
}

/// `N` random hexadecimal digits, never all zero. Ids only: unique, not secret.
fn hex<const N: usize>() -> [u8; N] {
    let mut digits = [b'0'; N];
    for part in digits.chunks_mut(16) {
        let mut bits = random() | 1;
        for digit in part {
            *digit = b"0123456789abcdef"[(bits & 15) as usize];
            bits >>= 4;
        }
    }
    digits
}

/// Drawn from a row of each thread's own.
fn random() -> u64 {
    thread_local! {
        static DRAWS: RefCell<Draws> = RefCell::new(Draws::new());
    }
    DRAWS.with_borrow_mut(Draws::next)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn a_well_formed_id_of_the_clients_is_kept() {
        let mut came = headers(&[("x-request-id", "abc-123")]);
        assert_eq!(Trail::begin(&mut came).request_id, "abc-123");
        assert_eq!(came["x-request-id"], "abc-123");
    }

    #[test]
    fn any_other_id_is_replaced() {
        for bad in [&[("x-request-id", "a b")][..], &[("x-request-id", "")], &[("x-request-id", "\"")], &[]] {
            let mut came = headers(bad);
            let id = Trail::begin(&mut came).request_id;
            assert_eq!((id.len(), &came["x-request-id"]), (16, &id), "{bad:?}");
        }
        let mut twice = headers(&[("x-request-id", "a")]);
        twice.append("x-request-id", HeaderValue::from_static("b"));
        let id = Trail::begin(&mut twice).request_id;
        assert_eq!(twice.get_all("x-request-id").iter().collect::<Vec<_>>(), [&id]);
    }

    #[test]
    fn ids_differ() {
        let ids: std::collections::HashSet<_> = (0..10_000).map(|_| hex::<16>()).collect();
        assert_eq!(ids.len(), 10_000);
    }

    #[test]
    fn a_valid_trace_context_passes_unchanged() {
        let valid = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let mut came = headers(&[("traceparent", valid), ("tracestate", "a=b")]);
        Trail::begin(&mut came);
        assert_eq!((&came["traceparent"], &came["tracestate"]), (&valid.parse().unwrap(), &"a=b".parse().unwrap()));
    }

    #[test]
    fn an_invalid_trace_context_is_replaced_with_its_state() {
        let cases = [
            "",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
        ];
        for bad in cases {
            let mut came = headers(&[("traceparent", bad), ("tracestate", "a=b")]);
            Trail::begin(&mut came);
            assert!(is_traceparent(&came["traceparent"]) && came["traceparent"] != bad, "{bad}");
            assert!(!came.contains_key("tracestate"), "{bad}");
        }
    }
}
