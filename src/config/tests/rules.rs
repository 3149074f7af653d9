//! `breaker`, `retry` and `buckets`: what is read of them, merged key by key, and refused.

use super::*;

#[test]
fn a_service_leaves_out_what_is_as_in_the_defaults_and_all_reads_as_it_is_shown() {
    let config = World::file(
        "[defaults]\nbreaker = { consecutive = 3, max_ejected = 1 }\nretry = { on = [503, 'reset', 'reset'], factor = 1.5 }\n\
         [services.s]\nbreaker = { error_rate = 0.25, failure_status = [503, 500] }\nretry = { attempts = 1 }",
    )
    .load();
    let policy = &config.services["s"].policy;
    assert_eq!((policy.breaker.consecutive, policy.breaker.error_rate.to_string().as_str()), (3, "0.25"));
    assert_eq!((policy.breaker.max_ejected.of(7), &policy.breaker.failure_status[..]), (7, &[500, 503][..]));
    assert_eq!(
        (policy.retry.attempts, policy.retry.factor, policy.retry.on.len()),
        (1, crate::upstream::retry::Factor::new(1.5).unwrap(), 2)
    );
    let shown = World::file(&toml::to_string(&config.shown()).unwrap()).load();
    assert_eq!((shown.defaults, shown.services), (config.defaults.clone(), config.services.clone()));
    assert!(jsonschema::validator_for(&schema()).unwrap().is_valid(&config.shown()));
}

#[test]
fn a_route_sets_single_keys_over_those_of_its_service() {
    let config = World::file(
        "[defaults.timeout]\ntotal = '20s'\n[services.s]\ntimeout.read = '3s'\nretry = { attempts = 5, max_body = '1KiB' }\n\
         [[routes]]\nname = 'a'\nservice = 's'\nmatch.path = '/a'\ntimeout.total = '2s'\nretry.attempts = 1\n\
         [[routes]]\nname = 'b'\nservice = 's'\nmatch.path = '/b'\n\
         [[routes]]\nname = 'c'\nservice = 'other'\nmatch.path = '/c'\nretry = { on = [503] }",
    )
    .load();
    let service = &config.services["s"].policy;
    let [a, b, c] = [0, 1, 2].map(|n| &config.routes[n]);
    let over = a.policy(service).unwrap();
    assert_eq!((over.timeout.total.as_secs(), over.timeout.read.as_secs()), (2, 3));
    assert_eq!((over.retry.attempts, over.retry.max_body), (1, 1024));
    assert_eq!((&over.breaker, &over.accept), (&service.breaker, &service.accept));
    assert_eq!(b.policy(service), None);
    let other = c.policy(&config.services["other"].policy).unwrap();
    assert_eq!((other.timeout.total.as_secs(), other.retry.attempts, other.retry.on.len()), (20, 3, 1));
    let shown = World::file(&toml::to_string(&config.shown()).unwrap()).load();
    assert_eq!(shown.routes, config.routes);
}

#[test]
fn what_a_route_cannot_wait_or_retry_by_is_refused_in_its_place() {
    for (keys, want) in [
        ("timeout.total = '0s'", "routes[0].timeout.total: `0s` leaves no time at all"),
        ("timeout.totl = '1s'", "routes[0].timeout.totl: unknown key; did you mean `total`?"),
        ("retry = { attempts = 0 }", "routes[0].retry.attempts: `0` is too small; the least is `1`"),
        ("retry = { on = ['resets'] }", "routes[0].retry.on[0]: expected `connect`, `reset`"),
    ] {
        let problems = World::file(&format!("[[routes]]\nservice = 's'\nmatch.path = '/'\n{keys}")).problems();
        let want = format!("lictor.toml:4 {want}");
        assert!(problems.len() == 1 && problems[0].starts_with(&want), "{keys}: {problems:?}, not {want}");
    }
}

#[test]
fn what_no_circuit_and_no_retry_could_go_by_is_refused() {
    for (keys, want) in [
        ("breaker = { error_rate = 1.5 }", "defaults.breaker.error_rate: expected a part between 0.0 and 1.0"),
        ("breaker = { error_rate = 0.0 }", "defaults.breaker.error_rate: at `0.0` any request would open a circuit"),
        ("breaker = { error_rate = 'x' }", "defaults.breaker.error_rate: expected a number; got the text `x`"),
        ("breaker = { window = '2m' }", "defaults.breaker.window: expected between `1s` and `60s`; got `2m`"),
        ("breaker = { open = '2m' }", "defaults.breaker.open: `open` is `2m`, and `max_open` is less: `60s`"),
        ("breaker = { failure_status = [200] }", "defaults.breaker.failure_status[0]: `200` is too small"),
        ("breaker = { min_requests = 0 }", "defaults.breaker.min_requests: `0` is too small"),
        ("retry = { attempts = 0 }", "defaults.retry.attempts: `0` is too small; the least is `1`"),
        ("retry = { factor = 0.5 }", "defaults.retry.factor: expected a factor between 1.0 and 100.0"),
        ("retry = { budget = 2 }", "defaults.retry.budget: expected a part between 0.0 and 1.0"),
        ("retry = { on = ['resets'] }", "defaults.retry.on[0]: expected `connect`, `reset`"),
        ("retry = { methods = ['get'] }", "defaults.retry.methods[0]: expected a method in capitals"),
        ("retry = { max_body = '1GiB' }", "defaults.retry.max_body: `1GiB` for each request is too much"),
        ("retry = { max_backoff = '2m' }", "defaults.retry.max_backoff: expected at most `1m`; got `2m`"),
    ] {
        let problems = World::file(&format!("[defaults]\n{keys}")).problems();
        let want = format!("lictor.toml:2 {want}");
        assert!(problems.len() == 1 && problems[0].starts_with(&want), "{keys}: {problems:?}, not {want}");
    }
}

#[test]
fn buckets_are_as_written_and_ascend() {
    let config = World::file("[metrics]\nbuckets = ['5ms', '1s']").load();
    assert_eq!(config.shown()["metrics"]["buckets"], serde_json::json!(["5ms", "1s"]));
    for bad in ["['1s', '5ms']", "[]", "['0s', '1s']", "['soon']"] {
        let problems = World::file(&format!("[metrics]\nbuckets = {bad}")).problems();
        assert!(problems.len() == 1 && problems[0].starts_with("lictor.toml:2 metrics.buckets"), "{problems:?}");
    }
}

#[test]
fn datacenters_need_blocking_queries_each() {
    // What is said of `consul.max_watches` beside two datacenters, one of which two services name.
    let said = |consul: &str| {
        let services = "[services.a]\ndatacenters = ['dc1', 'dc2']\n[services.b]\ndatacenters = ['dc2']\n";
        World::file(&format!("{services}[consul]\n{consul}")).problems()
    };
    let want = |least: &str, got: usize| {
        vec![format!(
            "lictor.toml:6 consul.max_watches: expected at least {least} and up to 2 for each datacenter that services name \
             (`dc1`, `dc2`); got `{got}`"
        )]
    };
    assert_eq!(said("max_watches = 5"), want("`6`: 2 for services, 1 for `consul.config`,", 5));
    assert_eq!(said("max_watches = 4\nconfig = ''"), want("`5`: 2 for services,", 4));
    for fine in ["max_watches = 6", "max_watches = 5\nconfig = ''", ""] {
        assert_eq!(said(fine), Vec::<String>::new(), "{fine}");
    }
}

#[test]
fn datacenters_are_in_the_order_in_which_they_are_written_and_named_as_consul_names_them() {
    let config = World::file("[services.a]\ndatacenters = ['dc2', 'eu-west_1']\n[services.b]\ndatacenters = []").load();
    let names =
        |service: &str| config.services[service].datacenters().iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!((names("a"), names("b")), (vec!["dc2".to_owned(), "eu-west_1".to_owned()], vec![]));
    assert_eq!(config.shown()["services"]["a"]["datacenters"], serde_json::json!(["dc2", "eu-west_1"]));

    let name = "expected the name of a datacenter such as `dc2`, in small letters; got";
    let refused = World::file(
        "[services.a]\ndatacenters = ['dc1', 'DC2', '', 'dc1']\n[services.b]\ninstances = ['h:1']\ndatacenters = ['dc1']",
    );
    assert_eq!(
        refused.problems(),
        [
            "lictor.toml:2 services.a.datacenters[3]: `dc1` is in the list already".to_owned(),
            format!("lictor.toml:2 services.a.datacenters[1]: {name} `DC2`"),
            format!("lictor.toml:2 services.a.datacenters[2]: {name} ``"),
            "lictor.toml:5 services.b.datacenters: instances come from `instances` or from Consul, not from both; leave out `datacenters`".to_owned(),
        ]
    );
}
