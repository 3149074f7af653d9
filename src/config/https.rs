//! `[https]`: the public listener with TLS. Limits and timeouts are those of `[http]`; reading the files is `pem`.

use std::{net::SocketAddr, path::PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    check::At,
    http::proxy_protocol,
    listen::{self, Listen},
    pem,
};

/// The public listener with TLS.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("required" = ["certificates"]))]
pub struct Table {
    /// Where clients are served: an address and port, or a list of them; left out: "0.0.0.0:8443".
    pub listen: Option<Listen>,
    /// Certificates with their keys, chosen by the name that a client asks for; the first one for all other names.
    pub certificates: Vec<PairTable>,
    /// Authorities of client certificates, PEM: clients are asked for one and refused without. Left out: not asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_ca: Option<PathBuf>,
    /// Whether connections from `http.trusted_proxies` begin with a header of the PROXY protocol.
    pub proxy_protocol: Option<bool>,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            listen: Some("0.0.0.0:8443".into()),
            certificates: Vec::new(),
            client_ca: None,
            proxy_protocol: Some(false),
        }
    }
}

/// A certificate and its key.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("required" = ["cert", "key"], "examples" = [{ "cert": "cert.pem", "key": "key.pem" }]))]
pub struct PairTable {
    /// The certificate, then those between it and its authority, PEM.
    pub cert: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
}

/// `[https]`, checked: its files could be read when it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Https {
    /// Where to listen.
    pub listen: Vec<SocketAddr>,
    /// What to show to clients, and whom to let in.
    pub files: TlsFiles,
    /// Whether trusted peers say for whom they connect.
    pub proxy_protocol: bool,
}

/// The files that TLS is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificates; at least one.
    pub certificates: Vec<Pair>,
    /// Authorities of client certificates; `None`: clients are not asked.
    pub client_ca: Option<PathBuf>,
}

/// The files of a certificate, which go together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The chain, PEM.
    pub cert: PathBuf,
    /// The private key, PEM.
    pub key: PathBuf,
}

impl Https {
    /// Checks what was written; `trusted` is `http.trusted_proxies`, as written.
    #[must_use]
    pub fn check(table: &Table, trusted: &[String], at: &At<'_>) -> Self {
        let list = at.key("certificates");
        if table.certificates.is_empty() {
            list.say("expected at least one, such as `[{ cert = \"cert.pem\", key = \"key.pem\" }]`");
        }
        let pairs = table.certificates.iter().enumerate();
        let certificates = pairs.filter_map(|(i, pair)| Pair::check(pair, &list.index(i))).collect();
        let client_ca = table.client_ca.clone().filter(|file| !file.as_os_str().is_empty());
        if let Some(file) = &client_ca {
            at.key("client_ca").take(pem::authorities(file));
        }
        Self {
            listen: listen::check(table.listen.as_ref(), &at.key("listen")),
            files: TlsFiles { certificates, client_ca },
            proxy_protocol: proxy_protocol(table.proxy_protocol, trusted, at),
        }
    }

    /// As it would be written.
    #[must_use]
    pub fn shown(&self) -> Table {
        let shown = |pair: &Pair| PairTable { cert: pair.cert.clone(), key: pair.key.clone() };
        Table {
            listen: Some(listen::shown(&self.listen)),
            certificates: self.files.certificates.iter().map(shown).collect(),
            client_ca: self.files.client_ca.clone(),
            proxy_protocol: Some(self.proxy_protocol),
        }
    }
}

impl Pair {
    fn check(table: &PairTable, at: &At<'_>) -> Option<Self> {
        for (key, file, other) in [("cert", &table.cert, &table.key), ("key", &table.key, &table.cert)] {
            if file.as_os_str().is_empty() {
                let other = other.display();
                at.key(key).say(format!("a certificate and its private key go together; add the `{key}` of `{other}`"));
                return None;
            }
        }
        let pair = Self { cert: table.cert.clone(), key: table.key.clone() };
        pair.judge(at).then_some(pair)
    }

    /// Whether the files can serve, and go together; if not, that is said below `at`.
    pub fn judge(&self, at: &At<'_>) -> bool {
        at.key("cert").take(pem::chain(&self.cert)).is_some() && at.key("key").take(pem::certified(self)).is_some()
    }
}
