//! What would become of a request is what becomes of it.

use http::Method;
use serde_json::Value;

use crate::support::{Consul, Gateway, Origin};

const CONFIG: &str = r#"
[[routes]]
name = "beta"
match = { path = "/api/v1/users/{*rest}", headers = { x-beta = "1" }, hosts = ["api.example.com"] }
service = "users"
[[routes]]
name = "users"
match = { path = "/api/v1/users/{*rest}", methods = ["GET", "POST"] }
service = "users"
rewrite = "/v2/users/{rest}"
timeout = { total = "7s" }
[[routes]]
name = "nobody"
match = { path = "/nobody" }
service = "nobody"
[services.nobody]
"#;

async fn explained(gateway: &Gateway, query: &[(&str, &str)]) -> Value {
    let url = format!("http://{}/api/explain", gateway.admin);
    let answer = crate::support::client().get(url).query(query).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    answer.json().await.unwrap()
}

/// What is said of each route by name.
fn verdicts(told: &Value) -> Vec<String> {
    let one = |route: &Value| format!("{}: {}", route["route"].as_str().unwrap(), route["reason"].as_str().unwrap());
    told["considered"].as_array().unwrap().iter().map(one).collect()
}

#[tokio::test]
async fn a_route_its_service_and_its_instances_are_told() {
    let consul = Consul::start().await;
    let (a, b) = (Origin::start("a").await, Origin::start("b").await);
    consul.register_checked("users", "users-1", a.address).await;
    consul.register_checked("users", "users-2", b.address).await;
    consul.check("users-2", "fail").await;
    let gateway = Gateway::start(&consul, &format!("{CONFIG}[services.users]\n")).await;
    gateway.until_usable("users", 1).await;

    let told = explained(&gateway, &[("method", "GET"), ("url", "/api/./v1/users/%37?x=1")]).await;
    assert_eq!((&told["request"]["path"], &told["answer"]), (&"/api/v1/users/7".into(), &Value::Null), "{told}");
    assert_eq!((&told["route"]["name"], &told["upstream"]["service"]), (&"users".into(), &"users".into()));
    assert_eq!(told["upstream"]["path"], "/v2/users/7?x=1");
    // By the service's rules, but for what the route says.
    let rules = &told["upstream"]["policy"]["timeout"];
    assert_eq!((&rules["total"], &rules["read"]), (&"7s".into(), &"10s".into()));
    assert_eq!(told["route"]["timeout"]["total"], "7s");
    assert_eq!(gateway.get("/api/./v1/users/%37?x=1").await.text, "a");
    let instances = told["upstream"]["instances"].as_array().unwrap();
    let used = |id: &str| instances.iter().find(|instance| instance["id"] == id).unwrap();
    assert_eq!((&used("users-1")["usable"], &used("users-1")["reason"]), (&true.into(), &Value::Null));
    assert_eq!(used("users-2")["usable"], false);
    assert!(used("users-2")["reason"].as_str().unwrap().contains("critical"), "{told}");
    // The exposed route of the same name comes after it.
    let said = verdicts(&told);
    assert_eq!(said[0], "users: the most specific of those that take the request");
    assert!(
        said.contains(&"consul:users: it takes the request too, but `users` comes before it".to_owned()),
        "{said:?}"
    );
    assert!(said.contains(&"nobody: its path is another".to_owned()), "{said:?}");
    assert!(said.contains(&"beta: it is for api.example.com".to_owned()), "{said:?}");

    let query = [("url", "http://api.example.com/api/v1/users/7"), ("header", "X-Beta: 1")];
    let told = explained(&gateway, &query).await;
    assert_eq!((&told["route"]["name"], &told["upstream"]["host"]), (&"beta".into(), &"api.example.com".into()));
    assert_eq!(
        (&told["upstream"]["policy"]["timeout"]["total"], &told["route"]["timeout"]),
        (&"30s".into(), &Value::Null)
    );
    let said = verdicts(&explained(&gateway, &query[..1]).await);
    assert!(said.contains(&"beta: it wants the header `x-beta: 1`".to_owned()), "{said:?}");
    // What is explained is not sent.
    assert_eq!((a.count(), b.count()), (1, 0));
}

#[tokio::test]
async fn what_is_refused_is_explained_as_it_is_answered() {
    let consul = Consul::start().await;
    let gateway = Gateway::start(&consul, CONFIG.replace("service = \"users\"", "service = \"nobody\"").as_str()).await;
    for (method, path, status) in [
        ("GET", "/nothing", 404),
        ("DELETE", "/api/v1/users/7", 405),
        ("GET", "/nobody", 503),
        ("GET", "/a/%2e%2e/%2e%2e/b", 400),
        ("GET", "/%00", 400),
        ("GET", "/a%zz", 400),
        ("TRACE", "/", 501),
        ("GET", "/health", 503),
    ] {
        let told = explained(&gateway, &[("method", method), ("url", path)]).await;
        assert_eq!(told["answer"]["status"], status, "{method} {path}: {told}");
        let line = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        let answer = gateway.raw(line.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{method} {path}: {answer}");
        let detail = told["answer"]["detail"].as_str().unwrap();
        assert!(path == "/health" || answer.contains(detail), "{method} {path}: {detail}: {answer}");
    }
    let told = explained(&gateway, &[("method", "DELETE"), ("url", "/api/v1/users/7")]).await;
    assert_eq!(told["answer"]["allow"], "GET, HEAD, POST");
    assert!(verdicts(&told).contains(&"users: it takes GET, POST".to_owned()), "{told}");
}

#[tokio::test]
async fn a_question_that_cannot_be_answered_is_refused() {
    let gateway = Gateway::fixed("").await;
    for (query, want) in [
        ("", "expected `url`"),
        ("?url=/&nonsense=1", "`nonsense` is unknown here"),
        ("?url=/%0d%0ahost:x", "control character"),
        ("?url=/&header=x", "expected a header as `name: value`"),
    ] {
        let answer = gateway.admin(&format!("/api/explain{query}")).await;
        assert!(answer.status == 400 && answer.text.contains(want), "{query}: {answer:?}");
    }
    // Before the first topology is known, nothing is said to be missing.
    let consul = Consul::start().await;
    consul.stop();
    let gateway = Gateway::start_unready(&format!("[consul]\naddress = \"{}\"\n", consul.address()), "").await;
    assert_eq!(explained(&gateway, &[("url", "/nothing")]).await["answer"]["status"], 503);
    let said = gateway.send(Method::GET, "/nothing", &[], "").await;
    assert_eq!(said.status, 503);
    consul.resume();
}
