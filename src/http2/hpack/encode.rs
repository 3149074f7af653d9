//! Lines into blocks. What is written uses no dynamic table of ours and no code: what a table costs both sides, for each
//! connection and each line, is more than the bytes that it saves within a datacenter.

use http::{HeaderName, StatusCode};

use super::{Pseudo, integer, table::Table};
use crate::model::{
    field::{Name, Usual},
    known, names,
    text::three,
};

/// What the blocks of one direction of a connection have to begin with.
#[derive(Debug)]
pub struct Encoder {
    /// How large the other side's table may be.
    allowed: usize,
    owes_update: bool,
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Encoder {
    /// One for a new connection.
    #[must_use]
    pub const fn new() -> Self {
        Self { allowed: Table::MOST, owes_update: false }
    }

    /// Takes note of the size that the other side allows its table (`SETTINGS_HEADER_TABLE_SIZE`). One that is smaller than
    /// the one before has to be answered by the next block, also by who uses no table. Source: RFC 9113 §4.3.1.
    pub fn allow(&mut self, table: u32) {
        let table = table as usize;
        self.owes_update |= table < self.allowed;
        self.allowed = table;
    }

    /// Begins a block.
    #[inline]
    pub fn begin(&mut self, out: &mut Vec<u8>) {
        if std::mem::take(&mut self.owes_update) {
            integer::write(out, 0x20, 5, 0);
        }
    }
}

/// Writes a status.
#[inline]
pub fn write_status(out: &mut Vec<u8>, status: StatusCode) {
    let status = status.as_u16();
    let index = match status {
        200 => 8,
        204 => 9,
        206 => 10,
        304 => 11,
        400 => 12,
        404 => 13,
        500 => 14,
        _ => return write_literal(out, Literal::Plain, STATUS, &three(status.into())),
    };
    integer::write(out, INDEXED, 7, index);
}

/// Writes a pseudo-field.
pub fn write_pseudo(out: &mut Vec<u8>, name: Pseudo, value: &[u8]) {
    let index = match name {
        Pseudo::Authority => 1,
        Pseudo::Method => 2,
        Pseudo::Path => 4,
        Pseudo::Scheme => 6,
        Pseudo::Status => STATUS,
        Pseudo::Protocol => {
            out.push(0);
            write_string(out, name.as_str().as_bytes());
            return write_string(out, value);
        }
    };
    let of_name = known::STATIC[index - 1..].iter().take_while(|(known, _)| *known == name.as_str());
    match of_name.map(|(_, known)| known.as_bytes()).position(|known| known == value && !value.is_empty()) {
        Some(offset) => integer::write(out, INDEXED, 7, index + offset),
        None => write_literal(out, Literal::Plain, index, value),
    }
}

/// Writes a field. Where it may tell who somebody is, or `never_indexed` says so, no table on its way may hold it.
#[inline]
pub fn write_field(out: &mut Vec<u8>, name: &Name, value: &[u8], never_indexed: bool) {
    match name {
        Name::Usual(usual) => write_usual(out, usual.name(), usual.static_index(), value, never_indexed),
        Name::Own(name) => write_named(out, name, value, never_indexed),
    }
}

/// The same for a field whose name is no more than that.
pub fn write_named(out: &mut Vec<u8>, name: &HeaderName, value: &[u8], never_indexed: bool) {
    let index = names::known(name.as_str().as_bytes()).map_or(0, Usual::static_index);
    write_usual(out, name, index, value, never_indexed);
}

#[inline]
fn write_usual(out: &mut Vec<u8>, name: &HeaderName, index: u8, value: &[u8], never_indexed: bool) {
    let literal = if never_indexed || SECRETS.contains(&index) { Literal::Secret } else { Literal::Plain };
    if index > 0 {
        return write_literal(out, literal, usize::from(index), value);
    }
    out.push(literal as u8);
    write_string(out, name.as_str().as_bytes());
    write_string(out, value);
}

/// The literals that no table takes up. Source: RFC 7541 §6.2.
#[derive(Clone, Copy)]
enum Literal {
    Plain = 0,
    Secret = 0x10,
}

#[inline]
fn write_literal(out: &mut Vec<u8>, literal: Literal, index: usize, value: &[u8]) {
    integer::write(out, literal as u8, 4, index);
    write_string(out, value);
}

#[inline]
fn write_string(out: &mut Vec<u8>, string: &[u8]) {
    integer::write(out, 0, 7, string.len());
    out.extend_from_slice(string);
}

/// A line that a table has.
const INDEXED: u8 = 0x80;
/// Where `:status` stands in the static table.
const STATUS: usize = 8;
/// Where those stand which tell who somebody is: authorization, cookie, proxy-authorization, set-cookie.
const SECRETS: [u8; 4] = [23, 32, 49, 55];
