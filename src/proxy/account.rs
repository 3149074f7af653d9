//! What one request counts for: opened when it came, settled after the last byte of its answer, or its abort.

use std::sync::Arc;

use http::{Method, Response, StatusCode};
use tokio::time::Instant;

use super::{Answer, grpc::StandsFor};
use crate::{body::Body, telemetry::cells::RouteCells};

/// Counts its request when dropped.
#[derive(Debug)]
pub struct Account {
    cells: Arc<RouteCells>,
    worker: usize,
    method: Method,
    started: Instant,
    status: Option<StatusCode>,
}

/// What a request counts as whose client went away before there was an answer: nginx's code for it.
const CLIENT_LEFT: u16 = 499;

impl Account {
    /// A request that came at `started`.
    #[must_use]
    pub fn open(cells: Arc<RouteCells>, worker: usize, method: Method, started: Instant) -> Self {
        Self { cells, worker, method, started, status: None }
    }

    /// The answer is decided; what remains is to write it.
    #[must_use]
    pub fn close(mut self, response: Response<Body>) -> Answer {
        let stands_for = response.extensions().get().map(|StandsFor(status)| *status);
        self.status = Some(stands_for.unwrap_or(response.status()));
        Answer { response, account: self }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let left = || StatusCode::from_u16(CLIENT_LEFT).unwrap_or(StatusCode::BAD_REQUEST);
        let status = self.status.unwrap_or_else(left);
        self.cells.count(self.worker, &self.method, status, self.started.elapsed());
    }
}
