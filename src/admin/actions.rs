//! What operators may change: an instance is taken out, or put back, or its circuit is closed.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::json;
use tokio::sync::oneshot;

use super::{Admin, problem};
use crate::control::{News, Switch, Turn, Unknown};

/// `POST /api/services/{service}/instances/{id}/drain`: it finishes what it has and gets nothing new.
pub async fn drain(State(admin): State<Arc<Admin>>, Path((service, id)): Path<(String, String)>) -> Response {
    switch(&admin, service, id, Turn::Drain).await
}

/// `POST /api/services/{service}/instances/{id}/restore`: it is as if nobody had taken it out.
pub async fn restore(State(admin): State<Arc<Admin>>, Path((service, id)): Path<(String, String)>) -> Response {
    switch(&admin, service, id, Turn::Restore).await
}

/// `POST /api/services/{service}/instances/{id}/reset`: its circuit is closed.
pub async fn reset(State(admin): State<Arc<Admin>>, Path((service, id)): Path<(String, String)>) -> Response {
    switch(&admin, service, id, Turn::Reset).await
}

async fn switch(admin: &Admin, service: String, id: String, turn: Turn) -> Response {
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
