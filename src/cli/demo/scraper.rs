//! Prometheus' side of the demo, where this machine has one: it scrapes the gateway, and Consul where that is the demo's own.

use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{self, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use reqwest::Client;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use super::found;

/// A Prometheus of our own.
pub struct Scraper {
    port: u16,
    has_pages: bool,
    // Ends before its folder goes.
    child: Option<Child>,
    folder: Folder,
}

/// A folder that goes with its owner.
struct Folder(PathBuf);

impl Scraper {
    /// Starts one that scrapes these jobs, by name, target and path; `None` where there is no Prometheus.
    ///
    /// # Errors
    /// When all its ports are taken, or it does not come up in time.
    pub async fn start(jobs: &[(&str, SocketAddr, &str)]) -> anyhow::Result<Option<Self>> {
        let Some(program) = found("PROMETHEUS_BIN", "prometheus") else { return Ok(None) };
        let folder = Folder::new()?;
        let file = folder.0.join("prometheus.yml");
        fs::write(&file, config(jobs)).with_context(|| format!("cannot write `{}`", file.display()))?;
        let mut scraper = Self { port: 0, has_pages: false, child: None, folder };
        for port in PORTS {
            // Another one may be faster to take it: then ours ends, and tries the next.
            if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.is_ok() {
                scraper.port = port;
                scraper.child = Some(spawn(&program, &scraper.folder.0, port)?);
                if scraper.until_ready().await? {
                    return Ok(Some(scraper));
                }
            }
        }
        bail!("it cannot listen on any of the ports {} to {}", PORTS.start(), PORTS.end())
    }

    /// Where its API is.
    pub fn url(&self) -> String {
        format!("http://localhost:{}", self.port)
    }

    /// Whether it has pages to look at: Debian's has them in files beside it, which a program alone lacks.
    pub fn has_pages(&self) -> bool {
        self.has_pages
    }

    /// Ends it, and takes away what it kept.
    pub async fn end(mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill().await;
        }
    }

    /// False where it ended instead.
    async fn until_ready(&mut self) -> anyhow::Result<bool> {
        let http = Client::builder().no_proxy().timeout(Duration::from_secs(5)).build()?;
        let url = format!("http://127.0.0.1:{}", self.port);
        let get = async |path: &str| {
            let answer =
                http.get(format!("{url}{path}")).send().await.ok().filter(|answer| answer.status().is_success());
            Some(answer?.text().await.unwrap_or_default())
        };
        let ours = self.folder.0.display().to_string();
        let deadline = Instant::now() + START_LIMIT;
        // What answers may be another one. Only ours runs from our folder.
        while !get("/api/v1/status/flags").await.is_some_and(|flags| flags.contains(&ours))
            || get("/-/ready").await.is_none()
        {
            if let Some(child) = &mut self.child
                && child.try_wait()?.is_some()
            {
                return Ok(false);
            }
            if Instant::now() >= deadline {
                bail!("it does not answer on {url} after {} s", START_LIMIT.as_secs());
            }
            sleep(Duration::from_millis(50)).await;
        }
        self.has_pages = get("/graph").await.is_some();
        Ok(true)
    }
}

impl Folder {
    fn new() -> anyhow::Result<Self> {
        let mut n = 0;
        loop {
            let path = std::env::temp_dir().join(format!("lictor-demo-{}-{n}", process::id()));
            // For us alone, and never one that is there already.
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self(path)),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => n += 1,
                Err(error) => return Err(error).with_context(|| format!("cannot make `{}`", path.display())),
            }
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left of it is in a folder for what is left.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn config(jobs: &[(&str, SocketAddr, &str)]) -> String {
    let mut text = "global: {scrape_interval: 5s, scrape_timeout: 4s, evaluation_interval: 15s}\n".to_owned();
    // The project's own, where the demo runs in its folder.
    if let Ok(rules) = Path::new("prometheus/rules").canonicalize() {
        text.extend(["rule_files: ['", &rules.display().to_string(), "/*.yml']\n"]);
    }
    text += "scrape_configs:\n";
    for (job, target, path) in jobs {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let params = query.split_once('=').map(|(key, value)| format!("{key}: [{value}]")).unwrap_or_default();
        let job = format!(
            "  - {{job_name: {job}, metrics_path: {path}, params: {{{params}}}, static_configs: [{{targets: ['{target}']}}]}}\n"
        );
        text += &job;
    }
    text
}

fn spawn(program: &Path, folder: &Path, port: u16) -> anyhow::Result<Child> {
    let command = Command::new(program)
        .arg(format!("--config.file={}", folder.join("prometheus.yml").display()))
        .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .arg("--log.level=error")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // Ctrl-C in a terminal must not reach it: it ends with the demo.
        .process_group(0)
        .kill_on_drop(true)
        .spawn();
    command.with_context(|| format!("cannot start Prometheus as `{}`", program.display()))
}

const PORTS: std::ops::RangeInclusive<u16> = 9090..=9099;
const START_LIMIT: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_scrapes_what_it_is_told_and_leaves_nothing_behind() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let target = listener.local_addr().unwrap();
        let page = |uri: axum::http::Uri| async move { format!("# TYPE asked gauge\nasked{{uri=\"{uri}\"}} 1\n") };
        let serving = axum::serve(listener, axum::Router::new().fallback(page)).into_future();
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(serving);

        let jobs = [("one", target, "/metrics"), ("two", target, "/v1/agent/metrics?format=prometheus")];
        let scraper = Scraper::start(&jobs).await.unwrap().expect("no Prometheus: `make setup` fetches it");
        let folder = scraper.folder.0.clone();
        assert!(folder.join("data").is_dir());
        let asked = format!("{}/api/v1/query?query=asked", scraper.url());
        let http = Client::builder().no_proxy().build().unwrap();
        let deadline = Instant::now() + START_LIMIT * 3;
        let told = loop {
            let told = http.get(&asked).send().await.unwrap().text().await.unwrap();
            if told.contains("/metrics\"") && told.contains("/v1/agent/metrics?format=prometheus\"") {
                break told;
            }
            assert!(Instant::now() < deadline, "{told}");
            sleep(Duration::from_millis(50)).await;
        };
        assert!(told.contains(r#""job":"one""#) && told.contains(r#""job":"two""#), "{told}");

        scraper.end().await;
        assert!(!folder.exists());
    }
}
