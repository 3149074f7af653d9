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
}

impl Progress {
    /// `started` is now; `whole`, since when the request has been whole, where its body is not still to come.
    pub(super) fn new(started: Instant, whole: Option<Instant>) -> Self {
        Self { sent: 0, read: 0, uploaded: started, moved: started, whole }
    }

    pub(super) fn note(&mut self, sent: u64, read: u64) {
        if (sent, read) == (self.sent, self.read) {
            return;
        }
        // The first write follows the start at once: no need to ask the clock again.
        let now = if self.sent == 0 && read == 0 { self.moved } else { Instant::now() };
        if sent != self.sent {
            self.uploaded = now;
        }
        self.moved = now;
        (self.sent, self.read) = (sent, read);
    }

    /// Until when to wait, and what it means when that has passed. An answer that comes byte by byte puts off the
    /// timeout for reading, but not the one for all.
    pub(super) fn deadline(&mut self, uploaded: bool, timeouts: &Timeouts) -> (Instant, ExchangeError) {
        // While the client's body goes out, only a standstill counts.
        let since = if uploaded { *self.whole.get_or_insert(self.uploaded) } else { self.uploaded };
        let (total, wait) = (since + timeouts.total, self.moved + timeouts.read);
        if uploaded && wait < total {
            (wait, ExchangeError::ReadTimeout(timeouts.read))
        } else {
            (total, ExchangeError::TotalTimeout(timeouts.total))
        }
    }
}
