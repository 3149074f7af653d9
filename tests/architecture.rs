//! The rules of ARCHITECTURE.md that a machine can check: who may import whom, which crate is used where, file sizes,
//! opening docs and words. When the table there changes, the one here changes in the same commit.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Each layer may use the ones above it, never beside or below.
const LAYERS: &[&[&str]] = &[
    &["model", "roster"],
    &["telemetry", "body", "http1", "http2", "consul"],
    &["wire"],
    &["upstream"],
    &["filter"],
    &["config"],
    &["route"],
    &["state"],
    &["proxy", "discovery", "control"],
    &["edge", "admin", "worker"],
    &["app", "bench", "fuzz"],
    &["cli"],
    &["main", "lib"],
];

/// What may be used beside: (user, used).
const BESIDE: &[(&str, &str)] = &[
    ("body", "http1"),
    ("body", "telemetry"),
    ("consul", "telemetry"),
    ("http1", "telemetry"),
    ("control", "discovery"),
    ("worker", "edge"),
];

/// Crates that stay behind a border: only these modules name them.
const ONLY_IN: &[(&str, &[&str])] = &[
    ("axum", &["admin", "cli"]),
    ("figment", &["config"]),
    ("hickory_resolver", &["discovery"]),
    ("opentelemetry", &["telemetry"]),
    ("opentelemetry_otlp", &["telemetry"]),
    ("opentelemetry_sdk", &["telemetry"]),
    ("prometheus", &["telemetry"]),
    ("reqwest", &["consul", "cli", "telemetry"]),
];

/// Modules without I/O, and what would bring it in.
const PURE: (&[&str], &[&str]) = (&["model", "roster", "http1", "http2", "route"], &["hyper", "tokio"]);

const BAD_WORDS: &[&str] = &["common", "context", "handler", "helper", "manager", "util"];
const MAX_LINES: usize = 400;

#[test]
fn the_code_keeps_to_the_architecture() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for directory in ["src", "tests", "benches"] {
        collect(&root.join(directory), &mut files);
    }
    assert!(files.len() > 20, "only {} files found below {}", files.len(), root.display());
    let faults: Vec<String> = files
        .iter()
        .flat_map(|file| {
            let text = fs::read_to_string(file).unwrap();
            faults(&file.strip_prefix(root).unwrap().to_string_lossy(), &text)
        })
        .collect();
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// All that is wrong with one file; `path` is relative to the root of the project.
fn faults(path: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut fault = |what: String| found.push(format!("{path}: {what}"));
    let lines = text.lines().count();
    if lines > MAX_LINES {
        fault(format!("{lines} lines, more than {MAX_LINES}"));
    }
    if !text.starts_with("//! ") {
        fault("does not open with `//!`".into());
    }
    if text.contains(concat!("..", "/shared")) {
        fault("names a place outside the project".into());
    }
    let place: Vec<&str> = path.trim_end_matches(".rs").split('/').collect();
    let tokens = tokens(text);
    let types = tokens.windows(2).filter(|pair| {
        ["enum", "mod", "struct", "trait", "type", "union"].contains(&pair[0].as_str()) && !pair[1].starts_with('{')
    });
    for name in place.iter().copied().chain(types.map(|pair| pair[1].as_str())) {
        if let Some(word) = words(name).into_iter().find(|word| BAD_WORDS.contains(&word.trim_end_matches('s'))) {
            fault(format!("`{name}` says `{word}`, which says nothing"));
        }
    }
    if place[0] != "src" {
        return found;
    }

    let user = place[1];
    let Some(own) = layer(user) else {
        fault(format!("`{user}` has no layer"));
        return found;
    };
    let module: Vec<String> =
        place[1..].iter().filter(|part| !["mod", "lib"].contains(part)).map(ToString::to_string).collect();
    for path in crate_paths(&tokens, &module) {
        let target = path[0].as_str();
        let allowed = layer(target).is_none_or(|below| below < own) || BESIDE.contains(&(user, target));
        if target != user && !allowed {
            fault(format!("`{user}` must not use `{}`", path.join("::")));
        }
    }
    for pair in tokens.windows(2).filter(|pair| pair[1] == "::") {
        let name = pair[0].as_str();
        let kept = ONLY_IN.iter().any(|(outside, users)| *outside == name && !users.contains(&user));
        if kept || (PURE.0.contains(&user) && PURE.1.contains(&name)) {
            fault(format!("`{user}` must not use the crate `{name}`"));
        }
    }
    found
}

/// The place of a module in the table. An item at the root of the crate has none.
fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|modules| modules.contains(&module))
}

/// Every path that starts with `crate` or `super`, from the root of the crate; groups come one by one.
fn crate_paths(tokens: &[String], file: &[String]) -> Vec<Vec<String>> {
    let (mut module, mut opened, mut depth, mut paths) = (file.to_vec(), Vec::new(), 0, Vec::new());
    for (at, token) in tokens.iter().enumerate() {
        let before = |steps: usize| at.checked_sub(steps).map_or("", |index| tokens[index].as_str());
        let follows = tokens.get(at + 1).is_some_and(|next| next == "::");
        match token.as_str() {
            "{" => {
                depth += 1;
                if before(2) == "mod" {
                    module.push(before(1).to_owned());
                    opened.push(depth);
                }
            }
            "}" => {
                if opened.pop_if(|opening| *opening == depth).is_some() {
                    module.pop();
                }
                depth -= 1;
            }
            "crate" | "super" if follows && before(1) != "::" => {
                let mut tree = Vec::new();
                unfold(tokens, at, &[], &mut tree);
                paths.extend(tree.into_iter().map(|path| from_root(&path, &module)));
            }
            _ => {}
        }
    }
    paths.retain(|path| !path.is_empty());
    paths
}

/// Reads one path, or one tree of them, and tells where it ends.
fn unfold(tokens: &[String], mut at: usize, prefix: &[String], paths: &mut Vec<Vec<String>>) -> usize {
    let mut path = prefix.to_vec();
    let is = |at: usize, text: &str| tokens.get(at).is_some_and(|token| token == text);
    while let Some(token) = tokens.get(at) {
        at += 1;
        if token == "{" {
            while at < tokens.len() && !is(at, "}") {
                at = unfold(tokens, at, &path, paths);
                at += usize::from(is(at, ","));
            }
            return at + 1;
        }
        path.push(token.clone());
        if !is(at, "::") {
            break;
        }
        at += 1;
    }
    at += if is(at, "as") { 2 } else { 0 };
    paths.push(path);
    at
}

fn from_root(path: &[String], module: &[String]) -> Vec<String> {
    let ups = path.iter().take_while(|part| *part == "super").count();
    let start = if ups == 0 { &[] } else { &module[..module.len().saturating_sub(ups)] };
    start.iter().chain(&path[ups.max(1)..]).cloned().collect()
}

/// Names, `::` and single marks; comments, strings, characters and lifetimes are left out.
fn tokens(text: &str) -> Vec<String> {
    let letters: Vec<char> = text.chars().collect();
    let ahead = |at: usize, what: &str| what.chars().enumerate().all(|(step, c)| letters.get(at + step) == Some(&c));
    let find = |from: usize, what: &str| (from..letters.len()).find(|at| ahead(*at, what)).unwrap_or(letters.len());
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let (mut found, mut at) = (Vec::new(), 0);
    while at < letters.len() {
        let start = at;
        match letters[at] {
            '/' if ahead(at, "//") => at = find(at, "\n"),
            '/' if ahead(at, "/*") => at = find(at, "*/") + 2,
            '"' => at = end_of_string(&letters, at),
            '\'' if ahead(at, "'\\") => at = find(at + 3, "'") + 1,
            '\'' if letters.get(at + 2) == Some(&'\'') => at += 3,
            '\'' => at += 1 + letters[at + 1..].iter().take_while(|c| word(**c)).count(),
            c if word(c) => {
                at += letters[at..].iter().take_while(|c| word(**c)).count();
                let name: String = letters[start..at].iter().collect();
                let hashes = "#".repeat(letters[at..].iter().take_while(|c| **c == '#').count());
                if ["r", "br", "cr"].contains(&name.as_str()) && ahead(at + hashes.len(), "\"") {
                    let end = format!("\"{hashes}");
                    at = find(at + hashes.len() + 1, &end) + end.len();
                } else {
                    found.push(name);
                }
            }
            c => {
                at += if ahead(at, "::") { 2 } else { 1 };
                if !c.is_whitespace() {
                    found.push(letters[start..at].iter().collect());
                }
            }
        }
    }
    found
}

fn end_of_string(letters: &[char], opening: usize) -> usize {
    let mut at = opening + 1;
    while at < letters.len() && letters[at] != '"' {
        at += if letters[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

/// `snake_case` and `CamelCase` into words.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for letter in name.chars() {
        if letter == '_' || letter.is_uppercase() {
            words.push(String::new());
        }
        if letter != '_' {
            words.last_mut().unwrap().extend(letter.to_lowercase());
        }
    }
    words
}

/// What is said of a sample, without the path in front.
fn said(path: &str, code: &str) -> Vec<String> {
    let text = format!("//! A sample.\n{code}\n");
    faults(path, &text).iter().map(|fault| fault[path.len() + 2..].to_owned()).collect()
}

#[test]
fn a_forbidden_import_is_found_however_it_is_written() {
    for code in [
        "use crate::proxy::Answer;",
        "use crate::{model::name, proxy};",
        "use crate::{\n    model::{name, path},\n    state::{self as now},\n    proxy::{headers::{a, b}},\n};",
        "use super::super::proxy::Answer;",
        "use super::super::{model, proxy::*};",
        "fn f() -> u8 { crate::proxy::answer() }",
        "mod tests {\n    use super::super::super::proxy;\n}",
        "mod a { mod b {} fn f() {} }\nuse super::super::proxy;",
        "const QUOTE: char = '\"'; const B: &str = r#\"a \" b\"#; use crate::proxy; const C: &str = \"\";",
        "fn f<'a>(x: &'a str) -> char { '\\'' } use crate::proxy;",
    ] {
        let said = said("src/route/matcher.rs", code);
        assert!(said.iter().any(|fault| fault.starts_with("`route` must not use `proxy")), "{code}: {said:?}");
    }
}

#[test]
fn an_allowed_import_is_let_through() {
    for (path, code) in [
        (
            "src/route/matcher.rs",
            "use crate::model::{name, path}; use crate::telemetry; use super::Route; use crate::Item;",
        ),
        ("src/route/matcher.rs", "// use crate::proxy;\n/* crate::proxy */ const TEXT: &str = \"\\\" crate::proxy\";"),
        ("src/route/matcher.rs", "mod tests {\n    use super::super::proxy;\n}"),
        ("src/control/mod.rs", "use crate::discovery::Change;"),
        ("src/consul/mod.rs", "use crate::telemetry::metrics; use reqwest::Client;"),
        ("src/cli/demo/stage.rs", "use super::super::app; use crate::app::run;"),
        ("tests/it/main.rs", "use reqwest::Client; use figment::Figment;"),
    ] {
        assert_eq!(said(path, code), Vec::<String>::new(), "{path}: {code}");
    }
}

#[test]
fn layers_look_up_only_and_borders_hold() {
    for (path, code, fault) in [
        ("src/discovery/mod.rs", "use crate::control::Change;", "`discovery` must not use `control::Change`"),
        ("src/control/mod.rs", "use crate::proxy;", "`control` must not use `proxy`"),
        ("src/consul/wire.rs", "use crate::http1::head;", "`consul` must not use `http1::head`"),
        ("src/telemetry/mod.rs", "use crate::body::Body;", "`telemetry` must not use `body::Body`"),
        ("src/app.rs", "use crate::cli;", "`app` must not use `cli`"),
        ("src/novel.rs", "", "`novel` has no layer"),
        ("src/proxy/mod.rs", "use figment::Figment;", "`proxy` must not use the crate `figment`"),
        ("src/http1/head.rs", "fn f() { tokio::task::yield_now() }", "`http1` must not use the crate `tokio`"),
        ("src/model/util.rs", "", "`util` says `util`, which says nothing"),
        ("src/model/name.rs", "struct NameHelpers;", "`NameHelpers` says `helpers`, which says nothing"),
    ] {
        assert_eq!(said(path, code), [fault], "{path}: {code}");
    }
}

#[test]
fn a_long_file_and_one_without_an_opening_are_found() {
    assert_eq!(said("tests/a.rs", &"\n".repeat(MAX_LINES - 2)), Vec::<String>::new());
    assert_eq!(said("tests/a.rs", &"\n".repeat(MAX_LINES - 1)), ["401 lines, more than 400"]);
    assert_eq!(faults("benches/a.rs", "fn main() {}\n"), ["benches/a.rs: does not open with `//!`"]);
}

#[test]
fn what_is_built_for_speed_is_laid_out_by_the_profile_and_nothing_else() {
    let config: toml::Value = toml::from_str(&fs::read_to_string(".cargo/config.toml").unwrap()).unwrap();
    let wrapper = config["build"]["rustc-wrapper"].as_str().unwrap();
    let given = |arguments: &[&str], how: &str| {
        let run = Command::new(wrapper).arg("echo").args(arguments).env("LICTOR_PROFILE", how).output().unwrap();
        assert!(run.status.success());
        String::from_utf8(run.stdout).unwrap().trim_end().to_owned()
    };
    let release = ["--crate-name", "lictor", "-C", "opt-level=3", "-C", "lto"].as_slice();
    let profile = "-Cprofile-use=.cargo/release.profdata -Cllvm-args=-no-pgo-warn-mismatch -pgso=false";
    assert_eq!(given(release, ""), format!("{} {profile}", release.join(" ")));
    assert_eq!(given(release, "off"), release.join(" "));
    assert_eq!(given(release, "record:/seen"), format!("{} -Cprofile-generate=/seen", release.join(" ")));
    for other in [["-vV"].as_slice(), &["--crate-name", "build_script_build", "-C", "opt-level=0"]] {
        assert_eq!(given(other, "record:/seen"), other.join(" "));
    }
    assert!(fs::metadata(".cargo/release.profdata").unwrap().len() > 100_000);
}
