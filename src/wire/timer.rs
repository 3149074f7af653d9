//! A deadline that is cheap to move: a connection keeps one timer for all of its waits.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use tokio::time::{Instant, Sleep, sleep_until};

/// Waits for deadlines. One that moves later costs nothing until the old one is due.
#[derive(Debug, Default)]
pub struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    /// Ready once `deadline` has passed; else the task is woken then (or earlier, for nothing).
    pub fn poll(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let sleep = self.0.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        while sleep.as_mut().poll(cx).is_ready() {
            if sleep.deadline() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, time::Duration};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_deadline_that_moved_is_kept() {
        let start = Instant::now();
        let mut timer = Timer::default();
        for (deadline, what) in [(5, "first"), (9, "later"), (10, "later still")] {
            let due = start + Duration::from_secs(deadline);
            poll_fn(|cx| timer.poll(cx, due)).await;
            assert_eq!(start.elapsed().as_secs(), deadline, "{what}");
        }
        let far = Instant::now() + Duration::from_mins(1);
        assert!(poll_fn(|cx| Poll::Ready(timer.poll(cx, far))).await.is_pending());
        let near = Instant::now() + Duration::from_secs(1);
        poll_fn(|cx| timer.poll(cx, near)).await;
        assert_eq!(start.elapsed().as_secs(), 11, "a deadline that moved earlier");
    }
}
