//! The document in Consul's KV: a layer over the files, and what it may not say. Who reads it is `control`.

use std::fmt;

use super::{
    file::{self, Fault},
    layers::Layer,
    place::Path,
};
use crate::model::problem::{Place, Problem};

/// A document out of Consul's KV.
#[derive(Clone, PartialEq, Eq)]
pub struct Stored {
    /// Under which key.
    pub key: String,
    /// TOML.
    pub text: Vec<u8>,
}

/// Without what it says, which may be secret.
impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}, {} bytes", self.text.len())
    }
}

impl fmt::Display for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KV {}", self.key)
    }
}

impl Stored {
    /// Reads it as a layer.
    ///
    /// # Errors
    /// It is too large, is not TOML, or says what it may not.
    pub fn layer(&self) -> Result<Layer, Vec<Problem>> {
        let source = self.to_string();
        let problem = |line: Option<usize>, key: &str, message: String| Problem {
            place: Place { source: source.clone(), line, key: key.to_owned() },
            message,
        };
        if self.text.len() > MAX_BYTES {
            return Err(vec![problem(None, "", format!("has more than {MAX_BYTES} bytes, which is Consul's limit"))]);
        }
        let faults = |faults: Vec<Fault>| {
            faults.into_iter().map(|fault| problem(fault.line, "", fault.message)).collect::<Vec<_>>()
        };
        let (values, lines) = file::decode(&self.text).map_err(faults)?;
        let layer = Layer { source: source.clone(), values, lines };
        let said = OURS.iter().filter(|key| layer.get(&["consul", key]).is_some());
        let refused = said.map(|&key| {
            let path: Path = ["consul", key].into_iter().collect();
            let message = "lictor needs it to find this document, so it cannot be in it; \
                           set it in a file, a variable or a flag";
            problem(layer.lines.get(&path).copied(), &path.to_string(), message.to_owned())
        });
        let mut refused: Vec<_> = refused.collect();
        refused.sort_by_key(|problem| problem.place.line);
        if refused.is_empty() { Ok(layer) } else { Err(refused) }
    }
}

/// Keys of `[consul]` by which the document, or what was kept of it, is found.
const OURS: [&str; 8] = ["address", "config", "datacenter", "namespace", "snapshot", "tls", "token", "token_file"];
/// Of a value, unless the agent's `kv_max_value_size` says otherwise.
pub const MAX_BYTES: usize = 512 << 10;
