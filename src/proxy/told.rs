//! What upstream is told of a client for which no proxy speaks: the same in all requests of a connection, so it is
//! written once.

use std::cell::RefCell;

use http::HeaderValue;

/// Two fields as they were written last.
#[derive(Debug, Default)]
pub struct Told(RefCell<Option<Fields>>);

/// What goes upstream about who asks.
#[derive(Clone, Debug)]
pub struct Fields {
    /// Which host it was asked for.
    pub host: HeaderValue,
    /// `X-Forwarded-For`.
    pub address: HeaderValue,
    /// `Forwarded`.
    pub forwarded: HeaderValue,
}

impl Told {
    /// The fields of a request for `host`, made by `write` where the last one was for another.
    pub fn fields(&self, host: &HeaderValue, write: impl FnOnce() -> Fields) -> Fields {
        let mut last = self.0.borrow_mut();
        match &*last {
            Some(fields) if fields.host == host => fields.clone(),
            _ => last.insert(write()).clone(),
        }
    }
}
