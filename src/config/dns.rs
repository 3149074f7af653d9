//! `[dns]`: who is asked for names of services that come from DNS.

use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check::At;

/// Who is asked for the names in `dns` of services.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Table {
    /// Name servers, such as Consul's own at port 8600, asked over TCP; left out: those of the system.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("examples" = [["127.0.0.1:8600"]]))]
    pub servers: Option<Vec<String>>,
}

/// `[dns]`, checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dns {
    /// Name servers; none: those of the system.
    pub servers: Vec<SocketAddr>,
}

impl Dns {
    /// Checks what was written.
    #[must_use]
    pub fn check(table: &Table, at: &At<'_>) -> Self {
        Self { servers: at.key("servers").each(table.servers.as_deref().unwrap_or_default(), server) }
    }

    /// As it would be written.
    #[must_use]
    pub fn shown(&self) -> Table {
        let servers = self.servers.iter().map(ToString::to_string).collect::<Vec<_>>();
        Table { servers: (!servers.is_empty()).then_some(servers) }
    }
}

fn server(text: &str) -> Result<SocketAddr, String> {
    let address = text.parse::<SocketAddr>().ok().filter(|address| address.port() != 0);
    address.ok_or_else(|| format!("expected an IP address and port such as `127.0.0.1:8600`; got `{text}`"))
}
