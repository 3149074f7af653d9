//! The strict codec of HTTP/2: bytes in, lines of field sections out, and back. Pure; sockets are `edge`'s and `upstream`'s.

#[cfg_attr(not(test), expect(dead_code, unused_imports, reason = "connections that use it come next"))]
pub mod hpack;
