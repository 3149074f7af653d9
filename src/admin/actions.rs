//! What operators may change: an instance is taken out, or put back, or its circuit is closed.

use std::sync::Arc;

use axum::{
    Json,
    extract::{FromRequestParts, Path, State},
    http::{StatusCode, request::Parts},
    response::{IntoResponse, Response},
};
use serde_json::json;
use tokio::sync::oneshot;

use super::{Admin, problem};
use crate::control::{News, Switch, Turn, Unknown};

/// `POST /api/services/{service}/instances/{id}/drain`: it finishes what it has and gets nothing new.
pub async fn drain(State(admin): State<Arc<Admin>>, named: Named) -> Response {
    switch(&admin, named, Turn::Drain).await
}

/// `POST /api/services/{service}/instances/{id}/restore`: it is as if nobody had taken it out.
pub async fn restore(State(admin): State<Arc<Admin>>, named: Named) -> Response {
    switch(&admin, named, Turn::Restore).await
}

/// `POST /api/services/{service}/instances/{id}/reset`: its circuit is closed.
pub async fn reset(State(admin): State<Arc<Admin>>, named: Named) -> Response {
    switch(&admin, named, Turn::Reset).await
}

/// Which instance of which service is meant, by the path.
#[derive(Debug)]
pub struct Named {
    service: String,
    id: String,
}

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path((service, id))) => Ok(Self { service, id }),
            Err(_) => Err(problem(StatusCode::BAD_REQUEST, "expected names of a service and an instance in UTF-8")),
        }
    }
}

async fn switch(admin: &Admin, named: Named, turn: Turn) -> Response {
    let Named { service, id } = named;
    let (done, result) = oneshot::channel();
    let mut shown = json!({ "service": service, "instance": id });
    match turn {
        Turn::Drain | Turn::Restore => shown["draining"] = (turn == Turn::Drain).into(),
        Turn::Reset => shown["circuit"] = "closed".into(),
    }
    let switch = Switch { service: service.into(), instance: id.into(), turn, done };
    // Both fail only when the gateway ends.
    let result = match admin.news.send(News::Switch(switch)).await {
        Ok(()) => result.await.ok(),
        Err(_) => None,
    };
    match result {
        Some(Ok(in_flight)) => {
            shown["in_flight"] = in_flight.into();
            Json(shown).into_response()
        }
        Some(Err(unknown)) => {
            let is_ambiguous = matches!(unknown, Unknown::Ambiguous(..));
            let status = if is_ambiguous { StatusCode::CONFLICT } else { StatusCode::NOT_FOUND };
            problem(status, &unknown.to_string())
        }
        None => problem(StatusCode::SERVICE_UNAVAILABLE, "the gateway is about to end"),
    }
}
