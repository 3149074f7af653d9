//! Follows the frames of HTTP/2 in the bytes that come: what h2, which reads them, tells nobody.

use std::io;

/// Where the incoming bytes are between frames.
#[derive(Debug)]
pub struct Frames {
    /// Bytes before the next frame begins.
    skip: usize,
    head: [u8; 9],
    came: usize,
    /// Frames that carry nothing, so far.
    idle: u64,
    /// Lists of fields that have begun, so far, and whether the last of them goes on after this frame.
    lists: u64,
    goes_on: bool,
    /// What a list of fields may take; beyond a size of its own, h2 loses a part of trailers without a word.
    most: usize,
    /// Of the list that comes, where it is bounded.
    list: Option<usize>,
    /// The last stream that was opened, where the other side opens them and its heads are bounded by h2.
    newest: Option<u32>,
}

impl Frames {
    /// Of a client, whose trailers may take `most` bytes as they come. h2 sees to its heads.
    #[must_use]
    pub fn of_client(most: usize) -> Self {
        Self { skip: PREFACE, newest: Some(0), ..Self::of_server(most) }
    }

    /// Of a server, whose heads and trailers may take `most` bytes each as they come.
    #[must_use]
    pub fn of_server(most: usize) -> Self {
        Self { skip: 0, head: [0; 9], came: 0, idle: 0, lists: 0, goes_on: false, most, list: None, newest: None }
    }

    /// Frames that carried nothing, so far: neither data nor fields.
    #[must_use]
    pub fn idle(&self) -> u64 {
        self.idle
    }

    /// The number of the list of fields, head or trailers, of which a part has come and the rest has not.
    #[must_use]
    pub fn partial(&self) -> Option<u64> {
        let is_within = self.skip > 0 && matches!(self.head[3], HEADERS | CONTINUATION);
        (is_within || self.goes_on).then_some(self.lists)
    }

    /// Follows what came. Source: RFC 9113 §4.1.
    ///
    /// # Errors
    /// A list of fields is too large: the connection has to end.
    pub fn note(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let now = self.skip.min(bytes.len());
                self.skip -= now;
                bytes = &bytes[now..];
                continue;
            }
            let now = (self.head.len() - self.came).min(bytes.len());
            self.head[self.came..self.came + now].copy_from_slice(&bytes[..now]);
            self.came += now;
            bytes = &bytes[now..];
            if self.came == self.head.len() {
                self.came = 0;
                self.begin()?;
            }
        }
        Ok(())
    }

    /// A frame begins with this head.
    fn begin(&mut self) -> io::Result<()> {
        let [a, b, c, kind, flags, stream @ ..] = self.head;
        self.skip = u32::from_be_bytes([0, a, b, c]) as usize;
        match kind {
            DATA => {}
            HEADERS => {
                self.lists += 1;
                self.goes_on = flags & END_HEADERS == 0;
                self.list = self.is_bounded(u32::from_be_bytes(stream) & STREAM).then_some(self.skip);
            }
            CONTINUATION => {
                self.goes_on = flags & END_HEADERS == 0;
                self.list = self.list.map(|list| list.saturating_add(self.skip));
            }
            _ => self.idle += 1,
        }
        if self.list.is_some_and(|list| list > self.most) {
            return Err(io::Error::other("more fields, or trailers, than may come at once"));
        }
        Ok(())
    }

    /// Whether what comes on this stream now is no head that h2 bounds.
    fn is_bounded(&mut self, stream: u32) -> bool {
        match &mut self.newest {
            Some(newest) if stream > *newest => {
                *newest = stream;
                false
            }
            _ => true,
        }
    }
}

/// What begins a connection, before its first frame. Source: RFC 9113 §3.4.
const PREFACE: usize = 24;
/// The bit above a stream's number says nothing, whatever it is. Source: RFC 9113 §4.1.
const STREAM: u32 = u32::MAX >> 1;
/// Source: RFC 9113 §6.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
/// The flag of the last frame of a list of fields. Source: RFC 9113 §6.2, §6.10.
const END_HEADERS: u8 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(list: &[(u8, u8, usize)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for &(kind, stream, length) in list {
            let [.., a, b, c] = length.to_be_bytes();
            bytes.extend([a, b, c, kind, 0, 0, 0, 0, stream]);
            bytes.extend(vec![7; length]);
        }
        bytes
    }

    #[test]
    fn frames_are_told_apart_however_the_bytes_come() {
        let list = [(4, 0, 6), (HEADERS, 1, 40), (DATA, 1, 300), (6, 0, 8), (8, 0, 4), (CONTINUATION, 1, 0), (2, 1, 5)];
        let bytes = [vec![b'x'; PREFACE], frames(&list)].concat();
        for size in [1, 2, 7, 1000] {
            let mut frames = Frames::of_client(100);
            bytes.chunks(size).for_each(|chunk| frames.note(chunk).unwrap());
            assert_eq!((frames.idle(), frames.skip, frames.came), (4, 0, 0), "in pieces of {size}");
        }
    }

    #[test]
    fn a_list_of_fields_is_partial_until_its_last_byte_has_come() {
        let mut bytes = frames(&[
            (DATA, 1, 3),
            (HEADERS, 3, 2),
            (CONTINUATION, 3, 0),
            (CONTINUATION, 3, 1),
            (HEADERS, 5, 0),
            (6, 0, 8),
        ]);
        // The last frame of each list says so.
        for head in [12 + 11 + 9, 12 + 11 + 9 + 10] {
            bytes[head + 4] = END_HEADERS;
        }
        let mut frames = Frames::of_server(100);
        let partial: Vec<_> = bytes
            .iter()
            .map(|byte| {
                frames.note(std::slice::from_ref(byte)).unwrap();
                frames.partial()
            })
            .collect();
        // From the end of the first frame's head to before the last byte of the third frame.
        let want = [vec![None; 12 + 8], vec![Some(1); 3 + 9 + 9], vec![None; 1 + 9 + 17]].concat();
        assert_eq!(partial, want);
    }

    #[test]
    fn the_heads_and_trailers_of_a_server_and_the_trailers_of_a_client_are_bounded() {
        for (list, of_server, of_client) in [
            (&[(HEADERS, 1, 100)][..], true, true),
            (&[(HEADERS, 1, 101)], false, true),
            (&[(HEADERS, 1, 60), (CONTINUATION, 1, 60)], false, true),
            (&[(HEADERS, 1, 60), (HEADERS, 3, 60), (DATA, 1, 500), (HEADERS, 1, 60)], true, true),
            (&[(HEADERS, 1, 60), (HEADERS, 1, 60), (CONTINUATION, 1, 60)], false, false),
            (&[(HEADERS, 3, 60), (HEADERS, 1, 101)], false, false),
        ] {
            let mut bytes = frames(list);
            assert_eq!(Frames::of_server(100).note(&bytes).is_ok(), of_server, "{list:?}");
            // Set in the last of them, it makes no stream of another.
            let last = list.last().map_or(0, |&(_, _, length)| bytes.len() - length - 4);
            for bit in [0, 0x80] {
                bytes[last] = bit;
                let bytes = [&[b'x'; PREFACE], &bytes[..]].concat();
                assert_eq!(Frames::of_client(100).note(&bytes).is_ok(), of_client, "{list:?}");
            }
        }
    }
}
