//! What is spoken to the instances of a service.

use std::{fmt, str::FromStr};

/// A protocol towards upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http,
    /// HTTP/2 without TLS, by prior knowledge (RFC 9113 §3.3).
    H2c,
    /// HTTP/1.1 over TLS.
    Https,
    /// gRPC: HTTP/2 without TLS.
    Grpc,
    /// gRPC over TLS.
    Grpcs,
}

impl Protocol {
    /// All of them, as they are told to people.
    pub const ALL: [Self; 5] = [Self::Http, Self::H2c, Self::Https, Self::Grpc, Self::Grpcs];

    /// The word for it in the configuration and in tags.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::H2c => "h2c",
            Self::Https => "https",
            Self::Grpc => "grpc",
            Self::Grpcs => "grpcs",
        }
    }

    /// Whether it goes through TLS.
    #[must_use]
    pub fn is_tls(self) -> bool {
        matches!(self, Self::Https | Self::Grpcs)
    }

    /// Whether it is HTTP/2.
    #[must_use]
    pub fn is_http2(self) -> bool {
        matches!(self, Self::H2c | Self::Grpc | Self::Grpcs)
    }

    /// Whether what is called is gRPC: answers say in their trailers how they went, and streams may be silent for long.
    #[must_use]
    pub fn is_grpc(self) -> bool {
        matches!(self, Self::Grpc | Self::Grpcs)
    }
}

/// Whether a message of this content type is gRPC's. Source: gRPC over HTTP/2, "Content-Type".
#[must_use]
pub fn is_grpc(content_type: &[u8]) -> bool {
    content_type.starts_with(b"application/grpc")
}

/// What a status of HTTP is in gRPC.
///
/// Source: gRPC's "HTTP to gRPC Status Code Mapping", but for what a proxy knows better: a timeout, a body too large.
#[must_use]
pub fn grpc_status(status: u16) -> u16 {
    match status {
        401 => 16,             // UNAUTHENTICATED
        403 => 7,              // PERMISSION_DENIED
        404 | 405 => 12,       // UNIMPLEMENTED
        408 | 504 => 4,        // DEADLINE_EXCEEDED
        413 => 8,              // RESOURCE_EXHAUSTED
        429 | 502 | 503 => 14, // UNAVAILABLE
        _ => 13,               // INTERNAL
    }
}

/// A word that is no protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected `http`, `h2c`, `https`, `grpc` or `grpcs`")]
pub struct UnknownProtocol;

impl FromStr for Protocol {
    type Err = UnknownProtocol;

    fn from_str(word: &str) -> Result<Self, UnknownProtocol> {
        Self::ALL.into_iter().find(|protocol| protocol.as_str() == word).ok_or(UnknownProtocol)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_protocol_is_read_as_it_is_written_and_nothing_else_is() {
        for protocol in Protocol::ALL {
            assert_eq!(protocol.to_string().parse(), Ok(protocol));
        }
        for word in ["", "HTTP", "http2", "h2", "smtp"] {
            assert_eq!(word.parse::<Protocol>(), Err(UnknownProtocol), "{word}");
        }
    }
}
