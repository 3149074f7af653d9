//! The JSON Schema of the document, made from the types that read it, and what is asked of it: which keys there are,
//! which one was meant, and what kind of value a key takes.

use std::sync::LazyLock;

use schemars::{Schema, generate::SchemaSettings, transform::transform_subschemas};
use serde_json::{Map, Value as Json, json};

use super::{
    Document,
    place::{Path, Step},
};

/// The schema of the whole document.
#[must_use]
pub fn schema() -> Json {
    Json::Object(SCHEMA.clone())
}

/// The schema of one value.
#[derive(Clone, Copy, Debug)]
pub struct Node<'s>(&'s Map<String, Json>);

impl Node<'static> {
    /// The document as a whole.
    #[must_use]
    pub fn root() -> Self {
        Self(&SCHEMA)
    }
}

impl<'s> Node<'s> {
    /// What a key of this table holds; `None` if there is no such key.
    #[must_use]
    pub fn key(self, key: &str) -> Option<Self> {
        let fixed = self.0.get("properties").and_then(|properties| properties.get(key));
        fixed.or_else(|| self.0.get("additionalProperties")).and_then(Json::as_object).map(Self)
    }

    /// What an entry of this list holds.
    #[must_use]
    pub fn items(self) -> Option<Self> {
        self.0.get("items").and_then(Json::as_object).map(Self)
    }

    /// The value at a path below; `None` if there is none.
    #[must_use]
    pub fn find(self, path: &Path) -> Option<Self> {
        path.0.iter().try_fold(self, |node, step| match step {
            Step::Key(key) => node.key(key),
            Step::Index(_) => node.items(),
        })
    }

    /// The keys of this table that have a name of their own.
    pub fn keys(self) -> impl Iterator<Item = &'s str> {
        self.0.get("properties").and_then(Json::as_object).into_iter().flat_map(|keys| keys.keys().map(String::as_str))
    }

    /// Whether a value of this kind is taken: `string`, `integer`, `array`, `object`.
    #[must_use]
    pub fn takes(self, kind: &str) -> bool {
        self.kinds().any(|known| known == kind)
    }

    /// The kinds of values that are taken.
    pub fn kinds(self) -> impl Iterator<Item = &'s str> {
        let kinds = self.0.get("type");
        let list = kinds.and_then(Json::as_array).into_iter().flatten();
        list.chain(kinds).filter_map(Json::as_str)
    }

    /// The words that are taken; none: any.
    pub fn words(self) -> impl Iterator<Item = &'s str> {
        self.0.get("enum").and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str)
    }

    /// Whether the text has a form that more than its kind decides, such as a duration.
    #[must_use]
    pub fn has_form(self) -> bool {
        self.0.contains_key("pattern")
    }

    /// The least and the greatest number.
    #[must_use]
    pub fn bounds(self) -> (Option<i64>, Option<i64>) {
        let bound = |name| self.0.get(name).and_then(Json::as_i64);
        (bound("minimum"), bound("maximum"))
    }

    /// A value to show to people.
    #[must_use]
    pub fn example(self) -> Option<&'s Json> {
        self.0.get("examples").and_then(|examples| examples.get(0))
    }

    /// Whether the value must not be shown.
    #[must_use]
    pub fn is_secret(self) -> bool {
        self.0.contains_key("writeOnly")
    }
}

/// The one of `known` that `word` was most likely meant to be.
#[must_use]
pub fn nearest<'k>(word: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    let word = word.to_lowercase();
    let distances = known.map(|known| (strsim::damerau_levenshtein(&word, &known.to_lowercase()), known));
    let (distance, nearest) = distances.min()?;
    let length = word.chars().count().max(nearest.chars().count());
    (distance <= 1.max(length * 2 / 5)).then_some(nearest)
}

static SCHEMA: LazyLock<Map<String, Json>> = LazyLock::new(|| {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let generator = settings.with_transform(as_toml).into_generator();
    let mut schema = generator.into_root_schema_for::<Document>();
    schema.insert("title".into(), json!("The configuration of lictor"));
    schema.as_object().cloned().unwrap_or_default()
});

/// TOML has no null, and a table takes the keys it names alone.
fn as_toml(schema: &mut Schema) {
    transform_subschemas(&mut as_toml, schema);
    let Some(map) = schema.as_object_mut() else { return };
    if let Some(Json::Array(kinds)) = map.get_mut("type") {
        kinds.retain(|kind| kind != "null");
        if let [kind] = kinds.as_slice() {
            let kind = kind.clone();
            map.insert("type".into(), kind);
        }
    }
    // An optional value is either of two, one of them null.
    if let Some(Json::Array(either)) = map.get_mut("anyOf") {
        either.retain(|one| one.get("type").is_none_or(|kind| kind != "null"));
        if let [Json::Object(one)] = either.as_mut_slice() {
            let one = std::mem::take(one);
            map.remove("anyOf");
            for (key, value) in one {
                map.entry(key).or_insert(value);
            }
        }
    }
    if map.get("default").is_some_and(Json::is_null) {
        map.remove("default");
    }
    map.remove("unevaluatedProperties");
    if map.contains_key("properties") {
        map.entry("additionalProperties").or_insert(json!(false));
    }
}
