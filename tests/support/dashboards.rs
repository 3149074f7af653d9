//! Grafana's dashboards as a test reads them: what they ask for, and what is wrong with them.

use std::{collections::BTreeSet, fs};

use serde_json::Value;

use super::prometheus::root;

/// One dashboard.
pub struct Dashboard {
    /// The name of its file.
    pub file: String,
    json: Value,
}

/// One query of a panel.
#[derive(Debug)]
pub struct Query {
    /// Which panel of which dashboard.
    pub place: String,
    /// `PromQL` with Grafana's variables.
    pub expr: String,
    /// The labels that its legend names.
    pub legend: Vec<String>,
}

impl Dashboard {
    /// All of them, by file.
    pub fn all() -> Vec<Self> {
        let mut paths: Vec<_> =
            fs::read_dir(root("grafana/dashboards")).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        let read = |path: &std::path::PathBuf| {
            let file = path.file_name().unwrap().to_str().unwrap();
            Self::new(file, &fs::read_to_string(path).unwrap())
        };
        paths.iter().map(read).collect()
    }

    /// One of this text.
    pub fn new(file: &str, text: &str) -> Self {
        Self { file: file.to_owned(), json: serde_json::from_str(text).unwrap_or_else(|e| panic!("{file}: {e}")) }
    }

    /// What its variables ask for, in their order: name, selector, label.
    pub fn variables(&self) -> Vec<(String, String, String)> {
        let queries = list(&self.json["templating"]["list"]).filter(|variable| variable["type"] == "query");
        let read = |variable: &Value| {
            let name = text(&variable["name"]);
            let query = text(&variable["query"]["query"]);
            let asked = query.strip_prefix("label_values(").and_then(|q| q.strip_suffix(')')?.rsplit_once(", "));
            let (selector, label) =
                asked.unwrap_or_else(|| panic!("{}: `{name}` is no label_values(SELECTOR, LABEL): {query}", self.file));
            (name, selector.to_owned(), label.to_owned())
        };
        queries.map(read).collect()
    }

    /// The queries of all panels.
    pub fn queries(&self) -> Vec<Query> {
        let of_panel = |panel: &Value| {
            let place = format!("{}: {}", self.file, text(&panel["title"]));
            let query = |target: &Value| Query {
                place: place.clone(),
                expr: text(&target["expr"]),
                legend: named(&text(&target["legendFormat"])),
            };
            list(&panel["targets"]).map(query).collect::<Vec<_>>()
        };
        list(&self.json["panels"]).flat_map(of_panel).collect()
    }

    /// What is not as it should be, without looking at any data.
    pub fn faults(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut fault = |what: String| found.push(format!("{}: {what}", self.file));
        let dashboard = &self.json;
        if format!("{}.json", text(&dashboard["uid"])) != self.file {
            fault("its `uid` is not the name of its file".into());
        }
        if !dashboard["id"].is_null() {
            fault("it has an `id`, which is another one in each Grafana".into());
        }
        if text(&dashboard["title"]).is_empty() || text(&dashboard["description"]).is_empty() {
            fault("no title or no description".into());
        }
        let first = &dashboard["templating"]["list"][0];
        if first["type"] != "datasource" || first["name"] != "datasource" {
            fault("its first variable is not `datasource`".into());
        }
        for variable in list(&dashboard["templating"]["list"]).skip(1).filter(|v| !templated(v)) {
            fault(format!("the variable `{}` does not ask `${{datasource}}`", text(&variable["name"])));
        }
        let mut ids = BTreeSet::new();
        for panel in list(&dashboard["panels"]) {
            let title = text(&panel["title"]);
            if !ids.insert(panel["id"].as_u64()) {
                fault(format!("the panel `{title}` has the id of another one, or none"));
            }
            if panel["type"] != "row" {
                for what in panel_faults(panel) {
                    fault(format!("the panel `{title}` {what}"));
                }
            }
        }
        for (one, other) in overlaps(dashboard) {
            fault(format!("the panels `{one}` and `{other}` lie over each other"));
        }
        found
    }
}

fn panel_faults(panel: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for (what, value) in [
        ("title", &panel["title"]),
        ("description", &panel["description"]),
        ("unit", &panel["fieldConfig"]["defaults"]["unit"]),
    ] {
        if text(value).trim().is_empty() {
            found.push(format!("has no {what}"));
        }
    }
    if list(&panel["targets"]).next().is_none() {
        found.push("asks for nothing".into());
    }
    if !templated(panel) || !list(&panel["targets"]).all(templated) {
        found.push("does not ask `${datasource}`".into());
    }
    for target in list(&panel["targets"]) {
        let expr = text(&target["expr"]);
        // Whatever looks back in time: its window has to grow with the panel's, and hold two scrapes at least.
        for window in expr.split('[').skip(1).map(|rest| rest.split(']').next().unwrap_or_default()) {
            if window != "$__rate_interval" {
                found.push(format!("looks back over `{window}` in place of `$__rate_interval`: {expr}"));
            }
        }
    }
    found
}

fn templated(asking: &Value) -> bool {
    ["$datasource", "${datasource}"].contains(&text(&asking["datasource"]["uid"]).as_str())
}

fn overlaps(dashboard: &Value) -> Vec<(String, String)> {
    let boxes: Vec<_> = list(&dashboard["panels"])
        .map(|panel| {
            let [x, y, w, h] = ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().unwrap());
            (text(&panel["title"]), x..x + w, y..y + h)
        })
        .collect();
    let mut found = Vec::new();
    for (at, (one, x, y)) in boxes.iter().enumerate() {
        for (other, u, v) in &boxes[at + 1..] {
            if x.start < u.end && u.start < x.end && y.start < v.end && v.start < y.end {
                found.push((one.clone(), other.clone()));
            }
        }
    }
    found
}

/// The selectors in `PromQL`, each as it stands: `name{…}`, or a name alone. Only of metrics that `begins` takes.
pub fn selectors(expr: &str, begins: impl Fn(&str) -> bool) -> Vec<String> {
    let bytes = expr.as_bytes();
    let (mut found, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let start = at;
        match bytes[at] {
            b'"' => at = after_text(bytes, at),
            b if b.is_ascii_alphabetic() || b == b'_' => {
                while at < bytes.len() && (bytes[at].is_ascii_alphanumeric() || b"_:".contains(&bytes[at])) {
                    at += 1;
                }
                let named = begins(&expr[start..at]);
                if named && bytes.get(at) == Some(&b'{') {
                    while bytes[at] != b'}' {
                        at = if bytes[at] == b'"' { after_text(bytes, at) } else { at + 1 };
                    }
                    at += 1;
                }
                if named {
                    found.push(expr[start..at].to_owned());
                }
            }
            _ => at += 1,
        }
    }
    found
}

fn after_text(bytes: &[u8], opening: usize) -> usize {
    let mut at = opening + 1;
    while bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    at + 1
}

/// The labels in `{{…}}`.
fn named(legend: &str) -> Vec<String> {
    legend.split("{{").skip(1).map(|rest| rest.split("}}").next().unwrap_or_default().trim().to_owned()).collect()
}

/// The items of an array; none of anything else.
pub fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// A text; empty for anything else.
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
