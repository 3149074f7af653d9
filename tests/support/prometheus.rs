//! A real Prometheus that scrapes a gateway, and promtool beside it.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::AsyncWriteExt,
    process::{Child, Command},
};

use super::{Gateway, client, consul::free_ports, now};

/// One Prometheus with the rules of the project. Ends with the test.
pub struct Prometheus {
    url: String,
    http: reqwest::Client,
    _child: Child,
    _folder: TempDir,
}

/// One series of an answer: its labels, and its newest value.
#[derive(Debug)]
pub struct Sample {
    pub labels: serde_json::Map<String, Value>,
    pub value: f64,
}

impl Prometheus {
    /// Starts one that scrapes these gateways as the job `lictor`, and waits until it answers.
    pub async fn start(gateways: &[&Gateway]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let targets: Vec<_> = gateways.iter().map(|gateway| format!("\"{}\"", gateway.admin)).collect();
        let rules = root("prometheus/rules/*.yml");
        let config = format!(
            "global: {{scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 1s}}\n\
             rule_files: [\"{}\"]\n\
             scrape_configs: [{{job_name: lictor, static_configs: [{{targets: [{}]}}]}}]\n",
            rules.display(),
            targets.join(", "),
        );
        std::fs::write(folder.path().join("prometheus.yml"), config).unwrap();
        let http = client();
        let started = now();
        loop {
            let [port] = free_ports();
            let url = format!("http://127.0.0.1:{port}");
            let mut child = Command::new(program("prometheus"))
                .arg("--config.file=prometheus.yml")
                .args(["--storage.tsdb.path=data", "--log.level=error"])
                .arg(format!("--web.listen-address=127.0.0.1:{port}"))
                .current_dir(folder.path())
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .kill_on_drop(true)
                .spawn()
                .unwrap();
            // Somebody else may have been faster to take the port.
            while child.try_wait().unwrap().is_none() {
                if http.get(format!("{url}/-/ready")).send().await.is_ok_and(|answer| answer.status() == 200) {
                    return Self { url, http, _child: child, _folder: folder };
                }
                assert!(started.elapsed() < super::PATIENCE, "waited in vain: Prometheus");
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        }
    }

    /// What a query gives now.
    ///
    /// # Errors
    /// What Prometheus says of a query that it does not understand.
    pub async fn query(&self, query: &str) -> Result<Vec<Sample>, String> {
        let data = self.get("query", &[("query", query)]).await?;
        let samples = data["result"].as_array().cloned().unwrap_or_default().into_iter().map(|mut sample| {
            let value = sample["value"][1].as_str().unwrap().parse().unwrap();
            let Value::Object(labels) = sample["metric"].take() else { panic!("no labels: {sample}") };
            Sample { labels, value }
        });
        Ok(samples.collect())
    }

    /// The values that a label of a selector's series has, as `label_values(SELECTOR, LABEL)` in Grafana.
    ///
    /// # Errors
    /// What Prometheus says of a selector that it does not understand.
    pub async fn label_values(&self, selector: &str, label: &str) -> Result<Vec<String>, String> {
        let data = self.get(&format!("label/{label}/values"), &[("match[]", selector)]).await?;
        Ok(data.as_array().unwrap().iter().map(|value| value.as_str().unwrap().to_owned()).collect())
    }

    /// Each alert that it knows, with how its last evaluation went.
    pub async fn alerts(&self) -> Vec<Value> {
        let data = self.get("rules", &[]).await.unwrap();
        let groups = data["groups"].as_array().unwrap();
        groups.iter().flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
    }

    async fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Value, String> {
        let request = self.http.get(format!("{}/api/v1/{path}", self.url)).query(query);
        let mut answer: Value = request.send().await.unwrap().json().await.unwrap();
        match answer["error"].as_str() {
            Some(error) => Err(error.to_owned()),
            None => Ok(answer["data"].take()),
        }
    }
}

/// Runs promtool in the project's root: whether it finds all in order, and what it says.
pub async fn promtool(args: &[&str], input: &str) -> (bool, String) {
    let mut command = Command::new(program("promtool"));
    command.args(args).current_dir(root("")).kill_on_drop(true);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // One that has seen enough may have ended.
    let _ = stdin.write_all(input.as_bytes()).await;
    drop(stdin);
    let output = child.wait_with_output().await.unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

/// A place in the project.
pub fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// As `scripts/prometheus` finds it; promtool is beside it.
fn program(name: &str) -> PathBuf {
    let named = std::env::var_os("PROMETHEUS_BIN").filter(|name| !name.is_empty()).map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|folder| folder.join("prometheus"));
    let mut places =
        named.into_iter().chain(on_path).chain([root(".tools/prometheus")]).map(|p| p.with_file_name(name));
    let place = places.find(|place| place.is_file());
    place.unwrap_or_else(|| {
        panic!("no {name}: `make setup` fetches it; or set PROMETHEUS_BIN to a Prometheus beside it")
    })
}
