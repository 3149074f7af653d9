//! Field names that were read before, on each thread its own: most messages have the same few, written in the same way, and to
//! know one again costs little more than half of reading it, and much less where it is not a standard one.

use std::cell::RefCell;

use http::{HeaderName, header::InvalidHeaderName};

use crate::model::random::{GOLDEN, place};

/// The name in these bytes, in lower case.
///
/// # Errors
/// They are no token.
#[inline]
pub(super) fn read(bytes: &[u8]) -> Result<HeaderName, InvalidHeaderName> {
    let Some(written) = Written::of(bytes) else { return HeaderName::from_bytes(bytes) };
    KNOWN.with_borrow_mut(|known| {
        let place = &mut known[written.place()];
        if let Some((before, name)) = place
            && *before == written
        {
            return Ok(name.clone());
        }
        learn(place, written, bytes)
    })
}

type Place = Option<(Written, HeaderName)>;

#[cold]
#[inline(never)]
fn learn(place: &mut Place, written: Written, bytes: &[u8]) -> Result<HeaderName, InvalidHeaderName> {
    let name = HeaderName::from_bytes(bytes)?;
    *place = Some((written, name.clone()));
    Ok(name)
}

/// How many are kept, a name for each place. One that comes into a place puts out what was there.
const PLACES: usize = 128;
/// Longer ones are rare.
const LONGEST: usize = 31;

thread_local! {
    static KNOWN: RefCell<[Place; PLACES]> = const { RefCell::new([const { None }; PLACES]) };
}

/// The bytes of a name, with zeros behind them and their number at last.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Written([u64; 4]);

impl Written {
    #[inline]
    fn of(bytes: &[u8]) -> Option<Self> {
        let mut padded = [0; LONGEST + 1];
        padded.get_mut(..LONGEST)?.get_mut(..bytes.len())?.copy_from_slice(bytes);
        padded[LONGEST] = u8::try_from(bytes.len()).ok()?;
        let (words, _) = padded.as_chunks::<8>();
        Some(Self(std::array::from_fn(|i| u64::from_le_bytes(words[i]))))
    }

    #[inline]
    fn place(self) -> usize {
        let [a, b, c, d] = self.0;
        let folded = a ^ b.rotate_left(21) ^ c.rotate_left(42) ^ d.rotate_left(11);
        place(folded.wrapping_mul(GOLDEN), PLACES) // whose upper bits depend on all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
                let expected = HeaderName::from_bytes(name.as_bytes());
                assert_eq!(read(name.as_bytes()).ok(), expected.ok(), "{name:?}, round {round}");
            }
        }
    }

    #[test]
    fn what_most_messages_have_is_known_again() {
        let usual =
            ["Host", "User-Agent", "Accept", "Content-Type", "Content-Length", "Date", "Cookie", "X-Request-Id"];
        for name in usual {
            read(name.as_bytes()).unwrap();
        }
        let known = |name: &&str| {
            let written = Written::of(name.as_bytes()).unwrap();
            KNOWN.with_borrow(|known| known[written.place()].as_ref().is_some_and(|(before, _)| *before == written))
        };
        assert_eq!(usual.iter().filter(|name| known(name)).count(), usual.len());
    }
}
