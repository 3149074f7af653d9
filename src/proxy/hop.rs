//! What of the fields of a connection has to be read before they are removed: whether trailers are understood.
//! Source: RFC 9110 §10.1.4.

use http::{HeaderValue, Version, header};

use crate::model::fields::Fields;

/// `TE: trailers`, the one thing in TE that goes on.
pub const TRAILERS: HeaderValue = HeaderValue::from_static("trailers");

/// Whether the client says that it understands trailers.
pub fn takes_trailers(version: Version, fields: &Fields) -> bool {
    let members = fields.get_all(header::TE).flat_map(|value| value.as_bytes().split(|&b| b == b','));
    let mut names = members.map(|member| member.split(|&b| b == b';').next().unwrap_or_default().trim_ascii());
    version > Version::HTTP_10 && names.any(|name| name.eq_ignore_ascii_case(b"trailers"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trailers_are_understood_by_who_says_so() {
        for (te, takes) in [
            (&["trailers"][..], true),
            (&["gzip;q=0.5, Trailers"], true),
            (&["gzip", "trailers"], true),
            (&["gzip"], false),
            (&["trailers2"], false),
            (&[""], false),
            (&[], false),
        ] {
            let headers: Fields = te.iter().map(|te| (header::TE, HeaderValue::from_static(te))).collect();
            assert_eq!(takes_trailers(Version::HTTP_11, &headers), takes, "{te:?}");
            assert_eq!(takes_trailers(Version::HTTP_2, &headers), takes, "{te:?}");
            assert!(!takes_trailers(Version::HTTP_10, &headers), "{te:?}");
        }
    }
}
