//! Layers of a configuration, the later over the earlier, and which of them each value came from.

use std::collections::BTreeMap;

use figment::{
    Error, Figment, Metadata, Profile, Provider, Source,
    value::{Dict, Map, Tag, Value},
};

use super::{
    file::Lines,
    place::{Path, Step},
};
use crate::model::problem::{Place, Problem};

/// One source of values.
#[derive(Clone, Debug, Default)]
pub struct Layer {
    /// What people know it by: a file, a variable, a flag; empty for the defaults.
    pub source: String,
    /// The values.
    pub values: Dict,
    /// In a file: the line of each.
    pub lines: Lines,
    /// What it says and may not; none of that is in the values.
    pub refused: Vec<Problem>,
}

impl Layer {
    /// A layer with one value.
    #[must_use]
    pub fn of(source: &str, path: &Path, value: Value) -> Self {
        let keys = path.0.iter().rev().filter_map(|step| match step {
            Step::Key(key) => Some(key.clone()),
            Step::Index(_) => None,
        });
        let root = keys.fold(value, |value, key| Value::Dict(Tag::Default, Dict::from([(key, value)])));
        let Value::Dict(_, values) = root else { return Self::default() };
        Self { source: source.into(), values, ..Self::default() }
    }

    /// The value at a path.
    #[must_use]
    pub fn get(&self, keys: &[&str]) -> Option<&Value> {
        let (first, rest) = keys.split_first()?;
        rest.iter().try_fold(self.values.get(*first)?, |value, key| value.as_dict()?.get(*key))
    }
}

/// A layer as figment takes it.
struct Numbered<'l>(usize, &'l Layer);

impl Provider for Numbered<'_> {
    fn metadata(&self) -> Metadata {
        Metadata::from(self.1.source.clone(), Source::Custom(self.0.to_string()))
    }

    fn data(&self) -> Result<Map<Profile, Dict>, Error> {
        Ok(Profile::Default.collect(self.1.values.clone()))
    }
}

/// All layers as one document, and where each of its values came from.
#[derive(Clone, Debug)]
pub struct Merged {
    layers: Vec<Layer>,
    figment: Figment,
    /// For each route of the document: its layer, and its number there.
    routes: Vec<(usize, usize)>,
    /// The document.
    pub root: Value,
}

impl Merged {
    /// Lays the later over the earlier. Tables merge key by key, a list replaces, but routes add up.
    #[must_use]
    pub fn new(mut layers: Vec<Layer>) -> Self {
        let mut routes = Vec::new();
        let mut named = BTreeMap::new();
        let mut figment = Figment::new();
        for (number, layer) in layers.iter_mut().enumerate() {
            if matches!(layer.values.get(ROUTES), Some(Value::Array(..)))
                && let Some(Value::Array(_, own)) = layer.values.remove(ROUTES)
            {
                for (index, route) in own.into_iter().enumerate() {
                    add(route, (number, index), &mut routes, &mut named);
                }
            }
            figment = figment.merge(Numbered(number, layer));
        }
        let mut root = figment.find_value("").unwrap_or_else(|_| Dict::new().into());
        let (routes, places): (Vec<_>, Vec<_>) = routes.into_iter().unzip();
        // What is left of `routes` is no list: a mistake that has to be seen.
        if let Value::Dict(_, entries) = &mut root {
            entries.entry(ROUTES.into()).or_insert(Value::Array(Tag::Default, routes));
        }
        Self { layers, figment, routes: places, root }
    }

    /// What the layers say and may not, each with the number of its layer.
    #[must_use]
    pub fn refused(&self) -> Vec<(usize, Problem)> {
        let all = self.layers.iter().enumerate();
        all.flat_map(|(number, layer)| layer.refused.iter().map(move |problem| (number, problem.clone()))).collect()
    }

    /// Where the value at this path was written, or the table that should have had it; and how late its layer is.
    #[must_use]
    pub fn place(&self, path: &Path) -> (usize, Place) {
        let (number, own) = self.origin(path);
        let layer = self.layers.get(number);
        let line = layer.and_then(|layer| {
            let mut steps = (1..=own.0.len()).rev();
            steps.find_map(|length| layer.lines.get(&Path(own.0[..length].to_vec()))).copied()
        });
        let source = layer.map(|layer| layer.source.clone()).unwrap_or_default();
        (number, Place { source, line, key: path.to_string() })
    }

    /// Whether nobody wrote this value.
    #[must_use]
    pub fn is_default(&self, path: &Path) -> bool {
        self.layers.get(self.origin(path).0).is_none_or(|layer| layer.source.is_empty())
    }

    /// Whether there is a value at this path, whatever it is.
    #[must_use]
    pub fn has(&self, path: &Path) -> bool {
        path.0.iter().try_fold(&self.root, below).is_some()
    }

    /// The layer that a value came from, and its path there.
    fn origin(&self, path: &Path) -> (usize, Path) {
        if let [Step::Key(routes), Step::Index(index), rest @ ..] = path.0.as_slice()
            && routes == ROUTES
            && let Some((layer, index)) = self.routes.get(*index)
        {
            let mut own = Path::default().key(ROUTES).index(*index);
            own.0.extend_from_slice(rest);
            return (*layer, own);
        }
        let mut value = &self.root;
        let mut layer = 0;
        for step in &path.0 {
            let Some(next) = below(value, step) else { break };
            value = next;
            layer = self.number(value.tag()).unwrap_or(layer);
        }
        (layer, path.clone())
    }

    fn number(&self, tag: Tag) -> Option<usize> {
        self.figment.get_metadata(tag)?.source.as_ref()?.custom()?.parse().ok()
    }
}

fn below<'v>(value: &'v Value, step: &Step) -> Option<&'v Value> {
    match (step, value) {
        (Step::Key(key), Value::Dict(_, entries)) => entries.get(key),
        (Step::Index(index), Value::Array(_, entries)) => entries.get(*index),
        _ => None,
    }
}

type Placed = (Value, (usize, usize));

/// Adds a route, or puts it where an earlier layer has one of its name.
fn add(route: Value, place: (usize, usize), routes: &mut Vec<Placed>, named: &mut BTreeMap<String, usize>) {
    let name = route.as_dict().and_then(|route| route.get("name")).and_then(Value::as_str).map(str::to_owned);
    let earlier = name.as_ref().and_then(|name| named.get(name)).copied();
    if let Some(at) = earlier.filter(|at| routes[*at].1.0 < place.0) {
        routes[at] = (route, place);
        return;
    }
    if let Some(name) = name {
        named.entry(name).or_insert(routes.len());
    }
    routes.push((route, place));
}

const ROUTES: &str = "routes";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::file;

    fn merged(files: &[&str]) -> Merged {
        let layer = |(i, text): (usize, &&str)| {
            let (values, lines) = file::parse(text).unwrap();
            Layer { source: format!("{i}.toml"), values, lines, ..Layer::default() }
        };
        Merged::new(files.iter().enumerate().map(layer).collect())
    }

    fn place(merged: &Merged, path: &Path) -> String {
        merged.place(path).1.to_string()
    }

    #[test]
    fn tables_merge_and_lists_replace() {
        let merged = merged(&["[a]\nx = 1\nlist = [1, 2]\nt = { u = 1, v = 1 }", "[a]\ny = 2\nlist = [3]\nt.v = 2"]);
        let (want, _) = file::parse("x = 1\ny = 2\nlist = [3]\nt = { u = 1, v = 2 }").unwrap();
        assert_eq!(merged.root.find_ref("a"), Some(&want.into()));
        let path = |keys: &[&str]| keys.iter().copied().collect::<Path>();
        for (keys, want) in [
            (["a", "x"].as_slice(), "0.toml:2 a.x"),
            (&["a", "y"], "1.toml:2 a.y"),
            (&["a", "t", "u"], "0.toml:4 a.t.u"),
            (&["a", "t", "v"], "1.toml:4 a.t.v"),
            (&["a", "none"], "1.toml:1 a.none"),
        ] {
            assert_eq!(place(&merged, &path(keys)), want);
        }
    }

    #[test]
    fn routes_add_up_and_one_of_the_same_name_replaces() {
        let route = |name: &str, to: &str| format!("[[routes]]\nname = '{name}'\nservice = '{to}'\n");
        let first = [route("a", "1"), route("b", "1")].concat();
        let second = [route("c", "2"), route("a", "2")].concat();
        let merged = merged(&[&first, &second]);
        let routes = merged.root.find_ref("routes").unwrap().as_array().unwrap();
        let routes: Vec<_> =
            routes.iter().map(|r| ["name", "service"].map(|k| r.find_ref(k).unwrap().as_str())).collect();
        assert_eq!(routes, [["a", "2"], ["b", "1"], ["c", "2"]].map(|route| route.map(Some)));
        let at = |index| place(&merged, &Path::default().key("routes").index(index).key("service"));
        let want = ["1.toml:6 routes[0].service", "0.toml:6 routes[1].service", "1.toml:3 routes[2].service"];
        assert_eq!([0, 1, 2].map(at), want);
    }
}
