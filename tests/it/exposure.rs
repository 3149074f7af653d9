//! Services that route themselves: register one in Consul with the tag, and it is served.

use serde_json::json;

use crate::support::{Consul, Gateway, Origin};

#[tokio::test]
async fn a_service_registered_with_the_tag_is_served() {
    let consul = Consul::start().await;
    let gateway = Gateway::start(&consul, "").await;
    assert_eq!(gateway.get("/api/v1/users/1").await.status, 404);

    let origin = Origin::start("users-1").await;
    consul.register("users", "users-1", origin.address).await;

    let answer = gateway.until_status("/api/v1/users/1?x=1", 200).await;
    assert_eq!(answer.text, "users-1");
    assert_eq!(origin.got().last().unwrap().line(), "GET /1?x=1 HTTP/1.1");
}

#[tokio::test]
async fn a_service_that_is_deregistered_is_no_longer_served() {
    let consul = Consul::start().await;
    let origin = Origin::start("a").await;
    consul.register("users", "users-1", origin.address).await;
    let gateway = Gateway::start(&consul, "").await;
    assert_eq!(gateway.get("/api/v1/users").await.status, 200);

    consul.deregister("users-1").await;

    let answer = gateway.until_status("/api/v1/users", 404).await;
    assert_eq!(answer.header("content-type"), "application/problem+json");
    let topology = gateway.admin("/api/topology").await.json();
    assert!(topology["services"].get("users").is_none(), "{topology}");
    assert!(!gateway.admin("/metrics").await.text.contains("service=\"users\""));
}

#[tokio::test]
async fn only_instances_with_the_tag_are_members() {
    let consul = Consul::start().await;
    let (open, closed) = (Origin::start("open").await, Origin::start("closed").await);
    consul.register("users", "open", open.address).await;
    consul.register_tagged("users", "closed", closed.address, &["internal"]).await;
    consul.register_tagged("secret", "secret", closed.address, &[]).await;
    let gateway = Gateway::start(&consul, "").await;

    for _ in 0..10 {
        assert_eq!(gateway.get("/api/v1/users/").await.text, "open");
    }
    assert_eq!(gateway.get("/api/v1/secret/").await.status, 404);
    assert_eq!(closed.count(), 0);

    // An instance that gains the tag becomes a member, one that loses it leaves.
    consul.register("users", "closed", closed.address).await;
    gateway.until_usable("users", 2).await;
    consul.register_tagged("users", "open", open.address, &[]).await;
    gateway.until_usable("users", 1).await;
    assert_eq!(gateway.get("/api/v1/users/").await.text, "closed");
}

#[tokio::test]
async fn tags_override_path_and_rewrite_within_what_is_allowed() {
    let consul = Consul::start().await;
    let origin = Origin::start("a").await;
    let tags = ["lictor", "lictor.path=/api/shop/{*rest}", "lictor.rewrite=/v2/{rest}", "lictor.host=shop.example.com"];
    consul.register_tagged("shop", "shop-1", origin.address, &tags).await;
    let outside = ["lictor", "lictor.path=/admin/{*rest}"];
    consul.register_tagged("greedy", "greedy-1", origin.address, &outside).await;
    consul.register_tagged("future", "future-1", origin.address, &["lictor", "lictor.protocol=smtp"]).await;
    let gateway = Gateway::start(&consul, "[expose]\nhosts = [\"shop.example.com\"]\n").await;

    let host = [("host", "shop.example.com")];
    let answer = gateway.send(http::Method::GET, "/api/shop/cart", &host, "").await;
    assert_eq!((answer.status.as_u16(), origin.only().line()), (200, "GET /v2/cart HTTP/1.1"));
    for path in ["/api/shop/cart", "/admin/x", "/api/v1/greedy/x", "/api/v1/future/x"] {
        assert_eq!(gateway.get(path).await.status, 404, "{path}");
    }
    let refused = gateway.events("exposure_refused");
    let of = |service: &str| refused.iter().any(|event| event["service"] == service);
    assert!(of("greedy") && of("future"), "{refused:?}");
}

#[tokio::test]
async fn of_two_services_that_claim_one_path_the_older_has_it() {
    let consul = Consul::start().await;
    let (first, second) = (Origin::start("first").await, Origin::start("second").await);
    let tags = ["lictor", "lictor.path=/api/shop/{*rest}"];
    consul.register_tagged("zebra", "z", first.address, &tags).await;
    consul.register_tagged("ant", "a", second.address, &tags).await;
    let gateway = Gateway::start(&consul, "").await;

    assert_eq!(gateway.get("/api/shop/").await.text, "first");
    assert_eq!(gateway.until_event("route_conflict").await["service"], "ant");
    let exposed = || gateway.events("route_exposed").iter().map(|event| event["service"].clone()).collect::<Vec<_>>();
    assert_eq!(exposed(), ["zebra"]);
    assert_eq!(gateway.get("/health").await.text, r#"{"gateway":"healthy","services":{"zebra":"healthy"}}"#);
    let services = gateway.admin("/api/topology").await.json()["services"].clone();
    assert_eq!((&services["zebra"]["routed"], &services["ant"]["routed"]), (&true.into(), &false.into()));
    assert_eq!(services["ant"]["instances"][0]["usable"], true, "{services}");
    let status = ["status", "--over", "0s", "--admin", &format!("http://{}", gateway.admin)];
    let said = gateway.command(&status, &[]).await;
    let of = |service: &str| said.out.lines().filter(|line| line.starts_with(service)).collect::<Vec<_>>().join("\n");
    assert!(of("zebra").contains("1 of 1") && of("zebra").contains("yes"), "{said:?}");
    assert!(of("ant").contains("no route ") && of("ant").contains("no: no route leads to its service"), "{said:?}");

    consul.deregister("z").await;
    crate::support::until("the other has the path", || async {
        (gateway.get("/api/shop/").await.text == "second").then_some(())
    })
    .await;
    assert_eq!(exposed(), ["zebra", "ant"]);
}

#[tokio::test]
async fn members_that_disagree_are_told_of_and_what_is_in_force_stays_until_none_carries_it() {
    let consul = Consul::start().await;
    let origin = Origin::start("a").await;
    let other = Origin::start("b").await;
    consul.register_tagged("shop", "old", origin.address, &["lictor", "lictor.path=/api/old"]).await;
    let gateway = Gateway::start(&consul, "").await;
    assert_eq!(gateway.get("/api/old").await.status, 200);

    consul.register_tagged("shop", "new", other.address, &["lictor", "lictor.path=/api/new"]).await;
    let told = gateway.until_event("exposure_disagreed").await;
    assert_eq!(told["service"], "shop");
    assert!(told["cause"].as_str().unwrap().contains("instance `new` would have it serve `/api/new`"), "{told}");
    assert_eq!(
        (gateway.get("/api/old").await.status.as_u16(), gateway.get("/api/new").await.status.as_u16()),
        (200, 404)
    );
    consul.deregister("old").await;
    gateway.until_status("/api/new", 200).await;
    assert_eq!(gateway.events("exposure_disagreed").len(), 1);
}

#[tokio::test]
async fn a_table_of_the_configuration_gives_an_exposed_service_its_name() {
    let consul = Consul::start().await;
    let origin = Origin::start("a").await;
    consul.register("user-service", "u1", origin.address).await;
    let gateway = Gateway::start(&consul, "[services.users]\nconsul = \"user-service\"\n").await;

    assert_eq!(gateway.get("/api/v1/users/7").await.status, 200);
    assert_eq!(gateway.get("/api/v1/user-service/7").await.status, 404);
    assert_eq!(gateway.usable("users").await, ["u1"]);
}

#[tokio::test]
async fn an_odd_name_disturbs_no_other() {
    let consul = Consul::start().await;
    let (odd, plain) = (Origin::start("odd").await, Origin::start("plain").await);
    consul.register("a b/../%2e{x}?y#z", "odd", odd.address).await;
    consul.register("plain", "plain", plain.address).await;
    let gateway = Gateway::start(&consul, "").await;

    assert_eq!(gateway.get("/api/v1/plain/").await.text, "plain");
    let routes = gateway.admin("/api/routes").await.json();
    assert!(routes.as_array().unwrap().iter().any(|route| route["name"] == "consul:plain"), "{routes}");
}

#[tokio::test]
async fn an_instance_of_no_use_is_skipped_and_told() {
    let consul = Consul::start().await;
    let origin = Origin::start("good").await;
    consul.register("web", "good", origin.address).await;
    let bad = json!({ "ID": "bad", "Name": "web", "Address": "10.0.0.7", "Port": 0, "Tags": ["lictor"] });
    consul.put("/v1/agent/service/register", &bad).await;
    let denied = json!({ "ID": "denied", "Name": "web", "Address": "169.254.169.254", "Port": 80, "Tags": ["lictor"] });
    consul.put("/v1/agent/service/register", &denied).await;
    let config = format!("[consul]\naddress = \"{}\"\ndeny = [\"169.254.0.0/16\"]\n", consul.address());
    let gateway = Gateway::start(&consul, &config).await;

    for _ in 0..5 {
        assert_eq!(gateway.get("/api/v1/web/").await.text, "good");
    }
    let instances = gateway.admin("/api/topology").await.json()["services"]["web"]["instances"].clone();
    let reason = |id: &str| {
        let found = instances.as_array().unwrap().iter().find(|instance| instance["id"] == id).cloned().unwrap();
        assert_eq!(found["usable"], false);
        found["reason"].as_str().unwrap().to_owned()
    };
    assert!(reason("bad").contains("port `0`"), "{instances}");
    assert!(reason("denied").contains("denied network"), "{instances}");
    assert_eq!(gateway.events("instance_rejected").len(), 2);
    assert_eq!(gateway.metric(r#"lictor_instances{service="web",state="rejected"}"#).await, Some(2.0));
}

#[tokio::test]
async fn the_admin_side_is_no_instance_whatever_consul_says() {
    let consul = Consul::start().await;
    let admin = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let gateway = Gateway::start(&consul, &format!("[admin]\nlisten = \"{admin}\"\n")).await;
    consul.register("by-address", "a", admin).await;
    let named =
        json!({ "ID": "n", "Name": "by-name", "Address": "localhost", "Port": admin.port(), "Tags": ["lictor"] });
    consul.put("/v1/agent/service/register", &named).await;

    gateway.until_event("instance_rejected").await;
    gateway.until_usable("by-name", 1).await;
    assert_eq!(gateway.get("/api/v1/by-name/api/config").await.status, 502);
    assert_ne!(gateway.get("/api/v1/by-address/api/config").await.status, 200);
}
