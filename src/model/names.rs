//! Field names that were read before, on each thread its own: most messages have the same few, written in the same way, and to
//! know one again costs little more than half of reading it, and much less where it is not a standard one.

use std::cell::RefCell;

use http::{HeaderName, header::InvalidHeaderName};

use super::{
    field::{Name, Usual},
    known,
    random::{GOLDEN, place},
};

/// The name in so many bytes from `start` on in a head, where it was read before and is one that many messages have. It
/// stands for itself: to copy a name that may be any of two kinds, and then to move it, takes longer than to know it.
#[inline]
pub fn usual(head: &[u8], start: usize, length: usize) -> Option<&'static Usual> {
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
pub fn read(head: &[u8], start: usize, length: usize) -> Result<HeaderName, InvalidHeaderName> {
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

/// The one of this name, in lower case as it has to be, among those that many messages have.
#[inline]
#[must_use]
pub fn known(name: &[u8]) -> Option<&'static Usual> {
    let mut slot = slot(name)?;
    loop {
        let usual = USUAL.get(usize::from(SLOTS[slot]))?;
        if usual.name().as_str().as_bytes() == name {
            return Some(usual);
        }
        slot = (slot + 1) % SLOTS.len();
    }
}

/// The one that stands at this index in HPACK's static table.
#[inline]
#[must_use]
pub fn of_static(index: usize) -> Option<&'static Usual> {
    USUAL.get(usize::from(*OF_STATIC.get(index)?))
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

macro_rules! usual {
    ($($name:literal,)*) => {
        const NAMES: &[&str] = &[$($name),*];
        /// Names that many messages have, among them all of HPACK's static table.
        static USUAL: [Usual; NAMES.len()] = [$(Usual::of($name)),*];
    };
}

usual! {
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "accept-ranges",
    "access-control-allow-credentials",
    "access-control-allow-headers",
    "access-control-allow-methods",
    "access-control-allow-origin",
    "age",
    "allow",
    "authorization",
    "cache-control",
    "connection",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-range",
    "content-security-policy",
    "content-type",
    "cookie",
    "date",
    "etag",
    "expect",
    "expires",
    "forwarded",
    "from",
    "grpc-accept-encoding",
    "grpc-encoding",
    "grpc-message",
    "grpc-status",
    "grpc-timeout",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "keep-alive",
    "last-modified",
    "link",
    "location",
    "max-forwards",
    "origin",
    "pragma",
    "proxy-authenticate",
    "proxy-authorization",
    "range",
    "referer",
    "refresh",
    "retry-after",
    "server",
    "set-cookie",
    "strict-transport-security",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "upgrade-insecure-requests",
    "user-agent",
    "vary",
    "via",
    "www-authenticate",
    "x-content-type-options",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-powered-by",
    "x-request-id",
}

/// For each index of HPACK's static table, which of the usual names stands there.
static OF_STATIC: [u8; known::STATIC.len() + 1] = {
    let mut all = [NONE; known::STATIC.len() + 1];
    let mut at = NAMES.len();
    while at > 0 {
        at -= 1;
        // Those of one name follow each other.
        let index = known::first(NAMES[at].as_bytes());
        all[index as usize] = number(at);
    }
    all[0] = NONE;
    all
};

/// Where each of the usual names is looked for by `slot`, or where the first free place behind that is.
static SLOTS: [u8; 256] = {
    let mut slots = [NONE; 256];
    let mut at = 0;
    while at < NAMES.len() {
        let Some(mut slot) = slot(NAMES[at].as_bytes()) else { panic!("a name is empty") };
        while slots[slot] != NONE {
            slot = (slot + 1) % slots.len();
        }
        slots[slot] = number(at);
        at += 1;
    }
    slots
};

/// None of them.
const NONE: u8 = u8::MAX;

#[expect(clippy::cast_possible_truncation, reason = "the assertion says why not")]
const fn number(at: usize) -> u8 {
    assert!(at < NONE as usize);
    at as u8
}

/// By factors that were tried until each name had a place of its own, or nearly.
#[inline]
const fn slot(name: &[u8]) -> Option<usize> {
    let [first, ..] = name else { return None };
    let (middle, last) = (name[name.len() / 2], name[name.len() - 1]);
    Some((name.len() * 169 + *first as usize * 162 + middle as usize * 206 + last as usize * 232) % 256)
}

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
    fn usual_names_are_found_by_themselves_and_by_their_place_in_the_static_table() {
        for name in NAMES {
            let usual = known(name.as_bytes()).unwrap();
            assert_eq!(usual.name().as_str(), *name);
            assert!(known(name.to_uppercase().as_bytes()).is_none());
            assert!(known(&name.as_bytes()[1..]).is_none_or(|other| other.name() != usual.name()));
            let index = usize::from(usual.static_index());
            assert!(index == 0 || of_static(index).is_some_and(|there| std::ptr::eq(there, usual)), "{name}");
        }
        for (at, (name, _)) in known::STATIC.iter().enumerate() {
            assert_eq!(of_static(at + 1).map(|usual| usual.name().as_str()), (at >= 14).then_some(*name));
        }
        assert!(of_static(0).is_none() && of_static(62).is_none() && known(b"").is_none() && known(b"x-a").is_none());
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
