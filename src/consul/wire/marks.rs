//! What says that something has changed, and whose it is, of many services in one answer. Of each only a mark is kept:
//! one that differs from the mark before is news.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
};

use serde::{Deserialize, de::IgnoredAny};
use serde_json::Result;

use super::{Question, Read, or_default};
use crate::model::path::encode_segment;

/// Reads the checks of all services and nodes, out of `/v1/health/state/any`.
#[derive(Clone, Copy, Debug)]
pub struct States;

/// Reads the names of all nodes, out of `/v1/catalog/nodes`.
#[derive(Clone, Copy, Debug)]
pub struct Nodes;

/// Reads which services have instances on one node, out of `/v1/catalog/node-services/NODE`.
#[derive(Clone, Copy, Debug)]
pub struct OnNode;

/// Reads which services have instances on each node, out of `/v1/internal/ui/nodes`, which Consul's own UI asks. What is
/// of other clusters (`PeerName`) is left out.
#[derive(Clone, Copy, Debug)]
pub struct OnNodes;

/// Whom a check is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Whose {
    /// A service, by its name in Consul.
    Service(String),
    /// A node, and so every service on it.
    Node(String),
}

/// What stands for many checks or instances. It does not depend on their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// Differs where one of them came, left, or says something else that is of use.
    pub sum: u64,
    /// The highest `ModifyIndex`; rises also where nothing of use has changed.
    pub newest: u64,
}

impl Mark {
    fn add(&mut self, one: impl Hash, modified: u64) {
        let mut hasher = DefaultHasher::new();
        one.hash(&mut hasher);
        self.sum = self.sum.wrapping_add(hasher.finish());
        self.newest = self.newest.max(modified);
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Check<'a> {
    #[serde(borrow)]
    node: Cow<'a, str>,
    #[serde(borrow, rename = "CheckID")]
    id: Cow<'a, str>,
    #[serde(borrow, default)]
    status: Cow<'a, str>,
    #[serde(borrow, default)]
    service_name: Cow<'a, str>,
    #[serde(default)]
    modify_index: u64,
}

impl States {
    /// Asks for all checks.
    #[must_use]
    pub fn question() -> Question {
        Question { endpoint: "health_state", path: "/v1/health/state/any".to_owned(), query: Vec::new() }
    }
}

impl Read for States {
    type Answer = BTreeMap<Whose, Mark>;

    fn read(&self, body: &[u8]) -> Result<Self::Answer> {
        let mut all = BTreeMap::new();
        for check in serde_json::from_slice::<Vec<Check<'_>>>(body)? {
            let whose = if check.service_name.is_empty() {
                Whose::Node(check.node.clone().into_owned())
            } else {
                Whose::Service(check.service_name.clone().into_owned())
            };
            // What a check writes may change all the time, and says nothing of use.
            let mark: &mut Mark = all.entry(whose).or_default();
            mark.add((&check.node, &check.id, &check.status), check.modify_index);
        }
        Ok(all)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Node {
    node: String,
}

impl Nodes {
    /// Asks for all nodes.
    #[must_use]
    pub fn question() -> Question {
        Question { endpoint: "catalog_nodes", path: "/v1/catalog/nodes".to_owned(), query: Vec::new() }
    }
}

impl Read for Nodes {
    type Answer = BTreeSet<String>;

    fn read(&self, body: &[u8]) -> Result<Self::Answer> {
        Ok(serde_json::from_slice::<Vec<Node>>(body)?.into_iter().map(|node| node.node).collect())
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Services<'a> {
    #[serde(rename = "Node")]
    _node: IgnoredAny,
    #[serde(borrow, default, deserialize_with = "or_default")]
    services: Vec<Instance<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Instance<'a> {
    #[serde(borrow, rename = "ID")]
    id: Cow<'a, str>,
    #[serde(borrow)]
    service: Cow<'a, str>,
    #[serde(borrow, default)]
    address: Cow<'a, str>,
    #[serde(default)]
    port: i64,
    #[serde(default)]
    modify_index: u64,
}

impl OnNode {
    /// Asks for what is on a node.
    #[must_use]
    pub fn question(node: &str) -> Question {
        let path = format!("/v1/catalog/node-services/{}", encode_segment(node));
        Question { endpoint: "catalog_node_services", path, query: Vec::new() }
    }
}

impl Read for OnNode {
    type Answer = BTreeMap<String, Mark>;

    fn read(&self, body: &[u8]) -> Result<Self::Answer> {
        Ok(marks(&serde_json::from_slice::<Services<'_>>(body)?.services))
    }
}

/// A mark for each service that has instances among these.
fn marks(instances: &[Instance<'_>]) -> BTreeMap<String, Mark> {
    let mut all = BTreeMap::new();
    for Instance { id, service, address, port, modify_index } in instances {
        let mark: &mut Mark = match all.get_mut(&**service) {
            Some(mark) => mark,
            None => all.entry(service.clone().into_owned()).or_default(),
        };
        // The address too: a Consul that began anew may come to the same index with another.
        mark.add((id, address, port, modify_index), *modify_index);
    }
    all
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Whole<'a> {
    #[serde(borrow)]
    node: Cow<'a, str>,
    #[serde(borrow, default)]
    peer_name: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "or_default")]
    services: Vec<Instance<'a>>,
}

impl OnNodes {
    /// Asks for what is on all nodes.
    #[must_use]
    pub fn question() -> Question {
        Question { endpoint: "ui_nodes", path: "/v1/internal/ui/nodes".to_owned(), query: Vec::new() }
    }
}

impl Read for OnNodes {
    type Answer = BTreeMap<String, BTreeMap<String, Mark>>;

    fn read(&self, body: &[u8]) -> Result<Self::Answer> {
        let ours = serde_json::from_slice::<Vec<Whole<'_>>>(body)?.into_iter().filter(|node| node.peer_name.is_empty());
        Ok(ours.map(|node| (node.node.into_owned(), marks(&node.services))).collect())
    }
}

/// The keys whose values are not the same in both.
pub fn changed<'m, K: Ord>(before: &'m BTreeMap<K, Mark>, now: &'m BTreeMap<K, Mark>) -> impl Iterator<Item = &'m K> {
    let came = now.iter().filter(|(key, mark)| before.get(key).is_none_or(|was| was.sum != mark.sum));
    let left = before.keys().filter(|key| !now.contains_key(key));
    came.map(|(key, _)| key).chain(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn states(body: &str) -> BTreeMap<Whose, Mark> {
        States.read(body.as_bytes()).unwrap()
    }

    const WEB: &str = r#"{"Node": "n1", "CheckID": "a", "Status": "passing", "ServiceName": "web", "ModifyIndex": 5}"#;
    const NODE: &str = r#"{"Node": "n1", "CheckID": "s", "Status": "passing", "ServiceName": "", "ModifyIndex": 3}"#;

    #[test]
    fn a_check_that_changes_names_its_service_or_its_node() {
        let before = states(&format!("[{WEB}, {NODE}]"));
        let (web, node) = (Whose::Service("web".into()), Whose::Node("n1".into()));
        let other = WEB.replace("\"a\"", "\"b\"");
        let cases = [
            ("in another order", format!("[{NODE}, {WEB}]"), vec![]),
            ("written anew", format!("[{NODE}, {}]", WEB.replace('5', "9")), vec![]),
            ("failing", format!("[{NODE}, {}]", WEB.replace("passing", "critical")), vec![&web]),
            ("the node's", format!("[{}, {WEB}]", NODE.replace("passing", "critical")), vec![&node]),
            ("one more", format!("[{NODE}, {WEB}, {other}]"), vec![&web]),
            ("gone", format!("[{NODE}]"), vec![&web]),
            ("another", format!("[{NODE}, {other}]"), vec![&web]),
        ];
        for (name, body, want) in cases {
            let now = states(&body);
            assert_eq!(changed(&before, &now).collect::<Vec<_>>(), want, "{name}");
            assert_eq!(before == now, name == "in another order", "{name}");
        }
    }

    #[test]
    fn an_instance_that_changes_names_its_service() {
        let instance = |id: &str, service: &str, modified: u64| {
            format!(r#"{{"ID": "{id}", "Service": "{service}", "ModifyIndex": {modified}}}"#)
        };
        let read = |all: &[String]| {
            let body = format!(r#"{{"Node": {{"Node": "n"}}, "Services": [{}]}}"#, all.join(","));
            OnNode.read(body.as_bytes()).unwrap()
        };
        let (a, b, c) = (instance("a", "web", 5), instance("b", "web", 6), instance("c", "shop", 7));
        let before = read(&[a.clone(), b.clone(), c.clone()]);
        let cases = [
            (vec![c.clone(), b.clone(), a.clone()], vec![]),
            (vec![a.clone(), c.clone()], vec!["web"]),
            (vec![a.clone(), instance("b", "web", 9), c], vec!["web"]),
            (vec![a, b], vec!["shop"]),
        ];
        for (now, want) in cases {
            assert_eq!(changed(&before, &read(&now)).collect::<Vec<_>>(), want, "{now:?}");
        }
        // As the agent says it of a node that is not there, or that the token may not read.
        assert_eq!(OnNode.read(br#"{"Node": null, "Services": null}"#).unwrap().len(), 0);
    }

    #[test]
    fn all_nodes_at_once_say_what_each_says_of_itself() {
        let services =
            r#"[{"ID": "a", "Service": "web", "Port": 80, "ModifyIndex": 5}, {"ID": "b", "Service": "shop"}]"#;
        let node = OnNode.read(format!(r#"{{"Node": {{}}, "Services": {services}}}"#).as_bytes()).unwrap();
        let body = format!(
            r#"[{{"Node": "n1", "Services": {services}, "Checks": []}}, {{"Node": "n2", "Services": null}},
                {{"Node": "n1", "PeerName": "east", "Services": []}}]"#
        );
        let all = OnNodes.read(body.as_bytes()).unwrap();
        assert_eq!(all, [("n1".to_owned(), node), ("n2".to_owned(), BTreeMap::new())].into());
    }

    #[test]
    fn what_is_none_of_it_is_an_error() {
        for body in ["", "null", "{}", "[{]", "<html>", "[null]", "[7]"] {
            assert!(States.read(body.as_bytes()).is_err(), "{body}");
            assert!(Nodes.read(body.as_bytes()).is_err(), "{body}");
            assert!(OnNodes.read(body.as_bytes()).is_err(), "{body}");
        }
        for body in ["", "null", "[]", "{}", "<html>"] {
            assert!(OnNode.read(body.as_bytes()).is_err(), "{body}");
        }
        assert_eq!(Nodes.read(br#"[{"Node": "a", "Meta": null}]"#).unwrap(), ["a".to_owned()].into());
        assert_eq!(OnNode::question("a/b").path, "/v1/catalog/node-services/a%2Fb");
    }
}
