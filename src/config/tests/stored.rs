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
    let text = "[consul]\nmax_watches = 9\naddress = 'http://x:1'\ntokn = ''\ntls = { ca = 'x' }\ntoken = 's3cret'";
    let why = "lictor needs it to find this document, so it cannot be in it; set it in a file, a variable or a flag";
    let want =
        [(3, "address", why), (4, "tokn", "unknown key; did you mean `token`?"), (5, "tls", why), (6, "token", why)];
    let want = want.iter().map(|(line, key, why)| format!("KV lictor/config:{line} consul.{key}: {why}"));
    assert_eq!(problems(text), want.collect::<Vec<_>>().join("\n"));
}

#[test]
fn where_requests_go_and_how_they_are_served_may_be_in_it() {
    let text = "
        consul.max_watches = 9
        [http]
        header_timeout = '9s'
        max_header_size = '9KiB'
        max_body_size = '9KiB'
        max_connections = 9
        keep_alive = '9s'
        drain_wait = '9s'
        drain = '9s'
        health = '/nine'
        [expose]
        tag = 'nine'
        path = '/{service}/{*rest}'
        rewrite = ''
        allow = ['/nine/']
        hosts = ['nine.test']
        [telemetry]
        access_log = ' stdout '
        access_format = 'combined'
        log = { level = 'warn', format = 'json' }
        [defaults]
        accept = ['passing']
        balance = 'random'
        breaker.consecutive = 9
        hash = 'ip'
        max_in_flight = 9
        panic = true
        pool.max_idle = 9
        retry.attempts = 2
        slow_start = '9s'
        timeout.read = '9s'
        [services.a]
        consul = 'b'
        tag = 'c'
        datacenters = ['dc9']
        host = 'nine.test'
        protocol = 'https'
        tls.server_name = 'nine.test'
        timeout.total = '9s'
        [services.d]
        instances = ['10.0.0.9:9']
        [services.e]
        dns = 'nine.test:9'
        [[routes]]
        name = 'r'
        match = { path = '/r', methods = ['GET'], hosts = ['nine.test'], headers = { x = '9' } }
        service = 'a'
        rewrite = '/'
        max_body_size = '9KiB'
        timeout.total = '9s'
        retry.attempts = 1";
    let config = load(&World::default(), text).unwrap();
    assert_eq!((consul(&config).max_watches, config.http.max_connections, config.routes.len()), (9, 9, 1));
    assert!(config.needs_restart(&World::default().load()).is_empty(), "none of it waits for a restart");
}

#[test]
fn whom_the_gateway_listens_to_believes_and_calls_and_what_files_it_opens_may_not_be_in_it() {
    let operator = "this is for each gateway's operator, not for whoever may write to the KV";
    for (text, key, why) in [
        ("[admin]\ntoken = ''", "admin", operator),
        ("admin = {}", "admin", operator),
        ("metrics.listen = '0.0.0.0:1'", "metrics", operator),
        ("[https]", "https", operator),
        ("dns.servers = ['10.0.0.9:53']", "dns", operator),
        ("http.listen = ''", "http.listen", operator),
        ("http.workers = 1", "http.workers", operator),
        ("http.trusted_proxies = ['0.0.0.0/0']", "http.trusted_proxies", operator),
        ("http.proxy_protocol = true", "http.proxy_protocol", operator),
        ("telemetry.otlp = 'http://x:1'", "telemetry.otlp", operator),
        ("consul.deny = []", "consul.deny", operator),
        ("consul.register = { name = 'x' }", "consul.register", operator),
        ("consul.wait = '9s'", "consul.wait", operator),
        (
            "telemetry.access_log = '/etc/passwd'",
            "telemetry.access_log",
            "it names a file, and here may be only `off` or `stdout`",
        ),
        (
            "services.\"a.b\".tls.ca = '/dev/zero'",
            "services.\"a.b\".tls.ca",
            "it names a file, which is each gateway's own",
        ),
    ] {
        let want = format!("KV lictor/config:1 {key}: {why}; set it in a file, a variable or a flag");
        assert_eq!(problems(text), want, "{text}");
    }
    for (text, want) in [
        ("[htps]\nlisten = ''", "KV lictor/config:1 htps: unknown key; did you mean `https`?"),
        ("http = 1", "KV lictor/config:1 http: expected a table; got the number `1`"),
    ] {
        assert_eq!(problems(text), want);
    }
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
