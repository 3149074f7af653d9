//! The schema, the documentation and the examples say the same.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value as Json;

use super::*;

#[test]
fn every_example_passes_the_schema_and_loads() {
    let schema = jsonschema::validator_for(&schema()).unwrap();
    let examples: Vec<_> = fs::read_dir(root().join("examples")).unwrap().map(|entry| entry.unwrap().path()).collect();
    let examples: Vec<_> = examples.iter().filter(|file| file.extension().is_some_and(|end| end == "toml")).collect();
    assert!(examples.len() >= 2);
    for file in examples {
        let document: Json = toml::from_str(&fs::read_to_string(file).unwrap()).unwrap();
        let faults: Vec<_> = schema.iter_errors(&document).map(|fault| fault.to_string()).collect();
        assert!(faults.is_empty(), "{}: {faults:?}", file.display());
        let sources = Sources { files: vec![file.clone()], sets: Vec::new() };
        load_from(&sources, &Variables::new()).unwrap_or_else(|problems| panic!("{problems}"));
    }
}

#[test]
fn what_is_shown_passes_the_schema() {
    let schema = jsonschema::validator_for(&schema()).unwrap();
    let shown = World::file("[services.a]\n[[routes]]\nservice = 'b'\nmatch.path = '/'").load().shown();
    let faults: Vec<_> = schema.iter_errors(&shown).map(|fault| fault.to_string()).collect();
    assert!(faults.is_empty(), "{faults:?}");
}

#[test]
fn the_schema_refuses_what_cannot_be() {
    let schema = jsonschema::validator_for(&schema()).unwrap();
    for document in [
        "htp = 1",
        "[http]\nlisen = ''",
        "[http]\nkeep_alive = 10",
        "[http]\nkeep_alive = '10'",
        "[http]\nmax_body_size = 1000",
        "[http]\nmax_connections = 0",
        "[http]\nproxy_protocol = 'yes'",
        "[http]\ntrusted_proxies = '10.0.0.0/8'",
        "[defaults]\nbalance = 'p2c'",
        "[defaults]\nhash = 'query:x'",
        "[defaults]\naccept = ['fine']",
        "[services.s.timeout]\nidel = '5m'",
        "[[routes]]\nservice = 's'",
    ] {
        let value: Json = toml::from_str(document).unwrap();
        assert!(!schema.is_valid(&value), "{document}");
        assert!(load_from(&World::file(document).sources, &Variables::new()).is_err(), "{document}");
    }
}

#[test]
fn every_key_has_a_description() {
    let bare: Vec<_> =
        keys().into_iter().filter(|(_, node)| node.get("description").is_none()).map(|(key, _)| key).collect();
    assert!(bare.is_empty(), "{bare:?}");
}

#[test]
fn every_key_is_documented_with_its_default() {
    let text = fs::read_to_string(root().join("docs/configuration.md")).unwrap();
    let mut section = String::new();
    let mut documented = BTreeMap::new();
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            section = title.trim_matches(['[', ']']).to_owned();
        }
        if let Some((key, rest)) = line.strip_prefix("| `").and_then(|row| row.split_once("` | ")) {
            let default = rest.split(" | ").nth(1).unwrap_or_default().trim().trim_matches('`').to_owned();
            documented.insert(format!("{section}.{key}"), default);
        }
    }
    documented.retain(|key, _| !key.starts_with("Where values come from"));
    let known: BTreeMap<_, _> = keys().into_iter().filter(|(key, _)| key.contains('.')).collect();
    let [documented_keys, known_keys] =
        [documented.keys().cloned().collect::<BTreeSet<_>>(), known.keys().cloned().collect()];
    assert_eq!(documented_keys, known_keys);

    let defaults = serde_json::to_value(Document::default()).unwrap();
    for (key, said) in documented {
        let default =
            key.split('.').try_fold(&defaults, |value, key| value.get(key)).filter(|value| !value.is_object());
        match default {
            Some(default) => assert_eq!(said.replace(", ", ","), default.to_string(), "{key}"),
            None => assert!(["–", "required"].contains(&said.as_str()), "{key}: {said}"),
        }
    }
}

/// Every key of the schema with what it says of it; a table whose keys are names is one key, but for services.
fn keys() -> BTreeMap<String, Json> {
    fn walk(node: &Json, path: &str, keys: &mut BTreeMap<String, Json>) {
        for (key, below) in node.get("properties").and_then(Json::as_object).into_iter().flatten() {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            keys.insert(path.clone(), below.clone());
            walk(below, &path, keys);
            walk(&below["items"], &path, keys);
            walk(&below["additionalProperties"], &format!("{path}.NAME"), keys);
        }
    }
    let mut keys = BTreeMap::new();
    walk(&schema(), "", &mut keys);
    keys
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}
