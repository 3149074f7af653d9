//! The value of one key in Consul's KV, or that there is none.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, de::Error as _};
use serde_json::{Error, Result};

use super::{Question, Read};
use crate::model::path::encode_segment;

/// Reads the value of a key, out of `/v1/kv/KEY`; `None`: there is no such key.
///
/// Not as it is (`?raw`), for then whatever answers in Consul's place would be taken for the value.
#[derive(Clone, Copy, Debug)]
pub struct Kv;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    #[serde(rename = "Key")]
    _key: String,
    /// In base64; `null` where it is empty.
    #[serde(default)]
    value: Option<String>,
}

impl Kv {
    /// Asks for a key.
    #[must_use]
    pub fn question(key: &str) -> Question {
        let segments: Vec<_> = key.split('/').map(encode_segment).collect();
        Question { endpoint: "kv", path: format!("/v1/kv/{}", segments.join("/")), query: Vec::new() }
    }
}

impl Read for Kv {
    type Answer = Option<Vec<u8>>;

    fn read(&self, body: &[u8]) -> Result<Self::Answer> {
        let [Entry { value, .. }] = serde_json::from_slice(body)?;
        STANDARD.decode(value.unwrap_or_default()).map(Some).map_err(Error::custom)
    }

    fn absent(&self) -> Option<Self::Answer> {
        Some(None)
    }

    fn tells_services(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_read_as_bytes_and_nothing_else_is_taken_for_one() {
        let body = |value: &str| format!(r#"[{{"LockIndex": 0, "Key": "a/b", "Flags": 0, "Value": {value}}}]"#);
        for (body, want) in [
            (body(r#""aGkK/w==""#), Some(b"hi\n\xff".to_vec())),
            (body("null"), Some(Vec::new())),
            (body(r#""""#), Some(Vec::new())),
            (body(r#""?""#), None),
            (body("7"), None),
            ("[]".into(), None),
            ("null".into(), None),
            (r#"[{"Value": "aGk="}]"#.into(), None),
            ("<html>".into(), None),
        ] {
            assert_eq!(Kv.read(body.as_bytes()).ok().flatten(), want, "{body}");
        }
    }

    #[test]
    fn a_key_keeps_its_slashes_and_nothing_else_of_an_address() {
        assert_eq!(Kv::question("lictor/a b?c").path, "/v1/kv/lictor/a%20b%3Fc");
    }
}
