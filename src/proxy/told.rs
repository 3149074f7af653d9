//! What upstream is told of a client for which no proxy speaks: the same in all requests of a connection, so it is
//! written once.

use std::{cell::RefCell, rc::Rc};

use crate::http1::encode::Block;
use crate::model::value::Value;

/// The fields as they were written last, and for which host.
#[derive(Debug, Default)]
pub struct Told(RefCell<Option<(Value, Rc<Block>)>>);

impl Told {
    /// The fields of a request for `host`, made by `write` where the last one was for another.
    pub fn fields(&self, host: &Value, write: impl FnOnce() -> Block) -> Rc<Block> {
        let mut last = self.0.borrow_mut();
        match &*last {
            Some((of, fields)) if of == host => fields.clone(),
            _ => last.insert((apart(host), Rc::new(write()))).1.clone(),
        }
    }
}

/// The same value in memory of its own: as it came it is a part of what was read with it, all of which it would keep.
pub fn apart(value: &Value) -> Value {
    Value::from_bytes(value.as_bytes()).unwrap_or_else(|_| value.clone())
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;

    #[test]
    fn what_is_kept_holds_nothing_of_what_was_read() {
        let mut read = BytesMut::with_capacity(1024);
        let long = "a.host.whose.name.is.longer.than.most.are.example.com";
        read.extend_from_slice(long.as_bytes());
        let host = Value::of(&read.split().freeze(), 0..long.len()).unwrap();
        let told = Told::default();
        told.fields(&host, || Block::new(vec![(http::header::HOST, apart(&host))]));
        drop(host);
        assert!(read.try_reclaim(1024));
        let again = Value::from_static(long);
        told.fields(&again, || unreachable!("it was written before"));
    }
}
