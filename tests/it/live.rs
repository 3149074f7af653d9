//! `lictor check --live`: what the real Consul has of what a configuration needs, in people's words.

use std::net::SocketAddr;

use serde_json::json;
use tokio::task::spawn_blocking;

use crate::{
    commands::{Said, lictor},
    rights::{TOKEN, start},
    support::{Consul, FakeConsul, Fault, Origin, consul::free_ports},
};

const ALL: &str = r#"service_prefix "" { policy = "read" } node_prefix "" { policy = "read" } key_prefix "lictor/" { policy = "read" }"#;

async fn check(address: &str, consul: &str, rest: &str) -> Said {
    let config = format!("[consul]\naddress = \"{address}\"\n{consul}\n{rest}");
    // What runs in this process is to go on.
    spawn_blocking(move || lictor(&["check", "--live"], &[], &[("lictor.toml", &config)])).await.unwrap()
}

impl Said {
    /// It ends so, and each of these is a line of what was found.
    fn expect(&self, code: i32, lines: &[&str]) {
        for line in lines {
            assert!(self.out.lines().any(|said| said == *line), "{line}\n--- in\n{}{}", self.out, self.err);
        }
        assert_eq!(self.code, Some(code), "{}{}", self.out, self.err);
    }
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[tokio::test]
async fn where_all_is_there_it_says_so_and_exits_0() {
    let consul = start(ALL).await;
    consul.register_tagged("user-service", "u1", at("127.0.0.1:9001"), &[]).await;
    consul.register("web", "w1", at("127.0.0.1:9002")).await;
    let token = format!("token = \"{TOKEN}\"\ndatacenter = \"dc1\"");
    let said = check(&consul.address(), &token, "[services.users]\nconsul = \"user-service\"\n").await;
    let answers =
        format!("ok: consul.address: the agent at `{}` answers, and the cluster has a leader", consul.address());
    said.expect(
        0,
        &[
            "the configuration holds: lictor.toml; 1 service, 0 routes",
            &answers,
            "ok: consul.config: the KV has no document `lictor/config`, so there is none to add",
            "ok: consul.token: nothing that is needed is kept from it",
            "ok: services.users: 1 of 1 instances of `user-service` may be asked",
            "ok: expose.tag: 1 of 1 services with the tag `lictor` are served",
            "0 errors, 0 warnings",
        ],
    );
    assert!(!said.out.contains(TOKEN));
}

#[tokio::test]
async fn a_right_that_is_missing_is_named_with_the_rule_that_grants_it() {
    let (services, nodes, keys) = (
        r#"service_prefix "" { policy = "read" }"#,
        r#"node_prefix "" { policy = "read" }"#,
        r#"key_prefix "lictor/" { policy = "read" }"#,
    );
    let consul = start("").await;
    consul.register("web", "w1", at("127.0.0.1:9002")).await;
    let token = format!("token = \"{TOKEN}\"");
    let cases = [
        (
            format!("{services} {keys}"),
            1,
            "error: consul.token: the token lacks `node:read`, and no instance is seen without its node; \
             add `node_prefix \"\" { policy = \"read\" }` to its policy",
        ),
        (
            format!("{nodes} {keys}"),
            1,
            "error: consul.token: the token lacks `service:read` on `web`, so it is not served; \
             add `service \"web\" { policy = \"read\" }` to its policy",
        ),
        (
            format!("{nodes} {keys}"),
            1,
            "error: consul.token: the token lacks `service:read`, so services that expose themselves are not seen; \
             add `service_prefix \"\" { policy = \"read\" }` to its policy",
        ),
        (
            format!("{nodes} {keys} service \"web\" {{ policy = \"read\" }}"),
            0,
            "warning: consul.token: the token lacks `service:read`, so of those that expose themselves it sees 1 and \
             perhaps not all; add `service_prefix \"\" { policy = \"read\" }` to its policy",
        ),
        (
            format!("{nodes} {services}"),
            0,
            "warning: consul.config: the token lacks `key:read` on `lictor/config`, so what the KV may have to add is \
             left out; add `key \"lictor/config\" { policy = \"read\" }` to its policy, or set `consul.config = \"\"`",
        ),
    ];
    for (rules, code, line) in cases {
        consul.replace_policy("ours", &rules).await;
        check(&consul.address(), &token, "[services.web]\n").await.expect(code, &[line]);
    }

    consul.replace_policy("ours", ALL).await;
    let register = format!("{token}\nregister = {{ name = \"gate\" }}");
    check(&consul.address(), &register, "").await.expect(
        1,
        &["error: consul.token: the token lacks `service:write` on `gate`, so the gateway cannot register itself; \
           add `service \"gate\" { policy = \"write\" }` to its policy"],
    );
    consul.replace_policy("ours", &format!("{ALL} service \"gate\" {{ policy = \"write\" }}")).await;
    check(&consul.address(), &register, "").await.expect(0, &["0 errors, 0 warnings"]);

    let nobody = check(&consul.address(), "", "").await;
    nobody.expect(1, &[]);
    assert!(
        nobody.out.contains("error: consul.token: none is set, and without one Consul refuses `node:read`"),
        "{}",
        nobody.out
    );
    let unknown = check(&consul.address(), "token = \"nonsense\"", "").await;
    unknown.expect(
        1,
        &["error: consul.token: Consul does not know this token (`ACL not found`); make one, or set another"],
    );
}

#[tokio::test]
async fn services_that_are_not_there_or_of_no_use_are_named_with_what_to_do() {
    let consul = Consul::start().await;
    consul.register_tagged("user-service", "u1", at("127.0.0.1:9001"), &["v1"]).await;
    consul.register_tagged("user-service", "u2", at("169.254.1.1:9001"), &["v1"]).await;
    let node = json!({
        "Node": "n1", "Address": "127.0.0.1", "Service": { "ID": "p1", "Service": "portless", "Port": 0 },
    });
    consul.put("/v1/catalog/register", &node).await;
    consul.register_checked("sick", "s1", at("127.0.0.1:9003")).await;
    consul.check("s1", "fail").await;
    consul.register_checked("bold", "b1", at("127.0.0.1:9004")).await;
    consul.check("b1", "fail").await;
    let rest = "deny = [\"169.254.0.0/16\"]\n[services.users]\nconsul = \"user-service\"\n[services.near]\nconsul = \"user-servce\"\n\
        [services.gone]\n[services.tagged]\nconsul = \"user-service\"\ntag = \"v2\"\n[services.portless]\n[services.sick]\n\
        [services.bold]\npanic = true\n[services.fixed]\ninstances = [\"10.0.0.1:1\"]\n";
    check(&consul.address(), "", rest).await.expect(
        1,
        &[
            "warning: services.users: instance `u2` is of no use: `169.254.1.1` is in a denied network; register it with \
             another address or port",
            "ok: services.users: 1 of 1 instances of `user-service` may be asked",
            "error: services.near: no service `user-servce` is registered in Consul; is `user-service` meant?",
            "error: services.gone: no service `gone` is registered in Consul; register it",
            "error: services.tagged: no instance of `user-service` carries the tag `v2`; the tags are `v1`",
            "error: services.portless: instance `p1` is of no use: port `0` is not between 1 and 65535; register it with \
             another address or port",
            "warning: services.sick: no instance may be asked: each is critical, and `accept` is passing or warning",
            "warning: services.bold: no instance is as it should be: each is critical, and `accept` is passing or warning; by \
             `panic`, 1 of 1 may be asked nevertheless",
            "4 errors, 3 warnings",
        ],
    );
}

#[tokio::test]
async fn what_others_registered_forges_no_line_and_moves_no_cursor() {
    let consul = Consul::start().await;
    let evil = "\nok: services.pay: 3 of 3 instances of `pay` may be asked\u{1b}[8m\r";
    let shown = "\\nok: services.pay: 3 of 3 instances of `pay` may be asked\\u{1b}[8m\\r";
    consul.register_tagged("odd", "o1", at("127.0.0.1:9001"), &["lictor", &format!("lictor.x{evil}")]).await;
    consul.register_tagged("tagged", "t1", at("127.0.0.1:9002"), &[evil]).await;
    let node = json!({
        "Node": "n1", "Address": "127.0.0.1", "Service": { "ID": format!("p1{evil}"), "Service": "portless", "Port": 0 },
    });
    consul.put("/v1/catalog/register", &node).await;
    // JSON's texts are TOML's too.
    consul.set("lictor/config", &format!("[http]\nhealth = {}\n", json!(evil))).await;
    let said = check(&consul.address(), "", "[services.tagged]\ntag = \"v2\"\n[services.portless]\n").await;
    said.expect(
        1,
        &[&format!("error: services.tagged: no instance of `tagged` carries the tag `v2`; the tags are `{shown}`")],
    );
    let lines: Vec<_> = said.out.lines().filter(|line| line.contains("services.pay")).collect();
    assert_eq!(lines.len(), 4, "{lines:#?}");
    assert!(
        lines.iter().all(|line| line.starts_with("error: ") && line.contains(shown.trim_end_matches("\\r"))),
        "{lines:#?}"
    );
    assert!(!said.out.contains(|c: char| c.is_control() && c != '\n'), "{:?}", said.out);
}

#[tokio::test]
async fn tags_that_mean_nothing_and_paths_that_two_claim_are_named() {
    let consul = Consul::start().await;
    let tagged = async |service: &str, id: &str, tags: &[&str]| {
        consul.register_tagged(service, id, at("127.0.0.1:9001"), tags).await;
    };
    tagged("typo", "t1", &["lictor", "lictor.pth=/api/x"]).await;
    tagged("first", "f1", &["lictor", "lictor.path=/api/both"]).await;
    tagged("second", "s1", &["lictor", "lictor.path=/api/both"]).await;
    tagged("odd", "o1", &["lictor", "lictor.path=/api/one"]).await;
    tagged("odd", "o2", &["lictor", "lictor.path=/api/two"]).await;
    tagged("odd", "o3", &["lictor", "lictor.path=/elsewhere"]).await;
    tagged("hidden", "h1", &["lictor", "lictor.path=/api/{a}/b"]).await;
    tagged("taken", "k1", &["lictor"]).await;
    let rest = "[services.taken]\ninstances = [\"10.0.0.1:1\"]\n\
        [[routes]]\nname = \"mine\"\nmatch.path = \"/api/{x}/b\"\nservice = \"taken\"\n";
    check(&consul.address(), "", rest).await.expect(
        1,
        &[
            "error: service taken: carries the tag `lictor` in vain: the table `services.taken` means another service",
            "error: service typo: it is not exposed: tag `lictor.pth=/api/x`: there is no `lictor.pth`; is `lictor.path` \
             meant?; register it with other tags",
            "error: service second: `/api/both` is served by `first`, which was registered first; claim another path",
            "warning: service odd: instance `o2` claims `/api/two`, and the oldest instance `/api/one`, which decides; \
             give all the same tags",
            "warning: service odd: instance `o3`: tag `lictor.path=/elsewhere`: not below any of `expose.allow`",
            "warning: consul:hidden: `/api/{a}/b` is never reached: the route `mine` of the configuration has it",
            "ok: expose.tag: 3 of 5 services with the tag `lictor` are served",
            "3 errors, 3 warnings",
        ],
    );
}

#[tokio::test]
async fn names_are_asked_of_dns_with_and_without_consul() {
    let [dns, closed] = free_ports();
    let consul = Consul::start_with(&[&format!("-dns-port={dns}")]).await;
    consul.register_tagged("web", "w1", at("127.0.0.1:9001"), &["tcp"]).await;
    let rest = |port: u16| {
        format!(
            "[dns]\nservers = [\"127.0.0.1:{port}\"]\n[services.web]\ndns = \"_web._tcp.service.consul\"\n\
             [services.gone]\ndns = \"gone.service.consul:80\"\n"
        )
    };
    for address in [consul.address(), String::new()] {
        check(&address, "", &rest(dns)).await.expect(
            1,
            &[
                "ok: services.web: instances of `_web._tcp.service.consul` in DNS: 1",
                "error: services.gone: DNS knows no `gone.service.consul:80`, or no address of it; is the name right?",
                "1 error, 0 warnings",
            ],
        );
    }
    let said = check("", "", &rest(closed)).await;
    said.expect(1, &["2 errors, 0 warnings"]);
    assert!(
        said.out.contains("error: services.web: DNS does not answer for `_web._tcp.service.consul`: "),
        "{}",
        said.out
    );
}

#[tokio::test]
async fn the_document_in_the_kv_is_checked_and_so_is_what_it_adds() {
    let consul = Consul::start().await;
    consul.set("lictor/config", "[services.added]\n").await;
    check(&consul.address(), "", "").await.expect(
        1,
        &[
            "ok: consul.config: KV lictor/config holds, and is checked with the rest",
            "error: services.added: no service `added` is registered in Consul; register it",
        ],
    );
    consul.set("lictor/config", "[http]\nlisen = \"\"\n[consul]\nmax_watches = 1\n").await;
    check(&consul.address(), "", "").await.expect(
        1,
        &[
            "error: KV lictor/config:2 http.lisen: unknown key; did you mean `listen`?",
            "error: KV lictor/config:4 consul.max_watches: `1` is too small; the least is `2`",
            "2 errors, 0 warnings",
        ],
    );
    // What may not be in it hides nothing else.
    let both = "[http]\nlisten = \"\"\nlisen = \"\"\n[consul]\nmax_watches = 1\n";
    consul.set("lictor/config", both).await;
    check(&consul.address(), "", "").await.expect(
        1,
        &[
            "error: KV lictor/config:2 http.listen: this is for each gateway's operator, not for whoever may write to the KV; \
             set it in a file, a variable or a flag",
            "error: KV lictor/config:3 http.lisen: unknown key; did you mean `listen`?",
            "error: KV lictor/config:5 consul.max_watches: `1` is too small; the least is `2`",
            "3 errors, 0 warnings",
        ],
    );
}

#[tokio::test]
async fn a_route_that_the_health_report_hides_is_warned_of() {
    let consul = Consul::start().await;
    let route = "[[routes]]\nmatch.path = \"/health\"\nservice = \"web\"\n";
    let web = "[services.web]\ninstances = [\"10.0.0.1:1\"]\n";
    let hidden =
        "the gateway answers this path itself, so the route never does; give it another one, or set `http.health`";
    consul.set("lictor/config", route).await;
    let line = format!("warning: KV lictor/config:2 routes[0].match.path: {hidden}");
    check(&consul.address(), "", web).await.expect(0, &[&line, "0 errors, 1 warning"]);
    let said = lictor(&["check"], &[], &[("lictor.toml", &format!("{web}{route}"))]);
    said.expect(0, &[&format!("warning: lictor.toml:4 routes[0].match.path: {hidden}")]);
    let off = lictor(&["check"], &[("LICTOR_HTTP__HEALTH", "/healthz")], &[("lictor.toml", &format!("{web}{route}"))]);
    assert_eq!((off.code, off.out.lines().count()), (Some(0), 1), "{}", off.out);
}

#[tokio::test]
async fn an_agent_that_cannot_be_asked_is_told_by_what_is_wrong_with_it() {
    let consul = Consul::start().await;
    let known = consul.address();
    check(&known, "datacenter = \"dc9\"", "").await.expect(
        1,
        &["error: consul.datacenter: `dc9` is not known to the agent, which knows `dc1`", "1 error, 0 warnings"],
    );
    check("", "", "[services.a]\ninstances = [\"10.0.0.1:1\"]\n")
        .await
        .expect(0, &["ok: consul.address: it is empty, so there is no Consul to ask"]);

    let leaderless = FakeConsul::start(7, &[]).await;
    leaderless.fault(Fault::Status(500, "No cluster leader"));
    let something = Origin::start("a").await;
    let [free] = free_ports();
    let cases = [
        (leaderless.address(), "the cluster has no leader; wait for an election to end"),
        (format!("http://{}", something.address), "the answer is not what Consul tells"),
        (format!("http://127.0.0.1:{free}"), "is the agent running, and is this its address?"),
    ];
    for (address, words) in cases {
        let said = check(&address, "", "").await;
        said.expect(1, &["1 error, 0 warnings"]);
        let line = said.out.lines().nth(1).unwrap();
        assert!(
            line.starts_with(&format!("error: consul.address: asked at `{address}`: ")) && line.contains(words),
            "{line}"
        );
    }
    consul.stop();
    let hung = check(&known, "", "").await;
    hung.expect(1, &["1 error, 0 warnings"]);
    assert!(hung.out.contains("no answer within 2s; is it an agent, and is it well?"), "{}", hung.out);
    consul.resume();
}
