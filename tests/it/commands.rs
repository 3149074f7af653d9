//! The commands, as one types them.

use std::{
    fs::File,
    process::{Command, Stdio},
};

use crate::support::consul::program;

/// What it wrote, and how it ended.
pub struct Said {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

/// Runs a command beside these files, with these variables.
pub fn lictor(args: &[&str], env: &[(&str, &str)], files: &[(&str, &str)]) -> Said {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_lictor"));
    for (name, _) in std::env::vars() {
        if name.starts_with("CONSUL_") || name.starts_with("LICTOR_") {
            command.env_remove(name);
        }
    }
    let output = command.args(args).envs(env.iter().copied()).current_dir(folder.path()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Said { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

#[test]
fn check_names_every_problem_and_exits_1() {
    let bad =
        "[http]\nlisen = \"x\"\nkeep_alive = \"soon\"\n\n[[routes]]\nmatch = { path = \"a\" }\nservice = \"nobody\"\n";
    let said = lictor(&["check", "-c", "bad.toml"], &[("LICTOR_HTTP__DRAIN", "1")], &[("bad.toml", bad)]);
    assert_eq!(said.code, Some(1), "{}{}", said.out, said.err);
    let all = said.out + &said.err;
    for part in ["bad.toml:2", "lisen", "`listen`", "bad.toml:3", "soon", "bad.toml:6", "LICTOR_HTTP__DRAIN"] {
        assert!(all.contains(part), "{part}: {all}");
    }
}

/// Who closes a pipe has read enough; a disk that is full has not.
#[test]
fn pages_are_given_as_far_as_they_are_read_or_it_is_said_that_they_cannot_be() {
    for page in [&["schema"][..], &["man"], &["completions", "bash"]] {
        let into = |out: Stdio| {
            let output = Command::new(env!("CARGO_BIN_EXE_lictor")).args(page).stdout(out).output().unwrap();
            (output.status.code(), String::from_utf8(output.stderr).unwrap())
        };
        let (read, write) = std::io::pipe().unwrap();
        drop(read);
        assert_eq!(into(write.into()), (Some(0), String::new()), "{page:?}");
        let (code, said) = into(File::options().write(true).open("/dev/full").unwrap().into());
        assert_eq!(code, Some(1), "{page:?}");
        assert!(said.starts_with("lictor: cannot write to standard output: "), "{page:?}: {said}");
    }
}

#[test]
fn check_says_that_a_configuration_holds() {
    let good = "[[routes]]\nmatch = { path = \"/u/{*rest}\" }\nservice = \"users\"\n[services.users]\n";
    let said = lictor(&["check"], &[], &[("lictor.toml", good)]);
    assert_eq!(said.code, Some(0), "{}{}", said.out, said.err);
    assert!(lictor(&["check", "-c", "missing.toml"], &[], &[]).err.contains("missing.toml"));
}

#[test]
fn schema_is_a_json_schema() {
    let said = lictor(&["schema"], &[], &[]);
    assert_eq!(said.code, Some(0));
    let schema: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert!(schema["$schema"].as_str().unwrap().contains("json-schema.org"), "{schema}");
    assert!(schema["properties"].get("http").is_some(), "{schema}");
    jsonschema::validator_for(&schema).unwrap();
}

#[test]
fn wrong_usage_is_2_and_a_start_that_cannot_be_1() {
    assert_eq!(lictor(&["frobnicate"], &[], &[]).code, Some(2));
    let said = lictor(&["run"], &[], &[("lictor.toml", "[http]\nlisten = \"127.0.0.1:99999\"\n")]);
    assert_eq!(said.code, Some(1));
    assert!(said.err.contains("http.listen"), "{}", said.err);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let env = [("LICTOR_ADMIN__LISTEN", address.as_str()), ("LICTOR_HTTP__LISTEN", "127.0.0.1:0")];
    let said = lictor(&["run"], &env, &[]);
    assert_eq!(said.code, Some(1));
    assert!(said.err.contains(&address) && said.err.contains("admin.listen"), "{}", said.err);
}

#[test]
fn a_start_that_a_file_of_consul_prevents_names_its_key() {
    let junk = ("junk.pem", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n");
    let listen = "[http]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n[consul]\n";
    for (key, section, words) in [
        ("consul.token_file", "token_file = \"nowhere\"", "cannot read `nowhere`"),
        ("consul.token_file", "token_file = \"empty\"", "`empty` holds no token: expected visible ASCII"),
        ("consul.tls.ca", "tls.ca = \"nowhere\"", "cannot read `nowhere`"),
        ("consul.tls.ca", "tls.ca = \"junk.pem\"", "`junk.pem` holds no certificate in PEM form"),
        ("consul.tls.cert", "tls = { cert = \"nowhere\", key = \"junk.pem\" }", "cannot read `nowhere`"),
        ("consul.tls.cert", "tls = { cert = \"junk.pem\", key = \"junk.pem\" }", "`junk.pem` holds no certificate"),
    ] {
        let config = format!("{listen}{section}\n");
        let files = [("lictor.toml", config.as_str()), junk, ("empty", "")];
        for command in [&["run"][..], &["check"], &["check", "--live"]] {
            let said = lictor(command, &[], &files);
            assert_eq!((said.code, said.out.as_str()), (Some(1), ""), "{section}");
            let line = format!("lictor.toml:6 {key}: {words}");
            assert!(said.err.contains(&line) && !said.err.contains("listening"), "{section}: {}", said.err);
        }
    }
}

#[test]
fn the_consul_of_the_tests_is_a_real_one() {
    let version = Command::new(program()).arg("version").output().unwrap();
    assert!(String::from_utf8(version.stdout).unwrap().starts_with("Consul v"));
}
