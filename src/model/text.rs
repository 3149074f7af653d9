//! Numbers and addresses as text, and text a word at a time, on paths where formatters cost too much: they take ten times as long.

use std::{
    io::Write,
    net::{IpAddr, Ipv4Addr},
};

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

/// All bytes as words, the last of which has some of the one before again where there is no whole number of them; `None`: there are fewer
/// than make one.
#[inline]
pub fn words(bytes: &[u8]) -> Option<impl Iterator<Item = u64>> {
    let last = bytes.last_chunk()?;
    let before = &bytes[..bytes.len() - 1];
    Some(before.as_chunks().0.iter().chain([last]).map(|word| u64::from_ne_bytes(*word)))
}

/// Where the first byte of this value is. Eight at a time: a head is scanned once before it is parsed, and this keeps that pass
/// below a tenth of the whole.
#[inline]
#[must_use]
pub fn find(bytes: &[u8], sought: u8) -> Option<usize> {
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let differs = u64::from_le_bytes(*word) ^ each(sought);
        let zeros = differs.wrapping_sub(each(1)) & !differs & each(0x80);
        if zeros != 0 {
            return Some(index * 8 + zeros.trailing_zeros() as usize / 8);
        }
    }
    rest.iter().position(|&b| b == sought).map(|at| words.len() * 8 + at)
}

/// A word with this byte in every place, for who looks at eight at once.
#[inline]
#[must_use]
pub const fn each(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

/// The eight digits of a number below 10^8, one in each byte, the first one lowest: halves, quarters and eighths of it are
/// worked out at once, dividing by multiplying.
#[inline]
#[must_use]
pub const fn eight(value: u32) -> u64 {
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
            let (text, length) = octets(ip);
            let length = out.len() + length;
            out.extend_from_slice(&text.to_le_bytes());
            out.truncate(length);
        }
        // Writing to memory cannot fail.
        IpAddr::V6(ip) => drop(write!(out, "{ip}")),
    }
}

/// An address as text, the first sign lowest, and its length. All of it stays in registers.
#[inline]
#[must_use]
pub fn octets(ip: Ipv4Addr) -> (u128, usize) {
    let (text, bits) = ip.octets().into_iter().fold((0, 0), |(text, bits), octet| {
        let (digits, length) = OCTETS[usize::from(octet)];
        (text | u128::from(digits) << bits, bits + length)
    });
    (text, bits as usize / 8 - 1) // without the last one's dot
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
    fn the_first_of_a_byte_is_found_at_every_offset_beside_every_byte() {
        for sought in [b'\n', b':', 0xff] {
            for (other, len) in (0..=255u8).flat_map(|other| (0..20).map(move |len| (other, len))) {
                for at in 0..len {
                    let mut bytes = vec![other; len];
                    bytes[at] = sought;
                    let expected = if other == sought { 0 } else { at };
                    assert_eq!(find(&bytes, sought), Some(expected), "{sought} beside {other}, length {len}, at {at}");
                }
            }
        }
        assert_eq!(find(b"no end in this line", b'\n'), None);
    }

    #[test]
    fn numbers_and_addresses_are_written_as_formatters_do() {
        for value in 0..10_000 {
            let value = value * 10_001;
            let digits = eight(value).to_le_bytes().map(|digit| b'0' + digit);
            assert_eq!(str::from_utf8(&digits).unwrap(), format!("{value:08}"));
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
