//! `[consul] register`: what the gateway may register itself as.

use super::*;

/// The problems of a file, as they are printed.
fn problems(file: &str) -> String {
    World::file(file).problems().join("\n")
}

#[test]
fn what_is_left_out_is_as_users_of_consul_expect() {
    let config = World::file("[consul]\nregister = {}").load();
    let register = config.consul.unwrap().register.unwrap();
    assert_eq!((register.name.as_str(), &register.address, register.port), ("lictor", &None, None));
    assert_eq!((register.tags.len(), register.check), (0, std::time::Duration::from_secs(10)));
    for off in ["", "[consul]\nregister = { name = '' }", "[consul]\naddress = ''\nregister = {}"] {
        assert!(World::file(off).load().consul.is_none_or(|consul| consul.register.is_none()), "{off}");
    }
}

#[test]
fn a_gateway_does_not_register_what_it_would_send_requests_to() {
    for (file, want) in [
        ("[consul]\nregister = { tags = ['lictor'] }", "consul.register.tags: `lictor` is the tag of `[expose]`"),
        ("[consul]\nregister = { tags = ['a'] }\n[expose]\ntag = 'a'", "consul.register.tags: `a` is the tag"),
        ("[consul]\nregister = {}\n[services.lictor]", "consul.register.name: `lictor` is what the service `lictor`"),
        (
            "[consul]\nregister = { tags = ['a'] }\n[services.s]\nconsul = 'lictor'\ntag = 'a'",
            "the service `s` is made of",
        ),
    ] {
        assert!(problems(file).contains(want), "{file}: {}", problems(file));
    }
    for file in [
        "[consul]\nregister = { tags = ['lictor'] }\n[expose]\ntag = ''",
        "[consul]\nregister = { tags = ['a'] }\n[services.s]\nconsul = 'lictor'\ntag = 'b'",
        "[consul]\nregister = {}\n[services.lictor]\ninstances = ['10.0.0.1:80']",
    ] {
        World::file(file).load();
    }
}

#[test]
fn every_value_is_judged() {
    for (register, want) in [
        ("name = 'a b'", "register.name: expected a name of letters"),
        ("address = '0.0.0.0'", "register.address: expected an IP address or a host"),
        ("address = '10.0.0.5:80'", "register.address: expected an IP address or a host"),
        ("address = '*.example.com'", "register.address: expected an IP address or a host"),
        ("check = '500ms'", "register.check: expected a duration from `1s` to `10m`"),
        ("check = '11m'", "register.check: expected a duration from `1s` to `10m`"),
        ("port = 0", "register.port: `0` is too small"),
        ("port = 65536", "register.port: `65536` is too great"),
        ("nam = 'x'", "register.nam: unknown key; did you mean `name`?"),
    ] {
        let file = format!("[consul]\nregister = {{ {register} }}");
        assert!(problems(&file).contains(want), "{register}: {}", problems(&file));
    }
    let file = "[consul]\nregister = {}\n[http]\nlisten = ''";
    assert!(problems(file).contains("consul.register: there is no `http.listen`"), "{}", problems(file));
    World::file("[consul]\nregister = { address = 'fd00::1', port = 80 }\n[http]\nlisten = ''").load();
}
