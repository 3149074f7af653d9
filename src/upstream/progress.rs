//! How a request and its answer move, and until when to wait for the head of the answer.

use tokio::time::Instant;

use super::{exchange::ExchangeError, policy::Timeouts};

/// What the waits for a head are measured from.
pub(super) struct Progress {
    sent: u64,
    read: u64,
    /// When the request last moved.
    pub(super) uploaded: Instant,
    /// When the request or its answer last moved.
    moved: Instant,
    /// Since when the request has been whole.
    whole: Option<Instant>,
    /// It was the client that was waited for.
    awaited: bool,
}

/// Who has to move for the request to become whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Upload {
    /// Nobody: it is.
    Whole,
    /// The instance, which has not taken what there is.
    Held,
    /// The client, of whose body there is no more yet.
    Awaited,
}

impl Upload {
    pub(super) fn of(whole: bool, held: bool) -> Self {
        match (whole, held) {
            (true, _) => Self::Whole,
            (false, true) => Self::Held,
            (false, false) => Self::Awaited,
        }
    }
}

impl Progress {
    /// `started` is now; `whole`, since when the request has been whole, where its body is not still to come.
    pub(super) fn new(started: Instant, whole: Option<Instant>) -> Self {
        Self { sent: 0, read: 0, uploaded: started, moved: started, whole, awaited: false }
    }

    pub(super) fn note(&mut self, sent: u64, read: u64) {
        if (sent, read) == (self.sent, self.read) {
            return;
        }
        // The first write follows the start at once: no need to ask the clock again.
        let now = if self.sent == 0 && read == 0 { self.moved } else { Instant::now() };
        if sent != self.sent {
            (self.uploaded, self.awaited) = (now, false);
        }
        self.moved = now;
        (self.sent, self.read) = (sent, read);
    }

    /// Until when to wait, and what it means when that has passed. An answer that comes byte by byte puts off the
    /// timeout for reading, but not the one for all. `None`: it is the client's turn, and no instance is to blame for how
    /// long it takes; who reads the body sees to that.
    pub(super) fn deadline(&mut self, upload: Upload, timeouts: &Timeouts) -> Option<(Instant, ExchangeError)> {
        if upload == Upload::Awaited {
            self.awaited = true;
            return None;
        }
        if std::mem::take(&mut self.awaited) {
            self.uploaded = Instant::now();
            self.moved = self.uploaded;
        }
        let is_whole = upload == Upload::Whole;
        // While the client's body goes out, only a standstill counts.
        let since = if is_whole { *self.whole.get_or_insert(self.uploaded) } else { self.uploaded };
        let (total, wait) = (since + timeouts.total, self.moved + timeouts.read);
        Some(if is_whole && wait < total {
            (wait, ExchangeError::ReadTimeout(timeouts.read))
        } else {
            (total, ExchangeError::TotalTimeout(timeouts.total))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const TIMEOUTS: Timeouts =
        Timeouts { total: Duration::from_secs(2), connect: SECOND, read: Duration::from_secs(10), idle: SECOND };

    #[tokio::test(start_paused = true)]
    async fn only_what_an_instance_takes_counts_against_it() {
        let mut progress = Progress::new(Instant::now(), None);
        let mut due = |sent, upload| {
            progress.note(sent, 0);
            progress.deadline(upload, &TIMEOUTS).map(|(at, _)| at - Instant::now())
        };
        assert_eq!(due(1, Upload::Awaited), None);
        tokio::time::advance(60 * SECOND).await;
        assert_eq!(due(1, Upload::Awaited), None, "the client takes its time");
        assert_eq!(due(1, Upload::Held), Some(2 * SECOND), "from when there was something to take");
        tokio::time::advance(SECOND).await;
        assert_eq!(due(1, Upload::Held), Some(SECOND));
        assert_eq!(due(2, Upload::Held), Some(2 * SECOND), "it took a byte");
        tokio::time::advance(SECOND).await;
        assert_eq!(due(2, Upload::Awaited), None);
        tokio::time::advance(60 * SECOND).await;
        assert_eq!(due(3, Upload::Whole), Some(2 * SECOND));
        tokio::time::advance(SECOND).await;
        assert_eq!(due(3, Upload::Whole), Some(SECOND));
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_a_body_without_a_byte_begins_the_wait_for_the_answer() {
        let mut progress = Progress::new(Instant::now(), None);
        progress.note(1, 0);
        assert!(progress.deadline(Upload::Awaited, &TIMEOUTS).is_none());
        tokio::time::advance(60 * SECOND).await;
        progress.note(1, 0);
        let (at, _) = progress.deadline(Upload::Whole, &TIMEOUTS).unwrap();
        assert_eq!(at - Instant::now(), 2 * SECOND);
    }
}
