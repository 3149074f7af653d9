//! The JSON of Consul that is read, and of it only the fields that are used.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::{Result, Value};

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
}

/// Reads the instances of one service in whatever health, out of `/v1/health/service/NAME`.
#[derive(Clone, Copy, Debug)]
pub struct Health;

/// Instances of one service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Instances {
    /// Those that could be read.
    pub entries: Vec<Entry>,
    /// Those that could not.
    pub unreadable: Vec<Unreadable>,
}

/// An instance that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// What Consul calls it, or else its place in the answer.
    pub id: String,
    /// What is wrong with it.
    pub why: String,
}

/// One instance with its node and the checks of both.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Node {
    /// Its name.
    #[serde(default)]
    pub node: String,
    /// Its address.
    #[serde(default)]
    pub address: String,
    /// Its datacenter.
    #[serde(default)]
    pub datacenter: String,
}

/// An instance as registered.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
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
        Ok(all)
    }
}

/// Reads which services have an instance with a tag, out of `/v1/catalog/services`.
#[derive(Clone, Debug)]
pub struct Carriers {
    /// The tag.
    pub tag: String,
}

impl Carriers {
    /// Asks for all services.
    #[must_use]
    pub fn question() -> Question {
        Question { endpoint: "catalog_services", path: "/v1/catalog/services".to_owned(), query: Vec::new() }
    }
}

impl Read for Carriers {
    type Answer = BTreeSet<String>;

    fn read(&self, body: &[u8]) -> Result<BTreeSet<String>> {
        let all: BTreeMap<String, Value> = serde_json::from_slice(body)?;
        let carries = |tags: &Value| tags.as_array().is_some_and(|tags| tags.iter().any(|tag| *tag == *self.tag));
        Ok(all.into_iter().filter(|(_, tags)| carries(tags)).map(|(name, _)| name).collect())
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
