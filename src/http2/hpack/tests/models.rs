//! Whatever lines there are, by whatever way they are sent: they are read as what they were.

use std::collections::VecDeque;

use proptest::{collection::vec, prelude::*, sample::select};

use super::*;
use crate::model::known;

/// How an encoder sends one line.
#[derive(Clone, Debug)]
struct Sent {
    name: String,
    value: String,
    /// 0x40, 0x10 or 0.
    literal: u8,
    /// Whether it names entries where there are some.
    uses_table: bool,
    is_code: bool,
}

/// An encoder that uses all that HPACK has, and a table as simple as may be.
#[derive(Default)]
struct Peer {
    entries: VecDeque<(String, String)>,
    max: usize,
}

impl Peer {
    fn size(&self) -> usize {
        self.entries.iter().map(|(name, value)| name.len() + value.len() + 32).sum()
    }

    fn resize(&mut self, max: usize, out: &mut Vec<u8>) {
        integer::write(out, 0x20, 5, max);
        self.max = max;
        self.evict();
    }

    fn evict(&mut self) {
        while self.size() > self.max {
            self.entries.pop_back();
        }
    }

    fn find(&self, is: impl Fn(&str, &str) -> bool) -> Option<usize> {
        let known = known::STATIC.iter().copied();
        let own = self.entries.iter().map(|(name, value)| (&**name, &**value));
        known.chain(own).position(|(name, value)| is(name, value)).map(|at| at + 1)
    }

    fn send(&mut self, sent: &Sent, out: &mut Vec<u8>) {
        let whole = self.find(|name, value| name == sent.name && value == sent.value);
        if let Some(index) = whole.filter(|_| sent.uses_table && sent.literal != 0x10) {
            return integer::write(out, 0x80, 7, index);
        }
        let index = self.find(|name, _| name == sent.name).filter(|_| sent.uses_table).unwrap_or(0);
        integer::write(out, sent.literal, if sent.literal == 0x40 { 6 } else { 4 }, index);
        for string in [Some(&sent.name).filter(|_| index == 0), Some(&sent.value)].into_iter().flatten() {
            if sent.is_code {
                let mut code = Vec::new();
                huffman::encode(string.as_bytes(), &mut code);
                integer::write(out, 0x80, 7, code.len());
                out.extend_from_slice(&code);
            } else {
                integer::write(out, 0, 7, string.len());
                out.extend_from_slice(string.as_bytes());
            }
        }
        if sent.literal == 0x40 {
            self.entries.push_front((sent.name.clone(), sent.value.clone()));
            self.evict();
        }
    }
}

fn name() -> impl Strategy<Value = String> {
    const FEW: &[&str] = &["accept", "cookie", ":path", ":status", "x-own", "x-other", "grpc-timeout", "te"];
    prop_oneof![4 => select(FEW).prop_map(String::from), 1 => "[a-z0-9_.-]{1,40}"]
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => select(&["", "/", "200", "gzip, deflate", "some", "\u{fc}\u{20ac}"][..]).prop_map(String::from),
        2 => "[ -~\t]{0,60}",
        1 => (1..3000_usize).prop_map(|length| "v".repeat(length)),
    ]
}

fn sent() -> impl Strategy<Value = Sent> {
    (name(), value(), select(&[0x40, 0x40, 0x10, 0][..]), prop::bool::weighted(0.8), any::<bool>())
        .prop_map(|(name, value, literal, uses_table, is_code)| Sent { name, value, literal, uses_table, is_code })
}

proptest! {
    #[test]
    fn lines_are_read_as_they_were_by_whatever_way_they_are_sent(
        blocks in vec((vec(0..=4096_usize, 0..2), vec(sent(), 0..12)), 1..12),
    ) {
        let mut decoder = Decoder::new();
        let mut peer = Peer { max: 4096, ..Peer::default() };
        let limits = Limits { max_list: 1 << 20, max_lines: 100 };
        let mut section = Section::default();
        for (sizes, block) in blocks {
            let mut out = Vec::new();
            for size in sizes {
                peer.resize(size, &mut out);
            }
            for line in &block {
                peer.send(line, &mut out);
            }
            section.clear();
            prop_assert_eq!(decoder.decode(&out, &mut section, &limits), Ok(()));
            let expected: Vec<_> = block
                .iter()
                .map(|line| {
                    let never = if line.literal == 0x10 { " (never)" } else { "" };
                    format!("{}: {}{never}", line.name, line.value.as_bytes().escape_ascii())
                })
                .collect();
            prop_assert_eq!(shown(&section), expected);
            prop_assert_eq!(decoder.measure(), (peer.size(), peer.entries.len()));
            let size: usize = block.iter().map(|line| line.name.len() + line.value.len() + 32).sum();
            prop_assert_eq!(section.size(), size);
        }
    }

    #[test]
    fn what_we_write_is_read_as_what_it_was(lines in vec((name(), value(), any::<bool>()), 0..20)) {
        let (mut out, mut expected) = (Vec::new(), Vec::new());
        for (name, value, is_secret) in &lines {
            let value = value.as_bytes();
            let mut is_secret = *is_secret;
            match (Pseudo::of(name.as_bytes()), names::known(name.as_bytes())) {
                (Some(pseudo), _) => {
                    is_secret = false;
                    write_pseudo(&mut out, pseudo, value);
                }
                (None, Some(usual)) => write_field(&mut out, &usual.into(), value, is_secret),
                (None, None) => write_named(&mut out, &name.parse().unwrap(), value, is_secret),
            }
            let never = if is_secret || name == "cookie" { " (never)" } else { "" };
            expected.push(format!("{name}: {}{never}", value.escape_ascii()));
        }
        let mut section = Section::default();
        let limits = Limits { max_list: 1 << 20, max_lines: 100 };
        prop_assert_eq!(Decoder::new().decode(&out, &mut section, &limits), Ok(()));
        prop_assert_eq!(shown(&section), expected);
    }

    #[test]
    fn a_string_of_any_bytes_is_what_it_was_before_it_was_put_into_code(bytes in vec(any::<u8>(), 0..200), most in 0..300_usize) {
        let mut code = Vec::new();
        huffman::encode(&bytes, &mut code);
        let mut out = b"before".to_vec();
        prop_assert_eq!(huffman::decode(&code, &mut out, most), Ok(bytes.len()));
        prop_assert_eq!(&out[..6], b"before");
        prop_assert_eq!(&out[6..], &bytes[..bytes.len().min(most)]);
    }

    #[test]
    fn any_bytes_are_lines_or_an_error_and_within_the_limits(blocks in vec(vec(any::<u8>(), 0..100), 0..20)) {
        let limits = Limits { max_list: 500, max_lines: 5 };
        let (mut decoder, mut section) = (Decoder::new(), Section::default());
        for block in blocks {
            section.clear();
            let end = decoder.decode(&block, &mut section, &limits);
            prop_assert!(section.text.len() <= 500 && section.lines.len() <= 5);
            prop_assert!(decoder.measure().0 <= 4096);
            if end.is_err() {
                break;
            }
        }
    }
}
