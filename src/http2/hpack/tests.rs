//! Whether blocks are read and written as RFC 7541 says.

use http::{HeaderName, StatusCode};

use super::*;
use crate::model::names;

mod examples;
mod hostile;
mod models;

const LIMITS: Limits = Limits { max_list: 16 * 1024, max_lines: 100 };

/// The lines of a block as text, with the fault at last where there is one.
fn lines(decoder: &mut Decoder, block: &[u8]) -> Vec<String> {
    let mut section = Section::default();
    decoder.decode(block, &mut section, &LIMITS).unwrap();
    shown(&section)
}

fn shown(section: &Section) -> Vec<String> {
    let lines = section.lines.iter().map(|line| {
        let name = match &line.name {
            Token::Pseudo(pseudo) => pseudo.as_str(),
            Token::Field(name) => name.as_str(),
        };
        let value = &section.text[line.value.start as usize..line.value.end as usize];
        format!("{name}: {}{}", value.escape_ascii(), if line.never_indexed { " (never)" } else { "" })
    });
    lines.chain(section.fault.map(|fault| format!("{fault:?}"))).collect()
}

/// Bytes from hexadecimal digits.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

#[test]
fn what_is_written_is_read() {
    let mut out = Vec::new();
    let mut encoder = Encoder::new();
    encoder.begin(&mut out);
    assert!(out.is_empty());
    encoder.allow(100);
    encoder.begin(&mut out);
    encoder.begin(&mut out);
    assert_eq!(out, [0x20]);
    for (name, value) in [
        (Pseudo::Method, "GET"),
        (Pseudo::Method, "POST"),
        (Pseudo::Method, "PUT"),
        (Pseudo::Path, "/"),
        (Pseudo::Path, "/a"),
        (Pseudo::Scheme, "https"),
        (Pseudo::Authority, ""),
        (Pseudo::Protocol, "websocket"),
        (Pseudo::Status, "404"),
    ] {
        write_pseudo(&mut out, name, value.as_bytes());
    }
    write_status(&mut out, StatusCode::OK);
    write_status(&mut out, StatusCode::CREATED);
    let own = |name| Name::from(HeaderName::from_static(name));
    write_field(&mut out, &own("x-own"), b"1", false);
    write_field(&mut out, &own("x-own"), b"2", true);
    write_field(&mut out, &own("accept"), b"3", false);
    write_field(&mut out, &names::known(b"accept").unwrap().into(), b"4", true);
    for name in ["authorization", "cookie", "proxy-authorization", "set-cookie"] {
        write_named(&mut out, &HeaderName::from_static(name), b"5", false);
        write_field(&mut out, &names::known(name.as_bytes()).unwrap().into(), b"6", false);
    }
    let read = lines(&mut Decoder::new(), &out);
    let secrets = ["authorization", "cookie", "proxy-authorization", "set-cookie"];
    let secrets = secrets.iter().flat_map(|name| [format!("{name}: 5 (never)"), format!("{name}: 6 (never)")]);
    let before = [
        ":method: GET",
        ":method: POST",
        ":method: PUT",
        ":path: /",
        ":path: /a",
        ":scheme: https",
        ":authority: ",
        ":protocol: websocket",
        ":status: 404",
        ":status: 200",
        ":status: 201",
        "x-own: 1",
        "x-own: 2 (never)",
        "accept: 3",
        "accept: 4 (never)",
    ];
    assert_eq!(read, before.iter().map(ToString::to_string).chain(secrets).collect::<Vec<_>>());
}
