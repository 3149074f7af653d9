//! Which route serves a request: those of the configuration, beside those of tags.

use http::Method;

use crate::support::{Consul, Gateway, Origin};

async fn fixed(services: &[(&str, &Origin)], routes: &str) -> Gateway {
    let tables = services.iter().map(|(name, o)| format!("[services.{name}]\ninstances = [\"{}\"]\n", o.address));
    Gateway::fixed(&format!("{}{routes}", tables.collect::<String>())).await
}

#[tokio::test]
async fn the_most_specific_route_serves_a_request() {
    let (all, me, beta, host, wild) = (
        Origin::start("all").await,
        Origin::start("me").await,
        Origin::start("beta").await,
        Origin::start("host").await,
        Origin::start("wild").await,
    );
    let routes = r#"
        [[routes]]
        match = { path = "/users/{*rest}" }
        service = "all"
        [[routes]]
        match = { path = "/users/me", methods = ["GET", "POST"] }
        service = "me"
        [[routes]]
        match = { path = "/users/me", headers = { x-beta = "1" }, methods = ["GET"] }
        service = "beta"
        [[routes]]
        match = { path = "/{*rest}", hosts = ["api.example.com"] }
        service = "host"
        [[routes]]
        match = { path = "/{*rest}", hosts = ["*.example.com"] }
        service = "wild"
    "#;
    let services = [("all", &all), ("me", &me), ("beta", &beta), ("host", &host), ("wild", &wild)];
    let gateway = fixed(&services, routes).await;

    for (method, path, header, want) in [
        (Method::GET, "/users", ("x-a", "1"), "all"),
        (Method::GET, "/users/7?me", ("x-a", "1"), "all"),
        (Method::GET, "/users/me", ("x-a", "1"), "me"),
        (Method::POST, "/users/me", ("x-beta", "1"), "me"),
        (Method::DELETE, "/users/me", ("x-a", "1"), "all"),
        (Method::GET, "/users/me", ("x-beta", "1"), "beta"),
        (Method::GET, "/users/me", ("x-beta", "2"), "me"),
        (Method::GET, "/users/me", ("host", "API.example.com:8000"), "host"),
        (Method::GET, "/users/me", ("host", "b.example.com"), "wild"),
        (Method::GET, "/users/%6de", ("x-a", "1"), "me"),
        (Method::GET, "/users/x/../me", ("x-a", "1"), "me"),
    ] {
        let answer = gateway.send(method.clone(), path, &[header], "").await;
        assert_eq!((answer.status.as_u16(), answer.text.as_str()), (200, want), "{method} {path} {header:?}");
    }
}

#[tokio::test]
async fn what_no_route_takes_is_404_and_a_wrong_method_405_with_allow() {
    let origin = Origin::start("a").await;
    let routes = r#"
        [[routes]]
        match = { path = "/a", methods = ["GET"] }
        service = "a"
        [[routes]]
        match = { path = "/a", methods = ["PUT"] }
        service = "a"
    "#;
    let gateway = fixed(&[("a", &origin)], routes).await;

    for path in ["/b", "/a/", "//a", "/A"] {
        let answer = gateway.get(path).await;
        assert_eq!(answer.status, 404, "{path}");
        let problem = answer.json();
        assert_eq!(problem["title"], "Not Found");
        assert_eq!(problem["type"], "about:blank");
        assert!(!problem["detail"].as_str().unwrap().is_empty());
    }
    let answer = gateway.send(Method::POST, "/a", &[], "x").await;
    assert_eq!((answer.status.as_u16(), answer.header("allow")), (405, "GET, HEAD, PUT"));
    assert_eq!(gateway.send(Method::HEAD, "/a", &[], "").await.status, 200);
    assert_eq!(origin.count(), 1);
}

#[tokio::test]
async fn a_rewrite_fills_in_what_the_pattern_took() {
    let origin = Origin::start("a").await;
    let routes = r#"
        [[routes]]
        match = { path = "/shop/{id}/{*rest}" }
        service = "a"
        rewrite = "/v2/{rest}/of/{id}"
    "#;
    let gateway = fixed(&[("a", &origin)], routes).await;

    for (path, want) in [
        ("/shop/7/a/b?x=%20&y", "GET /v2/a/b/of/7?x=%20&y HTTP/1.1"),
        ("/shop/7/a%2fb", "GET /v2/a%2Fb/of/7 HTTP/1.1"),
        ("/shop/a%20b/", "GET /v2/of/a%20b HTTP/1.1"),
        ("/shop/7//x", "GET /v2//x/of/7 HTTP/1.1"),
    ] {
        assert_eq!(gateway.get(path).await.status, 200, "{path}");
        assert_eq!(origin.got().last().unwrap().line(), want, "{path}");
    }
}

#[tokio::test]
async fn a_route_of_the_configuration_wins_over_one_of_tags() {
    let consul = Consul::start().await;
    let (tagged, own) = (Origin::start("tagged").await, Origin::start("own").await);
    consul.register("web", "web-1", tagged.address).await;
    let config = format!(
        "[services.own]\ninstances = [\"{}\"]\n[[routes]]\nname = \"mine\"\nmatch = {{ path = \"/api/v1/web/{{*all}}\" }}\nservice = \"own\"\n",
        own.address
    );
    let gateway = Gateway::start(&consul, &config).await;

    assert_eq!(gateway.get("/api/v1/web/x").await.text, "own");
    assert_eq!(own.only().line(), "GET /api/v1/web/x HTTP/1.1");
    let series = r#"lictor_request_total{service="own",route="mine",method="GET",status="200"}"#;
    gateway.until_metric(series, 1.0).await;
}

#[tokio::test]
async fn a_configured_service_that_consul_does_not_list_keeps_its_route() {
    let consul = Consul::start().await;
    let config = "[services.users]\nconsul = \"user-service\"\n[[routes]]\nmatch = { path = \"/u/{*rest}\" }\nservice = \"users\"\n";
    let gateway = Gateway::start(&consul, config).await;
    assert_eq!(gateway.get("/u/1").await.status, 503);
    assert_eq!(gateway.get("/health").await.text, r#"{"gateway":"healthy","services":{"users":"unreachable"}}"#);

    let origin = Origin::start("a").await;
    consul.register_tagged("user-service", "u1", origin.address, &[]).await;
    gateway.until_status("/u/1", 200).await;
    consul.deregister("u1").await;
    gateway.until_status("/u/1", 503).await;
}

#[tokio::test]
async fn hostile_paths_reach_nobody() {
    let origin = Origin::start("a").await;
    let gateway = fixed(&[("a", &origin)], "[[routes]]\nmatch = { path = \"/{*rest}\" }\nservice = \"a\"\n").await;

    for target in ["/../x", "/a/..;/b", "/a%5cb", "/a%00", "/a%2f..%2fb", "/%zz", "/%c0%af", "/a\\b"] {
        let answer =
            gateway.raw(format!("GET {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{target}: {answer}");
    }
    assert_eq!(origin.count(), 0);
}
