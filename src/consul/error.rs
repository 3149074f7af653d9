//! Why Consul gave no answer, by what a caller can do about it.

use std::{error::Error as _, fmt::Write as _, io, path::PathBuf, sync::Arc, time::Duration};

use super::rights::Right;

/// Why Consul gave no answer. Tokens are in none of it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// Settings: no agent could be reached there.
    #[error("`{0}` is not an address such as `http://127.0.0.1:8500` or `unix:///run/consul.sock`")]
    Address(String),
    /// Settings: a file that cannot be read.
    #[error("cannot read `{}`", path.display())]
    File {
        /// The setting that names it.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: Arc<io::Error>,
    },
    /// Settings: a token that no header can hold, or none where there should be one.
    #[error("a token is visible ASCII characters, at least one")]
    Token {
        /// The setting that it came by.
        setting: &'static str,
    },
    /// Settings: certificates or keys that are none.
    #[error("cannot use what `{}` holds", path.display())]
    Pem {
        /// The setting that names it.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: Arc<reqwest::Error>,
    },
    /// Settings: a certificate without its key, or the other way round.
    #[error("a client certificate and its key go together")]
    Pair,
    /// Settings: no client can be built of them.
    #[error("no HTTP client can be made")]
    Build(#[source] Arc<reqwest::Error>),

    /// No connection.
    #[error("the agent cannot be reached")]
    Unreachable(#[source] Arc<reqwest::Error>),
    /// No whole answer in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The connection ended before the answer did.
    #[error("the answer broke off")]
    Broken(#[source] Arc<reqwest::Error>),
    /// The agent is there, and says that the cluster has no leader.
    #[error("the cluster has no leader")]
    NoLeader,
    /// An answer, and it is no.
    #[error("answered with {code}: `{text}`")]
    Status {
        /// HTTP's code.
        code: u16,
        /// The start of the body, control characters escaped.
        text: String,
    },
    /// An answer to a blocking query that does not say where to go on.
    #[error("`X-Consul-Index` is `{0}`, not a number")]
    Index(String),
    /// Not what Consul tells.
    #[error("the answer is not what Consul tells")]
    Body(#[source] Arc<serde_json::Error>),
    /// Consul leaves out of its answer what the token may not read.
    #[error("the token lacks {}", list(.0))]
    Denied(Vec<Right>),
    /// A body that has no end.
    #[error("the answer has more than {0} bytes")]
    TooLarge(usize),
}

/// What a failure is, without its circumstances: two of one kind are one condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The settings cannot be used.
    Settings,
    /// No connection.
    Unreachable,
    /// No whole answer in time.
    Timeout,
    /// A connection that ended too early.
    Broken,
    /// No leader.
    NoLeader,
    /// An HTTP status.
    Status(u16),
    /// No index.
    Index,
    /// Not Consul's JSON.
    Body,
    /// Rights are missing.
    Denied,
    /// Too long.
    TooLarge,
}

impl Error {
    /// Reads an answer that is not 200: its status and the start of its body.
    pub(super) fn status(code: u16, body: &[u8]) -> Self {
        let text = String::from_utf8_lossy(body);
        // `No cluster leader` of an agent; `rpc error … No known Consul servers` of one that knows no server.
        if code >= 500 && (text.contains("No cluster leader") || text.contains("No known Consul servers")) {
            return Self::NoLeader;
        }
        Self::Status { code, text: clip(text.trim()) }
    }

    /// Reads why a request failed on its way.
    pub(super) fn transport(error: reqwest::Error) -> Self {
        let error = error.without_url();
        if error.is_connect() { Self::Unreachable(Arc::new(error)) } else { Self::Broken(Arc::new(error)) }
    }

    /// What it is, without its circumstances.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Address(_)
            | Self::File { .. }
            | Self::Token { .. }
            | Self::Pem { .. }
            | Self::Pair
            | Self::Build(_) => Kind::Settings,
            Self::Unreachable(_) => Kind::Unreachable,
            Self::Timeout(_) => Kind::Timeout,
            Self::Broken(_) => Kind::Broken,
            Self::NoLeader => Kind::NoLeader,
            Self::Status { code, .. } => Kind::Status(*code),
            Self::Index(_) => Kind::Index,
            Self::Body(_) => Kind::Body,
            Self::Denied(_) => Kind::Denied,
            Self::TooLarge(_) => Kind::TooLarge,
        }
    }

    /// The field of `Settings` that it comes of, where it is one.
    #[must_use]
    pub fn setting(&self) -> Option<&'static str> {
        match self {
            Self::Address(_) => Some("address"),
            Self::File { setting, .. } | Self::Token { setting } | Self::Pem { setting, .. } => Some(setting),
            Self::Pair => Some("cert"),
            _ => None,
        }
    }

    /// Whether an agent was reached and gave an answer, if only an error. Something else that speaks HTTP is no agent.
    #[must_use]
    pub fn reachable(&self) -> bool {
        matches!(self.kind(), Kind::NoLeader | Kind::Status(_) | Kind::Index | Kind::Denied | Kind::TooLarge)
    }

    /// Whether it may be the agent's fault rather than the question's: only the agent itself can tell.
    pub(super) fn casts_doubt(&self) -> bool {
        !matches!(self.kind(), Kind::Status(..500) | Kind::Denied | Kind::TooLarge)
    }

    /// The message with all its causes.
    #[must_use]
    pub fn causes(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            // Writing to a string cannot fail.
            let _ = write!(text, ": {error}");
            cause = error.source();
        }
        text
    }
}

/// The first rights by name.
fn list(rights: &[Right]) -> String {
    let named: Vec<_> = rights.iter().take(MAX_NAMED).map(ToString::to_string).collect();
    let more = rights.len().saturating_sub(MAX_NAMED);
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    named.join(", ") + &rest
}

/// The start of a text that others wrote, fit for a log line.
fn clip(text: &str) -> String {
    let escaped = text.chars().flat_map(|c| {
        if c.is_control() { c.escape_default().to_string() } else { c.to_string() }.chars().collect::<Vec<_>>()
    });
    escaped.take(MAX_TEXT).collect()
}

const MAX_TEXT: usize = 200;
const MAX_NAMED: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_answer_is_told_by_its_status_and_text() {
        let cases = [
            (403, "Permission denied\n", Kind::Status(403), true, false),
            (404, "", Kind::Status(404), true, false),
            (429, "slow down", Kind::Status(429), true, false),
            (500, "No cluster leader", Kind::NoLeader, true, true),
            (500, "rpc error making call: No cluster leader", Kind::NoLeader, true, true),
            (500, "No known Consul servers", Kind::NoLeader, true, true),
            (500, "oops", Kind::Status(500), true, true),
            (503, "<html>", Kind::Status(503), true, true),
        ];
        for (code, text, kind, reachable, doubt) in cases {
            let error = Error::status(code, text.as_bytes());
            assert_eq!(
                (error.kind(), error.reachable(), error.casts_doubt()),
                (kind, reachable, doubt),
                "{code} {text}"
            );
        }
    }

    #[test]
    fn what_consul_wrote_is_clipped_and_escaped() {
        let error = Error::status(403, format!("a\r\n\x1b[31m{}", "é".repeat(500)).as_bytes());
        let Error::Status { text, .. } = &error else { panic!("{error:?}") };
        assert!(text.starts_with("a\\r\\n\\u{1b}[31mé"), "{text}");
        assert_eq!(text.chars().count(), MAX_TEXT);
    }

    #[test]
    fn all_causes_are_told() {
        let error = serde_json::from_str::<u8>("null").unwrap_err();
        let said = Error::Body(Arc::new(error)).causes();
        assert!(said.starts_with("the answer is not what Consul tells: invalid type: null"), "{said}");
    }
}
