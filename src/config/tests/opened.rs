//! The files of `[consul]`: what is said of those that a start would end by.

use super::*;

/// What a start says to these keys of `[consul]`, one a line; `FOLDER` is a folder with a pair, an authority and nonsense.
fn said(keys: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    for name in ["a", "b"] {
        let pair = rcgen::generate_simple_self_signed([format!("{name}.test")]).unwrap();
        write(&format!("{name}.pem"), &pair.cert.pem());
        write(&format!("{name}.key"), &pair.signing_key.serialize_pem());
    }
    write("token", " t0ken\n");
    write("blank", "two words");
    write("empty", "\n");
    let at = folder.path().display().to_string();
    let world = World::file(&format!("[consul]\n{}", keys.replace("FOLDER", &at)));
    let started = match start(&world.sources, &world.variables) {
        Ok(_) => String::new(),
        Err(problems) => problems.to_string(),
    };
    assert!(world.problems().is_empty(), "a reload has nothing to do with them");
    let own = world.sources.files[0].display().to_string();
    started.replace(&own, "lictor.toml").replace(&at, "FOLDER")
}

#[test]
fn files_that_can_be_used_are_taken() {
    let tls = "tls = { ca = 'FOLDER/a.pem', cert = 'FOLDER/b.pem', key = 'FOLDER/b.key' }";
    assert_eq!(said(&format!("token_file = 'FOLDER/token'\n{tls}")), "");
    // Nobody asks for them.
    assert_eq!(said("address = ''\ntoken_file = 'FOLDER/none'\ntls.ca = 'FOLDER/none'"), "");
}

#[test]
fn every_file_that_a_start_would_end_by_is_named_with_its_line_and_key() {
    let none = "cannot read `FOLDER/none`: No such file or directory (os error 2)";
    let holds_none = "holds no token: expected visible ASCII letters, at least one, and nothing between them";
    for (keys, want) in [
        ("token_file = 'FOLDER/none'", format!("lictor.toml:2 consul.token_file: {none}")),
        ("token_file = 'FOLDER/blank'", format!("lictor.toml:2 consul.token_file: `FOLDER/blank` {holds_none}")),
        ("token_file = 'FOLDER/empty'", format!("lictor.toml:2 consul.token_file: `FOLDER/empty` {holds_none}")),
        (
            "token_file = 'FOLDER'",
            "lictor.toml:2 consul.token_file: cannot read `FOLDER`: Is a directory (os error 21)".into(),
        ),
        ("wait = '1m'\ntls.ca = 'FOLDER/none'", format!("lictor.toml:3 consul.tls.ca: {none}")),
        (
            "tls.ca = 'FOLDER/token'",
            "lictor.toml:2 consul.tls.ca: `FOLDER/token` holds no certificate in PEM form: no items found".into(),
        ),
        ("tls.cert = 'FOLDER/none'\ntls.key = 'FOLDER/a.key'", format!("lictor.toml:2 consul.tls.cert: {none}")),
        ("tls.cert = 'FOLDER/a.pem'\ntls.key = 'FOLDER/none'", format!("lictor.toml:3 consul.tls.key: {none}")),
        (
            "tls.cert = 'FOLDER/a.pem'\ntls.key = 'FOLDER/token'",
            "lictor.toml:3 consul.tls.key: `FOLDER/token` holds no private key in PEM form: no items found".into(),
        ),
        (
            "tls.cert = 'FOLDER/a.pem'\ntls.key = 'FOLDER/b.key'",
            "lictor.toml:3 consul.tls.key: the private key in `FOLDER/b.key` is not the one of the certificate in \
             `FOLDER/a.pem`"
                .into(),
        ),
        (
            "token_file = 'FOLDER/none'\ntls.ca = 'FOLDER/none'",
            format!("lictor.toml:2 consul.token_file: {none}\nlictor.toml:3 consul.tls.ca: {none}"),
        ),
    ] {
        assert_eq!(said(keys), want, "{keys}");
    }
    let world = World::default().variables(&[("CONSUL_CACERT", "/none/at/all")]);
    let problems = start(&world.sources, &world.variables).unwrap_err().to_string();
    assert!(problems.starts_with("CONSUL_CACERT consul.tls.ca: cannot read `/none/at/all`: "), "{problems}");
}
