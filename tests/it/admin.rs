//! What operators see.

use http::Method;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::support::{Consul, Gateway, Origin, PATIENCE, until};

#[tokio::test]
async fn every_metric_of_the_contract_is_told() {
    let consul = Consul::start().await;
    let origin = Origin::start("a").await;
    consul.register("web", "web-1", origin.address).await;
    let gateway = Gateway::start(&consul, "").await;
    gateway.send(Method::POST, "/api/v1/web/x", &[], "body").await;
    gateway.get("/nothing").await;

    let instance = origin.address;
    let listener = gateway.address;
    for (series, at_least) in [
        (r#"lictor_request_total{service="web",route="consul:web",method="POST",status="200"}"#.to_owned(), 1.0),
        (r#"lictor_request_total{service="none",route="none",method="GET",status="404"}"#.to_owned(), 1.0),
        (r#"lictor_request_duration_seconds_count{service="web",route="consul:web"}"#.to_owned(), 1.0),
        (format!(r#"lictor_upstream_request_total{{service="web",instance="{instance}",outcome="success"}}"#), 1.0),
        (r#"lictor_upstream_duration_seconds_count{service="web"}"#.to_owned(), 1.0),
        (r#"lictor_instances{service="web",state="available"}"#.to_owned(), 1.0),
        (r#"lictor_in_flight{service="web"}"#.to_owned(), 0.0),
        (r#"lictor_topology_update_total{kind="joined",service="web"}"#.to_owned(), 1.0),
        ("lictor_topology_age_seconds".to_owned(), 0.0),
        (r#"lictor_config_reload_total{outcome="success"}"#.to_owned(), 0.0),
        ("lictor_config_reload_success".to_owned(), 1.0),
        (r#"lictor_consul_request_total{endpoint="health_service",outcome="success"}"#.to_owned(), 1.0),
        ("lictor_consul_watches".to_owned(), 3.0),
        (format!(r#"lictor_connections{{listener="{listener}"}}"#), 1.0),
        ("process_resident_memory_bytes".to_owned(), 1.0),
    ] {
        until(&series, || async { (gateway.metric(&series).await? >= at_least).then_some(()) }).await;
    }
    let text = gateway.admin("/metrics").await.text;
    assert!(text.contains("lictor_build_info{version=\""));
    let gone = format!("instance=\"{instance}\"");
    assert!(text.contains(&gone));

    consul.deregister("web-1").await;
    until("the series of what has left to go", || async {
        (!gateway.admin("/metrics").await.text.contains(&gone)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn topology_routes_and_configuration_are_told() {
    let consul = Consul::start().await;
    let origin = Origin::start("a").await;
    consul.register_tagged("web", "web-1", origin.address, &["lictor", "blue"]).await;
    let config = "[admin]\ntoken = \"op3rator\"\n[services.x]\ninstances = [\"[::1]:80\"]\n[[routes]]\nname = \"x\"\nmatch = { path = \"/x/{id}\", methods = [\"GET\"] }\nservice = \"x\"\n";
    let gateway = Gateway::start(&consul, config).await;
    gateway.get("/api/v1/web/").await;

    // Probes and metrics are for all, the rest for who has the token.
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(gateway.admin(path).await.status, 200, "{path}");
    }
    for path in ["/api/topology", "/api/routes", "/api/config", "/api/events"] {
        let answer = gateway.admin(path).await;
        assert_eq!((answer.status.as_u16(), answer.header("www-authenticate")), (401, "Bearer"), "{path}");
    }
    let ask = async |path: &str| {
        let request = crate::support::client().get(format!("http://{}{path}", gateway.admin));
        let answer = request.bearer_auth("op3rator").send().await.unwrap();
        assert_eq!(answer.status(), 200);
        answer.json::<serde_json::Value>().await.unwrap()
    };

    let topology = ask("/api/topology").await;
    assert_eq!(topology["source"], "consul");
    assert!(topology["index"].as_u64().unwrap() > 0 && topology["age_seconds"].as_f64().unwrap() >= 0.0);
    let web = &topology["services"]["web"]["instances"][0];
    assert_eq!(web["id"], "web-1");
    assert_eq!(web["address"], origin.address.to_string());
    assert_eq!((&web["health"], &web["usable"], &web["weight"]), (&"passing".into(), &true.into(), &1.into()));
    assert_eq!(web["tags"], serde_json::json!(["lictor", "blue"]));
    assert_eq!(web["datacenter"], "dc1");
    assert!(web["latency_seconds"].as_f64().unwrap() > 0.0);
    assert_eq!(web["reason"], serde_json::Value::Null);
    assert_eq!(topology["services"]["x"]["instances"][0]["address"], "[::1]:80");

    let routes = ask("/api/routes").await;
    let names: Vec<_> = routes.as_array().unwrap().iter().map(|route| route["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["x", "consul:web"]);
    assert_eq!((&routes[0]["source"], &routes[1]["source"]), (&"configuration".into(), &"tags".into()));

    let config = ask("/api/config").await;
    assert_eq!(config["admin"]["token"], "***");
    assert!(!config.to_string().contains("op3rator"));
    assert_eq!(config["http"]["drain"], "5s");
}

#[tokio::test]
async fn events_are_told_as_they_happen_each_with_its_cause() {
    let consul = Consul::start().await;
    let gateway = Gateway::start(&consul, "").await;
    let mut stream = TcpStream::connect(gateway.admin).await.unwrap();
    stream.write_all(b"GET /api/events HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let origin = Origin::start("a").await;
    consul.register("web", "web-1", origin.address).await;

    let mut text = String::new();
    let mut buffer = [0; 4096];
    while !(text.contains("event: instance_joined") && text.contains("event: route_exposed")) {
        let read = timeout(PATIENCE, stream.read(&mut buffer)).await.expect(&text).unwrap();
        text.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
    }
    assert!(text.contains("content-type: text/event-stream"), "{text}");
    let data = text.lines().find_map(|l| l.strip_prefix("data: ").filter(|l| l.contains("instance_joined"))).unwrap();
    let event: serde_json::Value = serde_json::from_str(data).unwrap();
    assert_eq!((&event["service"], &event["instance"]), (&"web".into(), &"web-1".into()));
    assert!(event["cause"].as_str().unwrap().contains("passing"));
}

#[tokio::test]
async fn the_second_listener_has_probes_and_metrics_alone() {
    let gateway = Gateway::fixed("[metrics]\nlisten = \"127.0.0.1:0\"\n").await;
    let told = async || gateway.log().into_iter().find(|line| line["listener"] == "metrics");
    let line = until("the second listener", told).await;
    let get = async |path: &str| {
        let url = format!("http://{}{path}", line["address"].as_str().unwrap());
        crate::support::client().get(url).send().await.unwrap().status().as_u16()
    };
    for (path, status) in [("/livez", 200), ("/readyz", 200), ("/metrics", 200), ("/api/config", 404), ("/", 404)] {
        assert_eq!(get(path).await, status, "{path}");
    }
}

#[tokio::test]
async fn histograms_have_the_buckets_that_the_configuration_says() {
    let origin = Origin::start("a").await;
    let gateway = Gateway::fixed(&format!(
        "[metrics]\nbuckets = ['2ms', '1m']\n[services.web]\ninstances = ['{}']\n\
         [[routes]]\nmatch.path = '/'\nservice = 'web'\n",
        origin.address
    ))
    .await;
    gateway.get("/").await;
    for name in ["lictor_request_duration_seconds", "lictor_upstream_duration_seconds"] {
        until("a request that was counted", || async {
            (gateway.metric_sum(&format!("{name}_count"), "").await >= 1.0).then_some(())
        })
        .await;
        let text = gateway.admin("/metrics").await.text;
        let bounds: Vec<_> = text
            .lines()
            .filter(|line| line.starts_with(&format!("{name}_bucket")))
            .map(|line| line.split("le=\"").nth(1).unwrap().split('"').next().unwrap())
            .collect();
        assert_eq!(bounds, ["0.002", "60", "+Inf"], "{text}");
    }
}
