//! Ends HTTP/2 connections that keep us busy for nothing: with frames that carry nothing (SETTINGS, PING, `WINDOW_UPDATE` and the
//! like) beyond what requests and answers account for, or with requests that they give up before these are answered.

use std::{cell::Cell, rc::Rc};

use tokio::time::Instant;

use crate::http2::connection::Counts;

/// How many such frames a connection may have at once, and for each second of its life: clients ask for signs of life.
const FREE: u64 = 10_000;
const A_SECOND: u64 = 10;
/// How many requests it may give up at once, beyond as many as were answered, and for each second of its life.
const GIVEN_UP: u64 = 500;
const GIVEN_UP_A_SECOND: u64 = 20;

/// How many frames requests and answers account for.
#[derive(Clone, Debug, Default)]
pub struct Credit(Rc<Cell<u64>>);

impl Credit {
    /// A request came.
    pub fn request(&self) {
        self.add(10);
    }

    /// So many bytes of an answer went out, for which the client makes room again.
    pub fn piece(&self, bytes: u64) {
        self.add(4 + bytes / 256);
    }

    fn add(&self, frames: u64) {
        self.0.set(self.0.get().saturating_add(frames));
    }
}

/// Looks after one connection.
#[derive(Debug)]
pub struct Watch {
    credit: Credit,
    since: Instant,
    /// The list of fields of which a part has come, by its number, and since when.
    partial: Option<(u64, Instant)>,
}

impl Watch {
    /// Of a connection that begins now.
    #[must_use]
    pub fn new(credit: Credit) -> Self {
        Self { credit, since: Instant::now(), partial: None }
    }

    /// Since when a head or trailers have come in part alone.
    #[must_use]
    pub fn partial_since(&self) -> Option<Instant> {
        self.partial.map(|(_, since)| since)
    }

    /// Follows what came; whether it was too much.
    pub fn is_flood(&mut self, counts: &Counts) -> bool {
        let list = counts.is_partial.then_some(counts.lists);
        if self.partial.map(|(list, _)| list) != list {
            self.partial = list.map(|list| (list, Instant::now()));
        }
        if counts.idle <= FREE && counts.given_up <= GIVEN_UP {
            return false;
        }
        let seconds = self.since.elapsed().as_secs();
        counts.idle > FREE + seconds * A_SECOND + self.credit.0.get()
            || counts.given_up > GIVEN_UP + seconds * GIVEN_UP_A_SECOND + counts.answered
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_a_connection_may_do_for_nothing_grows_with_its_age_and_with_what_it_does() {
        let credit = Credit::default();
        let mut watch = Watch::new(credit.clone());
        let mut is_flood =
            |idle, given_up, answered| watch.is_flood(&Counts { idle, given_up, answered, ..Counts::default() });
        assert!(!is_flood(FREE, GIVEN_UP, 0) && is_flood(FREE + 1, 0, 0) && is_flood(0, GIVEN_UP + 1, 0));
        assert!(!is_flood(0, GIVEN_UP + 7, 7) && is_flood(0, GIVEN_UP + 8, 7));
        credit.request();
        credit.piece(2560);
        assert!(!is_flood(FREE + 24, 0, 0) && is_flood(FREE + 25, 0, 0));
        tokio::time::advance(Duration::from_secs(3)).await;
        assert!(!is_flood(FREE + 54, 0, 0) && is_flood(FREE + 55, 0, 0));
        assert!(!is_flood(0, GIVEN_UP + 60, 0) && is_flood(0, GIVEN_UP + 61, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_that_has_come_in_part_is_as_old_as_its_beginning() {
        let mut watch = Watch::new(Credit::default());
        let start = Instant::now();
        for (second, lists, is_partial, since) in [
            (1, 1, true, Some(1)),
            (2, 1, true, Some(1)),
            (3, 2, true, Some(3)),
            (4, 2, false, None),
            (5, 3, true, Some(5)),
        ] {
            tokio::time::sleep_until(start + Duration::from_secs(second)).await;
            assert!(!watch.is_flood(&Counts { lists, is_partial, ..Counts::default() }));
            assert_eq!(watch.partial_since().map(|since| (since - start).as_secs()), since);
        }
    }
}
