//! The JSON of Consul that is read, and of it only the fields that are used.

pub mod kv;
pub mod marks;

use std::collections::{BTreeMap, BTreeSet};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error as _},
};
use serde_json::{Error, Result, Value};

use super::Question;
use crate::model::path::encode_segment;

/// Reads the body of an answer.
pub trait Read {
    /// What it says, so far as it is of use: two that are equal say the same.
    type Answer: Clone + PartialEq;

    /// Reads a whole body.
    ///
    /// # Errors
    /// It is not what Consul tells.
    fn read(&self, body: &[u8]) -> Result<Self::Answer>;

    /// What 404 with an index means; `None`: it is an error.
    fn absent(&self) -> Option<Self::Answer> {
        None
    }

    /// Whether it tells of services: how old what is known of them is, such answers say.
    fn tells_services(&self) -> bool {
        true
    }
}

/// Reads the instances of one service in whatever health, out of `/v1/health/service/NAME`.
#[derive(Clone, Copy, Debug)]
pub struct Health;

/// Instances of one service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Instances {
    /// Those that could be read.
    pub entries: Vec<Entry>,
    /// Those that could not.
    pub unreadable: Vec<Unreadable>,
}

/// An instance that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Unreadable {
    /// What Consul calls it, or else its place in the answer.
    pub id: String,
    /// What is wrong with it.
    pub why: String,
}

/// One instance with its node and the checks of both.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Entry {
    /// Where it runs.
    pub node: Node,
    /// What was registered.
    pub service: Service,
    /// Its own checks and its node's.
    #[serde(default, deserialize_with = "or_default")]
    pub checks: Vec<Check>,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Node {
    /// Its name.
    #[serde(default, rename = "Node")]
    pub name: String,
    /// Its address.
    #[serde(default)]
    pub address: String,
    /// Its datacenter.
    #[serde(default)]
    pub datacenter: String,
}

/// An instance as registered.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Service {
    /// Unique on its node.
    #[serde(rename = "ID")]
    pub id: String,
    /// Its address; empty: its node's.
    #[serde(default, deserialize_with = "or_default")]
    pub address: String,
    /// Its port.
    #[serde(default)]
    pub port: i64,
    /// Its tags.
    #[serde(default, deserialize_with = "or_default")]
    pub tags: Vec<String>,
    /// Its metadata.
    #[serde(default, deserialize_with = "or_default")]
    pub meta: BTreeMap<String, String>,
    /// Its weights.
    #[serde(default, deserialize_with = "lenient")]
    pub weights: Weights,
    /// When it was registered first.
    #[serde(default)]
    pub create_index: u64,
}

/// Shares of the traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Weights {
    /// While passing; `None`: not told, or no number.
    #[serde(default, deserialize_with = "lenient")]
    pub passing: Option<i64>,
    /// While warning; `None`: not told, or no number.
    #[serde(default, deserialize_with = "lenient")]
    pub warning: Option<i64>,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Check {
    /// Unique on its node.
    #[serde(default, rename = "CheckID")]
    pub id: String,
    /// `passing`, `warning`, `critical` or `maintenance`.
    pub status: String,
    /// The instance it is about; empty: the node.
    #[serde(default, rename = "ServiceID", deserialize_with = "or_default")]
    pub service: String,
}

impl Health {
    /// Asks for the instances of a service, or those of them that carry a tag.
    #[must_use]
    pub fn question(service: &str, tag: Option<&str>) -> Question {
        Question {
            endpoint: "health_service",
            path: format!("/v1/health/service/{}", encode_segment(service)),
            query: tag.map(|tag| ("tag", tag.to_owned())).into_iter().collect(),
        }
    }
}

impl Read for Health {
    type Answer = Instances;

    fn read(&self, body: &[u8]) -> Result<Instances> {
        if let Ok(entries) = serde_json::from_slice(body) {
            return Ok(Instances { entries, unreadable: Vec::new() });
        }
        let mut all = Instances::default();
        for (place, value) in serde_json::from_slice::<Vec<Value>>(body)?.into_iter().enumerate() {
            match Entry::deserialize(&value) {
                Ok(entry) => all.entries.push(entry),
                Err(why) => {
                    let id = value["Service"]["ID"].as_str().map_or_else(|| format!("#{place}"), str::to_owned);
                    all.unreadable.push(Unreadable { id, why: why.to_string() });
                }
            }
        }
        match all.unreadable.first() {
            // What says nothing does not say that there is nobody.
            Some(Unreadable { id, why }) if all.entries.is_empty() => {
                Err(Error::custom(format!("no instance can be read, such as `{id}`: {why}")))
            }
            _ => Ok(all),
        }
    }
}

/// Reads all services and the tags that their instances carry, out of `/v1/catalog/services`.
///
/// All of it, not only what is of use: to a watch, news of others are news, and no reason to ask less often.
#[derive(Clone, Copy, Debug)]
pub struct Catalog;

/// Services and their tags.
pub type Services = BTreeMap<String, BTreeSet<String>>;

impl Catalog {
    /// Asks for all services.
    #[must_use]
    pub fn question() -> Question {
        Question { endpoint: "catalog_services", path: "/v1/catalog/services".to_owned(), query: Vec::new() }
    }
}

impl Read for Catalog {
    type Answer = Services;

    fn read(&self, body: &[u8]) -> Result<Services> {
        let all: BTreeMap<String, Value> = serde_json::from_slice(body)?;
        let tags = |tags: Value| BTreeSet::deserialize(tags).unwrap_or_default();
        Ok(all.into_iter().map(|(name, told)| (name, tags(told))).collect())
    }
}

/// Go writes `null` for what is empty.
fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> std::result::Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// What is not as expected is as if it were not there.
fn lenient<'de, D: Deserializer<'de>, T: Default + DeserializeOwned>(from: D) -> std::result::Result<T, D::Error> {
    Ok(serde_json::from_value(Value::deserialize(from)?).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Instances {
        Health.read(body.as_bytes()).unwrap()
    }

    #[test]
    fn an_instance_is_read_with_what_is_used_of_it() {
        let body = r#"[{"Node": {"ID": "x", "Node": "n1", "Address": "10.0.0.1", "Datacenter": "dc1", "Meta": null},
            "Service": {"ID": "web-1", "Service": "web", "Tags": ["lictor", "v1"], "Address": "10.0.0.7", "Port": 8002,
                "Meta": {"version": "v1"}, "Weights": {"Passing": 10, "Warning": 1}, "CreateIndex": 41, "ModifyIndex": 50},
            "Checks": [{"Node": "n1", "CheckID": "serfHealth", "Status": "passing", "ServiceID": ""},
                {"CheckID": "c", "Status": "warning", "ServiceID": "web-1", "Output": "x"}]}]"#;
        let Instances { entries, unreadable } = read(body);
        let [Entry { node, service, checks }] = &entries[..] else { panic!("{entries:?}") };
        assert_eq!((node.address.as_str(), node.datacenter.as_str()), ("10.0.0.1", "dc1"));
        assert_eq!((service.id.as_str(), service.address.as_str(), service.port), ("web-1", "10.0.0.7", 8002));
        assert_eq!((service.tags.len(), service.meta["version"].as_str(), service.create_index), (2, "v1", 41));
        assert_eq!(service.weights, Weights { passing: Some(10), warning: Some(1) });
        assert_eq!(checks.iter().map(|c| c.status.as_str()).collect::<Vec<_>>(), ["passing", "warning"]);
        assert_eq!(unreadable, []);
    }

    #[test]
    fn what_is_null_or_missing_is_empty() {
        let full = r#"[{"Node": {"Address": "a"}, "Service": {"ID": "i", "Tags": null, "Meta": null, "Address": null,
            "Weights": null}, "Checks": null}]"#;
        let bare = r#"[{"Node": {"Address": "a"}, "Service": {"ID": "i"}}]"#;
        assert_eq!(read(full), read(bare));
        assert_eq!(read(full).entries.len(), 1);
        for weights in [r#"{"Passing": "x", "Warning": 1.5}"#, "7", "[]", "\"x\"", "{}"] {
            let body = full.replace(r#""Weights": null"#, &format!(r#""Weights": {weights}"#));
            assert_eq!(read(&body), read(bare), "{weights}");
        }
    }

    #[test]
    fn one_bad_entry_is_skipped_and_named() {
        let good = r#"{"Node": {"Address": "a"}, "Service": {"ID": "good"}}"#;
        let cases = [
            (r#"{"Node": {"Address": "a"}, "Service": {"ID": "bad", "Tags": 7}}"#, "bad"),
            (r#"{"Node": {"Address": "a"}, "Service": {"ID": "bad", "Port": "http"}}"#, "bad"),
            (r#"{"Node": null, "Service": {"ID": "bad"}}"#, "bad"),
            (r#"{"Node": {"Address": "a"}, "Service": {"ID": "bad"}, "Checks": [{"Status": 1}]}"#, "bad"),
            (r#"{"Node": {"Address": "a"}, "Service": {"ID": 7}}"#, "#1"),
            ("null", "#1"),
            ("[]", "#1"),
        ];
        for (bad, id) in cases {
            let Instances { entries, unreadable } = read(&format!("[{good}, {bad}, {good}]"));
            assert_eq!(entries.len(), 2, "{bad}");
            assert_eq!(unreadable.iter().map(|u| u.id.as_str()).collect::<Vec<_>>(), [id], "{bad}");
        }
    }

    #[test]
    fn what_is_no_list_is_an_error() {
        // Nor is one of which nothing can be read.
        for body in ["[null]", r#"[{"Node": {}, "Service": {"ID": 7}}, 1]"#] {
            assert!(Health.read(body.as_bytes()).is_err(), "{body}");
        }
        for body in ["", "null", "{}", "[{]", "<html>", "\"x\"", "[] []"] {
            assert!(Health.read(body.as_bytes()).is_err(), "{body}");
        }
        for body in ["", "null", "[]", "{", "<html>"] {
            assert!(Catalog.read(body.as_bytes()).is_err(), "{body}");
        }
    }

    #[test]
    fn the_catalog_is_read_and_odd_tags_are_none() {
        let body = r#"{"consul": [], "web": ["v1", "lictor", "v1"], "null": null, "odd": [7], "a/b": ["lictor"]}"#;
        let told = Catalog.read(body.as_bytes()).unwrap();
        let told: Vec<_> = told.iter().map(|(name, tags)| (name.as_str(), tags.len())).collect();
        assert_eq!(told, [("a/b", 1), ("consul", 0), ("null", 0), ("odd", 0), ("web", 2)]);
    }

    #[test]
    fn a_service_name_is_one_segment_of_the_question() {
        let question = Health::question("../kv/a b?x", Some("t&u"));
        assert_eq!(question.path, "/v1/health/service/..%2Fkv%2Fa%20b%3Fx");
        assert_eq!(question.query, [("tag", "t&u".to_owned())]);
    }
}
