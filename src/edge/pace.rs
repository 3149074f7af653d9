//! How fast the body of a client's request has to come.

use std::{
    convert::Infallible,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::Instant;

use crate::{body::BodyError, wire::Timer};

/// How fast a body comes. Only the time for which the client is awaited counts, not that for which upstream is.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Waited in this window, before the present wait.
    waited: Duration,
    /// Bytes that came in it.
    came: u64,
    /// When the present wait began.
    since: Option<Instant>,
}

impl Pace {
    /// The present wait is over: bytes came.
    pub(super) fn note(&mut self, bytes: usize) {
        self.came += bytes as u64;
        if let Some(since) = self.since.take() {
            self.waited += since.elapsed();
        }
    }

    /// When the present window has been waited out.
    fn end(&mut self) -> Instant {
        let since = *self.since.get_or_insert_with(Instant::now);
        since + WINDOW.saturating_sub(self.waited)
    }

    /// To be asked while bytes are awaited: ready with an error when they come too slowly.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, timer: &mut Timer) -> Poll<Result<Infallible, BodyError>> {
        loop {
            let end = self.end();
            ready!(timer.poll(cx, end));
            if self.came < LEAST {
                return Poll::Ready(Err(BodyError::TooSlow));
            }
            *self = Self::default();
        }
    }
}

/// A body has to bring this much …
const LEAST: u64 = 10 * 1024;
/// … in each such time.
const WINDOW: Duration = Duration::from_secs(10);
