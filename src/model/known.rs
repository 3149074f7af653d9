//! The names and values that HPACK knows before anything was sent.

/// The static table, from index 1 on. Source: RFC 7541 Appendix A.
pub static STATIC: [(&str, &str); LENGTH] = TABLE;

/// The index of the first entry of this name; 0: it has none.
#[must_use]
pub const fn first(name: &[u8]) -> u8 {
    let mut index = 0;
    while (index as usize) < LENGTH {
        if is(TABLE[index as usize].0.as_bytes(), name) {
            return index + 1;
        }
        index += 1;
    }
    0
}

const fn is(known: &[u8], name: &[u8]) -> bool {
    let mut at = 0;
    while at < known.len() && at < name.len() && known[at] == name[at] {
        at += 1;
    }
    at == known.len() && at == name.len()
}

const LENGTH: usize = 61;

const TABLE: [(&str, &str); LENGTH] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];
