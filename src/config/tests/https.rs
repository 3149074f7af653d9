//! `[https]`: what is read of it, and what is said of files that cannot serve.

use std::path::Path;

use super::*;

const KEYS: &str = "certificates = [{ cert = 'FOLDER/a.pem', key = 'FOLDER/a.key' }]";

/// Two certificates with their keys, and nonsense.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a", "b"] {
        let pair = rcgen::generate_simple_self_signed([format!("{name}.test")]).unwrap();
        fs::write(folder.path().join(format!("{name}.pem")), pair.cert.pem()).unwrap();
        fs::write(folder.path().join(format!("{name}.key")), pair.signing_key.serialize_pem()).unwrap();
    }
    fs::write(folder.path().join("bad.pem"), "nonsense").unwrap();
    fs::write(folder.path().join("large.pem"), vec![b'#'; (1 << 20) + 1]).unwrap();
    folder
}

fn world(folder: &Path, keys: &str) -> World {
    World::file(&format!("[https]\n{}", keys.replace("FOLDER", &folder.display().to_string())))
}

#[test]
fn without_the_section_there_is_no_tls_and_with_it_it_listens_on_8443() {
    assert_eq!(World::default().load().https, None);
    let folder = folder();
    let https = world(folder.path(), KEYS).load().https.unwrap();
    assert_eq!(https.listen, ["0.0.0.0:8443".parse().unwrap()]);
    assert_eq!(https.files.certificates[0].cert, folder.path().join("a.pem"));
    assert_eq!(https.files.client_ca, None);
}

#[test]
fn what_is_shown_of_it_reads_as_what_is_in_force() {
    let folder = folder();
    let config = world(folder.path(), &format!("{KEYS}\nlisten = ''\nclient_ca = 'FOLDER/b.pem'")).load();
    let shown = World::file(&toml::to_string(&config.shown()).unwrap());
    assert_eq!(shown.load().https, config.https);
    let schema = jsonschema::validator_for(&schema()).unwrap();
    assert!(schema.is_valid(&config.shown()));
}

#[test]
fn other_addresses_want_a_restart_and_other_certificates_do_not() {
    let folder = folder();
    let config = |keys: &str| world(folder.path(), keys).load();
    let before = config(KEYS);
    let other = config(&KEYS.replace("/a.", "/b."));
    assert!(before.needs_restart(&other).is_empty() && before != other);
    assert_eq!(before.needs_restart(&config(&format!("{KEYS}\nlisten = '0.0.0.0:1'"))), ["https.listen"]);
    assert_eq!(before.needs_restart(&World::default().load()), ["https.listen"]);
}

#[test]
fn every_file_that_cannot_serve_is_named_with_its_key() {
    let folder = folder();
    for (keys, want) in [
        ("", "lictor.toml:1 https.certificates: expected at least one, such as"),
        ("certificates = []", "lictor.toml:2 https.certificates: expected at least one, such as"),
        (
            "certificates = [{ cert = 'x.pem' }]",
            "https.certificates[0].key: a certificate and its private key go together",
        ),
        (
            "certificates = [{ cert = 'FOLDER/none.pem', key = 'FOLDER/a.key' }]",
            "https.certificates[0].cert: cannot read `FOLDER/none.pem`: No such file",
        ),
        (
            "certificates = [{ cert = '/dev/zero', key = 'FOLDER/a.key' }]",
            "https.certificates[0].cert: cannot read `/dev/zero`: expected a regular file",
        ),
        (
            "certificates = [{ cert = 'FOLDER/large.pem', key = 'FOLDER/a.key' }]",
            "https.certificates[0].cert: cannot read `FOLDER/large.pem`: it has more than 1MiB",
        ),
        (
            "certificates = [{ cert = 'FOLDER/bad.pem', key = 'FOLDER/a.key' }]",
            "https.certificates[0].cert: `FOLDER/bad.pem` holds no certificate in PEM form",
        ),
        (
            "certificates = [{ cert = 'FOLDER/a.key', key = 'FOLDER/a.key' }]",
            "https.certificates[0].cert: `FOLDER/a.key` holds no certificate in PEM form",
        ),
        (
            "certificates = [{ cert = 'FOLDER/a.pem', key = 'FOLDER/a.pem' }]",
            "https.certificates[0].key: `FOLDER/a.pem` holds no private key in PEM form",
        ),
        (
            "certificates = [{ cert = 'FOLDER/a.pem', key = 'FOLDER/b.key' }]",
            "https.certificates[0].key: the private key in `FOLDER/b.key` is not the one of the certificate in",
        ),
        (
            &format!("{KEYS}\nclient_ca = 'FOLDER/bad.pem'"),
            "https.client_ca: `FOLDER/bad.pem` holds no certificate in PEM form",
        ),
        (&format!("{KEYS}\nclient_cas = ''"), "https.client_cas: unknown key; did you mean `client_ca`?"),
        (&format!("{KEYS}\nlisten = '127.0.0.1:9901'"), "https.listen: `127.0.0.1:9901` is in `admin.listen` already"),
    ] {
        let want = want.replace("FOLDER", &folder.path().display().to_string());
        let problems = world(folder.path(), keys).problems();
        assert!(problems.len() == 1 && problems[0].contains(&want), "{keys}: {problems:#?}");
    }
}
