//! Blocks into lines. A block is read to its end whatever is wrong with its lines, so that the table stays in step; what goes
//! beyond the limits is read and not kept.

use super::{
    Fault, HpackError, Limits, Line, Pseudo, Section, Token, huffman, integer,
    table::{Entry, Table},
};
use crate::model::{known, names, value::Value};

/// Decodes the blocks of one direction of a connection, one after the other.
#[derive(Debug)]
pub struct Decoder {
    table: Table,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

/// How a literal stands to the tables. Source: RFC 7541 §6.2.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Indexing {
    Incremental,
    Without,
    Never,
}

/// The block, and how far it was read.
struct Input<'a> {
    block: &'a [u8],
    at: usize,
}

/// A name as it is looked up or read: `None` is none that a field may have.
type Named = (Option<Token>, usize);

impl Decoder {
    /// One whose table may have the 4,096 bytes that each side may take for granted.
    #[must_use]
    pub const fn new() -> Self {
        Self { table: Table::new() }
    }

    /// Decodes a whole block behind what `section` holds.
    ///
    /// # Errors
    /// The tables are out of step: the connection has to end.
    pub fn decode(&mut self, block: &[u8], section: &mut Section, limits: &Limits) -> Result<(), HpackError> {
        let mut input = Input { block, at: 0 };
        let mut updates = 0;
        while let Some(&first) = block.get(input.at) {
            let (prefix, indexing) = match first {
                0x80.. => {
                    let index = input.integer(7)?;
                    self.indexed(index, section, limits)?;
                    updates = MOST_UPDATES;
                    continue;
                }
                0x40.. => (6, Indexing::Incremental),
                0x20.. => {
                    let max = input.integer(5)?;
                    if updates == MOST_UPDATES {
                        return Err(HpackError::LateUpdate);
                    }
                    if max > Table::MOST {
                        return Err(HpackError::TableSize);
                    }
                    updates += 1;
                    self.table.resize(max);
                    continue;
                }
                0x10.. => (4, Indexing::Never),
                _ => (4, Indexing::Without),
            };
            updates = MOST_UPDATES;
            self.literal(&mut input, prefix, indexing, section, limits)?;
        }
        Ok(())
    }

    #[inline]
    fn indexed(&self, index: usize, section: &mut Section, limits: &Limits) -> Result<(), HpackError> {
        if let Some((name, value)) = index.checked_sub(1).and_then(|at| known::STATIC.get(at)) {
            if section.counts(name.len() + value.len(), limits) {
                section.add(of_static(index), value.as_bytes(), true);
            }
            return Ok(());
        }
        let (entry, value) = self.dynamic(index)?;
        if section.counts(entry.name_len() + value.len(), limits) {
            section.add(entry.name.clone(), value, entry.is_value);
        }
        Ok(())
    }

    #[inline]
    fn dynamic(&self, index: usize) -> Result<(&Entry, &[u8]), HpackError> {
        let number = index.checked_sub(known::STATIC.len() + 1).ok_or(HpackError::Index)?;
        self.table.get(number).ok_or(HpackError::Index)
    }

    /// The name at this index, which is not 0.
    #[inline]
    fn name(&self, index: usize) -> Result<Named, HpackError> {
        if let Some((name, _)) = known::STATIC.get(index - 1) {
            return Ok((of_static(index), name.len()));
        }
        let (entry, _) = self.dynamic(index)?;
        Ok((entry.name.clone(), entry.name_len()))
    }

    fn literal(
        &mut self,
        input: &mut Input<'_>,
        prefix: u32,
        indexing: Indexing,
        section: &mut Section,
        limits: &Limits,
    ) -> Result<(), HpackError> {
        let is_kept = indexing == Indexing::Incremental;
        // What the table cannot hold either is not needed.
        let most = section.room(limits).max(if is_kept { self.table.max() } else { 0 });
        let (name, name_len) = match input.integer(prefix)? {
            0 => input.name(&mut section.text, most)?,
            index => self.name(index)?,
        };
        let from = section.text.len();
        let length = input.string(&mut section.text, most)?;
        let value = &section.text[from..];
        let is_value = Value::of(value).is_some();
        if is_kept {
            self.table.insert(name.clone(), name_len, value, length, is_value);
        }
        if section.counts(name_len + length, limits) {
            section.close(name, from, is_value, indexing == Indexing::Never);
        } else {
            section.text.truncate(from);
        }
        Ok(())
    }

    /// How large the table is, and how many entries it has.
    #[cfg(test)]
    pub(super) fn measure(&self) -> (usize, usize) {
        self.table.measure()
    }

    /// Bytes of memory that the table holds, but for names of their own.
    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        self.table.memory()
    }
}

/// A size may be changed twice, by way of the smallest one, and only before the first line. Source: RFC 7541 §4.2.
const MOST_UPDATES: u8 = 2;

impl Section {
    /// Adds a line that was counted.
    #[inline]
    fn add(&mut self, name: Option<Token>, value: &[u8], is_value: bool) {
        let from = self.text.len();
        self.text.extend_from_slice(value);
        self.close(name, from, is_value, false);
    }

    /// Adds the line whose value is the text from there on.
    #[inline]
    fn close(&mut self, name: Option<Token>, from: usize, is_value: bool, never_indexed: bool) {
        let fault = match (name, u32::try_from(from), u32::try_from(self.text.len())) {
            (Some(name), Ok(from), Ok(to)) if is_value => {
                return self.lines.push(Line { name, value: from..to, never_indexed });
            }
            (Some(_), Ok(_), Ok(_)) => Fault::Value,
            (Some(_), ..) => Fault::TooLarge,
            (None, ..) => Fault::Name,
        };
        self.text.truncate(from);
        self.blame(fault);
    }
}

impl Input<'_> {
    #[inline]
    fn integer(&mut self, prefix: u32) -> Result<usize, HpackError> {
        integer::read(self.block, &mut self.at, prefix)
    }

    /// Reads the head of a string: where it lies, and whether in code.
    #[inline]
    fn length(&mut self) -> Result<(bool, usize, usize), HpackError> {
        let is_code = self.block.get(self.at).is_some_and(|&first| first >= 0x80);
        let length = self.integer(7)?;
        let start = self.at;
        if length > self.block.len() - start {
            return Err(HpackError::Truncated);
        }
        self.at += length;
        Ok((is_code, start, length))
    }

    /// Reads a string behind what `out` holds, at most so many bytes of it, and says how many it has.
    #[inline]
    fn string(&mut self, out: &mut Vec<u8>, most: usize) -> Result<usize, HpackError> {
        let (is_code, start, length) = self.length()?;
        let string = &self.block[start..start + length];
        if is_code {
            return huffman::decode(string, out, most);
        }
        out.extend_from_slice(&string[..length.min(most)]);
        Ok(length)
    }

    /// Reads a name, for which what is behind the text serves as a place. Of a longer one no more than its length is needed.
    fn name(&mut self, text: &mut Vec<u8>, most: usize) -> Result<Named, HpackError> {
        let (is_code, start, length) = self.length()?;
        if !is_code {
            let token = if length > most { None } else { token(self.block, start, length) };
            return Ok((token, length));
        }
        let from = text.len();
        let length = huffman::decode(&self.block[start..start + length], text, most)?;
        let token = if length > most { None } else { token(text, from, length) };
        text.truncate(from);
        Ok((token, length))
    }
}

/// What the name of so many bytes from `start` on stands for; `None`: no field may have it.
#[inline]
fn token(text: &[u8], start: usize, length: usize) -> Option<Token> {
    let name = &text[start..start + length];
    if let Some(usual) = names::known(name) {
        return Some(Token::Field(usual.into()));
    }
    if name.first() == Some(&b':') {
        return Pseudo::of(name).map(Token::Pseudo);
    }
    // It may have been read in upper case, which HTTP/1 allows. Source: RFC 9113 §8.2.1.
    let own = names::read(text, start, length).ok().filter(|own| own.as_str().as_bytes() == name)?;
    Some(Token::Field(own.into()))
}

/// What an entry of the static table is named.
#[inline]
fn of_static(index: usize) -> Option<Token> {
    Some(match index {
        1 => Token::Pseudo(Pseudo::Authority),
        2..=3 => Token::Pseudo(Pseudo::Method),
        4..=5 => Token::Pseudo(Pseudo::Path),
        6..=7 => Token::Pseudo(Pseudo::Scheme),
        8..=14 => Token::Pseudo(Pseudo::Status),
        _ => Token::Field(names::of_static(index)?.into()),
    })
}
