//! What tags may claim, and what is said of those that may not.

use std::collections::BTreeMap;

use super::*;
use crate::model::instance::{Address, Health};

fn settings() -> Settings {
    Settings {
        tag: "lictor".into(),
        path: "/api/v1/{service}/{*rest}".into(),
        rewrite: Some("/{rest}".into()),
        allow: vec!["/api/".into(), "/shop".into()],
        hosts: vec!["shop.example.com".into(), "*.apps.example.com".into()],
    }
}

fn instance(create_index: u64, tags: &[&str]) -> Instance {
    Instance {
        id: format!("i{create_index}").as_str().into(),
        node: "n1".into(),
        address: Address::new("10.0.0.1", 80).unwrap(),
        health: Health::Passing,
        weight: 1,
        tags: ["lictor"].iter().chain(tags).map(|&tag| tag.to_owned()).collect(),
        meta: BTreeMap::new(),
        datacenter: "dc1".into(),
        create_index,
    }
}

fn exposure(path: &str, rewrite: Option<&str>, host: Option<&str>) -> Exposure {
    Exposure { path: path.into(), rewrite: rewrite.map(Into::into), host: host.map(Into::into), protocol: None }
}

fn one(tags: &[&str]) -> Result<Exposure, Refusal> {
    derive("web", None, &[instance(1, tags)], &settings())
}

type Case<'c> = (&'c [&'c str], &'c str, Option<&'c str>, Option<&'c str>);

#[test]
fn tags_override_the_rule_for_all() {
    let usual = "/api/v1/web/{*rest}";
    let cases: [Case<'_>; 8] = [
        (&[], usual, Some("/{rest}"), None),
        (&["v1", "lictors", "other=x"], usual, Some("/{rest}"), None),
        (&["lictor.path=/api/shop/{*rest}"], "/api/shop/{*rest}", None, None),
        (
            &["lictor.path=/api/shop/{*rest}", "lictor.rewrite=/s/{rest}?a=b"],
            "/api/shop/{*rest}",
            Some("/s/{rest}?a=b"),
            None,
        ),
        (&["lictor.rewrite=/v2/{rest}"], usual, Some("/v2/{rest}"), None),
        (&["lictor.host=Shop.Example.com"], usual, Some("/{rest}"), Some("shop.example.com")),
        (&["lictor.path=/shop", "lictor.path=/shop"], "/shop", None, None),
        (&["lictor.path=/api/%7euser"], "/api/~user", None, None),
    ];
    for (tags, path, rewrite, host) in cases {
        assert_eq!(one(tags), Ok(exposure(path, rewrite, host)), "{tags:?}");
    }
}

#[test]
fn a_protocol_is_what_its_tag_says_or_nothing() {
    assert_eq!(one(&[]).unwrap().protocol, None);
    for protocol in Protocol::ALL {
        assert_eq!(one(&[&format!("lictor.protocol={protocol}")]).unwrap().protocol, Some(protocol));
    }
}

#[test]
fn a_service_name_is_one_segment_of_the_path() {
    let exposure = derive("a/b c", None, &[instance(1, &[])], &settings()).unwrap();
    assert_eq!(exposure.path, "/api/v1/a%2Fb%20c/{*rest}");
}

#[test]
fn a_claimed_path_lies_below_an_allowed_prefix() {
    let cases = [
        ("/api/x", true),
        ("/api/{id}", true),
        ("/api/{*rest}", true),
        ("/api/", true),
        ("/shop", true),
        ("/shop/{*rest}", true),
        ("/%61pi/x", true),
        ("/api", false),
        ("/apix", false),
        ("/apix/y", false),
        ("/API/x", false),
        ("/shopping", false),
        ("/{x}/y", false),
        ("/{*rest}", false),
        ("/", false),
        ("//api/x", false),
        ("/x/api/y", false),
        ("/api%2Fx", false),
    ];
    for (path, allowed) in cases {
        let told = one(&[&format!("lictor.path={path}")]);
        let refused = matches!(told, Err(Refusal::PathNotAllowed(_)));
        assert_eq!((told.is_ok(), refused), (allowed, !allowed), "{path}");
    }
    assert!(matches!(one(&["lictor.path=/api/../x"]), Err(Refusal::Path(..))));
    assert!(matches!(one(&["lictor.path="]), Err(Refusal::Path(..))));
    let open = Settings { allow: vec!["/".into()], ..settings() };
    assert!(derive("web", None, &[instance(1, &["lictor.path=/{*all}"])], &open).is_ok());
    let odd = Settings { allow: vec!["/{any}/".into(), "nonsense".into()], ..settings() };
    assert!(derive("web", None, &[instance(1, &["lictor.path=/{any}/x"])], &odd).is_err());
}

#[test]
fn a_claimed_host_is_one_of_those_allowed() {
    let cases = [
        ("shop.example.com", true),
        ("a.apps.example.com", true),
        ("a.b.apps.example.com", true),
        ("*.apps.example.com", true),
        ("*.a.apps.example.com", true),
        ("apps.example.com", false),
        ("badapps.example.com", false),
        ("*.shop.example.com", false),
        ("*.example.com", false),
        ("a.shop.example.com", false),
    ];
    for (host, allowed) in cases {
        let told = one(&[&format!("lictor.host={host}")]);
        let refused = matches!(told, Err(Refusal::HostNotAllowed(_)));
        assert_eq!((told.is_ok(), refused), (allowed, !allowed), "{host}");
    }
    assert!(matches!(one(&["lictor.host=a b"]), Err(Refusal::Host(..))));
}

#[test]
fn a_tag_that_cannot_be_honoured_is_named() {
    let cases: [(&[&str], &str); 5] = [
        (&["lictor.pth=/x"], "tag `lictor.pth=/x`: there is no `lictor.pth`; is `lictor.path` meant?"),
        (
            &["lictor.weight=3"],
            "tag `lictor.weight=3`: there is no `lictor.weight`; \
             known are `lictor.host`, `lictor.path`, `lictor.protocol`, `lictor.rewrite`",
        ),
        (&["lictor.protocol=smtp"], "tag `lictor.protocol=smtp`: expected `http`, `h2c`, `https`, `grpc` or `grpcs`"),
        (
            &["lictor.path=/shop", "lictor.path=/api/x"],
            "tags `lictor.path=/shop` and `lictor.path=/api/x` contradict each other",
        ),
        (&["lictor.path=/admin"], "tag `lictor.path=/admin`: not below any of `expose.allow`"),
    ];
    for (tags, want) in cases {
        assert_eq!(one(tags).unwrap_err().to_string(), want, "{tags:?}");
    }
}

#[test]
fn what_is_in_force_stays_until_no_member_asks_for_it() {
    let (old, new) = (instance(1, &["lictor.path=/shop/old"]), instance(2, &["lictor.path=/shop/new"]));
    let claims = |path| exposure(path, None, None);
    let both = [new.clone(), old.clone()];
    assert_eq!(derive("web", None, &both, &settings()), Ok(claims("/shop/old")));
    assert_eq!(derive("web", Some(&claims("/shop/new")), &both, &settings()), Ok(claims("/shop/new")));
    assert_eq!(derive("web", Some(&claims("/shop/old")), &[new], &settings()), Ok(claims("/shop/new")));
    assert_eq!(derive("web", Some(&claims("/shop/gone")), &both, &settings()), Ok(claims("/shop/old")));
    assert_eq!(derive("web", Some(&claims("/shop/old")), &[], &settings()), Ok(claims("/shop/old")));
    assert_eq!(derive("web", None, &[], &settings()), Err(Refusal::Unseen));
    // A newcomer with a bad tag takes nothing away; the oldest one does.
    let bad = instance(0, &["lictor.nonsense"]);
    assert_eq!(
        derive("web", Some(&claims("/shop/old")), &[bad.clone(), old.clone()], &settings()),
        Ok(claims("/shop/old"))
    );
    assert!(derive("web", None, &[bad, old], &settings()).is_err());
}

#[test]
fn a_tag_of_the_same_beginning_may_expose() {
    let own = Settings { tag: "lictor.on".into(), ..settings() };
    assert!(derive("web", None, &[instance(1, &["lictor.on"])], &own).is_ok());
}

#[test]
fn who_asks_for_something_else_than_what_is_in_force_is_named() {
    let (old, new) = (instance(1, &["lictor.path=/shop/old"]), instance(2, &["lictor.path=/shop/new"]));
    let in_force = exposure("/shop/old", None, None);
    let said = |tagged: &[Instance]| dissent("web", &in_force, tagged, &settings());
    assert_eq!(said(std::slice::from_ref(&old)), None);
    let want = "instance `i2` would have it serve `/shop/new`; \
                what is in force stays until no instance asks for it: `/shop/old`";
    assert_eq!(said(&[new, old.clone()]).as_deref(), Some(want));
    let bad = said(&[old, instance(3, &["lictor.path=/admin"])]).unwrap();
    assert!(bad.starts_with("instance `i3` cannot be honoured: tag `lictor.path=/admin`: not below any"), "{bad}");
}
