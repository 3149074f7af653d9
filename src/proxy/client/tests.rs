//! Who is believed about what, by table, and what nobody can bring about.

use http::Version;
use proptest::prelude::*;

use super::{
    super::{headers::outbound, told::Told},
    *,
};

const PROXY: &str = "10.0.0.1";

fn networks() -> Vec<IpNet> {
    ["10.0.0.0/8", "2001:db8:a::/48"].map(|network| network.parse().unwrap()).to_vec()
}

fn from(peer: &str) -> Client {
    Client::new((peer.parse::<IpAddr>().unwrap(), 4711).into(), "http")
}

fn map(fields: &[(&str, &str)]) -> Fields {
    let mut headers = Fields::new();
    for (name, value) in fields {
        headers.append(HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap());
    }
    headers
}

fn found(peer: &str, fields: &[(&str, &str)]) -> Caller {
    resolve(&from(peer), &map(fields), &networks())
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn the_client_is_the_rightmost_address_that_is_not_trusted() {
    for (lines, want, via) in [
        (&["192.0.2.1"][..], "192.0.2.1", &[PROXY][..]),
        (&["6.6.6.6, 192.0.2.1"], "192.0.2.1", &[PROXY]),
        (&["6.6.6.6,192.0.2.1 , 10.0.0.2"], "192.0.2.1", &["10.0.0.2", PROXY]),
        (&["6.6.6.6", "192.0.2.1", "10.0.0.2"], "192.0.2.1", &["10.0.0.2", PROXY]),
        (&["10.0.0.3, 10.0.0.2"], "10.0.0.3", &["10.0.0.2", PROXY]),
        (&["10.0.0.9, 6.6.6.6, 10.0.0.2"], "6.6.6.6", &["10.0.0.2", PROXY]),
        (&["192.0.2.1, 2001:db8:a::7"], "192.0.2.1", &["2001:db8:a::7", PROXY]),
        (&["192.0.2.1, ::ffff:10.0.0.2"], "192.0.2.1", &["10.0.0.2", PROXY]),
        (&["192.0.2.1, 10.0.0.2, 10.0.0.3:80"], "192.0.2.1", &["10.0.0.2", "10.0.0.3", PROXY]),
    ] {
        let fields: Vec<_> = lines.iter().map(|line| ("x-forwarded-for", *line)).collect();
        let caller = found(PROXY, &fields);
        assert_eq!(caller.address, ip(want), "{lines:?}");
        assert_eq!(caller.via, via.iter().map(|text| ip(text)).collect::<Vec<_>>(), "{lines:?}");
        assert_eq!((caller.scheme, caller.host), ("http", None), "{lines:?}");
    }
}

#[test]
fn an_address_is_read_in_every_spelling_and_nothing_else_is() {
    for (text, want) in [
        ("192.0.2.1", "192.0.2.1"),
        ("192.0.2.1:65535", "192.0.2.1"),
        ("192.0.2.1:_hidden", "192.0.2.1"),
        ("2001:DB8::1", "2001:db8::1"),
        ("2001:db8:0:0::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("[::ffff:192.0.2.1]:80", "192.0.2.1"),
    ] {
        assert_eq!(address(text.as_bytes()), Some(ip(want)), "{text}");
    }
    for text in [
        "",
        "unknown",
        "_hidden",
        "localhost",
        "192.0.2",
        "192.0.2.256",
        "192.0.2.01",
        "192.0.2.1:",
        "192.0.2.1:65536",
        "192.0.2.1:+80",
        "192.0.2.1:80:80",
        "192.0.2.1/24",
        "[192.0.2.1]",
        "[2001:db8::1",
        "2001:db8::1]",
        "[2001:db8::1]80",
        "[2001:db8::1]:",
        "[fe80::1%eth0]",
        "fe80::1%eth0",
        "\"192.0.2.1\"",
        "192.0.2.1 192.0.2.2",
        "0x7f.1",
        "\u{e9}",
    ] {
        assert_eq!(address(text.as_bytes()), None, "{text}");
    }
}

#[test]
fn what_is_no_address_ends_the_walk_at_the_last_one_believed() {
    for odd in ["unknown", "_hidden", "", "192.0.2.1 x", "\"192.0.2.1\"", "::g"] {
        let caller = found(PROXY, &[("x-forwarded-for", &format!("6.6.6.6, {odd}, 10.0.0.2"))]);
        assert_eq!((caller.address, caller.via), (ip("10.0.0.2"), vec![ip(PROXY)]), "{odd:?}");
        let caller = found(PROXY, &[("x-forwarded-for", &format!("6.6.6.6, {odd}"))]);
        assert_eq!((caller.address, caller.via), (ip(PROXY), vec![]), "{odd:?}");
    }
}

#[test]
fn no_more_than_so_many_hops_are_walked() {
    let chain = |hops: usize| format!("192.0.2.1{}", ", 10.0.0.2".repeat(hops));
    let caller = found(PROXY, &[("x-forwarded-for", &chain(MAX_HOPS - 1))]);
    assert_eq!((caller.address, caller.via.len()), (ip("192.0.2.1"), MAX_HOPS));
    let forwarded = chain(500).replace("192.", "for=192.").replace("10.", "for=10.");
    for (field, told) in [("x-forwarded-for", &chain(500)), ("forwarded", &forwarded)] {
        let caller = found(PROXY, &[(field, told)]);
        assert_eq!((caller.address, caller.via.len()), (ip("10.0.0.2"), MAX_HOPS), "{field}");
    }
}

#[test]
fn an_ipv4_peer_is_one_also_where_it_comes_as_ipv6() {
    let caller = found("::ffff:10.0.0.1", &[("x-forwarded-for", "192.0.2.1")]);
    assert_eq!((caller.address, caller.via), (ip("192.0.2.1"), vec![ip(PROXY)]));
}

#[test]
fn scheme_and_host_are_those_told_together_with_the_client() {
    for (addresses, protos, hosts, want) in [
        (Some("192.0.2.1"), Some("https"), Some("a.example"), ("https", Some("a.example"))),
        (Some("192.0.2.1"), Some("HTTPS"), Some("a.example:81"), ("https", Some("a.example:81"))),
        // Nobody appended an address, but a proxy said how it was called.
        (None, Some("https"), Some("[::1]:8"), ("https", Some("[::1]:8"))),
        // The client wrote the first, the proxy added its own.
        (Some("192.0.2.1"), Some("https, http"), Some("evil, a"), ("http", Some("a"))),
        (Some("6.6.6.6, 192.0.2.1"), Some("https,http"), Some("evil,a"), ("http", Some("a"))),
        // Two trusted proxies: the outer one knows.
        (Some("192.0.2.1, 10.0.0.2"), Some("https, http"), Some("a, b"), ("https", Some("a"))),
        (Some("192.0.2.1, 10.0.0.2"), Some("https"), Some("a"), ("https", Some("a"))),
        (Some("192.0.2.1, 10.0.0.2"), Some("http, https, http"), Some("evil, a, b"), ("https", Some("a"))),
        // Nobody knows who wrote which.
        (Some("192.0.2.1, 10.0.0.3, 10.0.0.2"), Some("https, http"), Some("a, b"), ("http", None)),
        // Not valid.
        (Some("192.0.2.1"), Some("wss"), Some("a/b"), ("http", None)),
        (Some("192.0.2.1"), Some(""), Some(""), ("http", None)),
        (Some("192.0.2.1"), Some("https\""), Some("user@a"), ("http", None)),
        (Some("192.0.2.1"), None, Some("a:0"), ("http", None)),
    ] {
        let fields = [("x-forwarded-for", addresses), ("x-forwarded-proto", protos), ("x-forwarded-host", hosts)];
        let fields: Vec<_> = fields.into_iter().filter_map(|(name, told)| Some((name, told?))).collect();
        let caller = found(PROXY, &fields);
        let host = caller.host.as_ref().map(|host| host.to_str().unwrap());
        assert_eq!((caller.scheme, host, caller.came_by), (want.0, want.1, "http"), "{fields:?}");
    }
}

#[test]
fn forwarded_is_read_as_its_rfc_has_it() {
    for (lines, address, scheme, host) in [
        (&["for=192.0.2.1"][..], "192.0.2.1", "http", None),
        (&["For=192.0.2.1;Proto=HTTPS;Host=\"a.example:8\""], "192.0.2.1", "https", Some("a.example:8")),
        (&["proto=https ; by=10.0.0.1; for=\"192.0.2.1:80\""], "192.0.2.1", "https", None),
        (&["for=\"[2001:db8::1]:80\";host=[::1]:80"], "2001:db8::1", "http", Some("[::1]:80")),
        (&["for=[2001:db8::1]"], "2001:db8::1", "http", None),
        (&["for=\"192.0.2\\.1\""], "192.0.2.1", "http", None),
        (&["for=6.6.6.6;proto=https, for=192.0.2.1;host=a"], "192.0.2.1", "http", Some("a")),
        (&["for=6.6.6.6", "for=192.0.2.1;proto=https,for=10.0.0.2;proto=http"], "192.0.2.1", "https", None),
        (&["for=6.6.6.6, for=unknown;proto=https"], PROXY, "https", None),
        (&["for=6.6.6.6, for=_gazonk"], PROXY, "http", None),
        (&["for=6.6.6.6, proto=https"], PROXY, "https", None),
        (&["for=6.6.6.6, for=_hidden;proto=http, for=10.0.0.2;proto=https"], "10.0.0.2", "https", None),
        (&["for=192.0.2.1;ext=\"a,b;c=\\\"d\""], "192.0.2.1", "http", None),
        (&["for=\"192.0.2.1, 6.6.6.6\""], PROXY, "http", None),
    ] {
        let fields: Vec<_> = lines.iter().map(|line| ("forwarded", *line)).collect();
        let caller = found(PROXY, &fields);
        let told = caller.host.as_ref().map(|host| host.to_str().unwrap());
        assert_eq!((caller.address, caller.scheme, told), (ip(address), scheme, host), "{lines:?}");
    }
}

#[test]
fn a_malformed_line_of_forwarded_says_nothing_at_all() {
    for line in [
        "",
        "for",
        "for=",
        "for =192.0.2.1",
        "for= 192.0.2.1",
        "=192.0.2.1",
        ",for=192.0.2.1",
        "for=192.0.2.1,",
        "for=192.0.2.1;",
        "for=192.0.2.1;;proto=https",
        "for=192.0.2.1 proto=https",
        "for=\"192.0.2.1",
        "for=\"192.0.2.1\\",
        "for=\"192.0.2.1\"x",
        "for=6.6.6.6;for=192.0.2.1",
        "for=6.6.6.6;FOR=6.6.6.6",
        "for=192.0.2.1;proto=https;x y=1",
        // What a client left open, and what a proxy added to it.
        "x=\", for=\"192.0.2.1:80\"",
        "for=\"6.6.6.6, for=192.0.2.1;host=\"a\"",
    ] {
        let caller = found(PROXY, &[("forwarded", line)]);
        assert_eq!((caller.address, caller.scheme, caller.host), (ip(PROXY), "http", None), "{line:?}");
        // Nor is what stands before it believed.
        let caller = found(PROXY, &[("forwarded", "for=6.6.6.6"), ("forwarded", line)]);
        assert_eq!(caller.address, ip(PROXY), "{line:?}");
    }
}

#[test]
fn one_family_of_fields_is_read_alone() {
    let forwarded = ("forwarded", "for=6.6.6.6;proto=https;host=evil");
    let caller = found(PROXY, &[forwarded, ("x-forwarded-for", "192.0.2.1")]);
    assert_eq!((caller.address, caller.scheme, caller.host), (ip("192.0.2.1"), "http", None));
    let caller = found(PROXY, &[forwarded, ("x-forwarded-for", "unknown")]);
    assert_eq!(caller.address, ip(PROXY));
    let caller = found(PROXY, &[("forwarded", "for=192.0.2.1"), ("x-forwarded-proto", "https")]);
    assert_eq!((caller.address, caller.scheme), (ip("192.0.2.1"), "http"));
}

#[test]
fn upstream_is_told_the_believed_hops_and_nothing_else() {
    let sent = |fields: &[(&str, &str)]| {
        let mut headers = map(fields);
        headers.insert(header::HOST, HeaderValue::from_static("b:80"));
        let caller = resolve(&from(PROXY), &headers, &networks());
        let (host, ours) = outbound(&mut headers, Version::HTTP_11, &caller, &Told::default());
        assert_eq!(host, "b:80");
        headers.extend(ours.fields().iter().cloned());
        let told = ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "forwarded"];
        assert!(headers.iter().all(|(name, _)| told.contains(&name.as_str()) || name == "via"), "{headers:?}");
        told.map(|name| headers.text(name).to_owned())
    };
    let others = [
        ("x-forwarded-port", "1"),
        ("x-forwarded-prefix", "/p"),
        ("x-forwarded-server", "s"),
        ("x-forwarded-ssl", "on"),
        ("x-forwarded", "f"),
        ("x-real-ip", "6.6.6.6"),
        ("x_forwarded_for", "6.6.6.6"),
    ];
    let ours = [PROXY, "http", "b:80", "for=10.0.0.1;host=\"b:80\";proto=http"];
    assert_eq!(sent(&others), ours);
    let told = [
        ("x-forwarded-for", "6.6.6.6, [2001:db8::1]:9, 10.0.0.2:80"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "a.example"),
        ("forwarded", "for=6.6.6.6"),
    ];
    assert_eq!(
        sent(&[&told[..], &others[..]].concat()),
        [
            "2001:db8::1, 10.0.0.2, 10.0.0.1",
            "https",
            "a.example",
            "for=\"[2001:db8::1]\";host=\"a.example\";proto=https, for=10.0.0.2, for=10.0.0.1;host=\"b:80\";proto=http"
        ]
    );
    assert_eq!(
        sent(&[("x-forwarded-proto", "https")]),
        [PROXY, "https", "b:80", "for=10.0.0.1;host=\"b:80\";proto=https"]
    );
}

fn claims() -> impl Strategy<Value = Vec<(&'static str, String)>> {
    let names =
        ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "forwarded", "x-real-ip", "x_forwarded_for"];
    let word = prop_oneof![
        Just("10.0.0.2".to_owned()),
        Just("192.0.2.9".to_owned()),
        Just("https".to_owned()),
        Just("for=\"[2001:db8:a::1]:8\";proto=https".to_owned()),
        Just(", ".to_owned()),
        "[ -~]{0,12}",
    ];
    let value = prop::collection::vec(word, 0..6).prop_map(|words| words.concat());
    prop::collection::vec((prop::sample::select(names.to_vec()), value), 0..6)
}

fn borrowed<'a>(claims: &'a [(&'static str, String)]) -> Vec<(&'a str, &'a str)> {
    claims.iter().map(|(name, value)| (*name, value.as_str())).collect()
}

proptest! {
    #[test]
    fn a_peer_that_is_not_trusted_can_change_nothing(claims in claims()) {
        let told = |fields: &[(&str, &str)]| {
            let mut headers = map(fields);
            let caller = resolve(&from("192.0.2.7"), &headers, &networks());
            let (_, ours) = outbound(&mut headers, Version::HTTP_11, &caller, &Told::default());
            (caller, headers, ours.fields().to_vec())
        };
        prop_assert_eq!(told(&borrowed(&claims)), told(&[]));
    }

    #[test]
    fn what_a_client_wrote_before_its_proxy_did_moves_nobodys_address(claims in claims(), own in "[ -~]{0,40}") {
        let mut fields = borrowed(&claims);
        fields.push(("x-forwarded-for", &own));
        fields.push(("x-forwarded-for", "192.0.2.7, 10.0.0.2"));
        let caller = found(PROXY, &fields);
        prop_assert_eq!(caller.address, ip("192.0.2.7"));
        prop_assert_eq!(caller.via, vec![ip("10.0.0.2"), ip(PROXY)]);
    }

    #[test]
    fn no_client_makes_its_trusted_proxys_forwarded_name_another(own in "[ -~]{0,40}") {
        let added = format!("{own}, for=\"192.0.2.7:80\";proto=http");
        let caller = found(PROXY, &[("forwarded", &added)]);
        prop_assert!([ip("192.0.2.7"), ip(PROXY)].contains(&caller.address), "{}", caller.address);
    }
}
