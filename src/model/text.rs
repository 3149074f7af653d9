//! Numbers and addresses as text, on paths where formatters cost too much: they take ten times as long.

use std::{
    io::Write,
    net::{IpAddr, SocketAddr},
};

use super::instance::Address;

/// Writes a number behind what `out` holds.
#[inline]
pub fn decimal(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Writes the digits of a part of `whole`, which is a power of ten, with the zeros before them.
#[inline]
pub fn fraction(out: &mut Vec<u8>, part: u32, whole: u32) {
    let mut digits = itoa::Buffer::new();
    out.extend_from_slice(&digits.format(whole + part).as_bytes()[1..]);
}

/// Writes an address. Most are of version 4.
pub fn ip(out: &mut Vec<u8>, ip: IpAddr) {
    match ip {
        IpAddr::V4(ip) => {
            let (mut text, mut end) = ([0; 16], 0);
            for octet in ip.octets() {
                let (digits, length) = OCTETS[usize::from(octet)];
                text[end..end + 4].copy_from_slice(&digits);
                end += length;
            }
            out.extend_from_slice(&text[..end - 1]);
        }
        // Writing to memory cannot fail.
        IpAddr::V6(ip) => drop(write!(out, "{ip}")),
    }
}

/// Each octet with the dot behind it, and how many bytes that is.
const OCTETS: [([u8; 4], usize); 256] = {
    let mut octets = [([0; 4], 0); 256];
    let mut octet: u8 = 0;
    loop {
        let (hundreds, tens, ones) = (b'0' + octet / 100, b'0' + octet / 10 % 10, b'0' + octet % 10);
        octets[octet as usize] = match octet {
            0..10 => ([ones, b'.', 0, 0], 2),
            10..100 => ([tens, ones, b'.', 0], 3),
            100.. => ([hundreds, tens, ones, b'.'], 4),
        };
        if octet == u8::MAX {
            break octets;
        }
        octet += 1;
    }
};

/// Writes where an instance listens.
pub fn address(out: &mut Vec<u8>, address: &Address) {
    if let Address::Ip(SocketAddr::V4(at)) = address {
        ip(out, IpAddr::V4(*at.ip()));
        out.push(b':');
        decimal(out, at.port().into());
    } else {
        let _ = write!(out, "{address}"); // see above
    }
}

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
        for (part, whole, want) in [(0, 1_000, "=000"), (89, 1_000, "=089"), (999_999, 1_000_000, "=999999")] {
            assert_eq!(written(|out| fraction(out, part, whole)), want);
        }
        for text in ["0.0.0.0", "10.2.30.255", "2001:db8::7", "::ffff:10.0.0.1"] {
            let parsed: IpAddr = text.parse().unwrap();
            assert_eq!(written(|out| ip(out, parsed)), format!("={parsed}"));
        }
        for octet in 0..=u8::MAX {
            let address = [octet, 255 - octet, octet, 0].into();
            assert_eq!(written(|out| ip(out, address)), format!("={address}"));
        }
        for (host, port) in [("10.0.0.7", 8002), ("2001:db8::7", 80), ("files.internal", 8080)] {
            let at = Address::new(host, port).unwrap();
            assert_eq!(written(|out| address(out, &at)), format!("={at}"));
        }
    }
}
