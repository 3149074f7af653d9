//! What is wrong with a compose file: whatever would keep its services from coming up together, or leave one more rights
//! than it needs.

use std::path::Path;

use serde_json::Value;

use super::dashboards::{list, text};

/// A compose file.
pub struct Compose {
    pub yaml: Value,
}

impl Compose {
    /// Of this text.
    pub fn new(text: &str) -> Self {
        Self { yaml: serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}")) }
    }

    /// Its services by name.
    pub fn services(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.yaml["services"].as_object().into_iter().flatten().map(|(name, service)| (name.as_str(), service))
    }

    /// One of its services.
    pub fn service(&self, name: &str) -> &Value {
        &self.yaml["services"][name]
    }

    /// All faults; mounted files are looked for from `root`.
    pub fn faults(&self, root: &Path) -> Vec<String> {
        let mut found = Vec::new();
        if !self.yaml["version"].is_null() {
            found.push("`version` means nothing any more".to_owned());
        }
        if text(&self.yaml["name"]).is_empty() {
            found.push("no `name`".to_owned());
        }
        for (name, service) in self.services() {
            let faults = [rights(service), self.dependencies(service), self.mounts(service, root)].concat();
            found.extend(faults.into_iter().map(|what| format!("{name}: {what}")));
        }
        for volume in self.yaml["volumes"].as_object().into_iter().flatten().map(|(volume, _)| volume) {
            let used = |service: &Value| list(&service["volumes"]).any(|v| text(v).starts_with(&format!("{volume}:")));
            if !self.services().any(|(_, service)| used(service)) {
                found.push(format!("nobody uses the volume `{volume}`"));
            }
        }
        found
    }

    fn dependencies(&self, service: &Value) -> Vec<String> {
        let mut found = Vec::new();
        if service["depends_on"].is_array() {
            found.push("`depends_on` has no conditions".into());
        }
        for (name, how) in service["depends_on"].as_object().into_iter().flatten() {
            let other = self.service(name);
            if other.is_null() {
                found.push(format!("depends on `{name}`, which is not there"));
                continue;
            }
            if !is_checked(other) {
                found.push(format!("depends on `{name}`, which has no healthcheck"));
            }
            if how["condition"] != "service_healthy" {
                found.push(format!("does not wait until `{name}` is healthy"));
            }
            let ours: Vec<_> = list(&service["profiles"]).collect();
            let theirs: Vec<_> = list(&other["profiles"]).collect();
            if !theirs.is_empty() && (ours.is_empty() || ours.iter().any(|profile| !theirs.contains(profile))) {
                found.push(format!("depends on `{name}`, which other profiles have"));
            }
        }
        found
    }

    fn mounts(&self, service: &Value, root: &Path) -> Vec<String> {
        let mut found = Vec::new();
        for mount in list(&service["volumes"]).map(text) {
            let (from, to) = mount.split_once(':').unwrap_or((&mount, ""));
            if from.starts_with('.') {
                if !root.join(from).exists() {
                    found.push(format!("mounts `{from}`, which is not there"));
                }
                if !to.ends_with(":ro") {
                    found.push(format!("may write to `{from}`"));
                }
            } else if self.yaml["volumes"].get(from).is_none() {
                found.push(format!("mounts `{from}`, which is neither a place in the project nor a named volume"));
            }
        }
        found
    }
}

fn rights(service: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let image = text(&service["image"]);
    let tag = image.rsplit_once(':').map_or("", |(_, tag)| tag.trim_start_matches('v'));
    let parts: Vec<_> = tag.split('-').next().unwrap_or_default().split('.').collect();
    if parts.len() != 3 || parts.iter().any(|part| part.parse::<u32>().is_err()) {
        found.push(format!("the tag of `{image}` is no full version"));
    }
    if !is_checked(service) {
        found.push("has no healthcheck".into());
    }
    if service["read_only"] != true {
        found.push("may write to its root".into());
    }
    if service["cap_drop"] != serde_json::json!(["ALL"]) {
        found.push("keeps capabilities".into());
    }
    let user = text(&service["user"]);
    if ["", "0", "root"].contains(&user.split(':').next().unwrap_or_default()) {
        found.push("runs as root".into());
    }
    for port in list(&service["ports"]).map(text).filter(|port| !port.starts_with("127.0.0.1:")) {
        found.push(format!("opens `{port}` to other machines"));
    }
    if service["stop_grace_period"].is_null() {
        found.push("has no `stop_grace_period`".into());
    }
    for profile in list(&service["profiles"]).map(text) {
        if !["demo", "observability"].contains(&profile.as_str()) {
            found.push(format!("has the profile `{profile}`"));
        }
    }
    found
}

fn is_checked(service: &Value) -> bool {
    // With a shell or without: none of our own images has one.
    let mut test = list(&service["healthcheck"]["test"]).map(text);
    test.next().is_some_and(|how| how == "CMD") && test.next().is_some()
}
