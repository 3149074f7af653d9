//! The gateway beside a command: found as the configuration says, or by `--admin`, and asked at its listeners for operators.

use std::{
    fmt::Write as _,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use reqwest::{Client, StatusCode, Url, redirect};

use super::Settings;
use crate::{
    config::Operators,
    model::{problem::Problems, units::Secret},
};

/// How the gateway is found.
#[derive(clap::Args, Clone, Default)]
#[group(skip)]
pub struct Args {
    #[command(flatten)]
    settings: Settings,
    /// The gateway's admin listener [default: as the configuration says]
    #[arg(long, value_name = "URL")]
    admin: Option<String>,
    /// A file with the token of `[admin]` [default: the token in the configuration]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// A gateway to ask.
pub struct Beside {
    http: Client,
    /// Where it may be, the likeliest first: `http://HOST:PORT`.
    places: Vec<String>,
    token: Option<Secret>,
    /// What could not be read of where it is.
    problems: Problems,
}

/// What it said.
pub struct Answer {
    /// Where it was asked.
    pub url: String,
    /// The status.
    pub status: StatusCode,
    /// The body.
    pub text: String,
}

impl Beside {
    /// The gateway, with all that operators may see.
    ///
    /// # Errors
    /// Nothing says where it could be, or what says so cannot be read.
    pub fn find(args: &Args, patience: Duration) -> Result<Self> {
        Self::among(args, |found| found.admin.listen.clone(), patience)
    }

    /// The gateway, or its probes alone.
    ///
    /// # Errors
    /// As [`Self::find`].
    pub fn probes(args: &Args, patience: Duration) -> Result<Self> {
        Self::among(args, |found| [&found.admin.listen[..], &found.metrics.listen].concat(), patience)
    }

    fn among(args: &Args, listen: impl Fn(&Operators) -> Vec<SocketAddr>, patience: Duration) -> Result<Self> {
        let found = Operators::find(&args.settings.sources());
        let places = match &args.admin {
            Some(url) => vec![base(url)?],
            None => listen(&found).into_iter().filter(|at| at.port() != 0).map(near).collect(),
        };
        if places.is_empty() {
            let mut why =
                "the configuration has no `[admin] listen` with a port to ask at; name one by `--admin URL`".to_owned();
            also(&mut why, &found.problems);
            bail!(why);
        }
        let token = match &args.token_file {
            Some(file) => {
                let text = std::fs::read_to_string(file);
                let text = text.with_context(|| format!("cannot read the token in `{}`", file.display()))?;
                Some(Secret::from(text.trim()))
            }
            None => found.admin.token,
        };
        // No proxy of the environment: the gateway is near.
        let http = Client::builder().no_proxy().redirect(redirect::Policy::none()).timeout(patience).build()?;
        Ok(Self { http, places, token, problems: found.problems })
    }

    /// Asks for what is at `path`; the first place where somebody answers is the gateway's.
    ///
    /// # Errors
    /// Nobody answers.
    pub async fn ask(&self, path: &str, query: &[(&str, &str)]) -> Result<Answer> {
        let mut why = String::new();
        for place in &self.places {
            let url = format!("{place}{path}");
            let mut request = self.http.get(&url).query(query);
            if let Some(token) = &self.token {
                request = request.bearer_auth(token.reveal());
            }
            let told = match request.send().await {
                Ok(response) => {
                    let status = response.status();
                    response.text().await.map(|text| Answer { url, status, text })
                }
                Err(error) => Err(error),
            };
            match told {
                Ok(answer) => return Ok(answer),
                Err(error) => {
                    let gap = if why.is_empty() { "no gateway answers at " } else { ", nor at " };
                    // Writing to a string cannot fail.
                    let _ = write!(why, "{gap}{place}: {}", last(&error));
                }
            }
        }
        also(&mut why, &self.problems);
        bail!(why)
    }

    /// The same, where anything but the document that was asked for is a failure.
    ///
    /// # Errors
    /// Nobody answers, or not with a document.
    pub async fn document(&self, path: &str, query: &[(&str, &str)]) -> Result<String> {
        let answer = self.ask(path, query).await?;
        match answer.status {
            StatusCode::OK => Ok(answer.text),
            StatusCode::UNAUTHORIZED => bail!(
                "{} asks for the token of `[admin]`: it is in the configuration that the gateway was started with, in \
                 `LICTOR_ADMIN__TOKEN`, or in a file for `--token-file`",
                answer.url
            ),
            status => bail!("{} answered {status}: {}", answer.url, detail(&answer.text)),
        }
    }
}

/// What a problem document says, else the first line.
fn detail(text: &str) -> String {
    let document = serde_json::from_str::<serde_json::Value>(text).ok();
    let said = document.as_ref().and_then(|document| document["detail"].as_str()).unwrap_or(text);
    super::plain(said.trim().lines().next().unwrap_or_default())
}

fn also(why: &mut String, problems: &Problems) {
    let problems = problems.to_string();
    if !problems.is_empty() {
        let _ = write!(why, "\nand of the configuration this cannot be read:\n{problems}");
    }
}

/// The innermost cause: the others repeat the URL.
fn last(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), last)
}

/// Where who listens there is reached from here.
fn near(listen: SocketAddr) -> String {
    let reached = match listen {
        SocketAddr::V4(at) if at.ip().is_unspecified() => SocketAddr::from((Ipv4Addr::LOCALHOST, at.port())),
        SocketAddr::V6(at) if at.ip().is_unspecified() => SocketAddr::from((Ipv6Addr::LOCALHOST, at.port())),
        at => at,
    };
    format!("http://{reached}")
}

/// `http://HOST:PORT`, also of `HOST:PORT`.
fn base(text: &str) -> Result<String> {
    let full = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let wrong = || format!("expected the admin listener as `http://HOST:PORT`; got `{text}`");
    let url: Url = full.parse().with_context(wrong)?;
    let bare = url.path() == "/" && url.query().is_none() && url.username().is_empty() && url.password().is_none();
    if !bare || !matches!(url.scheme(), "http" | "https") {
        bail!(wrong());
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_reached_from_here() {
        for (listen, place) in [
            ("127.0.0.1:9901", "http://127.0.0.1:9901"),
            ("0.0.0.0:9901", "http://127.0.0.1:9901"),
            ("[::]:9901", "http://[::1]:9901"),
            ("[::1]:9901", "http://[::1]:9901"),
            ("10.0.0.7:9901", "http://10.0.0.7:9901"),
        ] {
            assert_eq!(near(listen.parse().unwrap()), place);
        }
    }

    #[test]
    fn a_place_that_is_named_is_a_host_and_a_port() {
        for (text, place) in [
            ("localhost:9901", Some("http://localhost:9901")),
            ("[::1]:9901", Some("http://[::1]:9901")),
            ("http://gateway:9901/", Some("http://gateway:9901")),
            ("https://gateway", Some("https://gateway")),
            ("http://gateway/api", None),
            ("http://me:secret@gateway", None),
            ("ftp://gateway", None),
            ("", None),
        ] {
            assert_eq!(base(text).ok().as_deref(), place, "{text}");
        }
    }
}
