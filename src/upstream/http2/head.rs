//! The head of a request as HTTP/2 has it (RFC 9113 §8.3.1).

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, TE};
use tokio::time::Instant;

use crate::{
    http2::hpack::{Pseudo, write_field, write_named, write_pseudo},
    model::{
        field::Name,
        instance::Address,
        protocol::{self, Protocol},
    },
    upstream::{
        call::{Outbound, bodyless},
        deadline::GRPC_TIMEOUT,
    },
};

/// Appends it; `now` is when the client's time is read.
pub fn write(out: &mut Vec<u8>, request: &Outbound, protocol: Protocol, address: &Address, now: Instant) {
    write_pseudo(out, Pseudo::Method, request.method.as_str().as_bytes());
    write_pseudo(out, Pseudo::Scheme, if protocol.is_tls() { b"https" } else { b"http" });
    // HTTP/1.0 may name no host; the instance's own is then as good as any.
    match request.host.as_bytes() {
        b"" => write_pseudo(out, Pseudo::Authority, address.to_string().as_bytes()),
        host => write_pseudo(out, Pseudo::Authority, host),
    }
    write_pseudo(out, Pseudo::Path, request.target.as_str().as_bytes());
    for (name, value, never_indexed) in request.fields.lines() {
        let is_replaced = request.deadline.is_some() && **name == GRPC_TIMEOUT;
        if !is_ours(name) && !is_replaced {
            write_field(out, name, value.as_bytes(), never_indexed);
        }
    }
    for (name, value) in request.ours.fields() {
        write_named(out, name, value.as_bytes(), value.is_sensitive());
    }
    if let Some(length) = request.body.length()
        && (length > 0 || !bodyless(&request.method))
    {
        write_named(out, &CONTENT_LENGTH, itoa::Buffer::new().format(length).as_bytes(), false);
    }
    let is_grpc = || request.fields.get(CONTENT_TYPE).is_some_and(|kind| protocol::is_grpc(kind.as_bytes()));
    if protocol.is_grpc() || request.fields.contains_key(TE) || is_grpc() {
        write_named(out, &TE, b"trailers", false);
    }
    if let Some(deadline) = &request.deadline {
        write_named(out, &GRPC_TIMEOUT, deadline.left(now).as_bytes(), false);
    }
}

/// Whether it is for this, or for nobody, to say.
fn is_ours(name: &Name) -> bool {
    name.is_of_connection() || [HOST, CONTENT_LENGTH].contains(name)
}
