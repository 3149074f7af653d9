//! The dynamic table: what the other side sent before and may name by a number. Source: RFC 7541 §2.3.2 and §4.

use std::collections::VecDeque;

use super::{OVERHEAD, Token};

/// The entries of one direction of a connection. While there is none, it holds no memory.
#[derive(Debug)]
pub(super) struct Table {
    /// The newest one first.
    entries: VecDeque<Entry>,
    /// The values one behind the other, and before those of the oldest entry some that are gone.
    text: Vec<u8>,
    /// Where the text begins, counted from the first byte that ever was in it.
    base: u32,
    size: usize,
    max: usize,
}

/// One entry.
#[derive(Debug)]
pub(super) struct Entry {
    /// `None`: no field may be named so, and who names it again is told the same.
    pub(super) name: Option<Token>,
    /// Whether its value can be one.
    pub(super) is_value: bool,
    start: u32,
    /// Of the value.
    length: u16,
    /// As the table counts it.
    size: u16,
}

impl Entry {
    /// How many bytes its name has.
    #[inline]
    pub(super) fn name_len(&self) -> usize {
        usize::from(self.size) - usize::from(self.length) - OVERHEAD
    }
}

impl Table {
    /// How large it is at most: what each side may take for granted. Source: RFC 9113 §6.5.2.
    pub(super) const MOST: usize = 4096;

    /// None yet.
    pub(super) const fn new() -> Self {
        Self { entries: VecDeque::new(), text: Vec::new(), base: 0, size: 0, max: Self::MOST }
    }

    /// How large it may become.
    #[inline]
    pub(super) const fn max(&self) -> usize {
        self.max
    }

    /// Changes how large it may become, which is no more than [`Self::MOST`].
    pub(super) fn resize(&mut self, max: usize) {
        self.max = max;
        self.evict(max);
        if self.entries.is_empty() {
            self.clear();
        }
    }

    /// The entry of this number, the newest one's being 0, and its value.
    #[inline]
    pub(super) fn get(&self, number: usize) -> Option<(&Entry, &[u8])> {
        let entry = self.entries.get(number)?;
        let start = entry.start.wrapping_sub(self.base) as usize;
        Some((entry, self.text.get(start..start + usize::from(entry.length))?))
    }

    /// Adds an entry. Older ones make room; one that is larger than the table leaves it empty, and of its value nothing has to
    /// be there. Source: RFC 7541 §4.4.
    pub(super) fn insert(&mut self, name: Option<Token>, name_len: usize, value: &[u8], length: usize, is_value: bool) {
        let size = name_len.saturating_add(length).saturating_add(OVERHEAD);
        let (Some(left), Ok(short_size), Ok(short_length)) =
            (self.max.checked_sub(size), u16::try_from(size), u16::try_from(length))
        else {
            return self.clear();
        };
        self.evict(left);
        self.make_room(length);
        let start = self.base.wrapping_add(narrow(self.text.len()));
        self.text.extend_from_slice(value);
        self.size += size;
        self.entries.push_front(Entry { name, is_value, start, length: short_length, size: short_size });
    }

    /// Takes the oldest ones out until no more than so many bytes are left.
    #[inline]
    fn evict(&mut self, left: usize) {
        while self.size > left
            && let Some(oldest) = self.entries.pop_back()
        {
            self.size -= usize::from(oldest.size);
        }
    }

    /// Sees to it that a value of this length fits behind the text, which never becomes larger than the table.
    fn make_room(&mut self, length: usize) {
        if self.text.len() + length > Self::MOST {
            let gone =
                self.entries.back().map_or(self.text.len(), |oldest| oldest.start.wrapping_sub(self.base) as usize);
            self.text.drain(..gone);
            self.base = self.base.wrapping_add(narrow(gone));
        }
        let (needed, has) = (self.text.len() + length, self.text.capacity());
        if needed > has {
            let room = needed.max(2 * has).clamp(LEAST, Self::MOST);
            self.text.reserve_exact(room - self.text.len());
        }
    }

    /// Takes all out, and gives the memory back.
    fn clear(&mut self) {
        (self.entries, self.text, self.size) = (VecDeque::new(), Vec::new(), 0);
    }

    /// How large it is, and how many entries it has.
    #[cfg(test)]
    pub(super) fn measure(&self) -> (usize, usize) {
        (self.size, self.entries.len())
    }

    /// Bytes of memory that it holds, but for names of their own.
    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        self.text.capacity() + self.entries.capacity() * size_of::<Entry>()
    }
}

/// Bytes of text to begin with.
const LEAST: usize = 256;

#[inline]
#[expect(clippy::cast_possible_truncation, reason = "no text is longer than the largest table")]
const fn narrow(length: usize) -> u32 {
    length as u32
}
