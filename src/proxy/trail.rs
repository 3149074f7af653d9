//! How a request is told from others on its way: `x-request-id`, and the W3C trace context in `traceparent`.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, header::CONTENT_TYPE};

pub use crate::telemetry::journey::TRACEPARENT;
use crate::{
    body::Body,
    model::{field::Usual, fields::Fields, message::Response, protocol, random::drawn, value::Value},
    telemetry::{journey::Marks, sampling::Sampler},
};

/// The marks of one request.
#[derive(Debug)]
pub struct Trail {
    /// The client's own where it is well formed, else a new one.
    pub request_id: HeaderValue,
    /// Whether the client speaks gRPC, so that answers of ours have to as well.
    pub is_grpc: bool,
    /// Whether its trace is recorded.
    pub sampled: bool,
    /// Whether it came with a trace context.
    has_parent: bool,
}

/// The field of the request's id.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
// Most requests get both.
static SET_ID: Usual = Usual::of("x-request-id");
static SET_CONTEXT: Usual = Usual::of("traceparent");

impl Trail {
    /// Reads the marks that came with a request, and sets those that did not, or not well formed. Without a sampler no
    /// trace is recorded.
    pub fn begin(fields: &mut Fields, sampler: Option<&Sampler>) -> Self {
        let is_grpc = fields.get(CONTENT_TYPE).is_some_and(|kind| protocol::is_grpc(kind.as_bytes()));
        let came =
            fields.only(X_REQUEST_ID).filter(|id| is_request_id(*id)).and_then(|_| fields.get_owned(X_REQUEST_ID));
        let kept = fields.only(TRACEPARENT).filter(|context| is_traceparent(*context));
        let has_parent = kept.is_some();
        let mut recorded = kept.zip(sampler).is_some_and(|(context, sampler)| {
            sampler.takes(Some(is_sampled(context)), || last_bits(context.as_bytes()))
        });
        let request_id = match came {
            Some(came) if has_parent => came,
            came => {
                // Of a trace that goes on it is decided already.
                let fresh = Fresh::new(sampler.filter(|_| !has_parent), came.is_none());
                let id = came.unwrap_or_else(|| {
                    fields.insert(&SET_ID, fresh.id.clone());
                    fresh.id
                });
                if !has_parent {
                    fields.remove(TRACESTATE); // it belongs to the context that was not to be read
                    fields.insert(&SET_CONTEXT, fresh.context);
                    recorded = fresh.sampled;
                }
                id
            }
        };
        Self { request_id, is_grpc, sampled: recorded, has_parent }
    }

    /// What the spans of a request with these fields need, where its trace is recorded.
    pub fn marks(&self, fields: &Fields) -> Option<Marks> {
        let context = if self.sampled { fields.get(TRACEPARENT)? } else { return None };
        // A context of ours names the span that we make.
        let named = hexadecimal(context.as_bytes(), 36);
        let (span, parent) = if self.has_parent { (drawn(), Some(named)) } else { (named, None) };
        Some(Marks { span, parent, state: state(fields), is_grpc: self.is_grpc })
    }

    /// Of a request of which no more is known.
    pub fn of(request_id: HeaderValue) -> Self {
        Self { request_id, is_grpc: false, sampled: false, has_parent: false }
    }

    /// Puts the request's id on its answer.
    #[must_use]
    pub fn mark(&self, mut response: Response<Body>) -> Response<Body> {
        response.fields.insert(&SET_ID, unique(self.request_id.clone()));
        response
    }
}

/// The trace state: several fields of it are one list. Source: W3C Trace Context §3.3.
fn state(fields: &Fields) -> Option<HeaderValue> {
    if fields.only(TRACESTATE).is_some() {
        return fields.get_owned(TRACESTATE);
    }
    let lines: Vec<_> = fields.get_all(TRACESTATE).map(Value::as_bytes).collect();
    HeaderValue::from_bytes(&lines.join(&b',')).ok().filter(|state| !state.is_empty())
}

/// An id that can stand in a log line or a label of somebody's without doing harm.
fn is_request_id(value: Value<'_>) -> bool {
    (1..=128).contains(&value.len()) && value.as_bytes().iter().all(|&byte| HARMLESS[usize::from(byte)])
}

const HARMLESS: [bool; 256] = {
    let mut harmless = [false; 256];
    let mut byte = b'+';
    while byte <= b'z' {
        let marks = matches!(byte, b'-' | b'_' | b'.' | b':' | b'/' | b'+' | b'=' | b'@');
        harmless[byte as usize] = marks || byte.is_ascii_alphanumeric();
        byte += 1;
    }
    harmless
};

/// Source: W3C Trace Context §3.2.2 (version 00) and §4.3 (later versions may go on after a dash).
fn is_traceparent(value: Value<'_>) -> bool {
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

/// Whether who came before records the trace. Source: W3C Trace Context §3.2.2.5.
fn is_sampled(context: Value<'_>) -> bool {
    context
        .as_bytes()
        .get(54)
        .is_some_and(|digit| matches!(digit, b'1' | b'3' | b'5' | b'7' | b'9' | b'b' | b'd' | b'f'))
}

/// The last 64 bits of a trace's number.
fn last_bits(context: &[u8]) -> u64 {
    hexadecimal(context, 19)
}

/// The number that sixteen digits there make.
fn hexadecimal(context: &[u8], from: usize) -> u64 {
    let digit = |b: u8| u64::from(b & 0xf) + 9 * u64::from(b >> 6);
    context.get(from..from + 16).unwrap_or_default().iter().fold(0, |bits, &b| bits << 4 | digit(b))
}

/// Marks of a request that came without: most need both, and so they share one piece of memory.
struct Fresh {
    id: HeaderValue,
    context: HeaderValue,
    /// Whether its spans are recorded.
    sampled: bool,
}

impl Fresh {
    /// The id is one only where that is wanted.
    fn new(sampler: Option<&Sampler>, with_id: bool) -> Self {
        let mut text = [b'0'; ID + CONTEXT];
        if with_id {
            text[..ID].copy_from_slice(&hex::<ID>());
        }
        let context = &mut text[ID..];
        context[..3].copy_from_slice(b"00-");
        context[3..35].copy_from_slice(&hex::<32>());
        context[35] = b'-';
        context[36..52].copy_from_slice(&hex::<16>());
        context[52..].copy_from_slice(b"-00");
        let recorded = sampler.is_some_and(|sampler| sampler.takes(None, || last_bits(context)));
        if recorded {
            context[CONTEXT - 1] = b'1';
        }
        let both = Bytes::from_owner(text);
        Self { id: value(both.slice(..ID)), context: value(both.slice(ID..)), sampled: recorded }
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
    let (parts, _) = digits.as_chunks_mut::<16>();
    for part in parts {
        let bits = drawn() | 1;
        let (first, last) = part.split_at_mut(8);
        first.copy_from_slice(&eight(bits >> 32).to_be_bytes());
        last.copy_from_slice(&eight(bits & 0xffff_ffff).to_be_bytes());
    }
    digits
}

/// The digits of 32 bits, one in each byte, all worked out at once.
fn eight(bits: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let spread = (bits | bits << 16) & 0x0000_ffff_0000_ffff;
    let spread = (spread | spread << 8) & 0x00ff_00ff_00ff_00ff;
    let nibbles = (spread | spread << 4) & (ONES * 0x0f);
    let letters = (nibbles + ONES * 6) >> 4 & ONES;
    nibbles + ONES * u64::from(b'0') + letters * u64::from(b'a' - b'0' - 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> Fields {
        fields.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn a_well_formed_id_of_the_clients_is_kept() {
        let mut came = headers(&[("x-request-id", "abc-123")]);
        assert_eq!(Trail::begin(&mut came, None).request_id, "abc-123");
        assert_eq!(came.text("x-request-id"), "abc-123");
    }

    #[test]
    fn an_id_has_letters_digits_and_a_few_marks() {
        let is_id = |byte: &u8| Value::of(std::slice::from_ref(byte)).is_some_and(is_request_id);
        let all: Vec<u8> = (0..=u8::MAX).filter(is_id).collect();
        assert_eq!(all, b"+-./0123456789:=@ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz");
    }

    #[test]
    fn any_other_id_is_replaced() {
        for bad in [&[("x-request-id", "a b")][..], &[("x-request-id", "")], &[("x-request-id", "\"")], &[]] {
            let mut came = headers(bad);
            let id = Trail::begin(&mut came, None).request_id;
            assert_eq!((id.len(), came.text("x-request-id")), (16, id.to_str().unwrap()), "{bad:?}");
            assert_ne!(id, Trail::begin(&mut headers(bad), None).request_id, "{bad:?}");
        }
        let mut twice = headers(&[("x-request-id", "a")]);
        twice.append(X_REQUEST_ID, HeaderValue::from_static("b"));
        let id = Trail::begin(&mut twice, None).request_id;
        assert_eq!(twice.get_all("x-request-id").collect::<Vec<_>>(), [Value::from(&id)]);
    }

    #[test]
    fn bits_are_written_as_their_digits() {
        for bits in [0, 1, 0x0123_4567, 0x89ab_cdef, 0xffff_ffff, 0xa09f_0fa9] {
            assert_eq!(eight(bits).to_be_bytes(), *format!("{bits:08x}").as_bytes());
        }
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
        Trail::begin(&mut came, None);
        assert_eq!((came.text("traceparent"), came.text("tracestate")), (valid, "a=b"));
    }

    #[test]
    fn a_trace_state_of_several_fields_is_one_list_of_them_in_their_order() {
        let valid = ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
        for (lines, want) in [
            (&[][..], None),
            (&["a=b"], Some("a=b")),
            (&["a=b", "c=d,e=f", "g=h"], Some("a=b,c=d,e=f,g=h")),
            (&["a=b", "", "g=h"], Some("a=b,,g=h")),
        ] {
            let mut came =
                headers(&[&[valid], &*lines.iter().map(|line| ("tracestate", *line)).collect::<Vec<_>>()].concat());
            let trail = Trail::begin(&mut came, Some(&Sampler::DEFAULT));
            let state = trail.marks(&came).unwrap().state;
            assert_eq!(state.as_ref().map(|state| state.to_str().unwrap()), want);
            assert!(came.get_all("tracestate").map(|line| line.to_str().unwrap()).eq(lines.iter().copied()));
        }
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
            Trail::begin(&mut came, None);
            assert!(is_traceparent(came.get("traceparent").unwrap()) && came.text("traceparent") != bad, "{bad}");
            assert!(!came.contains_key("tracestate"), "{bad}");
        }
    }

    #[test]
    fn a_trace_is_recorded_as_who_came_before_says_else_as_the_sampler_does() {
        let sampled = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let unsampled = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
        let none = Sampler::named("parentbased_always_off", None).unwrap();
        for (came, sampler, recorded) in [
            (Some(sampled), Some(Sampler::DEFAULT), true),
            (Some(unsampled), Some(Sampler::DEFAULT), false),
            (None, Some(Sampler::DEFAULT), true),
            (Some("bad"), Some(Sampler::DEFAULT), true),
            (Some(sampled), Some(none), true),
            (None, Some(none), false),
            (Some(sampled), None, false),
            (None, None, false),
        ] {
            let mut fields = came.map_or_else(Fields::new, |came| headers(&[("traceparent", came)]));
            let trail = Trail::begin(&mut fields, sampler.as_ref());
            assert_eq!(trail.sampled, recorded, "{came:?} {sampler:?}");
            let context = fields.text("traceparent");
            let marks = trail.marks(&fields);
            assert_eq!(marks.is_some(), recorded);
            if came.is_some_and(|came| came.len() == 55) {
                assert_eq!(context, came.unwrap());
                assert!(marks.is_none_or(|marks| marks.parent == Some(0xb7ad_6b71_6920_3331)));
            } else {
                assert_eq!(context.ends_with("-01"), recorded, "{context}");
                assert!(marks.is_none_or(|marks| marks.parent.is_none() && context[36..52] == format!("{:016x}", marks.span)));
            }
        }
    }
}
