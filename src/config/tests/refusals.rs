//! What does not hold, and the very words in which it is said.

use super::*;

/// Loads each file and compares all that is said of it.
fn refused(cases: &[(&str, &[&str])]) {
    for (file, want) in cases {
        let world = World::file(file);
        assert_eq!(world.problems(), *want, "{file}");
    }
}

#[test]
fn an_unknown_key_is_named_with_the_one_that_was_meant() {
    refused(&[
        ("\n\nhttp.lisen = ''", &["lictor.toml:3 http.lisen: unknown key; did you mean `listen`?"]),
        (
            "[htp]\n[consol]",
            &[
                "lictor.toml:1 htp: unknown key; did you mean `http`?",
                "lictor.toml:2 consol: unknown key; did you mean `consul`?",
            ],
        ),
        (
            "[metrics]\ncompletely_different = 1",
            &["lictor.toml:2 metrics.completely_different: unknown key; the keys here are `buckets` and `listen`"],
        ),
        (
            "[services.s]\npool = { max_idel = 1 }\n[[routes]]\nmatch.path = '/'\nservice = 's'\nmatch.header.x = ''",
            &[
                "lictor.toml:2 services.s.pool.max_idel: unknown key; did you mean `max_idle`?",
                "lictor.toml:6 routes[0].match.header: unknown key; did you mean `headers`?",
            ],
        ),
    ]);
}

#[test]
fn what_is_not_toml_is_said_of_every_file() {
    let world =
        World::files(&[("a.toml", "[http]\nlisten = \n"), ("b.toml", "x = 1\nx = 2"), ("c.toml", "[http]\nno = 1")]);
    let problems = world.problems();
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems[0].starts_with("a.toml:2: not TOML: "), "{problems:?}");
    assert!(problems[1].starts_with("b.toml:2: not TOML: "), "{problems:?}");
}

#[test]
fn a_file_that_was_named_has_to_exist() {
    let sources = Sources { files: vec!["no/such.toml".into()], sets: Vec::new() };
    let problems = load_from(&sources, &Variables::new()).unwrap_err().to_string();
    assert_eq!(problems, "no/such.toml: cannot be read: No such file or directory (os error 2)");
}

#[test]
fn a_listener_that_cannot_be_is_refused() {
    refused(&[
        (
            "[http]\nheader_timeout = '10sec x'",
            &["lictor.toml:2 http.header_timeout: `10sec x` is not a duration; try `10s`"],
        ),
        (
            "[http]\nkeep_alive = 10\ndrain = '10'",
            &[
                "lictor.toml:2 http.keep_alive: `10` has no unit; try `10s`",
                "lictor.toml:3 http.drain: `10` has no unit; try `10s`",
            ],
        ),
        (
            "[http]\nheader_timeout = '0s'\ndrain = '0s'\ndrain_wait = '0s'",
            &[
                "lictor.toml:2 http.header_timeout: `0s` leaves no time at all; give it some, such as `10s`, or leave it out",
            ],
        ),
        (
            "[http]\nmax_body_size = 1000\nmax_header_size = '2MiB'",
            &[
                "lictor.toml:2 http.max_body_size: `1000` has no unit; try `1000B` for bytes, or a unit such as `KiB` or `MiB`",
                "lictor.toml:3 http.max_header_size: expected a size from `1KiB` to `1MiB`; got `2MiB`",
            ],
        ),
        (
            "[http]\nmax_connections = 0\nworkers = -1\nhealth = 'health'",
            &[
                "lictor.toml:2 http.max_connections: `0` is too small; the least is `1`",
                "lictor.toml:3 http.workers: `-1` is too small; the least is `0`",
                "lictor.toml:4 http.health: expected a path such as `/health`; got `health`: a path starts with `/`",
            ],
        ),
        (
            "[http]\nworkers = 99999999999999999999\nlisten = [\n  ':8000',\n  '[::]:x',\n]",
            &[
                "lictor.toml:2 http.workers: expected a whole number; got the text `99999999999999999999`",
                "lictor.toml:4 http.listen[0]: expected an IP address and port such as `0.0.0.0:8000` or `[::]:8000`; got `:8000`",
                "lictor.toml:5 http.listen[1]: expected an IP address and port such as `0.0.0.0:8000` or `[::]:8000`; got `[::]:x`",
            ],
        ),
        (
            "[http]\ntrusted_proxies = ['10.0.0.0/8', 'proxy.internal']\nproxy_protocol = 'yes'",
            &[
                "lictor.toml:2 http.trusted_proxies[1]: expected a network such as `169.254.0.0/16`; got `proxy.internal`",
                "lictor.toml:3 http.proxy_protocol: expected `true` or `false`; got the text `yes`",
            ],
        ),
        (
            "[http]\nproxy_protocol = true",
            &["lictor.toml:2 http.proxy_protocol: nobody may send its header while `http.trusted_proxies` is empty; \
             list the balancers there, such as `10.0.0.0/8`"],
        ),
        ("http = 1", &["lictor.toml:1 http: expected a table; got the number `1`"]),
        (
            "[admin]\nlisten = '0.0.0.0:8000'",
            &["lictor.toml:2 admin.listen: `0.0.0.0:8000` is in `http.listen` already; use another port"],
        ),
    ]);
}

#[test]
fn a_consul_that_cannot_be_is_refused() {
    refused(&[
        (
            "[consul]\naddress = 'consul:8500'",
            &["lictor.toml:2 consul.address: expected `http://HOST:PORT`, `https://HOST:PORT` or `unix:///PATH`; \
             got `consul:8500`; try `http://consul:8500`"],
        ),
        (
            "[consul]\naddress = 'http://consul/v1'\n[services.s]",
            &["lictor.toml:2 consul.address: expected `http://HOST:PORT`, `https://HOST:PORT` or `unix:///PATH`; \
             got `http://consul/v1`; leave out `/v1`"],
        ),
        (
            "[consul]\nconsistency = 'stael'\nwait = '11m'\ndeny = ['10.0.0.0/8', '10.0.0.1', 'x/8']\ntls.cert = 'a'\n\
             max_watches = 1",
            &[
                "lictor.toml:2 consul.consistency: expected `stale`, `default` or `consistent`; got `stael`; did you mean `stale`?",
                "lictor.toml:3 consul.wait: expected a duration from `1s` to `10m`, which is Consul's limit; got `11m`",
                "lictor.toml:4 consul.deny[2]: expected a network such as `169.254.0.0/16`; got `x/8`",
                "lictor.toml:5 consul.tls.cert: a certificate goes with its private key; add `key`",
                "lictor.toml:6 consul.max_watches: `1` is too small; the least is `2`",
            ],
        ),
        (
            "[consul]\naddress = ''\n[services.s]\n[[routes]]\nservice = 'z'\nmatch.path = '/'",
            &[
                "lictor.toml:3 services.s: has no instances and there is no Consul; list `instances`, name them by `dns`, or set `consul.address`",
                "lictor.toml:5 routes[0].service: there is no service `z`, and no Consul that could know it; did you mean `s`?",
            ],
        ),
    ]);
}

#[test]
fn an_exposure_that_could_serve_nobody_is_refused() {
    refused(&[
        (
            "[expose]\npath = '/api/{*rest}'",
            &[
                "lictor.toml:2 expose.path: expected `{service}` in it, such as `/api/v1/{service}/{*rest}`; got `/api/{*rest}`",
            ],
        ),
        (
            "[expose]\npath = '/{service}'",
            &["lictor.toml:2 expose.path: `rewrite`, `/{rest}` when left out, does not go with it: \
             expected a parameter of the path `/service`; got `{rest}`"],
        ),
        (
            "[expose]\nrewrite = '/{id}'\nallow = ['api']\nhosts = ['a:80']",
            &[
                "lictor.toml:2 expose.rewrite: expected a parameter of the path `/api/v1/service/{*rest}`; got `{id}`",
                "lictor.toml:3 expose.allow[0]: expected the beginning of a path, such as `/api/`; got `api`: a path starts with `/`",
                "lictor.toml:4 expose.hosts[0]: expected a host without its port, which is never compared; got `a:80`",
            ],
        ),
    ]);
}

#[test]
fn rules_that_nothing_could_meet_are_refused() {
    refused(&[(
        "[defaults]\ntimeout.total = '0s'\nbalance = 'p2c'\naccept = []\nhash = 'cookie:'\n\
         [services.s]\naccept = ['warnin']\nslow_start = '10'",
        &[
            "lictor.toml:2 defaults.timeout.total: `0s` leaves no time at all; give it some, such as `10s`, or leave it out",
            "lictor.toml:3 defaults.balance: expected `consistent_hash`, `least_request`, `p2c_ewma`, `random` or \
             `round_robin`; got `p2c`",
            "lictor.toml:4 defaults.accept: no instance could ever be picked; list at least `passing`",
            "lictor.toml:5 defaults.hash: expected `ip`, `path`, `header:NAME` or `cookie:NAME`; got `cookie:`",
            "lictor.toml:7 services.s.accept[0]: expected `passing`, `warning`, `critical` or `maintenance`; got `warnin`; \
             did you mean `warning`?",
            "lictor.toml:8 services.s.slow_start: `10` has no unit; try `10s`",
        ],
    )]);
}

#[test]
fn a_service_that_cannot_be_is_refused() {
    let address = "expected a host and port such as `10.0.0.7:8002` or `[::1]:8002`";
    let instances = format!("lictor.toml:2 services.a.instances[0]: {address}; got `10.0.0.1`");
    let bare = format!(
        "lictor.toml:2 services.a.instances[1]: {address}; got `::1:80`: an IPv6 address is written in brackets"
    );
    let zero =
        format!("lictor.toml:2 services.a.instances[2]: {address}; got `[::1]:0`: port `0` is not between 1 and 65535");
    refused(&[
        ("[services.a]\ninstances = ['10.0.0.1', '::1:80', '[::1]:0']", &[&instances, &bare, &zero]),
        (
            "[services.a]\ninstances = []\ntag = 'x'\nconsul = 'y'\nhost = 'a b'",
            &[
                "lictor.toml:2 services.a.instances: the list is empty, so nobody could answer; add an address such as `10.0.0.7:8002`",
                "lictor.toml:3 services.a.tag: instances come from `instances` or from Consul, not from both; leave out `tag`",
                "lictor.toml:4 services.a.consul: instances come from `instances` or from Consul, not from both; leave out `consul`",
                "lictor.toml:5 services.a.host: expected a host such as `users.internal` or `users.internal:8080`; got `a b`",
            ],
        ),
        (
            "[services.a]\n[services.b]\nconsul = 'a'\n[services.c]\nconsul = 'a'\ntag = 'v2'",
            &[
                "lictor.toml:3 services.b.consul: `a` is the service of the table `a` already; give one of them another `tag`",
            ],
        ),
        (
            "[services.a]\ndns = 'a:b'\ntag = 'x'\n[dns]\nservers = ['127.0.0.1']",
            &[
                "lictor.toml:2 services.a.dns: expected the name of SRV records such as `_users._tcp.service.consul`, or `HOST:PORT`; got `a:b`",
                "lictor.toml:3 services.a.tag: instances come from `dns` or from Consul, not from both; leave out `tag`",
                "lictor.toml:5 dns.servers[0]: expected an IP address and port such as `127.0.0.1:8600`; got `127.0.0.1`",
            ],
        ),
        (
            "[services.'a b']",
            &["lictor.toml:1 services.\"a b\": expected the name of a service, without blanks; got `a b`"],
        ),
    ]);
}

#[test]
fn a_route_that_cannot_be_is_refused() {
    refused(&[
        (
            "[[routes]]\n[[routes]]\nname = 'consul:x'\nservice = 's'\nmatch.path = '/'",
            &[
                "lictor.toml:1 routes[0]: has no service; add `service = \"NAME\"`",
                "lictor.toml:1 routes[0]: matches nothing; add `match = { path = \"/…\" }`",
                "lictor.toml:3 routes[1].name: `consul:…` is what routes of exposed services are called; take another name",
            ],
        ),
        (
            "[services.u]\nconsul = 'users'\n[[routes]]\nname = 'a'\nservice = 'users'\nmatch.path = 'x'\n\
          [[routes]]\nname = 'a'\nservice = 'u'\nrewrite = '/{id}'\nmatch.path = '/{*rest}'",
            &[
                "lictor.toml:5 routes[0].service: the service `users` goes by the name of its table; write `u`",
                "lictor.toml:6 routes[0].match.path: expected a path that starts with `/`, such as `/api/{*rest}`; got `x`",
                "lictor.toml:8 routes[1].name: `a` is the name of the route in line 3 already; give this one another",
                "lictor.toml:10 routes[1].rewrite: expected a parameter of the path `/{*rest}`; got `{id}`",
            ],
        ),
        (
            "[[routes]]\nservice = 's'\n[routes.match]\npath = '/'\nmethods = ['get', 'G T']\nhosts = ['*']\nheaders = { 'a b' = '', x = 1 }",
            &[
                "lictor.toml:5 routes[0].match.methods[0]: methods are written in capitals; try `GET`",
                "lictor.toml:5 routes[0].match.methods[1]: expected a method such as `GET`; got `G T`",
                "lictor.toml:6 routes[0].match.hosts[0]: expected a host such as `api.example.com`, `*.example.com` or `[::1]`; got `*`",
                "lictor.toml:7 routes[0].match.headers.x: expected a text in quotes; got something else",
                "lictor.toml:7 routes[0].match.headers.\"a b\": expected the name of a header, such as `x-beta`",
            ],
        ),
        (
            "[[routes]]\nservice = 3\nmatch = []\n[[routes]]\nservice = 's'\nmatch = { path = 3, methods = [] }",
            &[
                "lictor.toml:2 routes[0].service: expected a text in quotes; got the number `3`",
                "lictor.toml:3 routes[0].match: expected a table; got a list",
                "lictor.toml:6 routes[1].match.path: expected a text in quotes such as `\"/api/v1/users/{*rest}\"`; got the number `3`",
            ],
        ),
        ("[routes]\nservice = 's'", &["lictor.toml:1 routes: expected a list of tables; got a table"]),
    ]);
}

#[test]
fn a_log_that_would_fall_silent_is_refused() {
    refused(&[(
        "[telemetry]\nlog = { format = 'xml', level = 'inof' }",
        &[
            "lictor.toml:2 telemetry.log.format: expected `text` or `json`; got `xml`",
            "lictor.toml:2 telemetry.log.level: `inof` is not a log level; try `info` or `warn,lictor=debug`",
        ],
    )]);
}

#[test]
fn variables_and_flags_are_named_as_the_place() {
    let world = World::file("[http]\nhealth = 'x'").variables(&[
        ("LICTOR_HTTP__LISTEN", "here"),
        ("LICTOR_HTTP__WORKERS", "0x"),
        ("CONSUL_HTTP_ADDR", "http://"),
    ]);
    assert_eq!(
        world.sets(&["http.drain=1", "defaults.acept=x"]).problems(),
        [
            "CONSUL_HTTP_ADDR consul.address: expected `http://HOST:PORT`, `https://HOST:PORT` or `unix:///PATH`; got `http://`",
            "lictor.toml:2 http.health: expected a path such as `/health`; got `x`: a path starts with `/`",
            "LICTOR_HTTP__LISTEN http.listen: expected an IP address and port such as `0.0.0.0:8000` or `[::]:8000`; got `here`",
            "LICTOR_HTTP__WORKERS http.workers: expected a whole number; got the text `0x`",
            "--set http.drain: `1` has no unit; try `1s`",
            "--set defaults.acept: unknown key; did you mean `accept`?",
        ]
    );
    let world = World::default().variables(&[("CONSUL_HTTP_SSL", "yes")]).sets(&["http", "a..b=1"]);
    assert_eq!(
        world.problems(),
        [
            "--set http: expected a key, `=` and a value, such as `--set http.listen=127.0.0.1:8080`",
            "--set a..b: expected keys with dots between them, such as `--set http.listen=127.0.0.1:8080`",
            "CONSUL_HTTP_SSL consul.address: expected `true` or `false`; got `yes`",
        ]
    );
}

#[test]
fn the_file_whose_value_won_is_named() {
    let world = World::files(&[
        ("a.toml", "[http]\nhealth = 'x'\ndrain = 'x'\n[[routes]]\nname = 'a'\nservice = 's'\nmatch.path = 'x'"),
        (
            "b.toml",
            "[http]\nhealth = '/'\ndrain = 'y'\n[[routes]]\nservice = 's'\nmatch.path = 'y'\n\
                    [[routes]]\nname = 'a'\nservice = 's'\nmatch.path = 'z'",
        ),
    ]);
    let path = "expected a path that starts with `/`, such as `/api/{*rest}`; got";
    assert_eq!(
        world.problems(),
        [
            "b.toml:3 http.drain: `y` is not a duration; try `10s`".to_owned(),
            format!("b.toml:6 routes[1].match.path: {path} `y`"),
            format!("b.toml:10 routes[0].match.path: {path} `z`"),
        ]
    );
}

#[test]
fn a_secret_is_in_no_problem() {
    for file in [
        "[admin]\ntoken = 's3cr3t with blanks'",
        "[admin]\ntoken = { s3cr3t = 1 }",
        "[consul]\ntoken = ['s3cr3t']",
        "[consul]\naddress = 'http://me:s3cr3t@consul'",
        "[consul]\ntoken = s3cr3t",
        "[consul]\ntoken = 's3cr3t",
        "[consul]\ntoken = \"s3cr3t\\q\"",
        "[consul]\ntoken = 's3cr3t' 's3cr3t'",
    ] {
        let problems = World::file(file).problems();
        let said = problems.iter().any(|problem| problem.contains("s3cr3t") && !problem.contains("token.s3cr3t"));
        assert!(!problems.is_empty() && !said, "{file}: {problems:?}");
    }
    let problems = World::default().variables(&[("CONSUL_HTTP_TOKEN", "s3cr3t x")]).problems();
    assert!(problems.len() == 1 && !problems[0].contains("s3cr3t"), "{problems:?}");
}

#[test]
fn tls_that_nobody_speaks_or_that_cannot_be_verified_is_refused() {
    refused(&[
        (
            "[services.s]\nprotocol = 'smtp'",
            &["lictor.toml:2 services.s.protocol: expected `http`, `h2c`, `https`, `grpc` or `grpcs`; got `smtp`"],
        ),
        (
            "[services.s]\nprotocol = 'grpc'\ntls.server_name = 'a'",
            &["lictor.toml:3 services.s.tls: there is no TLS without `protocol = \"https\"` or `\"grpcs\"`; \
               set one of them, or leave this out"],
        ),
        (
            "[services.s]\nprotocol = 'https'\ntls = { ca = 'no/such.pem', server_name = 'a b' }",
            &[
                "lictor.toml:3 services.s.tls.ca: `no/such.pem` cannot be read: No such file or directory (os error 2)",
                "lictor.toml:3 services.s.tls.server_name: expected a name or an IP address such as `users.internal`; \
                 got `a b`",
            ],
        ),
    ]);
}

#[test]
fn two_routes_that_only_their_order_tells_apart_are_refused() {
    let route = |path: &str, more: &str| format!("[[routes]]\nservice = 's'\nmatch = {{ path = '{path}'{more} }}\n");
    let file = [
        "[services.s]\n".to_owned(),
        route("/q/{id}", ", methods = ['GET', 'PUT']"),
        route("/q/{other}", ", methods = ['PUT', 'GET']"),
        route("/q/{other}", ", methods = ['PUT']"),
        route("/q/{*rest}", ", methods = ['GET', 'PUT']"),
    ]
    .concat();
    let said = World::file(&file).problems();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(
        said[0].starts_with("lictor.toml:7 routes[1].match: takes the same requests as the route in line 2"),
        "{said:?}"
    );
}
