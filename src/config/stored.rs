//! The document in Consul's KV: a layer over the files, and what it may not say. Who reads it is `control`.

use std::fmt;

use figment::value::{Dict, Value};

use super::{
    file::{self, Fault},
    layers::Layer,
    place::{Path, Step},
    schema::Node,
    telemetry::is_no_file,
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
    /// Reads it as a layer, which holds what of it may be said.
    ///
    /// # Errors
    /// It is too large, or is not TOML.
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
        let (mut values, lines) = file::decode(&self.text).map_err(faults)?;
        let mut found = Vec::new();
        judge(&mut values, &Path::default(), &mut found);
        let refused = found.into_iter().map(|(path, why)| {
            problem(
                lines.get(&path).copied(),
                &path.to_string(),
                format!("{why}; set it in a file, a variable or a flag"),
            )
        });
        let refused = refused.collect();
        Ok(Layer { source: source.clone(), values, lines, refused })
    }
}

/// Takes out of a table what may not be said, and says why. A key that nobody knows is left to those who name the nearest.
fn judge(table: &mut Dict, path: &Path, found: &mut Vec<(Path, &'static str)>) {
    table.retain(|key, value| {
        let path = path.key(key);
        let Some(_) = Node::root().find(&path) else { return true };
        match (may(&path, value), value) {
            (May::Partly, Value::Dict(_, table)) => judge(table, &path, found),
            (May::Partly, Value::Array(_, list)) => {
                for (i, entry) in list.iter_mut().enumerate() {
                    if let Value::Dict(_, table) = entry {
                        judge(table, &path.index(i), found);
                    }
                }
            }
            // Any other kind of value fits no table.
            (May::Partly | May::Wholly, _) => {}
            (May::Not(why), _) => {
                found.push((path, why));
                return false;
            }
        }
        true
    });
}

/// What the document may say of a value.
enum May {
    /// Anything.
    Wholly,
    /// Some of its keys.
    Partly,
    /// Nothing, and why.
    Not(&'static str),
}

/// Where requests go and how they are served may be said. Whom the gateway listens to, believes, calls and shows itself to,
/// and which files it opens, may not: whoever may write to the KV is not its operator. A key that is not here is refused.
fn may(path: &Path, value: &Value) -> May {
    let keys = path.0.iter().map(|step| match step {
        Step::Key(key) => key.as_str(),
        Step::Index(_) => "",
    });
    match keys.collect::<Vec<_>>().as_slice() {
        ["consul" | "defaults" | "expose" | "http" | "routes" | "services" | "telemetry"]
        | ["services", _]
        | ["services", _, "tls"]
        | ["telemetry", "log"] => May::Partly,
        ["telemetry", "access_log"] if value.as_str().is_some_and(|place| !is_no_file(place)) => {
            May::Not("it names a file, and here may be only `off` or `stdout`")
        }
        ["consul", "max_watches"]
        | ["expose", "allow" | "hosts" | "path" | "rewrite" | "tag"]
        | [
            "http",
            "drain" | "drain_wait" | "header_timeout" | "health" | "keep_alive" | "max_body_size" | "max_connections"
            | "max_header_size",
        ]
        | ["routes", _, "match" | "max_body_size" | "name" | "retry" | "rewrite" | "service" | "timeout"]
        | ["services", _, "consul" | "datacenters" | "dns" | "host" | "instances" | "protocol" | "tag"]
        | ["services", _, "tls", "server_name"]
        | ["telemetry", "access_format" | "access_log"]
        | ["telemetry", "log", "format" | "level"] => May::Wholly,
        ["defaults", key] | ["services", _, key] if POLICY.contains(key) => May::Wholly,
        ["consul", key] if OURS.contains(key) => {
            May::Not("lictor needs it to find this document, so it cannot be in it")
        }
        ["services", _, "tls", "ca"] => May::Not("it names a file, which is each gateway's own"),
        _ => May::Not("this is for each gateway's operator, not for whoever may write to the KV"),
    }
}

/// The rules that services have and `[defaults]` has.
const POLICY: [&str; 10] =
    ["accept", "balance", "breaker", "hash", "max_in_flight", "panic", "pool", "retry", "slow_start", "timeout"];
/// Keys of `[consul]` by which the document, or what was kept of it, is found.
const OURS: [&str; 8] = ["address", "config", "datacenter", "namespace", "snapshot", "tls", "token", "token_file"];
/// Of a value, unless the agent's `kv_max_value_size` says otherwise.
pub const MAX_BYTES: usize = 512 << 10;
