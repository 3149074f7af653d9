//! What `consistent_hash` goes by, read from a request. The same on every worker and every gateway: no seed.

use std::{fmt, net::IpAddr, str::FromStr};

use http::{HeaderName, header};

use crate::model::{fields::Fields, random::mix, value::Value};

/// The part of a request that decides.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum HashKey {
    /// The client's address.
    #[default]
    Ip,
    /// The path as it is matched, without the query.
    Path,
    /// The value of a header.
    Header(HeaderName),
    /// The value of a cookie.
    Cookie(String),
}

impl HashKey {
    /// The key of a request; `None` where it has no such thing.
    #[must_use]
    pub fn of(&self, address: IpAddr, path: &str, fields: &Fields) -> Option<u64> {
        match self {
            Self::Ip => Some(match address.to_canonical() {
                IpAddr::V4(address) => hash(&address.octets()),
                IpAddr::V6(address) => hash(&address.octets()),
            }),
            Self::Path => Some(hash(path.as_bytes())),
            Self::Header(name) => fields.get(name).map(Value::as_bytes).filter(|v| !v.is_empty()).map(hash),
            Self::Cookie(name) => cookie(name.as_bytes(), fields).filter(|value| !value.is_empty()).map(hash),
        }
    }
}

/// The value of the first cookie of this name, as it stands. Source: RFC 6265 §4.2.1.
fn cookie<'h>(name: &[u8], fields: &'h Fields) -> Option<&'h [u8]> {
    let lines = fields.get_all(header::COOKIE);
    let mut pairs = lines.flat_map(|line| line.as_bytes().split(|&b| b == b';').map(<[u8]>::trim_ascii));
    pairs.find_map(|pair| pair.strip_prefix(name)?.strip_prefix(b"="))
}

/// FNV-1a, its bits spread over the whole word.
#[must_use]
pub fn hash(bytes: &[u8]) -> u64 {
    let step = |hash: u64, &byte: &u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    mix(bytes.iter().fold(0xcbf2_9ce4_8422_2325, step))
}

/// A text that names no part of a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected `ip`, `path`, `header:NAME` or `cookie:NAME`; got `{0}`")]
pub struct UnknownKey(String);

impl FromStr for HashKey {
    type Err = UnknownKey;

    fn from_str(text: &str) -> Result<Self, UnknownKey> {
        let unknown = || UnknownKey(text.into());
        match text.split_once(':') {
            None if text == "ip" => Ok(Self::Ip),
            None if text == "path" => Ok(Self::Path),
            Some(("header", name)) => name.parse().map(Self::Header).map_err(|_| unknown()),
            // The name of a cookie is a token, as that of a header, but its case counts (RFC 6265 §4.1.1).
            Some(("cookie", name)) if name.parse::<HeaderName>().is_ok() => Ok(Self::Cookie(name.into())),
            _ => Err(unknown()),
        }
    }
}

impl fmt::Display for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip => f.write_str("ip"),
            Self::Path => f.write_str("path"),
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Cookie(name) => write!(f, "cookie:{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn every_key_is_read_as_it_is_written_and_nothing_else_is() {
        for text in ["ip", "path", "header:x-user", "cookie:Session-Id"] {
            assert_eq!(text.parse::<HashKey>().unwrap().to_string(), text);
        }
        for text in ["", "Ip", "ip:", "header", "header:", "header:a b", "cookie:", "cookie:a=b", "query:x"] {
            assert_eq!(text.parse::<HashKey>(), Err(UnknownKey(text.into())));
        }
    }

    #[test]
    fn a_key_depends_on_its_part_of_the_request_alone() {
        let request = |cookies: &[&'static str], user: &'static str| {
            let mut headers = Fields::new();
            for cookie in cookies {
                headers.append(header::COOKIE, HeaderValue::from_static(cookie));
            }
            headers.insert(HeaderName::from_static("x-user"), HeaderValue::from_static(user));
            headers
        };
        let (here, there) = (IpAddr::from([192, 0, 2, 7]), IpAddr::from([192, 0, 2, 8]));
        let one = request(&["a=1; id=7"], "u");
        let same = request(&["aid=8", "b=2;id=7 ;c"], "u");
        let other = request(&["id=8; id=7"], "v");
        let bare = request(&["xid=7; id="], "");
        let key = |key: &str, address, path, headers| key.parse::<HashKey>().unwrap().of(address, path, headers);
        for (by, one, same, other, none) in [
            ("ip", (here, "/a"), (here, "/b"), (there, "/a"), false),
            ("path", (here, "/a"), (there, "/a"), (here, "/b"), false),
            ("header:x-user", (here, "/a"), (there, "/b"), (here, "/a"), true),
            ("cookie:id", (here, "/a"), (there, "/b"), (here, "/a"), true),
        ]
        .map(|(by, (a, p), (b, q), (c, r), none)| {
            (by, key(by, a, p, &one), key(by, b, q, &same), key(by, c, r, &other), none)
        }) {
            assert!(one.is_some() && one == same && one != other, "{by}: {one:?} {same:?} {other:?}");
            assert_eq!(key(by, here, "/", &bare).is_none(), none, "{by}");
        }
        let mapped = "::ffff:192.0.2.7".parse().unwrap();
        assert_eq!(key("ip", mapped, "/", &one), key("ip", here, "/", &one));
    }
}
