//! The document in Consul's KV among the other layers.

use super::*;

fn stored(text: &str) -> Stored {
    Stored { key: "lictor/config".into(), text: text.into() }
}

fn load(world: &World, text: &str) -> Result<Config, Problems> {
    load_of(&world.sources, Some(&stored(text)), &world.variables)
}

fn problems(text: impl Into<Vec<u8>>) -> String {
    let stored = Stored { text: text.into(), ..stored("") };
    load_of(&Sources::default(), Some(&stored), &Variables::new()).unwrap_err().to_string()
}

#[test]
fn it_is_over_files_and_under_variables_and_flags() {
    let file = "[http]\ndrain = '1s'\ndrain_wait = '1s'\nheader_timeout = '1s'\nkeep_alive = '1s'";
    let world = World::file(file).variables(&[("LICTOR_HTTP__HEADER_TIMEOUT", "3s")]).sets(&["http.keep_alive=4s"]);
    let text = "[http]\ndrain_wait = '2s'\nheader_timeout = '2s'\nkeep_alive = '2s'";
    let config = load(&world, text).unwrap();
    let http = &config.http;
    let times = [http.drain, http.drain_wait, http.header_timeout, http.keep_alive].map(|time| time.as_secs());
    assert_eq!(times, [1, 2, 3, 4]);
    assert_eq!(config.stored, Some(stored(text)));
}

#[test]
fn what_leads_to_it_cannot_be_in_it() {
    let text = "[consul]\nwait = '5s'\naddress = 'http://x:1'\ntokn = ''\ntls = { ca = 'x' }\ntoken = 's3cret'";
    let why = "lictor needs it to find this document, so it cannot be in it; set it in a file, a variable or a flag";
    let want = [(3, "address"), (5, "tls"), (6, "token")];
    let want: Vec<_> = want.iter().map(|(line, key)| format!("KV lictor/config:{line} consul.{key}: {why}")).collect();
    assert_eq!(problems(text), want.join("\n"));
    let held = load(&World::default(), "[consul]\nwait = '5s'\nmax_watches = 9\ndeny = ['10.0.0.0/8']").unwrap();
    assert_eq!((consul(&held).wait.as_secs(), consul(&held).max_watches, consul(&held).deny.len()), (5, 9, 1));
}

#[test]
fn what_cannot_be_read_is_told_with_its_place() {
    assert_eq!(problems("[http]\nlisen = ''"), "KV lictor/config:2 http.lisen: unknown key; did you mean `listen`?");
    assert_eq!(problems(b"a = 1\nb = \xff".to_vec()), "KV lictor/config:2: not UTF-8");
    assert!(problems("[http").starts_with("KV lictor/config:1: not TOML: "));
    let large = vec![b'#'; (512 << 10) + 1];
    assert_eq!(problems(large), "KV lictor/config: has more than 524288 bytes, which is Consul's limit");
    assert!(!format!("{:?}", stored("s3cret")).contains("s3cret"));
}

#[test]
fn a_key_is_one_that_consul_reads_as_it_is() {
    for (name, want) in [("lictor/config", Some(true)), ("a b", Some(true)), ("", None)] {
        let world = World::default().sets(&[&format!("consul.config={name}")]);
        let key = consul(&world.load()).config.clone();
        assert_eq!(key.as_ref().map(|key| (key.name.as_str(), key.is_written)), want.map(|is| (name, is)));
    }
    assert!(!consul(&World::default().load()).config.as_ref().unwrap().is_written);
    for odd in ["/lictor", "lictor/", "a//b", "../b", "a/./b"] {
        let said = World::default().sets(&[&format!("consul.config={odd}")]).problems();
        assert!(said[0].contains("expected a key of Consul's KV such as `lictor/config`"), "{said:?}");
    }
}
