//! What upstream is told of a client for which no proxy speaks: the same in all requests of a connection, so it is
//! written once.

use std::{cell::RefCell, rc::Rc};

use http::{HeaderValue, Version};

use crate::http1::encode::Block;

/// The fields as they were written last, and for which host and version.
#[derive(Debug, Default)]
pub struct Told(RefCell<Option<(HeaderValue, Version, Rc<Block>)>>);

impl Told {
    /// The fields of a request for `host` in this version, made by `write` where the last one was for another.
    pub fn fields(&self, host: &HeaderValue, version: Version, write: impl FnOnce() -> Block) -> Rc<Block> {
        let mut last = self.0.borrow_mut();
        match &*last {
            Some((of, as_of, fields)) if of == host && *as_of == version => fields.clone(),
            _ => last.insert((apart(host), version, Rc::new(write()))).2.clone(),
        }
    }
}

/// The same value in memory of its own: as it came it is a part of what was read with it, all of which it would keep.
fn apart(value: &HeaderValue) -> HeaderValue {
    HeaderValue::from_bytes(value.as_bytes()).unwrap_or_else(|_| value.clone())
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};

    use super::*;

    #[test]
    fn what_is_kept_holds_nothing_of_what_was_read() {
        let mut read = BytesMut::with_capacity(1024);
        read.extend_from_slice(b"example.com");
        let host = HeaderValue::from_maybe_shared(read.split().freeze()).unwrap();
        let told = Told::default();
        told.fields(&host, Version::HTTP_11, || Block::with_room(0));
        drop(host);
        assert!(read.try_reclaim(1024));
        let again = HeaderValue::from_maybe_shared(Bytes::from_static(b"example.com")).unwrap();
        told.fields(&again, Version::HTTP_11, || unreachable!("it was written before"));
    }
}
