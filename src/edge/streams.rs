//! The requests under way on one HTTP/2 connection. They are part of its task: what ends it ends them.

use std::{
    any::Any,
    panic::AssertUnwindSafe,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::{FutureExt, StreamExt, future::LocalBoxFuture, stream::FuturesUnordered};
use tokio::time::Instant;

use super::placed;
use crate::wire::Timer;

/// The streams of one connection.
pub struct Streams {
    live: FuturesUnordered<LocalBoxFuture<'static, Result<(), Panic>>>,
    served: bool,
    quiet_since: Instant,
}

type Panic = Box<dyn Any + Send>;

impl Streams {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self { live: FuturesUnordered::new(), served: false, quiet_since: Instant::now() }
    }

    /// A request came: this answers it.
    pub fn begin<S: Future<Output = ()> + 'static>(&mut self, stream: impl FnOnce() -> S) {
        self.served = true;
        // What one of them breaks is its own, and gone with it.
        self.live.push(placed(|| AssertUnwindSafe(stream()).catch_unwind()));
    }

    /// Lets all go on that can.
    pub fn poll(&mut self, cx: &mut Context<'_>) {
        if self.live.is_empty() {
            return;
        }
        while let Poll::Ready(Some(ended)) = self.live.poll_next_unpin(cx) {
            if ended.is_err() {
                tracing::error!("a request ended in a panic");
            }
        }
        if self.live.is_empty() {
            self.quiet_since = Instant::now();
        }
    }

    /// Whether there was any request so far.
    #[must_use]
    pub fn has_served(&self) -> bool {
        self.served
    }

    /// What the last of them sent has not left yet.
    pub fn linger(&mut self) {
        self.quiet_since = Instant::now();
    }

    /// Ready when, after `from`, no request has been under way for so long.
    pub fn poll_quiet(
        &self,
        from: Option<Instant>,
        limit: Duration,
        timer: &mut Timer,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        loop {
            let is_quiet = self.live.is_empty();
            // While one is under way the timer goes on, for its end need not wake this.
            let since = if is_quiet { self.quiet_since } else { Instant::now() };
            ready!(timer.poll(cx, from.map_or(since, |from| from.max(since)) + limit));
            if is_quiet {
                return Poll::Ready(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::{pending, poll_fn, ready},
        rc::Rc,
    };

    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    async fn quiet(streams: &mut Streams) {
        let mut timer = Timer::default();
        poll_fn(|cx| {
            streams.poll(cx);
            streams.poll_quiet(None, MINUTE, &mut timer, cx)
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_quiet_from_the_end_of_its_last_request() {
        let start = Instant::now();
        let mut streams = Streams::new();
        streams.begin(|| tokio::time::sleep(10 * MINUTE));
        streams.begin(|| ready(()));
        quiet(&mut streams).await;
        assert!(streams.has_served() && start.elapsed() >= 11 * MINUTE, "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_panics_ends_alone() {
        let mut streams = Streams::new();
        let held = Rc::new(());
        let other = held.clone();
        streams.begin(|| async { panic!("as this test wants it") });
        streams.begin(|| async move {
            pending::<()>().await;
            drop(other);
        });
        poll_fn(|cx| {
            streams.poll(cx);
            Poll::Ready(())
        })
        .await;
        assert_eq!((streams.live.len(), Rc::strong_count(&held)), (1, 2));
        drop(streams);
        assert_eq!(Rc::strong_count(&held), 1, "what ends a connection ends its requests");
    }
}
