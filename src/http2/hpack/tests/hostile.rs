//! What nobody sends by accident.

use super::*;

fn error(block: &[u8]) -> Result<(), HpackError> {
    Decoder::new().decode(block, &mut Section::default(), &LIMITS)
}

#[test]
fn what_puts_the_tables_out_of_step_is_an_error() {
    let (ones, end) = ("ff".repeat(9), "ffff ffff".to_owned());
    let coded = |code: &str| format!("04{:02x}{code}", 0x80 | (code.replace(' ', "").len() / 2));
    for (block, expected) in [
        ("ff ffff ffff ff", HpackError::Integer),
        ("ff ffff ffff 7f", HpackError::Integer),
        ("ff 8080 8080 8000", HpackError::Integer),
        ("04 7f ffff ffff ffff", HpackError::Integer),
        ("ff ffff ffff", HpackError::Truncated),
        ("ff", HpackError::Truncated),
        ("80", HpackError::Index),
        ("be", HpackError::Index),
        ("ff8000", HpackError::Index),
        ("ff ffff ffff 0e", HpackError::Index),
        ("7e 00", HpackError::Index),
        ("0f 2f 00", HpackError::Index),
        ("1f ff01 00", HpackError::Index),
        ("4001 6101 62 bf", HpackError::Index),
        ("00", HpackError::Truncated),
        ("40", HpackError::Truncated),
        ("10 02 61", HpackError::Truncated),
        ("10 01 61", HpackError::Truncated),
        ("10 01 61 02 62", HpackError::Truncated),
        ("04 82 ff", HpackError::Truncated),
        ("04 7f ffff ff0f 61", HpackError::Truncated),
        ("3f e2 1f", HpackError::TableSize),
        ("3f ffff ffff 0f", HpackError::Integer),
        ("3f", HpackError::Truncated),
        ("82 20", HpackError::LateUpdate),
        ("04 01 61 20", HpackError::LateUpdate),
        ("20 20 20", HpackError::LateUpdate),
        ("20 82 20", HpackError::LateUpdate),
        (&coded("ff"), HpackError::Padding),
        (&coded("1fff"), HpackError::Padding),
        (&coded("1e"), HpackError::Padding),
        (&coded("00"), HpackError::Padding),
        (&coded("fe"), HpackError::Padding),
        (&coded("fffffff0"), HpackError::Padding),
        (&coded(&end), HpackError::EndOfString),
        (&coded(&format!("f8 {end}")), HpackError::EndOfString),
        (&coded(&ones), HpackError::EndOfString),
    ] {
        assert_eq!(error(&hex(block)), Err(expected), "{block}");
    }
    for block in ["", "20", "20 3fe11f", "3fe11f", "20 20 82", &coded(""), &coded("1f")] {
        assert_eq!(error(&hex(block)), Ok(()), "{block}");
    }
}

#[test]
fn what_makes_a_message_malformed_is_told_and_the_table_keeps_in_step() {
    let line = |name: &[u8], value: &[u8]| {
        let mut block = vec![0x40];
        for string in [name, value] {
            integer::write(&mut block, 0, 7, string.len());
            block.extend_from_slice(string);
        }
        block
    };
    let long = [b'x'; 70];
    let shout = [&long[..], b"X"].concat();
    for (name, value, expected) in [
        (&b""[..], &b"1"[..], Fault::Name),
        (b"A", b"1", Fault::Name),
        (b"Accept", b"1", Fault::Name),
        (b"a b", b"1", Fault::Name),
        (b"a\0", b"1", Fault::Name),
        (b"a:", b"1", Fault::Name),
        (b":", b"1", Fault::Name),
        (b":any", b"1", Fault::Name),
        (b":Path", b"1", Fault::Name),
        (b"\xfc", b"1", Fault::Name),
        (&shout, b"1", Fault::Name),
        (b"a", b"\0", Fault::Value),
        (b"a", b"1\r\n2", Fault::Value),
        (b":path", b"/\n", Fault::Value),
        (b"a", b"\x7f", Fault::Value),
        (b"A", b"\0", Fault::Name),
    ] {
        let at = format!("{}: {}", name.escape_ascii(), value.escape_ascii());
        // HTTP/1 may have had it on this thread.
        let _ = names::read(&[name, &[b' '; 40]].concat(), 0, name.len());
        let mut decoder = Decoder::new();
        let table = (name.len() + value.len() + 32, 1);
        assert_eq!(lines(&mut decoder, &line(name, value)), [format!("{expected:?}")], "{at}");
        assert_eq!(decoder.measure(), table, "{at}");
        assert_eq!(lines(&mut decoder, &hex("82 be 84")), [":method: GET", ":path: /", &format!("{expected:?}")]);
        // Its name once more, with a value that is fine.
        let again = lines(&mut decoder, &hex("0f2f 0131"));
        let is_name = expected == Fault::Name;
        assert_eq!(again, [if is_name { "Name".into() } else { format!("{}: 1", name.escape_ascii()) }], "{at}");
    }
}

#[test]
fn of_what_goes_beyond_the_limits_nothing_is_kept_but_all_is_counted() {
    let mut decoder = Decoder::new();
    let mut section = Section::default();
    let limits = Limits { max_list: 3 * (7 + 1000 + 32), max_lines: 10 };
    let mut block = b"\x40\x07x-large\x7f\xe9\x06".to_vec();
    block.extend_from_slice(&[b'v'; 1000]);
    let one = 7 + 1000 + 32;
    block.extend_from_slice(&[0xbe; 10_000]);
    decoder.decode(&block, &mut section, &limits).unwrap();
    assert_eq!((section.lines.len(), section.text.len(), section.fault), (3, 3000, Some(Fault::TooLarge)));
    assert_eq!(section.size(), 10_001 * one);
    section.clear();
    decoder.decode(&[0x82; 11], &mut section, &limits).unwrap();
    assert_eq!((section.lines.len(), section.fault, section.size()), (10, Some(Fault::TooMany), 11 * 42));
    // What is no longer kept goes into the table nevertheless, and the first fault stays.
    decoder.decode(b"\x40\x01a\x01b", &mut section, &limits).unwrap();
    decoder.decode(b"\x40\x01a\x01\0", &mut section, &limits).unwrap();
    assert_eq!((section.lines.len(), section.fault, section.size()), (10, Some(Fault::TooMany), 11 * 42 + 2 * 34));
    assert_eq!(lines(&mut decoder, &hex("bf")), ["a: b"]);
}

#[test]
fn a_table_holds_no_more_memory_than_it_may_and_none_when_it_is_empty() {
    let mut decoder = Decoder::new();
    assert_eq!(decoder.memory(), 0);
    for length in (0..5000).chain([4063, 4064, 1, 4063, 2, 3, 1]) {
        let mut block = vec![0x40, 1, b'a'];
        integer::write(&mut block, 0, 7, length);
        block.extend(std::iter::repeat_n(b'v', length));
        decoder.decode(&block, &mut Section::default(), &LIMITS).unwrap();
        let (size, entries) = decoder.measure();
        assert!(size <= 4096 && decoder.memory() <= 4096 + 16 * 1024, "{length}: {}", decoder.memory());
        assert_eq!((entries == 0, decoder.memory() == 0), (33 + length > 4096, 33 + length > 4096), "{length}");
        if entries > 0 {
            let value = "v".repeat(length);
            assert_eq!(lines(&mut decoder, &hex("be")), [format!("a: {value}")]);
        }
    }
    decoder.decode(&hex("20"), &mut Section::default(), &LIMITS).unwrap();
    assert_eq!((decoder.measure(), decoder.memory()), ((0, 0), 0));
}

#[test]
fn a_name_may_be_taken_from_an_entry_that_makes_room_for_its_own_line() {
    let mut decoder = Decoder::new();
    let line = |first: &[u8], value: u8| {
        let mut block = first.to_vec();
        integer::write(&mut block, 0, 7, 4000);
        block.extend_from_slice(&[value; 4000]);
        block
    };
    lines(&mut decoder, &line(b"\x40\x05x-own", b'1'));
    for value in [b'2', b'3'] {
        let expected = format!("x-own: {}", char::from(value).to_string().repeat(4000));
        assert_eq!(lines(&mut decoder, &line(b"\x7e", value)), [&*expected]);
        assert_eq!((lines(&mut decoder, &hex("be")), decoder.measure()), (vec![expected], (4037, 1)));
    }
}
