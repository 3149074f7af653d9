//! One TOML file: its values, and the line of each.

use std::{collections::BTreeMap, fs};

use figment::value::{Dict, Num, Tag, Value};
use toml::de::{DeTable, DeValue};

use super::place::Path;

/// The line of each key and list entry, counted from 1.
pub type Lines = BTreeMap<Path, usize>;

/// Why a file gives no values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The line, where it is one that is wrong.
    pub line: Option<usize>,
    /// What is wrong.
    pub message: String,
}

/// Reads a file.
///
/// # Errors
/// It cannot be read, or is not TOML.
pub fn read(file: &std::path::Path) -> Result<(Dict, Lines), Vec<Fault>> {
    let whole = |message: String| vec![Fault { line: None, message }];
    let bytes = fs::read(file).map_err(|error| whole(format!("cannot be read: {error}")))?;
    decode(&bytes)
}

/// Reads what a file holds.
///
/// # Errors
/// It is not UTF-8, or not TOML.
pub fn decode(bytes: &[u8]) -> Result<(Dict, Lines), Vec<Fault>> {
    let text = str::from_utf8(bytes).map_err(|error| {
        let valid = error.valid_up_to();
        let line = Some(line(&String::from_utf8_lossy(&bytes[..valid]), valid));
        vec![Fault { line, message: "not UTF-8".into() }]
    })?;
    parse(text)
}

/// Reads the text of a file.
///
/// # Errors
/// It is not TOML.
pub fn parse(text: &str) -> Result<(Dict, Lines), Vec<Fault>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        let mut faults: Vec<Fault> = errors.iter().map(|error| fault(text, error)).collect();
        faults.sort_by_key(|fault| fault.line);
        // What follows on the same line is mostly an echo of the first.
        faults.dedup_by_key(|fault| fault.line);
        return Err(faults);
    }
    let mut lines = Lines::new();
    Ok((dict(table.get_ref(), text, &Path::default(), &mut lines), lines))
}

/// Reads a single value, as it may stand after `=`.
#[must_use]
pub fn parse_value(text: &str) -> Option<Value> {
    let parsed = DeValue::parse(text).ok()?;
    Some(value(parsed.get_ref(), text, &Path::default(), &mut Lines::new()))
}

fn fault(text: &str, error: &toml::de::Error) -> Fault {
    let line = error.span().map(|span| line(text, span.start));
    Fault { line, message: format!("not TOML: {}", error.message().replace('\n', ", ")) }
}

fn line(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|b| *b == b'\n').count()
}

fn dict(table: &DeTable<'_>, text: &str, path: &Path, lines: &mut Lines) -> Dict {
    let entries = table.iter().map(|(key, entry)| {
        let path = path.key(key.get_ref());
        lines.insert(path.clone(), line(text, key.span().start));
        (key.get_ref().to_string(), value(entry.get_ref(), text, &path, lines))
    });
    entries.collect()
}

fn value(from: &DeValue<'_>, text: &str, path: &Path, lines: &mut Lines) -> Value {
    let tag = Tag::Default;
    match from {
        DeValue::String(string) => Value::String(tag, string.to_string()),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Value::Num(tag, Num::I64(number)),
            // Beyond what any key takes: as text it is refused with the very digits.
            Err(_) => Value::String(tag, number.to_string()),
        },
        DeValue::Float(number) => match number.as_str().parse() {
            Ok(number) => Value::Num(tag, Num::F64(number)),
            Err(_) => Value::String(tag, number.to_string()),
        },
        DeValue::Boolean(yes) => Value::Bool(tag, *yes),
        DeValue::Datetime(time) => Value::String(tag, time.to_string()),
        DeValue::Table(table) => Value::Dict(tag, dict(table, text, path, lines)),
        DeValue::Array(entries) => {
            let entries = entries.iter().enumerate().map(|(i, entry)| {
                let path = path.index(i);
                lines.insert(path.clone(), line(text, entry.span().start));
                value(entry.get_ref(), text, &path, lines)
            });
            Value::Array(tag, entries.collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_and_entry_has_its_line() {
        let text = "[http]\nlisten = [\n  \"a\",\n  \"b\",\n]\n\n[[routes]]\nname = \"x\"\n[[routes]]\n[routes.match]\n\
                    path = \"/\"\n[defaults]\npool = { max_idle = 1 }\ntimeout.read = \"1s\"\n";
        let (_, lines) = parse(text).unwrap();
        let lines: Vec<_> = lines.iter().map(|(path, line)| (path.to_string(), *line)).collect();
        let want = [
            ("defaults", 12),
            ("defaults.pool", 13),
            ("defaults.pool.max_idle", 13),
            ("defaults.timeout", 14),
            ("defaults.timeout.read", 14),
            ("http", 1),
            ("http.listen", 2),
            ("http.listen[0]", 3),
            ("http.listen[1]", 4),
            ("routes", 7),
            ("routes[0]", 7),
            ("routes[0].name", 8),
            ("routes[1]", 9),
            ("routes[1].match", 10),
            ("routes[1].match.path", 11),
        ];
        assert_eq!(lines, want.map(|(path, line)| (path.to_owned(), line)));
    }

    #[test]
    fn what_is_not_toml_is_told_with_its_line() {
        for (text, want) in
            [("[http]\nlisten = \n", 2), ("a = 1\na = 2\n", 2), ("\n\n[http\n", 3), ("a = 'x\nb = 1\n", 1)]
        {
            let faults = parse(text).unwrap_err();
            assert_eq!(faults[0].line, Some(want), "{text:?}: {faults:?}");
            assert!(faults.iter().all(|fault| fault.message.starts_with("not TOML: ")), "{faults:?}");
        }
    }
}
