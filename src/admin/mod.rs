//! The operators' listener: probes, metrics, views of what is in force, and switches. It sends nothing upstream.

mod actions;
mod events;
mod explain;
mod guard;
mod views;

use std::{future::pending, sync::Arc};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, Uri, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::json;
use tokio::{net::TcpListener, sync::mpsc};

use crate::{
    control::News,
    state::{Reader, Source},
    telemetry::{events::Events, metrics::Metrics},
};

/// What operators may see.
#[derive(Debug)]
pub struct Admin {
    reader: Reader,
    metrics: Arc<Metrics>,
    events: Arc<Events>,
    news: mpsc::Sender<News>,
}

/// Which paths a listener serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All.
    All,
    /// Metrics and probes, for Prometheus and Consul's checks.
    Probes,
}

impl Admin {
    /// The operators' side of a gateway.
    #[must_use]
    pub fn new(reader: Reader, metrics: Arc<Metrics>, events: Arc<Events>, news: mpsc::Sender<News>) -> Self {
        Self { reader, metrics, events, news }
    }
}

/// Serves operators until the future is dropped.
pub async fn serve(listener: TcpListener, admin: Arc<Admin>, scope: Scope) {
    let local = listener.local_addr().is_ok_and(|address| address.ip().to_canonical().is_loopback());
    if let Err(error) = axum::serve(listener, router(admin, scope, local)).await {
        tracing::error!(%error, "a listener for operators has ended");
        pending::<()>().await;
    }
}

/// `local`: the listener is on the loopback, where nobody else can call it.
fn router(admin: Arc<Admin>, scope: Scope, local: bool) -> Router {
    let probes = Router::new()
        .route("/livez", get(async || "alive\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics));
    let token = axum::middleware::from_fn_with_state(admin.clone(), guard::check);
    let own = axum::middleware::from_fn_with_state((admin.clone(), local), guard::own);
    let all = match scope {
        Scope::Probes => probes,
        Scope::All => probes
            .merge(
                Router::new()
                    .route("/api/services/{service}/instances/{id}/drain", post(actions::drain))
                    .route("/api/services/{service}/instances/{id}/reset", post(actions::reset))
                    .route("/api/services/{service}/instances/{id}/restore", post(actions::restore))
                    .route_layer(token.clone())
                    .route_layer(own),
            )
            .merge(
                Router::new()
                    .route("/api/config", get(views::config))
                    .route("/api/events", get(events::stream))
                    .route("/api/explain", get(explain::explained))
                    .route("/api/routes", get(views::routes))
                    .route("/api/topology", get(views::topology))
                    .route_layer(token),
            ),
    };
    all.fallback(nothing).method_not_allowed_fallback(not_so).with_state(admin)
}

async fn readyz(State(admin): State<Arc<Admin>>) -> Response {
    let world = admin.reader.load();
    match (admin.reader.is_ready(), world.ready) {
        (true, _) => match world.source {
            Source::Fixed | Source::Consul => "ready\n".into_response(),
            Source::Snapshot(at) => {
                let at = humantime::format_rfc3339_seconds(at);
                format!("ready, by the snapshot of {at}: Consul has not told all of it anew\n").into_response()
            }
        },
        (false, false) => (StatusCode::SERVICE_UNAVAILABLE, "the first topology is not known yet\n").into_response(),
        (false, true) => (StatusCode::SERVICE_UNAVAILABLE, "draining\n").into_response(),
    }
}

async fn metrics(State(admin): State<Arc<Admin>>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], admin.metrics.render()).into_response()
}

async fn nothing(uri: Uri) -> Response {
    let detail = format!("nothing is at `{}` here", uri.path());
    problem(StatusCode::NOT_FOUND, &detail)
}

async fn not_so(uri: Uri) -> Response {
    let switch = uri.path().starts_with("/api/services/");
    let detail = if switch { "this changes something: use POST" } else { "this can be read alone: use GET" };
    problem(StatusCode::METHOD_NOT_ALLOWED, detail)
}

/// Source: RFC 9457.
fn problem(status: StatusCode, detail: &str) -> Response {
    let title = status.canonical_reason().unwrap_or("Error");
    let document = json!({ "type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail });
    (status, [(header::CONTENT_TYPE, "application/problem+json")], document.to_string()).into_response()
}

#[cfg(test)]
mod tests;
