//! `lictor check` and `lictor schema`, as people and scripts call them.

use std::{fs, path::Path};

use assert_cmd::Command;

/// The program in an empty folder and an environment without variables that mean something to it.
fn lictor(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("lictor"));
    command.current_dir(folder).env_clear().args(arguments);
    command
}

#[test]
fn a_configuration_that_holds_is_said_on_one_line() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let check = |arguments: &[&str]| {
        let output = lictor(root, arguments).assert().code(0).stderr("").get_output().clone();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(
        check(&["check", "-c", "examples/services.toml"]),
        "the configuration holds: examples/services.toml; 3 services, 3 routes\n"
    );
    assert_eq!(
        check(&["check", "-c", "examples/minimal.toml", "-c", "examples/services.toml"]),
        "the configuration holds: examples/minimal.toml, examples/services.toml; 3 services, 3 routes\n"
    );
}

#[test]
fn every_problem_is_said_on_a_line_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("lictor.toml"), "[http]\nlisen = ''\nkeep_alive = 10\n").unwrap();
    let problems = "lictor.toml:2 http.lisen: unknown key; did you mean `listen`?\n\
                    lictor.toml:3 http.keep_alive: `10` has no unit; try `10s`\n\
                    LICTOR_ADMIN__LISTEN admin.listen: expected an IP address and port such as `0.0.0.0:8000` or `[::]:8000`; \
                    got `here`\n\
                    --set http.workers: `-1` is too small; the least is `0`\n";
    let mut check = lictor(folder.path(), &["check", "--set", "http.workers=-1"]);
    check.env("LICTOR_ADMIN__LISTEN", "here").assert().code(1).stdout("").stderr(problems);
}

#[test]
fn a_file_that_was_named_has_to_exist() {
    let folder = tempfile::tempdir().unwrap();
    let problem = "none.toml: cannot be read: No such file or directory (os error 2)\n";
    lictor(folder.path(), &["check", "-c", "none.toml"]).assert().code(1).stdout("").stderr(problem);
}

#[test]
fn the_schema_is_json() {
    let folder = tempfile::tempdir().unwrap();
    let output = lictor(folder.path(), &["schema"]).assert().code(0).stderr("").get_output().clone();
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert!(jsonschema::validator_for(&schema).is_ok());
}
