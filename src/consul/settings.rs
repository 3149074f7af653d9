//! How Consul's agent is reached: what is set, and the address taken apart.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use reqwest::Url;

use super::error::Error;

/// How the agent is reached.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `http://host:port`, `https://host:port`, `host:port` (as `http`), or `unix:///path/to/socket`.
    pub address: String,
    /// The token.
    pub token: Option<String>,
    /// A file with the token, read again when it changes; wins over `token`.
    pub token_file: Option<PathBuf>,
    /// The datacenter asked for; `None`: the agent's own.
    pub datacenter: Option<String>,
    /// The namespace asked for.
    pub namespace: Option<String>,
    /// Certificate authorities, PEM; `None`: the system's.
    pub ca: Option<PathBuf>,
    /// A certificate of ours, PEM.
    pub cert: Option<PathBuf>,
    /// Its key, PEM.
    pub key: Option<PathBuf>,
    /// How fresh answers must be.
    pub consistency: Consistency,
    /// How stale a stale answer may be.
    pub max_stale: Duration,
    /// How long the agent may hold a blocking query.
    pub wait: Duration,
}

/// Consul's consistency modes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consistency {
    /// Any server answers.
    Stale,
    /// The leader answers.
    Default,
    /// The leader makes sure that it still is.
    Consistent,
}

impl Consistency {
    /// The parameter that asks for it.
    pub(super) fn parameter(self) -> Option<&'static str> {
        match self {
            Self::Stale => Some("stale"),
            Self::Default => None,
            Self::Consistent => Some("consistent"),
        }
    }
}

/// An address, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// What the path of a question follows.
    pub base: String,
    /// The Unix socket to connect to.
    pub socket: Option<PathBuf>,
}

impl Place {
    /// Takes an address apart.
    ///
    /// # Errors
    /// `Address`, if no agent could be reached at it.
    pub fn parse(address: &str) -> Result<Self, Error> {
        let wrong = || Error::Address(address.split('@').next_back().unwrap_or_default().to_owned());
        if let Some(socket) = address.strip_prefix("unix://") {
            let socket = Path::new(socket);
            // Nobody looks at this host, but HTTP needs one.
            let base = "http://localhost".to_owned();
            return if socket.is_absolute() { Ok(Self { base, socket: Some(socket.into()) }) } else { Err(wrong()) };
        }
        let full = if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
        let url: Url = full.parse().map_err(|_| wrong())?;
        let bare = url.username().is_empty() && url.password().is_none() && url.query().is_none();
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() || !bare || url.fragment().is_some() {
            return Err(wrong());
        }
        Ok(Self { base: url.as_str().trim_end_matches('/').to_owned(), socket: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_apart() {
        let cases = [
            ("http://127.0.0.1:8500", Some(("http://127.0.0.1:8500", None))),
            ("http://127.0.0.1:8500/", Some(("http://127.0.0.1:8500", None))),
            ("https://consul.internal:8501", Some(("https://consul.internal:8501", None))),
            ("consul:8500", Some(("http://consul:8500", None))),
            ("127.0.0.1:8500", Some(("http://127.0.0.1:8500", None))),
            ("[::1]:8500", Some(("http://[::1]:8500", None))),
            ("http://edge/consul/", Some(("http://edge/consul", None))),
            ("unix:///run/consul.sock", Some(("http://localhost", Some("/run/consul.sock")))),
            ("unix://run/consul.sock", None),
            ("", None),
            ("ftp://consul:8500", None),
            ("http://user:secret@consul:8500", None),
            ("http://consul:8500?token=x", None),
            ("http://consul:99999", None),
        ];
        for (address, want) in cases {
            let place = Place::parse(address).ok();
            let want = want.map(|(base, socket)| Place { base: base.to_owned(), socket: socket.map(PathBuf::from) });
            assert_eq!(place, want, "{address}");
        }
    }

    #[test]
    fn a_password_in_an_address_is_not_repeated() {
        let said = Place::parse("http://user:secret@consul:8500").unwrap_err().causes();
        assert!(!said.contains("secret"), "{said}");
    }
}
