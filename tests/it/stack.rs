//! The stack of docker-compose.yml, as far as it can be tried without containers: its parts are there, fit together, and
//! are accepted by the programs that read them.

use std::{fs, path::Path, process::Stdio, time::Duration};

use serde_json::Value;
use tokio::process::Command;

use crate::support::{
    Consul, Gateway,
    compose::Compose,
    consul,
    dashboards::text,
    program,
    prometheus::{promtool, root},
    until,
};

#[test]
fn every_service_can_come_up_and_has_no_more_rights_than_it_needs() {
    let faults = compose().faults(&root(""));
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn what_is_wrong_with_a_compose_file_is_named() {
    let bad = r#"
version: "3"
services:
  bare: {image: "bare:latest"}
  good: &good
    image: "registry:5000/good:v1.2.3-alpine"
    user: "1000:1000"
    read_only: true
    cap_drop: [ALL]
    stop_grace_period: 1s
    healthcheck: {test: ["CMD", "true"]}
    profiles: [demo]
  needy:
    <<: *good
    profiles: [mine]
    depends_on: {bare: {condition: service_started}, good: {condition: service_healthy}, nobody: {}}
  open:
    <<: *good
    user: "0:0"
    ports: ["80:80", "127.0.0.1:81:81"]
    volumes: ["./missing.toml:/a:ro", "./Cargo.toml:/b", "data:/c"]
    depends_on: [good]
    healthcheck: {test: ["NONE"]}
volumes: {spare: {}}
"#;
    assert_eq!(
        Compose::new(bad).faults(&root("")),
        [
            "`version` means nothing any more",
            "no `name`",
            "bare: the tag of `bare:latest` is no full version",
            "bare: has no healthcheck",
            "bare: may write to its root",
            "bare: keeps capabilities",
            "bare: runs as root",
            "bare: has no `stop_grace_period`",
            "needy: has the profile `mine`",
            "needy: depends on `bare`, which has no healthcheck",
            "needy: does not wait until `bare` is healthy",
            "needy: depends on `good`, which other profiles have",
            "needy: depends on `nobody`, which is not there",
            "open: has no healthcheck",
            "open: runs as root",
            "open: opens `80:80` to other machines",
            "open: `depends_on` has no conditions",
            "open: mounts `./missing.toml`, which is not there",
            "open: may write to `./Cargo.toml`",
            "open: mounts `data`, which is neither a place in the project nor a named volume",
            "nobody uses the volume `spare`",
        ]
    );
}

#[tokio::test]
async fn the_compose_file_is_one_by_its_specification_and_by_dclint() {
    let folder = tempfile::tempdir().unwrap();
    let bad = folder.path().join("docker-compose.yml");
    for (services, schema_finds, dclint_finds) in [
        (None, "", ""),
        (Some("{a: {image: 'a:1.0.0', healthchek: {}}}"), "'healthchek' was unexpected", "invalid-schema"),
        (Some("{a: {image: 'a:latest', ports: [\"80:80\"]}}"), "", "service-image-require-explicit-tag"),
    ] {
        let file = match services {
            None => root("docker-compose.yml"),
            Some(services) => {
                fs::write(&bad, format!("name: a\nservices: {services}\n")).unwrap();
                bad.clone()
            }
        };
        let mut schema = Command::new("python3");
        schema.args(["-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]).arg(&file);
        schema.env("PYTHONPATH", fetched("python")).env("PYTHONDONTWRITEBYTECODE", "1");
        let mut dclint = Command::new(fetched("dclint"));
        dclint.args(["--max-warnings", "0"]).arg(&file).current_dir(root(""));
        for (mut linter, fault) in [(schema, schema_finds), (dclint, dclint_finds)] {
            let output = linter.stdin(Stdio::null()).output().await.unwrap();
            let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
            assert_eq!(output.status.success(), fault.is_empty(), "{said}");
            assert!(said.contains(fault), "{said}");
        }
    }
}

#[test]
fn gateways_have_a_configuration_that_holds_and_longer_to_end_than_their_drain() {
    let compose = compose();
    let mut check = std::process::Command::new(program());
    let output = check.args(["check", "-c", "docker/lictor.toml"]).current_dir(root("")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&[output.stdout, output.stderr].concat()));
    let config: toml::Value = toml::from_str(&read("docker/lictor.toml")).unwrap();
    let duration = |text: &str| humantime::parse_duration(text).unwrap();
    let drain = config["http"]["drain"].as_str().map(duration).unwrap();
    let wait = config["http"].get("drain_wait").and_then(toml::Value::as_str).map_or(Duration::ZERO, duration);
    for name in ["lictor-1", "lictor-2"] {
        let gateway = compose.service(name);
        assert!(
            gateway["volumes"].to_string().contains("./docker/lictor.toml:/etc/lictor/lictor.toml:ro"),
            "{gateway}"
        );
        let grace = duration(gateway["stop_grace_period"].as_str().unwrap());
        assert!(grace > drain + wait, "{name}: {grace:?} to end, but {drain:?} and {wait:?} to drain");
        let image = format!("lictor:{}", env!("CARGO_PKG_VERSION"));
        assert_eq!(gateway["image"], *image);
    }
}

#[test]
fn every_command_that_containers_of_the_image_run_is_one_that_it_has() {
    let compose = compose();
    let mut commands = Vec::new();
    for (_, service) in compose.services().filter(|(_, service)| service["image"].to_string().contains("lictor:")) {
        let words = |value: &Value| value.as_array().into_iter().flatten().map(text).collect::<Vec<_>>();
        let asked = words(&service["healthcheck"]["test"]);
        assert_eq!(asked[..2], ["CMD", "/lictor"]);
        commands.extend([words(&service["command"]), asked[2..].to_vec()]);
    }
    commands.push(vec!["run".to_owned()]); // the image's own
    assert!(commands.len() > 20, "{commands:?}");
    commands.sort();
    commands.dedup();
    for command in commands {
        let output = std::process::Command::new(program()).args(&command).arg("--help").output().unwrap();
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn every_instance_that_consul_knows_is_a_service_that_listens_there() {
    let compose = compose();
    let definitions = json("consul/services.json");
    let mut definitions = definitions["services"].as_array().unwrap().clone();
    definitions.push(json("consul/later/users-3.json")["service"].clone());
    assert_eq!(definitions.len(), 9);
    for definition in definitions {
        let (address, port) = (definition["address"].as_str().unwrap(), &definition["port"]);
        let service = compose.service(address);
        let named = definition["name"].as_str().unwrap();
        let command = serde_json::json!(["demo", named, "--listen", format!("0.0.0.0:{port}"), "--name", address]);
        assert_eq!(service["command"], command, "{address}");
        assert_eq!(definition["check"]["http"], format!("http://{address}:{port}/health"));
        let asked = service["healthcheck"]["test"][4].as_str().unwrap();
        assert_eq!(asked, format!("http://127.0.0.1:{port}"), "{address}");
    }
}

#[tokio::test]
async fn consul_takes_its_configuration_and_the_gateway_follows_a_registration_by_its_command() {
    let (definitions, data) = (root("consul"), tempfile::tempdir().unwrap());
    let given = [format!("-config-dir={}", definitions.display()), format!("-data-dir={}", data.path().display())];
    let consul = Consul::start_with(&[&given[0], &given[1]]).await;
    let config = read("docker/lictor.toml");
    let (_, config) = config.split_once("[telemetry]").unwrap();
    let gateway = Gateway::start(&consul, &format!("[telemetry]{config}")).await;
    let known = async |service: &str| {
        let topology = gateway.admin("/api/topology").await.json();
        topology["services"][service]["instances"].as_array().map_or(0, Vec::len)
    };
    for service in ["auth", "experiments", "metrics", "users"] {
        until(service, || async { (known(service).await == 2).then_some(()) }).await;
    }

    let by_command = async |args: &[&str]| {
        let mut command = Command::new(consul::program());
        command.args(["services", args[0], &format!("-http-addr={}", consul.address())]).args(&args[1..]);
        let output = command.current_dir(root("")).output().await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    by_command(&["register", "consul/later/users-3.json"]).await;
    until("a third instance", || async { (known("users").await == 3).then_some(()) }).await;
    by_command(&["deregister", "-id=users-3"]).await;
    until("two instances again", || async { (known("users").await == 2).then_some(()) }).await;
}

#[tokio::test]
async fn prometheus_and_grafana_look_where_the_others_are() {
    let compose = compose();
    let prometheus = yaml("prometheus/prometheus.yml");
    let config: toml::Value = toml::from_str(&read("docker/lictor.toml")).unwrap();
    let port = config["metrics"]["listen"].as_str().unwrap().rsplit_once(':').unwrap().1.to_owned();
    let job = &prometheus["scrape_configs"][0];
    assert_eq!(job["job_name"], "lictor");
    let targets = serde_json::json!([format!("lictor-1:{port}"), format!("lictor-2:{port}")]);
    assert_eq!(job["static_configs"][0]["targets"], targets);

    let source = &yaml("grafana/provisioning/datasources/prometheus.yaml")["datasources"][0];
    assert_eq!(source["uid"], "lictor-prometheus");
    assert_eq!(source["jsonData"]["timeInterval"], prometheus["global"]["scrape_interval"]);
    let (host, port) = source["url"].as_str().unwrap().trim_start_matches("http://").split_once(':').unwrap();
    let ports = compose.service(host)["ports"].to_string();
    assert!(ports.contains(&format!(":{port}\"")), "{host}:{port} is not among {ports}");

    let folder = yaml("grafana/provisioning/dashboards/lictor.yaml")["providers"][0]["options"]["path"].clone();
    let grafana = compose.service("grafana");
    let mount = format!("./grafana/dashboards:{}:ro", folder.as_str().unwrap());
    assert!(grafana["volumes"].as_array().unwrap().contains(&mount.into()), "{grafana}");
    let home = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"].as_str().unwrap();
    let home = home.strip_prefix(folder.as_str().unwrap()).unwrap();
    assert!(root("grafana/dashboards").join(home.trim_start_matches('/')).is_file(), "{home}");

    // As it is mounted: rules beside the file.
    let there = promtool(&["check", "config", "prometheus/prometheus.yml"], "").await.1;
    assert!(there.contains("1 rule files found"), "{there}");
}

#[test]
fn the_image_is_built_of_what_is_there_by_full_versions_and_runs_without_root_or_shell() {
    let dockerfile = read("Dockerfile");
    let faults = image_faults(&dockerfile, &read(".dockerignore"), &root(""));
    assert!(faults.is_empty(), "{faults:?}");
    // Each target that cargo looks for has to be there, though the dependencies are built without them.
    let manifest: toml::Value = toml::from_str(&read("Cargo.toml")).unwrap();
    for bench in manifest["bench"].as_array().unwrap() {
        let bench = format!("benches/{}", bench["name"].as_str().unwrap());
        assert!(dockerfile.contains(&bench), "{bench}");
    }
    let toolchain: toml::Value = toml::from_str(&read("rust-toolchain.toml")).unwrap();
    let base = format!("FROM rust:{}-slim", toolchain["toolchain"]["channel"].as_str().unwrap());
    assert!(dockerfile.contains(&base), "{base}");

    let before = dockerfile.split("cargo build").next().unwrap();
    assert!(before.contains("COPY .cargo .cargo\n"), "what tells the compiler of the profile");

    let bad =
        "FROM rust:latest AS build\nCOPY src nowhere tests ./\nFROM debian:12.1.0\nCOPY --from=build /a /\nUSER 0\n";
    assert_eq!(
        image_faults(bad, "*\n!src\n!nowhere\n", &root("")),
        [
            "`rust:latest` is no full version",
            "`nowhere` is not there",
            "`tests` is left out by .dockerignore",
            "`debian:12.1.0` may have a shell",
            "runs as root",
        ]
    );
}

fn image_faults(dockerfile: &str, ignored: &str, root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let (mut last, mut user) = ("", "");
    for line in dockerfile.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("FROM") => {
                last = words.next().unwrap_or_default();
                let version = last.split([':', '-']).nth(1).unwrap_or_default();
                if last != "scratch" && version.split('.').filter(|part| part.parse::<u32>().is_ok()).count() != 3 {
                    found.push(format!("`{last}` is no full version"));
                }
            }
            Some("COPY") if !line.contains("--from=") => {
                let mut places: Vec<_> = words.collect();
                places.pop();
                for place in places {
                    if !root.join(place).exists() {
                        found.push(format!("`{place}` is not there"));
                    } else if !ignored.lines().any(|line| line == format!("!{place}")) {
                        found.push(format!("`{place}` is left out by .dockerignore"));
                    }
                }
            }
            Some("USER") => user = words.next().unwrap_or_default(),
            _ => {}
        }
    }
    if last != "scratch" {
        found.push(format!("`{last}` may have a shell"));
    }
    if ["", "0", "root"].contains(&user.split(':').next().unwrap_or_default()) {
        found.push("runs as root".into());
    }
    found
}

fn compose() -> Compose {
    Compose::new(&read("docker-compose.yml"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn yaml(path: &str) -> Value {
    serde_saphyr::from_str(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn json(path: &str) -> Value {
    serde_json::from_str(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// What `make setup` fetches.
fn fetched(name: &str) -> std::path::PathBuf {
    let place = root(".tools").join(name);
    assert!(place.exists(), "no {}: `make setup` fetches it", place.display());
    place
}
