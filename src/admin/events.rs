//! `/api/events`: the last events, then all that follow, as server-sent events.

use std::{collections::VecDeque, convert::Infallible, sync::Arc, time::Duration};

use axum::{
    extract::State,
    http::HeaderMap,
    response::{
        IntoResponse, Response,
        sse::{self, KeepAlive, Sse},
    },
};
use futures_util::{Stream, stream::unfold};
use tokio::sync::broadcast::{Receiver, error::RecvError};

use super::Admin;
use crate::telemetry::events::Published;

/// How often a client is told that nothing has happened, so that it notices a lost connection.
const QUIET: Duration = Duration::from_secs(15);

/// Tells what a client has not seen yet: a reconnecting one says where it stopped by `last-event-id`.
pub async fn stream(State(admin): State<Arc<Admin>>, headers: HeaderMap) -> Response {
    let seen = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok()).unwrap_or(0);
    let (recent, live) = admin.events.subscribe();
    // Ids begin anew with the program: one beyond all of them is from before.
    let last = recent.last().map_or(0, |event| event.id);
    let known = if seen > last { 0 } else { seen };
    let recent = recent.into_iter().filter(|event| event.id > known).collect();
    Sse::new(told(recent, live)).keep_alive(KeepAlive::new().interval(QUIET)).into_response()
}

fn told(
    recent: VecDeque<Arc<Published>>,
    live: Receiver<Arc<Published>>,
) -> impl Stream<Item = Result<sse::Event, Infallible>> {
    unfold((recent, live), async |(mut recent, mut live)| {
        let event = match recent.pop_front() {
            Some(event) => written(&event),
            None => match live.recv().await {
                Ok(event) => written(&event),
                Err(RecvError::Lagged(missed)) => sse::Event::default().event("missed").data(missed.to_string()),
                Err(RecvError::Closed) => return None,
            },
        };
        Some((Ok(event), (recent, live)))
    })
}

fn written(event: &Published) -> sse::Event {
    let data = serde_json::to_string(event).unwrap_or_default();
    sse::Event::default().id(event.id.to_string()).event(event.kind).data(data)
}
