//! Numbers and addresses as text, and text a word at a time, on paths where formatters cost too much: they take ten times as long.

use std::{io::Write, net::IpAddr};

/// Writes a number behind what `out` holds.
#[inline]
pub fn decimal(out: &mut Vec<u8>, value: u64) {
    // Much that is counted is nothing or one.
    if let Ok(digit @ 0..10) = u8::try_from(value) {
        return out.push(b'0' | digit);
    }
    match u32::try_from(value) {
        Ok(value) if value < 100_000_000 => {
            let digits = eight(value);
            let zeros = (digits.trailing_zeros() / 8).min(7); // one digit stays
            first(out, digits >> (8 * zeros), 8 - zeros as usize);
        }
        _ => out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes()),
    }
}

/// The three digits of a number below 1,000.
#[inline]
#[must_use]
pub const fn three(value: u32) -> [u8; 3] {
    let (hundreds, rest) = (value / 100, value % 100);
    [digit(hundreds), digit(rest / 10), digit(rest % 10)]
}

/// A number below 10.
const fn digit(value: u32) -> u8 {
    let [lowest, ..] = value.to_le_bytes();
    b'0' | lowest
}

/// Writes so many digits of a number below 10 to that power, at most 8, with the zeros before it.
#[inline]
pub fn padded(out: &mut Vec<u8>, value: u32, count: u32) {
    first(out, eight(value) >> (8 * (8 - count)), count as usize);
}

/// Writes the first so many of eight digits, each the number of its byte, the lowest first. All of it stays in registers:
/// what is put together in memory of the stack is read again before it has arrived there, and that waits for all that is
/// being written, a log far away in memory too.
#[inline]
fn first(out: &mut Vec<u8>, digits: u64, count: usize) {
    let length = out.len() + count;
    out.extend_from_slice(&(digits | each(b'0')).to_le_bytes());
    out.truncate(length);
}

/// All bytes as words, the last of which has some of the one before again where there is no whole number of them; `None`: there are fewer
/// than make one.
#[inline]
pub fn words(bytes: &[u8]) -> Option<impl Iterator<Item = u64>> {
    let last = bytes.last_chunk()?;
    let before = &bytes[..bytes.len() - 1];
    Some(before.as_chunks().0.iter().chain([last]).map(|word| u64::from_ne_bytes(*word)))
}

/// A word with this byte in every place, for who looks at eight at once.
#[inline]
#[must_use]
pub const fn each(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

/// The eight digits of a number below 10^8, one in each byte, the first one lowest: halves, quarters and eighths of it are
/// worked out at once, dividing by multiplying.
const fn eight(value: u32) -> u64 {
    let (high, low) = (value / 10_000, value % 10_000);
    let fours = high as u64 | ((low as u64) << 32);
    let hundreds = ((fours * 10_486) >> 20) & 0x7f_0000_007f;
    let twos = hundreds | ((fours - 100 * hundreds) << 16);
    let tens = ((twos * 103) >> 10) & 0x000f_000f_000f_000f;
    tens | ((twos - 10 * tens) << 8)
}

/// Writes an address. Most are of version 4.
pub fn ip(out: &mut Vec<u8>, ip: IpAddr) {
    match ip {
        IpAddr::V4(ip) => {
            // All of it in registers: see `first`.
            let (text, bits) = ip.octets().into_iter().fold((0, 0), |(text, bits), octet| {
                let (digits, length) = OCTETS[usize::from(octet)];
                (text | u128::from(digits) << bits, bits + length)
            });
            let length = out.len() + bits as usize / 8 - 1; // without the last one's dot
            out.extend_from_slice(&text.to_le_bytes());
            out.truncate(length);
        }
        // Writing to memory cannot fail.
        IpAddr::V6(ip) => drop(write!(out, "{ip}")),
    }
}

/// Each octet with the dot behind it, the first sign lowest, and how many bits that is.
static OCTETS: [(u32, u32); 256] = {
    let mut octets = [(0, 0); 256];
    let mut octet: u8 = 0;
    loop {
        let (hundreds, tens, ones) = (b'0' + octet / 100, b'0' + octet / 10 % 10, b'0' + octet % 10);
        let (signs, length) = match octet {
            0..10 => ([ones, b'.', 0, 0], 2),
            10..100 => ([tens, ones, b'.', 0], 3),
            100.. => ([hundreds, tens, ones, b'.'], 4),
        };
        octets[octet as usize] = (u32::from_le_bytes(signs), 8 * length);
        if octet == u8::MAX {
            break octets;
        }
        octet += 1;
    }
};

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = b"=".to_vec();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_and_addresses_are_written_as_formatters_do() {
        for value in [0, 9, 10, 255, 65_535, u64::MAX] {
            assert_eq!(written(|out| decimal(out, value)), format!("={value}"));
        }
        for power in 0..=19 {
            let ten = 10_u64.pow(power);
            for value in [ten - 1, ten, ten + 1, 9 * (ten / 10), 1_234_567_890_123_456_789 % ten] {
                assert_eq!(written(|out| decimal(out, value)), format!("={value}"));
            }
        }
        for (value, count, want) in [(0, 3, "=000"), (89, 3, "=089"), (999_999, 6, "=999999"), (7, 8, "=00000007")] {
            assert_eq!(written(|out| padded(out, value, count)), want);
        }
        for value in 0..10_000 {
            let (value, want) = (value * 10_001, format!("={:08}", value * 10_001));
            assert_eq!(written(|out| padded(out, value, 8)), want);
        }
        for value in 0..1000 {
            assert_eq!(three(value), *format!("{value:03}").as_bytes());
        }
        for text in ["0.0.0.0", "10.2.30.255", "2001:db8::7", "::ffff:10.0.0.1"] {
            let parsed: IpAddr = text.parse().unwrap();
            assert_eq!(written(|out| ip(out, parsed)), format!("={parsed}"));
        }
        for octet in 0..=u8::MAX {
            let address = [octet, 255 - octet, octet, 0].into();
            assert_eq!(written(|out| ip(out, address)), format!("={address}"));
        }
    }
}
