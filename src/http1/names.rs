//! Field names that were read before, on each thread its own: most messages have the same few, written in the same way, and to
//! know one again costs little more than half of reading it, and much less where it is not a standard one.

use std::cell::RefCell;

use http::{HeaderName, header::InvalidHeaderName};

use crate::model::{
    field::{Name, Usual},
    random::{GOLDEN, place},
};

/// The name in so many bytes from `start` on in a head, where it was read before and is one that many messages have. It
/// stands for itself: to copy a name that may be any of two kinds, and then to move it, takes longer than to know it.
#[inline]
pub(super) fn usual(head: &[u8], start: usize, length: usize) -> Option<&'static Usual> {
    let written = Written::of(head, start, length)?;
    KNOWN.with_borrow(|known| match &known[written.place()] {
        Some((before, Name::Usual(usual))) if *before == written => Some(*usual),
        _ => None,
    })
}

/// The name in so many bytes from `start` on in a head, in lower case.
///
/// # Errors
/// They are no token.
#[inline]
pub(super) fn read(head: &[u8], start: usize, length: usize) -> Result<HeaderName, InvalidHeaderName> {
    let bytes = &head[start..start + length];
    let Some(written) = Written::of(head, start, length) else { return HeaderName::from_bytes(bytes) };
    KNOWN.with_borrow_mut(|known| {
        let place = &mut known[written.place()];
        if let Some((before, name)) = place
            && *before == written
        {
            return Ok(HeaderName::clone(name));
        }
        learn(place, written, bytes)
    })
}

type Place = Option<(Written, Name)>;

#[cold]
#[inline(never)]
fn learn(place: &mut Place, written: Written, bytes: &[u8]) -> Result<HeaderName, InvalidHeaderName> {
    let name = HeaderName::from_bytes(bytes)?;
    let usual = USUAL.iter().find(|usual| *usual.name() == name);
    *place = Some((written, usual.map_or_else(|| Name::Own(name.clone()), Name::Usual)));
    Ok(name)
}

/// Names that many messages have.
static USUAL: [Usual; 48] = [
    Usual::of("accept"),
    Usual::of("accept-encoding"),
    Usual::of("accept-language"),
    Usual::of("accept-ranges"),
    Usual::of("access-control-allow-credentials"),
    Usual::of("access-control-allow-headers"),
    Usual::of("access-control-allow-methods"),
    Usual::of("access-control-allow-origin"),
    Usual::of("age"),
    Usual::of("authorization"),
    Usual::of("cache-control"),
    Usual::of("connection"),
    Usual::of("content-disposition"),
    Usual::of("content-encoding"),
    Usual::of("content-length"),
    Usual::of("content-security-policy"),
    Usual::of("content-type"),
    Usual::of("cookie"),
    Usual::of("date"),
    Usual::of("etag"),
    Usual::of("expires"),
    Usual::of("forwarded"),
    Usual::of("host"),
    Usual::of("if-modified-since"),
    Usual::of("if-none-match"),
    Usual::of("keep-alive"),
    Usual::of("last-modified"),
    Usual::of("location"),
    Usual::of("origin"),
    Usual::of("pragma"),
    Usual::of("range"),
    Usual::of("referer"),
    Usual::of("server"),
    Usual::of("set-cookie"),
    Usual::of("strict-transport-security"),
    Usual::of("traceparent"),
    Usual::of("tracestate"),
    Usual::of("transfer-encoding"),
    Usual::of("upgrade-insecure-requests"),
    Usual::of("user-agent"),
    Usual::of("vary"),
    Usual::of("via"),
    Usual::of("x-content-type-options"),
    Usual::of("x-forwarded-for"),
    Usual::of("x-forwarded-host"),
    Usual::of("x-forwarded-proto"),
    Usual::of("x-powered-by"),
    Usual::of("x-request-id"),
];

/// How many are kept, a name for each place. One that comes into a place puts out what was there.
const PLACES: usize = 128;
/// Longer ones are rare.
const LONGEST: usize = WINDOW - 1;
/// What is looked at at once, in bytes.
const WINDOW: usize = 32;

thread_local! {
    static KNOWN: RefCell<[Place; PLACES]> = const { RefCell::new([const { None }; PLACES]) };
}

/// The bytes of a name, with zeros behind them and their number at last.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Written(u128, u128);

/// Ones for the bytes of a name, from where as many are left as it has; zeros behind it.
const MASK: [u8; 2 * WINDOW] = {
    let mut mask = [0; 2 * WINDOW];
    let mut at = 0;
    while at < WINDOW {
        mask[at] = 0xff;
        at += 1;
    }
    mask
};

impl Written {
    /// What stands behind the name is read with it and taken off: a name that is copied to be padded is read again before
    /// it has arrived in memory, and that waits. `None`: it is too long, or the head is shorter than a window.
    #[inline]
    fn of(head: &[u8], start: usize, length: usize) -> Option<Self> {
        if length > LONGEST {
            return None;
        }
        let rest = &head[start..];
        let (low, high) = if let Some(window) = rest.first_chunk() {
            halves(window)
        } else {
            // The last window of the head, without what stands before the name.
            let ((low, high), before) = (halves(head.last_chunk()?), 8 * (WINDOW - rest.len()));
            if before < 128 {
                ((low >> before) | (high << (128 - before)), high >> before)
            } else {
                (high.checked_shr(u32::try_from(before - 128).ok()?).unwrap_or(0), 0)
            }
        };
        let mask = halves(MASK[WINDOW - length..].first_chunk()?);
        Some(Self(low & mask.0, (high & mask.1) | ((length as u128) << 120)))
    }

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "each half of a half is meant")]
    fn place(self) -> usize {
        let halved = |half: u128| (half as u64, (half >> 64) as u64);
        let ((a, b), (c, d)) = (halved(self.0), halved(self.1));
        let folded = a ^ b.rotate_left(21) ^ c.rotate_left(42) ^ d.rotate_left(11);
        place(folded.wrapping_mul(GOLDEN), PLACES) // whose upper bits depend on all
    }
}

/// The bytes of a window, the first ones lowest.
#[inline]
fn halves(window: &[u8; WINDOW]) -> (u128, u128) {
    let half = |from: usize| window[from..].first_chunk().map_or(0, |half| u128::from_le_bytes(*half));
    (half(0), half(WINDOW / 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All heads that a name may stand in, as far as they matter: with this much behind it, and before it.
    fn heads(name: &[u8]) -> impl Iterator<Item = (Vec<u8>, usize)> {
        let around = [0, 1, 5, WINDOW / 2, WINDOW - 1, WINDOW, 3 * WINDOW];
        around
            .into_iter()
            .flat_map(move |before| around.map(|behind| (vec![b'y'; before], vec![b'z'; behind])))
            .map(move |(before, behind)| ([&before, name, &behind].concat(), before.len()))
    }

    #[test]
    fn names_are_read_as_the_library_reads_them_whatever_was_read_before() {
        let long = "x".repeat(LONGEST + 1);
        let longest = &long[1..];
        let names =
            ["host", "Host", "hosT", "x-a", "X-A", "", "a b", "a\0", "a", "a\0\0", "x_y", "\u{fc}", longest, &long];
        // Twice as many as there is room for come in between.
        let others: Vec<_> = (0..2 * PLACES).map(|i| format!("x-other-{i}")).collect();
        for round in 0..3 {
            for name in names.into_iter().chain(others.iter().map(String::as_str)).chain(names) {
                let expected = HeaderName::from_bytes(name.as_bytes()).ok();
                for (head, start) in heads(name.as_bytes()) {
                    let at = format!("{name:?} from {start} in {}, round {round}", head.len());
                    let known = usual(&head, start, name.len());
                    assert!(known.is_none_or(|known| Some(known.name()) == expected.as_ref()), "{at}");
                    assert_eq!(read(&head, start, name.len()).ok(), expected, "{at}");
                }
            }
        }
    }

    #[test]
    fn what_most_messages_have_is_known_again() {
        let names =
            ["Host", "User-Agent", "Accept", "Content-Type", "Content-Length", "Date", "Cookie", "X-Request-Id"];
        for name in names {
            let head = [name.as_bytes(), &[b' '; WINDOW]].concat();
            read(&head, 0, name.len()).unwrap();
        }
        for name in names {
            for (head, start) in heads(name.as_bytes()).filter(|(head, _)| head.len() >= WINDOW) {
                assert_eq!(usual(&head, start, name.len()).unwrap().name().as_str(), name.to_ascii_lowercase());
                let written = Written::of(&head, start, name.len()).unwrap();
                let is_known = |known: &[Place; PLACES]| {
                    known[written.place()].as_ref().is_some_and(|(before, _)| *before == written)
                };
                assert!(KNOWN.with_borrow(is_known), "{name} from {start} in {}", head.len());
            }
        }
    }
}
