//! Layers out of single texts: variables of ours and of Consul's, and `--set` flags. What a text means is decided by
//! what its key takes: a token of digits stays a token.

use std::collections::BTreeMap;

use figment::value::{Tag, Value};

use super::{
    consul, file,
    layers::Layer,
    place::{Path, Step},
    schema::Node,
};
use crate::model::problem::{Place, Problem};

/// Variables by name.
pub type Variables = BTreeMap<String, String>;

/// The variables of this process; what is not Unicode cannot be a value of ours.
#[must_use]
pub fn variables() -> Variables {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// `LICTOR_HTTP__LISTEN` and the like, one layer each.
#[must_use]
pub fn ours(variables: &Variables) -> Vec<Layer> {
    let ours = variables.iter().filter_map(|(name, text)| {
        let keys = name.strip_prefix(PREFIX).filter(|keys| keys.contains(BETWEEN) && !text.is_empty())?;
        let keys = keys.to_lowercase();
        let path: Path = keys.split(BETWEEN).collect();
        let value = read(text, Node::root().find(&path));
        Some(Layer::of(name, &path, value))
    });
    ours.collect()
}

/// Consul's own variables and systemd's, for what `[consul]` leaves out; `over` are the layers that may say it.
///
/// # Errors
/// What Consul's programs would not understand either.
pub fn consuls(variables: &Variables, over: &[Layer]) -> Result<Vec<Layer>, Problem> {
    let get = |name: &str| variables.get(name).filter(|text| !text.is_empty());
    let mut layers = Vec::new();
    let mut fill = |name: &str, keys: &[&str], text: &str| {
        let path: Path = ["consul"].iter().chain(keys).copied().collect();
        layers.push(Layer::of(name, &path, Value::String(Tag::Default, text.into())));
    };
    let tls = match get(SSL).map(|text| (text, consul::flag(text))) {
        Some((_, Some(tls))) => tls,
        None => false,
        Some((text, None)) => {
            let place = Place { source: SSL.into(), line: None, key: "consul.address".into() };
            return Err(Problem { place, message: format!("expected `true` or `false`; got `{text}`") });
        }
    };
    let scheme = if tls { "https" } else { "http" };
    match get(ADDRESS) {
        Some(address) if address.contains("://") => fill(ADDRESS, &["address"], address),
        Some(address) => fill(ADDRESS, &["address"], &format!("{scheme}://{address}")),
        None if tls => fill(SSL, &["address"], &format!("{scheme}://127.0.0.1:8500")),
        None => {}
    }
    if let Some(folders) = get(STATE) {
        // Systemd gives several with colons between them.
        let folder = folders.split(':').next().unwrap_or_default();
        fill(STATE, &["snapshot"], &format!("{folder}/{SNAPSHOT}"));
    }
    // A token file wins over a token: one in the environment must not win over a token in a file of ours.
    let said = |key: &str| over.iter().any(|layer| layer.get(&["consul", key]).is_some());
    let simple = if said("token") || said("token_file") { &SIMPLE[2..] } else { &SIMPLE };
    for (name, keys) in simple {
        if let Some(text) = get(name) {
            fill(name, keys, text);
        }
    }
    Ok(layers)
}

/// A flag `--set key=value`.
///
/// # Errors
/// It has no value, or the key is none.
pub fn set(flag: &str) -> Result<Layer, Problem> {
    let wrong = |key: &str, message: &str| {
        let place = Place { source: SET.into(), line: None, key: key.into() };
        Problem { place, message: format!("{message}, such as `--set http.listen=127.0.0.1:8080`") }
    };
    let (key, text) = flag.split_once('=').ok_or_else(|| wrong(flag, "expected a key, `=` and a value"))?;
    let path = dotted(key.trim()).ok_or_else(|| wrong(key, "expected keys with dots between them"))?;
    let value = read(text, Node::root().find(&path));
    Ok(Layer::of(SET, &path, value))
}

/// Reads a key as TOML does: `services."a.b".tag`.
fn dotted(key: &str) -> Option<Path> {
    let (mut values, _) = file::parse(&format!("{key} = 0")).ok()?;
    let mut path = Path::default();
    loop {
        let (key, value) = values.pop_first()?;
        path.0.push(Step::Key(key));
        match value {
            Value::Dict(_, next) => values = next,
            Value::Num(..) => return Some(path),
            _ => return None,
        }
    }
}

/// What a text means to a key that takes `node`.
fn read(text: &str, node: Option<Node<'_>>) -> Value {
    let takes = |kind| node.is_some_and(|node| node.takes(kind));
    let as_text = |text: &str| Value::String(Tag::Default, text.into());
    match file::parse_value(text.trim()) {
        Some(value @ Value::Array(..)) if takes("array") => return value,
        Some(value @ Value::Dict(..)) if takes("object") => return value,
        Some(value @ Value::Num(..)) if (takes("integer") || takes("number")) && !takes("string") => return value,
        Some(value @ Value::Bool(..)) if takes("boolean") => return value,
        Some(value @ Value::String(..)) if text.trim_start().starts_with(['"', '\'']) => return value,
        _ => {}
    }
    if takes("array") && (!takes("string") || text.contains(',')) {
        let items = node.and_then(Node::items);
        let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        return Value::Array(Tag::Default, entries.map(|entry| read(entry, items)).collect());
    }
    as_text(text)
}

const PREFIX: &str = "LICTOR_";
const BETWEEN: &str = "__";
const SET: &str = "--set";
const ADDRESS: &str = "CONSUL_HTTP_ADDR";
const SSL: &str = "CONSUL_HTTP_SSL";
const STATE: &str = "STATE_DIRECTORY";
const SNAPSHOT: &str = "topology.json";
/// The first two are the token's.
const SIMPLE: [(&str, &[&str]); 6] = [
    ("CONSUL_HTTP_TOKEN", &["token"]),
    ("CONSUL_HTTP_TOKEN_FILE", &["token_file"]),
    ("CONSUL_CACERT", &["tls", "ca"]),
    ("CONSUL_CLIENT_CERT", &["tls", "cert"]),
    ("CONSUL_CLIENT_KEY", &["tls", "key"]),
    ("CONSUL_NAMESPACE", &["namespace"]),
];
