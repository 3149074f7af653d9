//! HPACK, as far as tests need it: reads what blocks say, and writes blocks that no library would. Source: RFC 7541.

use std::collections::VecDeque;

/// Reads the blocks of one direction of one connection, in their order.
pub struct Blocks {
    table: VecDeque<(String, String)>,
    limit: usize,
    /// How often a field came from the table that the blocks made.
    pub recalled: usize,
    /// The sizes that the table was told to have.
    pub resized: Vec<usize>,
}

impl Default for Blocks {
    fn default() -> Self {
        Self { table: VecDeque::new(), limit: 4096, recalled: 0, resized: Vec::new() }
    }
}

impl Blocks {
    /// The fields of the next block.
    pub fn read(&mut self, mut block: &[u8]) -> Vec<(String, String)> {
        let mut list = Vec::new();
        while let Some(first) = block.first().copied() {
            let bits = match first {
                0x80.. => 7,
                0x40.. => 6,
                0x20.. => 5,
                _ => 4,
            };
            let index = take_number(&mut block, bits);
            match first {
                0x80.. => list.push(self.at(index)),
                0x20..0x40 => {
                    self.resized.push(index);
                    self.limit = index;
                }
                _ => {
                    let name = if index == 0 { take_text(&mut block) } else { self.at(index).0 };
                    let field = (name, take_text(&mut block));
                    if first >= 0x40 {
                        self.table.push_front(field.clone());
                    }
                    list.push(field);
                }
            }
            while self.table.iter().map(|(name, value)| name.len() + value.len() + 32).sum::<usize>() > self.limit {
                self.table.pop_back();
            }
        }
        list
    }

    fn at(&mut self, index: usize) -> (String, String) {
        let fixed = FIXED.lines().count();
        if index > fixed {
            self.recalled += 1;
            return self.table[index - fixed - 1].clone();
        }
        let line = FIXED.lines().nth(index - 1).unwrap();
        let (name, value) = line.split_once(' ').unwrap_or((line, ""));
        (name.to_owned(), value.to_owned())
    }
}

fn take_number(block: &mut &[u8], bits: u32) -> usize {
    let most = (1 << bits) - 1;
    let mut take = || {
        let (first, rest) = block.split_first().unwrap();
        *block = rest;
        usize::from(*first)
    };
    let mut number = take() & most;
    if number == most {
        for shift in (0..).step_by(7) {
            let next = take();
            number += (next & 127) << shift;
            if next < 128 {
                break;
            }
        }
    }
    number
}

fn take_text(block: &mut &[u8]) -> String {
    let is_huffman = block[0] >= 128;
    let length = take_number(block, 7);
    let (text, rest) = block.split_at(length);
    *block = rest;
    String::from_utf8(if is_huffman { unpacked(text) } else { text.to_vec() }).unwrap()
}

fn unpacked(packed: &[u8]) -> Vec<u8> {
    let codes = codes();
    let (mut text, mut code, mut length) = (Vec::new(), 0, 0);
    for byte in packed {
        for bit in (0..8).rev() {
            (code, length) = (code << 1 | u32::from(byte >> bit & 1), length + 1);
            if let Some(letter) = codes.iter().position(|found| *found == (code, length)) {
                text.push(u8::try_from(letter).unwrap());
                (code, length) = (0, 0);
            }
        }
    }
    text
}

/// The code of each letter, and of the end, with its length in bits: the shorter and the smaller letter is first.
fn codes() -> Vec<(u32, u32)> {
    let mut order: Vec<usize> = (0..LENGTHS.len()).collect();
    order.sort_by_key(|letter| LENGTHS[*letter]);
    let (mut codes, mut next, mut last) = (vec![(0, 0); LENGTHS.len()], 0, 0);
    for letter in order {
        let length = u32::from(LENGTHS[letter]);
        next <<= length - last;
        codes[letter] = (next, length);
        (next, last) = (next + 1, length);
    }
    codes
}

/// A number behind the bits of `first`, in its last `bits` and as many bytes as it needs.
pub fn number(first: u8, bits: u32, number: usize) -> Vec<u8> {
    let most = (1 << bits) - 1;
    if number < most {
        return vec![first | u8::try_from(number).unwrap()];
    }
    let (mut bytes, mut rest) = (vec![first | u8::try_from(most).unwrap()], number - most);
    while rest >= 128 {
        bytes.push(u8::try_from(rest % 128 + 128).unwrap());
        rest /= 128;
    }
    bytes.push(u8::try_from(rest).unwrap());
    bytes
}

/// A text as it is.
pub fn plain(text: &str) -> Vec<u8> {
    [&number(0, 7, text.len()), text.as_bytes()].concat()
}

/// A text in Huffman's code.
pub fn packed(text: &str) -> Vec<u8> {
    let codes = codes();
    let mut bits: Vec<u32> = Vec::new();
    for letter in text.bytes() {
        let (code, length) = codes[usize::from(letter)];
        bits.extend((0..length).rev().map(|bit| code >> bit & 1));
    }
    bits.resize(bits.len().next_multiple_of(8), 1);
    let bytes: Vec<u8> =
        bits.chunks(8).map(|bits| u8::try_from(bits.iter().fold(0, |byte, bit| byte << 1 | bit)).unwrap()).collect();
    [number(0x80, 7, bytes.len()), bytes].concat()
}

/// The own table of all: a name on each line, with a value where there is one. Source: RFC 7541, Appendix A.
const FIXED: &str = "\
:authority
:method GET
:method POST
:path /
:path /index.html
:scheme http
:scheme https
:status 200
:status 204
:status 206
:status 304
:status 400
:status 404
:status 500
accept-charset
accept-encoding gzip, deflate
accept-language
accept-ranges
accept
access-control-allow-origin
age
allow
authorization
cache-control
content-disposition
content-encoding
content-language
content-length
content-location
content-range
content-type
cookie
date
etag
expect
expires
from
host
if-match
if-modified-since
if-none-match
if-range
if-unmodified-since
last-modified
link
location
max-forwards
proxy-authenticate
proxy-authorization
range
referer
refresh
retry-after
server
set-cookie
strict-transport-security
transfer-encoding
user-agent
vary
via
www-authenticate";

/// How many bits each letter takes, and the end. Source: RFC 7541, Appendix B.
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28,
    28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12,
    10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6,
    5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22,
    22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20,
    22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28,
    27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28,
    27, 27, 27, 27, 27, 26, 30,
];

#[test]
fn what_is_written_is_read_again() {
    // Source: RFC 7541, Appendix C.4.1.
    assert_eq!(packed("www.example.com"), b"\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff");
    let text: String = (32..127).map(char::from).collect();
    let block = [vec![0x40], plain("x"), packed(&text), number(0x80, 7, 62), number(0, 4, 52), plain("v")].concat();
    let mut blocks = Blocks::default();
    let read = blocks.read(&block);
    let want = [("x", text.as_str()), ("x", text.as_str()), ("refresh", "v")];
    assert!(read.iter().map(|(name, value)| (name.as_str(), value.as_str())).eq(want), "{read:?}");
    assert_eq!((blocks.recalled, blocks.resized.len()), (1, 0));
}
