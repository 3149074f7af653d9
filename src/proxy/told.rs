//! What upstream is told of a client for which no proxy speaks: the same in all requests of a connection, so it is
//! written once.

use std::{cell::RefCell, rc::Rc};

use http::HeaderValue;

use crate::http1::encode::Block;

/// The fields as they were written last, and for which host.
#[derive(Debug, Default)]
pub struct Told(RefCell<Option<(HeaderValue, Rc<Block>)>>);

impl Told {
    /// The fields of a request for `host`, made by `write` where the last one was for another.
    pub fn fields(&self, host: &HeaderValue, write: impl FnOnce() -> Block) -> Rc<Block> {
        let mut last = self.0.borrow_mut();
        match &*last {
            Some((of, fields)) if of == host => fields.clone(),
            _ => last.insert((host.clone(), Rc::new(write()))).1.clone(),
        }
    }
}
