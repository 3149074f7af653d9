//! The gateway as its users start it: the program, with files, in a process of its own.

use std::{
    net::SocketAddr,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex},
};

use http::{HeaderMap, Method, StatusCode};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    process::{Child, Command},
    sync::watch,
    task::JoinSet,
    time::timeout,
};

use super::{Consul, PATIENCE, client, signal, until};

/// A running gateway. Ends with the test.
pub struct Gateway {
    pub address: SocketAddr,
    pub admin: SocketAddr,
    folder: TempDir,
    child: Child,
    log: Arc<Mutex<Vec<Value>>>,
    read: watch::Sender<bool>,
    http: reqwest::Client,
    _reading: JoinSet<()>,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

/// How a command ended.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Answer {
    /// The value of a header, or nothing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }
}

const BASE: &str = r#"
[http]
listen = "127.0.0.1:0"
drain = "5s"
[admin]
listen = "127.0.0.1:0"
[telemetry]
log = { format = "json", level = "info" }
"#;

impl Gateway {
    /// A gateway that follows `consul`, with `config` over it; returns once it is ready.
    pub async fn start(consul: &Consul, config: &str) -> Self {
        let gateway = Self::start_unready(&format!("[consul]\naddress = \"{}\"\n", consul.address()), config).await;
        gateway.until_ready().await;
        gateway
    }

    /// A gateway without Consul.
    pub async fn fixed(config: &str) -> Self {
        Self::start_unready("[consul]\naddress = \"\"\n", config).await
    }

    /// A gateway that listens, and may not know anything yet.
    pub async fn start_unready(consul: &str, config: &str) -> Self {
        Self::with(&[], consul, config).await
    }

    /// The same, with variables in its environment.
    pub async fn with(variables: &[(&str, &str)], consul: &str, config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("base.toml"), format!("{BASE}{consul}")).unwrap();
        std::fs::write(folder.path().join("lictor.toml"), config).unwrap();
        let mut command = Command::new(super::program());
        forget(&mut command);
        let mut child = command
            .args(["run", "-c", "base.toml", "-c", "lictor.toml"])
            .envs(variables.iter().copied())
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let log = Arc::<Mutex<Vec<Value>>>::default();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (read, mut reads) = watch::channel(true);
        let mut reading = JoinSet::new();
        reading.spawn({
            let log = log.clone();
            async move {
                while reads.wait_for(|reads| *reads).await.is_ok()
                    && let Ok(Some(line)) = lines.next_line().await
                {
                    let line = serde_json::from_str(&line).unwrap_or(Value::String(line));
                    log.lock().unwrap().push(line);
                }
            }
        });
        let listening = async |name: &str| {
            until(&format!("the listener {name}; the log has {:?}", log.lock().unwrap()), || async {
                let log = log.lock().unwrap();
                let line = log.iter().find(|line| line["message"] == "listening" && line["listener"] == name)?;
                line["address"].as_str()?.parse().ok()
            })
            .await
        };
        let address = listening("http").await;
        let admin = listening("admin").await;
        Self { address, admin, folder, child, log, read, http: client(), _reading: reading }
    }

    /// Where the listener with TLS is.
    pub fn secure(&self) -> SocketAddr {
        let log = self.log();
        let line = log.iter().find(|line| line["message"] == "listening" && line["listener"] == "https");
        line.expect("no listener with TLS")["address"].as_str().unwrap().parse().unwrap()
    }

    /// Waits for `/readyz`.
    pub async fn until_ready(&self) {
        until("readiness", || async { (self.admin("/readyz").await.status == 200).then_some(()) }).await;
    }

    /// Waits until a service has so many usable instances.
    pub async fn until_usable(&self, service: &str, count: usize) {
        until(&format!("{count} usable instances of {service}"), || async {
            (self.usable(service).await.len() == count).then_some(())
        })
        .await;
    }

    /// The ids of a service's usable instances.
    pub async fn usable(&self, service: &str) -> Vec<String> {
        let topology = self.admin("/api/topology").await.json();
        let instances = topology["services"][service]["instances"].as_array().cloned().unwrap_or_default();
        let usable = instances.iter().filter(|instance| instance["usable"] == true);
        usable.map(|instance| instance["id"].as_str().unwrap().to_owned()).collect()
    }

    /// Waits until a path is answered with this status.
    pub async fn until_status(&self, path: &str, status: u16) -> Answer {
        until(&format!("{status} for {path}"), || async {
            let answer = self.get(path).await;
            (answer.status == status).then_some(answer)
        })
        .await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], "").await
    }

    /// One request, on a connection that others may use after it.
    pub async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut request = self.http.request(method, format!("http://{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if !body.is_empty() {
            request = request.body(body.to_owned());
        }
        read(request).await
    }

    /// GET on the admin listener.
    pub async fn admin(&self, path: &str) -> Answer {
        read(self.http.get(format!("http://{}{path}", self.admin))).await
    }

    /// The value of one series as `/metrics` has it, written out with all its labels.
    pub async fn metric(&self, series: &str) -> Option<f64> {
        let text = self.admin("/metrics").await.text;
        text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
    }

    /// Waits for a series to have this value: what an answer counts for is counted after its last byte has left.
    pub async fn until_metric(&self, series: &str, value: f64) {
        until(&format!("{series} {value}"), || async { (self.metric(series).await == Some(value)).then_some(()) })
            .await;
    }

    /// The sum of all series of a metric that have these labels among theirs.
    pub async fn metric_sum(&self, name: &str, labels: &str) -> f64 {
        let text = self.admin("/metrics").await.text;
        let ours = text.lines().filter(|line| line.starts_with(name) && line.contains(labels));
        ours.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Sends bytes on a new connection and reads until the gateway closes it, or falls silent for a second.
    pub async fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        while let Ok(Ok(1..)) = timeout(std::time::Duration::from_secs(1), stream.read_buf(&mut answer)).await {}
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Runs a command of the program in the folder where the gateway runs, until it ends.
    pub async fn command(&self, args: &[&str], env: &[(&str, &str)]) -> Said {
        let mut command = Command::new(super::program());
        forget(&mut command);
        let output = command.args(args).envs(env.iter().copied()).current_dir(self.folder.path()).output();
        let output = timeout(PATIENCE, output).await.expect("the command does not end").unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Said { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// Replaces the configuration file.
    pub fn configure(&self, config: &str) {
        let next = self.file("next.toml");
        std::fs::write(&next, config).unwrap();
        std::fs::rename(next, self.file("lictor.toml")).unwrap();
    }

    /// A file in the folder where it runs.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Sends a signal, such as `HUP`.
    pub fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    /// Its number among the processes.
    pub fn pid(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// Waits for its end.
    pub async fn ended(&mut self) -> ExitStatus {
        timeout(PATIENCE, self.child.wait()).await.expect("it did not end").unwrap()
    }

    /// Leaves its standard error unread from the next line on, or reads it again.
    pub fn read_log(&self, reads: bool) {
        self.read.send_replace(reads);
    }

    /// The log so far.
    pub fn log(&self) -> Vec<Value> {
        self.log.lock().unwrap().clone()
    }

    /// Waits for an event of this kind and gives it.
    pub async fn until_event(&self, kind: &str) -> Value {
        until(&format!("the event {kind}"), || async { self.events(kind).into_iter().next_back() }).await
    }

    /// All events of this kind, as the log has them.
    pub fn events(&self, kind: &str) -> Vec<Value> {
        self.log().into_iter().filter(|line| line["kind"] == kind).collect()
    }
}

/// Variables that mean something to the program.
fn forget(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CONSUL_") || name.starts_with("LICTOR_") || name == "RUST_LOG" {
            command.env_remove(&*name);
        }
    }
}

async fn read(request: reqwest::RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    Answer { status, headers, text: response.text().await.unwrap() }
}
