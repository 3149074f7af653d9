//! What the integration tests stand on: a real Consul, the gateway as its users start it, and services behind it.

pub mod caller;
pub mod clients;
pub mod collector;
pub mod compose;
pub mod consul;
pub mod dashboards;
pub mod faults;
pub mod gateway;
pub mod grpc;
pub mod hpack;
pub mod http2;
pub mod instance;
pub mod origin;
pub mod prometheus;
pub mod replica;
pub mod servers;
pub mod streams;
pub mod tls;
pub mod tls_origin;
pub mod verdict;

use std::{
    future::Future,
    time::{Duration, Instant},
};

pub use caller::Caller;
pub use clients::PythonOrigin;
pub use collector::Collector;
pub use consul::Consul;
pub use faults::{FakeConsul, Fault};
pub use gateway::Gateway;
pub use grpc::GrpcOrigin;
pub use origin::Origin;
pub use prometheus::Prometheus;
pub use replica::Replica;
pub use servers::Servers;
pub use streams::Streams;
pub use tls_origin::TlsOrigin;

/// How long a condition is waited for before its test fails: far more than it takes, for machines under load.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `check` gives a value.
///
/// # Panics
/// When it has not within [`PATIENCE`]: `what` says what was waited for.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut check: impl FnMut() -> F) -> T {
    let started = now();
    loop {
        if let Some(value) = check().await {
            return value;
        }
        assert!(started.elapsed() < PATIENCE, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The wall clock: tests of processes cannot pause it.
#[expect(clippy::disallowed_methods, reason = "other processes do not know of a paused clock")]
#[must_use]
pub fn now() -> Instant {
    Instant::now()
}

/// A client that knows no proxy and follows nothing.
#[must_use]
pub fn client() -> reqwest::Client {
    building().build().unwrap()
}

/// One with an address of its own, for servers that count the connections of each.
pub fn client_elsewhere() -> reqwest::Client {
    building().local_address(std::net::IpAddr::from([127, 0, 0, 2])).build().unwrap()
}

fn building() -> reqwest::ClientBuilder {
    // Another test may have been first.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).timeout(PATIENCE)
}

/// Makes the end of a connection a reset.
pub fn reset_at_end(stream: &tokio::net::TcpStream) {
    socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
}

/// Sends a signal by name to a process.
pub fn signal(pid: u32, name: &str) {
    let sent = std::process::Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().unwrap();
    assert!(sent.success(), "kill -{name} {pid}");
}

/// The gateway's program; `LICTOR_BIN` names another build of it, for figures.
#[must_use]
pub fn program() -> std::path::PathBuf {
    std::env::var_os("LICTOR_BIN").map_or_else(|| env!("CARGO_BIN_EXE_lictor").into(), Into::into)
}
