//! Secrets appear nowhere but where they are sent: not in answers, not in logs down to the last level, not in reports.

use std::process::Command;

use crate::{
    commands::lictor,
    support::{Collector, Consul, Gateway, Origin, program},
};

const MARK: &str = "s3cr3t";

#[tokio::test]
async fn no_log_and_no_answer_shows_a_secret() {
    let (consul, collector, origin) = (Consul::start().await, Collector::start().await, Origin::start("a").await);
    consul.register("web", "web-1", origin.address).await;
    let config = format!(
        "[admin]\ntoken = \"{MARK}-admin\"\n[telemetry]\nlog = {{ format = \"json\", level = \"trace\" }}\n\
         otlp = \"http://user:{MARK}-otlp@{}\"\n",
        collector.address
    );
    let headers = format!("authorization=Bearer%20{MARK}-header,x-key={MARK}-key");
    let variables = [("OTEL_EXPORTER_OTLP_HEADERS", &*headers)];
    let of_consul = format!("[consul]\naddress = \"{}\"\ntoken = \"{MARK}-consul\"\n", consul.address());
    let gateway = Gateway::with(&variables, &of_consul, &config).await;
    gateway.until_ready().await;
    gateway.get("/api/v1/web/x").await;
    collector.until(2).await;
    // They do go where they are meant to.
    assert!(collector.fields()[0].values().any(|value| value.to_str().unwrap().contains(MARK)));

    let client = crate::support::client();
    let ask = async |path: &str| {
        let request = client.get(format!("http://{}{path}", gateway.admin)).bearer_auth(format!("{MARK}-admin"));
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        answer
    };
    for path in ["/api/config", "/api/topology", "/api/routes", "/metrics"] {
        let text = ask(path).await.text().await.unwrap();
        assert!(!text.contains(MARK), "{path}: {text}");
    }
    let first = ask("/api/events").await.chunk().await.unwrap().unwrap();
    assert!(!String::from_utf8_lossy(&first).contains(MARK));

    gateway.configure(&config.replace("[admin]", "[admin]\nlisten_on = 1"));
    gateway.until_event("reload_refused").await;
    let log = gateway.log();
    assert!(log.iter().any(|line| line["level"] == "TRACE"));
    let said: Vec<_> = log.iter().filter(|line| line.to_string().contains(MARK)).collect();
    assert!(said.is_empty(), "{said:?}");
}

#[tokio::test]
async fn a_header_that_a_route_wants_is_not_shown_where_it_is_a_secret() {
    let wanted = ["Authorization", "proxy-authorization", "cookie", "x-api-key"];
    let routes = wanted.map(|name| {
        format!(
            "[[routes]]\nname = \"{name}\"\nservice = \"s\"\n\
             match = {{ path = \"/sec/{{*rest}}\", headers = {{ {name} = \"{MARK} 1\", x-beta = \"yes\" }} }}\n"
        )
    });
    let log =
        "[telemetry]\nlog = { format = \"json\", level = \"trace\" }\n[services.s]\ninstances = [\"127.0.0.1:1\"]\n";
    let config = format!("{log}{}", routes.concat());
    let gateway = Gateway::fixed(&config).await;
    for path in ["/api/config", "/api/routes", "/api/explain?url=/sec/x", "/api/explain?url=/sec/x&header=x-beta:yes"] {
        let answer = gateway.admin(path).await;
        assert!(answer.status == 200 && !answer.text.contains(MARK), "{path}: {}", answer.text);
        assert!(answer.text.contains("***"), "{path}: {}", answer.text);
    }
    let told = gateway.admin("/api/explain?url=/sec/x&header=x-beta:yes").await.json();
    assert_eq!(told["considered"][0]["reason"], "it wants the header `authorization: ***`");
    // It does what it did.
    let is_served = async |value: &str| {
        gateway.send(http::Method::GET, "/sec/x", &[("authorization", value), ("x-beta", "yes")], "").await.status
    };
    assert_eq!((is_served("***").await.as_u16(), is_served(&format!("{MARK} 1")).await.as_u16()), (404, 502));
    gateway.configure(&config.replace("x-beta = \"yes\"", "x-beta = 1"));
    gateway.until_event("reload_refused").await;
    let log = gateway.log();
    let said: Vec<_> = log.iter().filter(|line| line.to_string().contains(MARK)).collect();
    assert!(said.is_empty(), "{said:?}");
}

#[test]
fn check_shows_no_secret_however_wrong_it_is() {
    for config in [
        format!("[admin]\ntoken = \"{MARK} with a blank\""),
        format!("[admin]\ntoken = [\"{MARK}\"]"),
        format!("[consul]\ntoken = \"{MARK}\u{e4}\""),
        format!("[consul]\ntoken = {{ x = \"{MARK}\" }}"),
        format!("[telemetry]\notlp = \"ftp://user:{MARK}@host\""),
        format!("[telemetry]\notlp = \"http://user:{MARK}@\""),
        format!("[telemetry]\notlp = \"http://user:{MARK}@host:4317x\""),
        format!("[telemetry]\notlp = \"user:{MARK}@host:4317\""),
        format!("[telemetry]\notlp = [\"http://user:{MARK}@host:4317\"]"),
        format!("[telemetry]\notlp = \"http://user:{MARK}@host:4317\"\nx = 1"),
        format!("[[routes]]\nmatch.headers = {{ Authorization = \"{MARK}\" }}\n"),
        format!("[[routes]]\nservice = \"s\"\nmatch = {{ path = \"/\", headers = {{ x-api-key = \"{MARK}\\n\" }} }}\n"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("lictor.toml"), &config).unwrap();
        let mut command = Command::new(program());
        let output = command.arg("check").env_clear().current_dir(folder.path()).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert_eq!(output.status.code(), Some(1), "{config}");
        assert!(!said.contains(MARK), "{said}");
    }
}

#[test]
fn check_shows_no_header_of_a_wrong_kind() {
    let config = "[[routes]]\nservice = \"s\"\nmatch = { path = \"/\", headers = { X-Api-Key = 47114711 } }\n";
    let said = lictor(&["check"], &[], &[("lictor.toml", config)]);
    let all = said.out + &said.err;
    assert!(said.code == Some(1) && all.contains("lictor.toml:3 routes[0].match.headers.X-Api-Key"), "{all}");
    assert!(!all.contains("47114711"), "{all}");
}
