//! Tests of the configuration as a whole: what layers make of it, what is shown of it, what wants a restart.

use std::{fs, path::PathBuf};

use tempfile::TempDir;

use super::*;
use crate::{
    model::{
        instance::Health,
        units::{Secret, Share},
    },
    upstream::{retry::Factor, tls::Trust},
};

mod documents;
mod https;
mod opened;
mod refusals;
mod register;
mod routes;
mod rules;
mod stored;

/// Files, variables and flags of one test.
#[derive(Default)]
struct World {
    folder: Option<TempDir>,
    sources: Sources,
    variables: Variables,
}

impl World {
    fn files(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut world = Self::default();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
            world.sources.files.push(folder.path().join(name));
        }
        world.folder = Some(folder);
        world
    }

    fn file(text: &str) -> Self {
        Self::files(&[("lictor.toml", text)])
    }

    fn variables(mut self, variables: &[(&str, &str)]) -> Self {
        self.variables.extend(variables.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())));
        self
    }

    fn sets(mut self, sets: &[&str]) -> Self {
        self.sources.sets.extend(sets.iter().map(|set| (*set).to_owned()));
        self
    }

    fn load(&self) -> Config {
        load_from(&self.sources, &self.variables).unwrap_or_else(|problems| panic!("{problems}"))
    }

    /// What is wrong, one a line, without the folder in front of the file.
    fn problems(&self) -> Vec<String> {
        let problems = match load_from(&self.sources, &self.variables) {
            Ok(_) => String::new(),
            Err(problems) => problems.to_string(),
        };
        let folder = self.folder.as_ref().map(|folder| format!("{}/", folder.path().display())).unwrap_or_default();
        let strip = |line: &str| if folder.is_empty() { line.to_owned() } else { line.replace(&folder, "") };
        problems.lines().map(strip).collect()
    }
}

fn consul(config: &Config) -> &Consul {
    config.consul.as_ref().unwrap()
}

#[test]
fn nothing_at_all_is_the_defaults() {
    let config = World::default().load();
    assert_eq!(config.http.listen, ["0.0.0.0:8000".parse().unwrap()]);
    assert_eq!(config.http.max_header_size, 32 << 10);
    assert_eq!(config.http.max_body_size, Some(10 << 20));
    assert_eq!(config.http.max_connections, 10_000);
    assert!(config.http.workers >= 1);
    assert_eq!(config.http.health.as_deref(), Some("/health"));
    assert_eq!(config.admin.listen, ["127.0.0.1:9901".parse().unwrap()]);
    assert_eq!((config.admin.token.as_ref(), config.metrics.listen.len()), (None, 0));
    assert_eq!(consul(&config).address, "http://127.0.0.1:8500");
    assert_eq!(consul(&config).consistency, Consistency::Stale);
    assert_eq!((consul(&config).wait.as_secs(), consul(&config).max_watches), (60, 64));
    let expose = config.expose.as_ref().unwrap();
    assert_eq!((expose.path.as_str(), expose.rewrite.as_deref()), ("/api/v1/{service}/{*rest}", Some("/{rest}")));
    assert_eq!(config.defaults, Policy::default());
    assert!(config.services.is_empty() && config.routes.is_empty());
    assert_eq!(config.telemetry.log.level, "info");
}

#[test]
fn the_later_layer_wins() {
    let files =
        [("a.toml", "[http]\nkeep_alive = '1s'\ndrain = '1s'\ndrain_wait = '1s'"), ("b.toml", "[http]\ndrain = '2s'")];
    let world = World::files(&files).variables(&[("LICTOR_HTTP__DRAIN_WAIT", "3s"), ("LICTOR_HTTP__HEALTH", "/a")]);
    let http = world.sets(&["http.health=/b", "http.health=/c"]).load().http;
    let seconds = [http.keep_alive, http.drain, http.drain_wait, http.header_timeout].map(|time| time.as_secs());
    assert_eq!(seconds, [1, 2, 3, 10]);
    assert_eq!(http.health.as_deref(), Some("/c"));
}

#[test]
fn the_snapshot_is_in_systemds_folder_unless_it_is_named_or_off() {
    let systemd = ("STATE_DIRECTORY", "/var/lib/lictor:/var/lib/more");
    let snapshot = |world: World| world.load().consul.unwrap().snapshot.map(|path| path.display().to_string());
    assert_eq!(snapshot(World::default()), None);
    let given = World::default().variables(&[systemd]);
    assert_eq!(snapshot(given).as_deref(), Some("/var/lib/lictor/topology.json"));
    for (text, want) in [("/tmp/t.json", Some("/tmp/t.json")), ("", None)] {
        let toml = format!("[consul]\nsnapshot = '{text}'");
        let world = World::files(&[("a.toml", &toml)]).variables(&[systemd]);
        assert_eq!(snapshot(world).as_deref(), want, "{text}");
    }
}

#[test]
fn rules_merge_key_by_key_into_a_service() {
    let world = World::files(&[
        (
            "a.toml",
            "[defaults]\ntimeout = { total = '1s', read = '1s' }\naccept = ['passing', 'warning']\n[services.s]",
        ),
        ("b.toml", "[defaults]\ntimeout = { read = '2s' }\n[services.s]\ntimeout.total = '3s'\naccept = ['critical']"),
    ]);
    let config = world.load();
    let seconds = |policy: &Policy| {
        [policy.timeout.total, policy.timeout.read, policy.timeout.connect].map(|time| time.as_secs())
    };
    let service = &config.services["s"].policy;
    assert_eq!(seconds(&config.defaults), [1, 2, 5]);
    assert_eq!(seconds(service), [3, 2, 5]);
    assert_eq!(service.accept, [Health::Critical]);
    assert_eq!(config.defaults.accept, [Health::Passing, Health::Warning]);
}

#[test]
fn a_text_means_what_its_key_takes() {
    let world = World::default().variables(&[
        ("LICTOR_ADMIN__TOKEN", "0123"),
        ("LICTOR_CONSUL__TOKEN", "123"),
        ("LICTOR_CONSUL__DATACENTER", "true"),
        ("LICTOR_HTTP__WORKERS", "3"),
        ("LICTOR_HTTP__MAX_BODY_SIZE", "0"),
        ("LICTOR_HTTP__LISTEN", "[::1]:80"),
        ("LICTOR_HTTP__HEALTH", ""),
        ("LICTOR_METRICS__LISTEN", r#"["127.0.0.1:81", "127.0.0.1:82"]"#),
        ("LICTOR_DEFAULTS__ACCEPT", "passing"),
        ("LICTOR_DEFAULTS__TIMEOUT", "{ total = '7s' }"),
        ("LICTOR_EXPOSE__ALLOW", "/a/, /b/"),
        ("LICTOR_SERVICES__USERS__HOST", "\"users.internal\""),
        ("LICTOR_LOG", "no key of ours"),
    ]);
    let world = world.sets(&["consul.namespace=7", "admin.listen=", "services.\"a.b\".instances=10.0.0.1:80"]);
    let config = world.sets(&["routes=[{ match = { path = '/' }, service = 'users' }]"]).load();
    assert_eq!(config.admin, Admin { listen: Vec::new(), token: Some(Secret::from("0123")) });
    let agent = consul(&config);
    assert_eq!(agent.token, Some(Secret::from("123")));
    assert_eq!((agent.datacenter.as_deref(), agent.namespace.as_deref()), (Some("true"), Some("7")));
    assert_eq!((config.http.workers, config.http.max_body_size), (3, None));
    assert_eq!(config.http.listen, ["[::1]:80".parse().unwrap()]);
    assert_eq!(config.http.health.as_deref(), Some("/health"));
    assert_eq!(config.metrics.listen.len(), 2);
    assert_eq!(config.defaults.accept, [Health::Passing]);
    assert_eq!([config.defaults.timeout.total, config.defaults.timeout.read].map(|time| time.as_secs()), [7, 10]);
    assert_eq!(config.expose.unwrap().allow, ["/a/", "/b/"]);
    assert_eq!(config.services["users"].host.as_deref(), Some("users.internal"));
    assert!(matches!(&config.services["a.b"].origin, Origin::Fixed(addresses) if addresses.len() == 1));
    assert_eq!(config.routes.len(), 1);
}

#[test]
fn a_number_is_read_from_a_text_with_decimals_or_without_and_in_a_list() {
    for (text, want) in [("0.5", 0.5), ("1", 1.0), ("1.0", 1.0), ("5e-1", 0.5), (" 0.25 ", 0.25)] {
        let keys = ["defaults.breaker.error_rate", "defaults.breaker.max_ejected", "defaults.retry.budget"];
        let sets = keys.map(|key| format!("{key}={text}"));
        let world = World::default().sets(&sets.each_ref().map(String::as_str));
        let config = world.variables(&[("LICTOR_DEFAULTS__RETRY__FACTOR", "1.5")]).load();
        let Policy { breaker, retry, .. } = config.defaults;
        let want = Share::new(want).unwrap();
        assert_eq!([breaker.error_rate, breaker.max_ejected, retry.budget], [want; 3], "{text}");
        assert_eq!(retry.factor, Factor::new(1.5).unwrap());
    }
    let lists = ["defaults.breaker.failure_status=500, 503", "defaults.retry.on=connect,503"];
    let config = World::default().sets(&lists).load();
    assert_eq!(config.defaults.breaker.failure_status, [500, 503]);
    assert_eq!(config.defaults.retry.on.len(), 2);
    let world = World::default().sets(&["defaults.retry.factor=fast", "defaults.breaker.max_ejected=\"0.4\""]);
    let problems = [
        "--set defaults.retry.factor: expected a number; got the text `fast`",
        "--set defaults.breaker.max_ejected: expected a number; got the text `0.4`",
    ];
    assert_eq!(world.problems(), problems);
}

#[test]
fn whom_to_believe_is_read_from_a_text_too() {
    let world = World::default()
        .variables(&[("LICTOR_HTTP__TRUSTED_PROXIES", "10.1.2.3/8, ::1"), ("LICTOR_HTTP__PROXY_PROTOCOL", "true")]);
    let http = world.load().http;
    assert_eq!(http.trusted_proxies, ["10.0.0.0/8", "::1/128"].map(|network| network.parse().unwrap()));
    assert!(http.proxy_protocol);
    let http = World::default().load().http;
    assert!(http.trusted_proxies.is_empty() && !http.proxy_protocol);
}

#[test]
fn consuls_own_variables_fill_what_is_left_out() {
    let address =
        |file: &str, variables: &[(&str, &str)]| consul(&World::file(file).variables(variables).load()).address.clone();
    for (file, addr, ssl, want) in [
        ("", "", "", "http://127.0.0.1:8500"),
        ("", "consul:8500", "", "http://consul:8500"),
        ("", "consul:8500", "true", "https://consul:8500"),
        ("", "consul:8500", "0", "http://consul:8500"),
        ("", "http://consul:8500/", "1", "http://consul:8500"),
        ("", "https://consul:8501", "", "https://consul:8501"),
        ("", "unix:///run/consul.sock", "", "unix:///run/consul.sock"),
        ("", "", "true", "https://127.0.0.1:8500"),
        ("[consul]\naddress = 'http://x:1'", "consul:8500", "true", "http://x:1"),
    ] {
        assert_eq!(address(file, &[("CONSUL_HTTP_ADDR", addr), ("CONSUL_HTTP_SSL", ssl)]), want, "{file} {addr} {ssl}");
    }
    let all = [
        ("CONSUL_HTTP_TOKEN", "123"),
        ("CONSUL_HTTP_TOKEN_FILE", "/token"),
        ("CONSUL_CACERT", "/ca"),
        ("CONSUL_CLIENT_CERT", "/cert"),
        ("CONSUL_CLIENT_KEY", "/key"),
        ("CONSUL_NAMESPACE", "team"),
    ];
    let config = World::default().variables(&all).load();
    assert_eq!(consul(&config).token, Some(Secret::from("123")));
    assert_eq!(consul(&config).token_file, Some("/token".into()));
    assert_eq!(consul(&config).tls.ca, Some("/ca".into()));
    assert_eq!(consul(&config).tls.client, Some(("/cert".into(), "/key".into())));
    assert_eq!(consul(&config).namespace.as_deref(), Some("team"));
    // Else the file of the environment would win over the token that was written for this program.
    let config = World::file("[consul]\ntoken = 'ours'").variables(&all).load();
    assert_eq!((&consul(&config).token, &consul(&config).token_file), (&Some(Secret::from("ours")), &None));
}

#[test]
fn without_consul_nothing_asks_for_it() {
    let config =
        World::file("[consul]\naddress = ''\ndeny = ['10.1.0.0/8']\n[services.s]\ninstances = ['localhost:80']");
    let config = config.load();
    assert_eq!((config.consul, config.expose), (None, None));
    assert_eq!(config.deny, ["10.0.0.0/8".parse().unwrap()]);
}

#[test]
fn a_route_may_name_a_service_of_consul_without_a_table() {
    let config =
        World::file("[defaults]\naccept = ['passing']\n[[routes]]\nservice = 'users'\nmatch.path = '/u/{*rest}'")
            .load();
    let want = Origin::Consul { name: "users".into(), tag: None, datacenters: Vec::new() };
    assert_eq!(
        config.services["users"],
        Service { origin: want, policy: config.defaults.clone(), host: None, protocol: None, tls: Trust::default() }
    );
    assert_eq!(config.routes[0].name.as_str(), "/u/{*rest}");
}

#[test]
fn what_is_shown_reads_as_what_is_in_force() {
    let everything =
        fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples/services.toml")).unwrap();
    for file in [
        everything.as_str(),
        "",
        "[consul]\naddress = ''\ndeny = ['10.0.0.0/8']",
        "[consul]\ndeny = ['10.0.0.0/8', '::1/128']",
        "[consul]\nregister = { name = 'edge', address = '10.0.0.5', port = 80, tags = ['a'], check = '2s' }",
        "[consul]\nregister = {}",
        "[http]\nlisten = []\nmax_body_size = 0\nhealth = ''",
        "[http]\ntrusted_proxies = ['10.0.0.0/8', '::1']\nproxy_protocol = true",
    ] {
        let config = World::file(file).load();
        let shown = World::file(&toml::to_string(&config.shown()).unwrap());
        let again = Config { files: config.files.clone(), ..shown.load() };
        assert_eq!(again, config);
    }
}

#[test]
fn a_secret_is_in_nothing_that_is_shown() {
    let world = World::file("[consul]\ntoken = 's3cr3t'\n[admin]\ntoken = 's3cr3t'");
    let config = world.load();
    assert_eq!(config.shown()["consul"]["token"], "***");
    assert!(!format!("{config:?} {}", config.shown()).contains("s3cr3t"));
}

#[test]
fn what_wants_a_restart_is_named() {
    let config = |sets: &[&str]| World::default().sets(sets).load();
    let before = config(&[]);
    for (set, want) in [
        ("http.listen=0.0.0.0:1", "http.listen"),
        ("http.workers=1000", "http.workers"),
        ("admin.listen=", "admin.listen"),
        ("metrics.listen=0.0.0.0:1", "metrics.listen"),
        ("consul.address=http://a", "consul.address"),
        ("consul.address=", "consul.address"),
        ("consul.token=a", "consul.token"),
        ("consul.token_file=a", "consul.token_file"),
        ("consul.datacenter=a", "consul.datacenter"),
        ("consul.namespace=a", "consul.namespace"),
        ("consul.tls.ca=a", "consul.tls"),
        ("consul.consistency=default", "consul.consistency"),
        ("consul.max_stale=1s", "consul.max_stale"),
        ("consul.wait=1s", "consul.wait"),
        ("consul.deny=10.0.0.0/8", ""),
        ("consul.register.name=edge", ""),
        ("expose.tag=", ""),
        ("http.max_connections=1", ""),
        ("http.trusted_proxies=10.0.0.0/8", ""),
    ] {
        assert_eq!(before.needs_restart(&config(&[set])).join(" "), want, "{set}");
    }
    assert_eq!(
        before.needs_restart(&config(&["http.workers=1000", "consul.wait=1s"])),
        ["http.workers", "consul.wait"]
    );
}
