//! Builds what questions go over: HTTP/1.1 to the agent, by TLS or a socket where that is set.

use std::{path::Path, time::Duration};

use reqwest::{Certificate, Identity, redirect, retry};

use super::{
    error::Error,
    settings::{Place, Settings},
};

/// A client of HTTP for these settings, which has connections of its own.
///
/// # Errors
/// A file that cannot be used.
pub fn http(settings: &Settings, place: &Place) -> Result<reqwest::Client, Error> {
    let mut builder = reqwest::Client::builder()
        // The agent is near, and a proxy of the environment is for what is far.
        .no_proxy()
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .http1_only()
        .user_agent(concat!("lictor/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT)
        .tcp_keepalive(KEEPALIVE)
        .tcp_keepalive_interval(KEEPALIVE)
        .tcp_keepalive_retries(3)
        // Each blocking query has a connection; none is to be made anew for the next. What was for more goes.
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(usize::MAX);
    if let Some(socket) = &place.socket {
        builder = builder.unix_socket(socket.as_path());
    }
    if let Some(path) = &settings.ca {
        let authorities = Certificate::from_pem_bundle(&read("ca", path)?);
        builder = builder.tls_certs_only(authorities.map_err(|source| pem("ca", path, source))?);
    }
    match (&settings.cert, &settings.key) {
        (Some(cert), Some(key)) => {
            let both = [read("key", key)?, b"\n".to_vec(), read("cert", cert)?].concat();
            builder = builder.identity(Identity::from_pem(&both).map_err(|source| pem("cert", cert, source))?);
        }
        (None, None) => {}
        _ => return Err(Error::Pair),
    }
    builder.build().map_err(|source| Error::Build(source.into()))
}

fn read(setting: &'static str, path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|source| Error::File { setting, path: path.to_owned(), source: source.into() })
}

fn pem(setting: &'static str, path: &Path, source: reqwest::Error) -> Error {
    Error::Pem { setting, path: path.to_owned(), source: source.into() }
}

const CONNECT: Duration = Duration::from_secs(5);
/// Longer than a watch pauses in good health.
const IDLE: Duration = Duration::from_secs(15);
const KEEPALIVE: Duration = Duration::from_secs(15);
