//! Requests and answers as the gateway passes them on, whatever version of HTTP they come by and leave by.

use http::{Method, StatusCode, Version, uri::PathAndQuery};

use super::fields::Fields;

/// A request.
#[derive(Debug)]
pub struct Request<B> {
    /// The method.
    pub method: Method,
    /// Path and query, or `*`.
    pub target: PathAndQuery,
    /// The version that it came by.
    pub version: Version,
    /// All fields.
    pub fields: Fields,
    /// The body.
    pub body: B,
}

/// An answer.
#[derive(Debug)]
pub struct Response<B> {
    /// The status.
    pub status: StatusCode,
    /// The status that it stands for, where the protocol has another way to say that.
    pub stands_for: Option<StatusCode>,
    /// All fields.
    pub fields: Fields,
    /// The body.
    pub body: B,
}

impl<B> Response<B> {
    /// An answer without fields.
    #[must_use]
    pub fn new(status: StatusCode, body: B) -> Self {
        Self { status, stands_for: None, fields: Fields::new(), body }
    }
}
