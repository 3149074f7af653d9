//! Writes text from left to right into memory that is there already. Where it has no room any more it goes on in vain, and who
//! writes begins anew with more: so what is asked with each piece stays in registers, and is asked once.

use std::{fmt, fmt::Write as _, net::IpAddr, time::Duration};

use crate::model::text::{each, eight, octets};

/// What is left of the place. It is passed on by value, and no larger than two registers hold: what has an address is not kept there.
#[derive(Debug, Default)]
pub struct Pen<'p>(&'p mut [u8]);

/// The least that memory grows to, in bytes: most lines are shorter.
const LEAST: usize = 1024;

/// Writes behind the first `from` bytes of `place`, all of which counts as room and which grows where nothing is left of that. `text`
/// is called again then. Gives where it ends, and what it gave.
#[inline]
pub fn write<T>(place: &mut Vec<u8>, from: usize, text: impl Fn(Pen<'_>) -> (Pen<'_>, T)) -> (usize, T) {
    match once(place, from, &text) {
        Some(written) => written,
        None => again(place, from, &text),
    }
}

#[inline]
fn once<T>(place: &mut [u8], from: usize, text: impl Fn(Pen<'_>) -> (Pen<'_>, T)) -> Option<(usize, T)> {
    let whole = place.len();
    let (pen, told) = text(Pen(place.get_mut(from..).unwrap_or_default()));
    (pen.left() > 0).then(|| (whole - pen.left(), told))
}

/// A loop of its own: beside the usual way it would have that work out all numbers before it writes the first.
#[cold]
#[inline(never)]
fn again<T>(place: &mut Vec<u8>, from: usize, text: &dyn Fn(Pen<'_>) -> (Pen<'_>, T)) -> (usize, T) {
    loop {
        place.resize((2 * place.len()).max(from + LEAST), 0);
        if let Some(written) = once(place, from, text) {
            return written;
        }
    }
}

#[expect(
    clippy::inline_always,
    reason = "a call would give the pen an address, and each piece would be written through it"
)]
impl Pen<'_> {
    /// For how many bytes there is room.
    #[inline(always)]
    pub fn left(&self) -> usize {
        self.0.len()
    }

    /// Writes these.
    #[inline(always)]
    pub fn put(&mut self, text: &[u8]) {
        // Where there is too little room, none is left for anything else either.
        if let Some((place, rest)) = std::mem::take(&mut self.0).split_at_mut_checked(text.len()) {
            place.copy_from_slice(text);
            self.0 = rest;
        }
    }

    /// Writes these, of which there are mostly as many as make one word to four: two moves that overlap, and no call.
    #[inline(always)]
    pub fn few(&mut self, text: &[u8]) {
        let place = std::mem::take(&mut self.0);
        if let Some((place, rest)) = place.split_at_mut_checked(text.len()) {
            if !(ends::<8>(place, text) || ends::<16>(place, text)) {
                place.copy_from_slice(text);
            }
            self.0 = rest;
        }
    }

    /// Leaves room for so many, which are to be written later.
    #[inline(always)]
    pub fn leave(&mut self, room: usize) {
        self.0 = std::mem::take(&mut self.0).get_mut(room..).unwrap_or_default();
    }

    /// A text that is known.
    #[inline(always)]
    pub fn word(&mut self, text: &str) {
        self.put(text.as_bytes());
    }

    /// A number.
    #[inline(always)]
    pub fn decimal(&mut self, value: u64) {
        // Much that is counted is nothing or one.
        if let Ok(digit @ 0..10) = u8::try_from(value) {
            return self.put(&[b'0' | digit]);
        }
        match u32::try_from(value) {
            Ok(value) if value < 100_000_000 => {
                let digits = eight(value);
                let zeros = (digits.trailing_zeros() / 8).min(7); // one digit stays
                self.digits(digits >> (8 * zeros), 8 - zeros as usize);
            }
            _ => self.word(itoa::Buffer::new().format(value)),
        }
    }

    /// Seconds, to the microsecond.
    #[inline(always)]
    pub fn seconds(&mut self, value: Duration) {
        match value.as_secs() {
            0 => self.put(b"0."),
            seconds => {
                self.decimal(seconds);
                self.put(b".");
            }
        }
        self.digits(eight(value.subsec_micros()) >> 16, 6);
    }

    /// An address. Most are of version 4.
    #[inline(always)]
    pub fn ip(&mut self, ip: IpAddr) {
        match ip {
            IpAddr::V4(ip) => {
                let (text, length) = octets(ip);
                self.first(text.to_le_bytes(), length);
            }
            IpAddr::V6(ip) => self.aside(|pen| pen.shown(&ip)),
        }
    }

    /// What is seldom written, and takes long: that alone needs the pen to have an address.
    #[inline(always)]
    pub fn aside(&mut self, text: impl FnOnce(&mut Self)) {
        let mut pen = std::mem::take(self);
        text(&mut pen);
        *self = pen;
    }

    /// Whatever can be shown.
    #[cold]
    #[inline(never)]
    pub fn shown(&mut self, what: &dyn fmt::Display) {
        // Writing cannot fail: what has no room is known at the end.
        let _ = write!(self, "{what}");
    }

    /// The first so many of eight digits, each the number of its byte, the lowest first. All of it stays in registers: what is put
    /// together in memory of the stack is read again before it has arrived there, and that waits for all that is being written, a log
    /// far away in memory too.
    #[inline(always)]
    fn digits(&mut self, digits: u64, count: usize) {
        self.first((digits | each(b'0')).to_le_bytes(), count);
    }

    /// The first so many of these, for all of which there has to be room.
    #[inline(always)]
    fn first<const N: usize>(&mut self, text: [u8; N], count: usize) {
        let rest = std::mem::take(&mut self.0);
        if let Some(place) = rest.first_chunk_mut() {
            *place = text;
            self.0 = rest.get_mut(count..).unwrap_or_default();
        }
    }
}

/// Copies the first and the last `N` bytes, where these are all. Gives whether they are.
#[inline]
fn ends<const N: usize>(place: &mut [u8], text: &[u8]) -> bool {
    if text.len() > 2 * N || place.len() != text.len() {
        return false;
    }
    let (Some(first), Some(last)) = (text.first_chunk::<N>(), text.last_chunk::<N>()) else { return false };
    if let Some(place) = place.first_chunk_mut() {
        *place = *first;
    }
    if let Some(place) = place.last_chunk_mut() {
        *place = *last;
    }
    true
}

impl fmt::Write for Pen<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.word(text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn written(text: impl Fn(&mut Pen<'_>)) -> String {
        let mut all = String::new();
        // In as little room as there may be, and in more.
        for room in [1, 2, 9, 17, 40, 100] {
            let mut place = vec![b'='; room];
            let (end, ()) = write(&mut place, 1, |mut pen| {
                text(&mut pen);
                (pen, ())
            });
            let again = String::from_utf8(place[..end].to_vec()).unwrap();
            assert!(all.is_empty() || all == again, "{room}: {all} {again}");
            all = again;
        }
        all
    }

    #[test]
    fn numbers_and_addresses_are_written_as_formatters_do() {
        for value in [0, 9, 10, 255, 65_535, u64::MAX] {
            assert_eq!(written(|pen| pen.decimal(value)), format!("={value}"));
        }
        for power in 0..=19 {
            let ten = 10_u64.pow(power);
            for value in [ten - 1, ten, ten + 1, 9 * (ten / 10), 1_234_567_890_123_456_789 % ten] {
                assert_eq!(written(|pen| pen.decimal(value)), format!("={value}"));
            }
        }
        for (micros, want) in
            [(0, "=0.000000"), (89, "=0.000089"), (1_999_999, "=1.999999"), (70_000_007, "=70.000007")]
        {
            assert_eq!(written(|pen| pen.seconds(Duration::from_micros(micros))), want);
        }
        for text in ["0.0.0.0", "10.2.30.255", "255.255.255.255", "2001:db8::7", "::ffff:10.0.0.1"] {
            let parsed: IpAddr = text.parse().unwrap();
            assert_eq!(written(|pen| pen.ip(parsed)), format!("={parsed}"));
        }
    }

    #[test]
    fn texts_of_any_length_are_written_whole_and_what_is_left_out_keeps_its_room() {
        let text: Vec<u8> = (b'0'..=b'z').collect();
        for length in 0..=text.len() {
            let mut place = vec![b'='; 9];
            let (end, ()) = write(&mut place, 0, |mut pen| {
                pen.few(&text[..length]);
                pen.leave(length);
                pen.few(&text[..length]);
                (pen, ())
            });
            assert_eq!(end, 3 * length);
            assert_eq!((&place[..length], &place[2 * length..end]), (&text[..length], &text[..length]));
        }
    }

    #[test]
    fn what_has_no_room_is_written_anew_with_more_and_what_stood_before_it_stays() {
        for length in [0, 1, 7, 1023, 1024, 5000] {
            for room in [0, 1, 8, 1024] {
                let mut place = vec![b'='; room];
                let (times, from) = (Cell::new(0), room / 2);
                let (end, left) = write(&mut place, from, |mut pen| {
                    times.set(times.get() + 1);
                    pen.put(&vec![b'x'; length]);
                    pen.put(b"!");
                    let left = pen.left();
                    (pen, left)
                });
                assert_eq!((end, left), (from + length + 1, place.len() - end));
                assert_eq!(place[..end], [vec![b'='; from], vec![b'x'; length], vec![b'!']].concat());
                assert_eq!(times.get() == 1, length + 1 < room - from, "{length} {room}");
            }
        }
    }
}
