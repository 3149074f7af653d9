//! Holds a document against the schema: finds every unknown key and every value of the wrong kind at once, and takes
//! them out, so that the rest can be read.

use std::fmt::Write as _;

use figment::value::{Num, Tag, Value};

use super::{
    check::At,
    schema::{Node, nearest},
};

/// Says what does not fit below this place, and takes it out. False: nothing of the value may stay.
pub fn fit(value: &mut Value, node: Node<'_>, at: &At<'_>) -> bool {
    match value {
        Value::Dict(_, entries) if node.takes("object") => {
            entries.retain(|key, entry| {
                let at = at.key(key);
                let Some(node) = node.key(key) else {
                    at.say(unknown(key, node));
                    return false;
                };
                fit(entry, node, &at)
            });
            true
        }
        Value::Array(_, entries) if node.takes("array") => {
            let Some(items) = node.items() else { return true };
            let fits: Vec<bool> =
                entries.iter_mut().enumerate().map(|(i, entry)| fit(entry, items, &at.index(i))).collect();
            // What follows would no longer be where the file has it.
            fits.into_iter().all(|fits| fits)
        }
        Value::String(_, text) if node.takes("string") => {
            let mut words = node.words().peekable();
            let known = words.peek().is_none() || words.any(|word| word == text);
            if !known {
                at.say(unknown_word(text, node));
            }
            known
        }
        Value::Num(_, number) if node.takes("string") && node.has_form() => {
            // Whoever reads the text knows best which unit is missing.
            *value = Value::String(Tag::Default, digits(*number));
            true
        }
        Value::Num(_, number) if node.takes("integer") && whole(*number).is_some() => {
            let fault = out_of_bounds(whole(*number).unwrap_or_default(), node);
            if let Some(fault) = &fault {
                at.say(fault);
            }
            fault.is_none()
        }
        Value::Num(..) if node.takes("number") => true,
        Value::Bool(..) if node.takes("boolean") => true,
        _ => {
            at.say(mismatch(value, node));
            false
        }
    }
}

fn unknown(key: &str, table: Node<'_>) -> String {
    match nearest(key, table.keys()) {
        Some(near) => format!("unknown key; did you mean `{near}`?"),
        None => format!("unknown key; the keys here are {}", list(table.keys(), "and")),
    }
}

fn unknown_word(text: &str, node: Node<'_>) -> String {
    if node.words().nth(1).is_none() {
        return format!("this version knows {}; got `{text}`", list(node.words(), "and"));
    }
    let hint = nearest(text, node.words()).map(|near| format!("; did you mean `{near}`?"));
    format!("expected {}; got `{text}`{}", list(node.words(), "or"), hint.unwrap_or_default())
}

fn whole(number: Num) -> Option<i128> {
    number.to_i128().or_else(|| number.to_u128()?.try_into().ok())
}

fn digits(number: Num) -> String {
    whole(number).map_or_else(|| number.to_f64().unwrap_or_default().to_string(), |number| number.to_string())
}

fn out_of_bounds(number: i128, node: Node<'_>) -> Option<String> {
    match node.bounds() {
        (Some(least), _) if number < i128::from(least) => {
            Some(format!("`{number}` is too small; the least is `{least}`"))
        }
        (_, Some(most)) if number > i128::from(most) => Some(format!("`{number}` is too great; the most is `{most}`")),
        _ => None,
    }
}

fn mismatch(value: &Value, node: Node<'_>) -> String {
    let mut message = "expected ".to_owned();
    for (i, kind) in node.kinds().enumerate() {
        let gap = if i == 0 { "" } else { " or " };
        // Writing to a string cannot fail.
        let _ = write!(message, "{gap}{}", kind_in_words(kind, node));
    }
    if let Some(example) = node.example() {
        let _ = write!(message, " such as `{example}`");
    }
    let _ = match value {
        Value::String(..) | Value::Char(..) | Value::Num(..) | Value::Bool(..) if node.is_secret() => {
            write!(message, "; got something else")
        }
        Value::String(_, text) => write!(message, "; got the text `{text}`"),
        Value::Num(_, number) => write!(message, "; got the number `{}`", digits(*number)),
        Value::Bool(_, yes) => write!(message, "; got `{yes}`"),
        Value::Dict(..) => write!(message, "; got a table"),
        Value::Array(..) => write!(message, "; got a list"),
        Value::Char(..) | Value::Empty(..) => write!(message, "; got nothing"),
    };
    message
}

fn kind_in_words(kind: &str, node: Node<'_>) -> &'static str {
    match kind {
        "string" => "a text in quotes",
        "integer" => "a whole number",
        "number" => "a number",
        "boolean" => "`true` or `false`",
        "array" if node.items().is_some_and(|items| items.takes("object")) => "a list of tables",
        "array" => "a list",
        _ => "a table",
    }
}

/// `a`, `b` and `c`
fn list<'k>(words: impl Iterator<Item = &'k str>, last: &str) -> String {
    let words: Vec<String> = words.map(|word| format!("`{word}`")).collect();
    match words.split_last() {
        Some((end, rest)) if !rest.is_empty() => format!("{} {last} {end}", rest.join(", ")),
        Some((only, _)) => only.clone(),
        None => "none here".into(),
    }
}
