//! Where the lines of the access log end: standard output or a file. One that takes none loses them, counted, and is tried
//! again; the log tells of it once in a while.

use std::{
    fs::{File, OpenOptions},
    io,
    time::Duration,
};

use prometheus::IntCounter;
use tokio::time::Instant;

use super::{
    super::lines::{count, put},
    Place,
};

/// Takes lines, on a thread that may wait for a disk.
pub struct Sink {
    place: Place,
    opened: u64,
    file: Option<File>,
    /// When it was last tried to open it.
    tried: Option<Instant>,
    /// A line was begun and not ended.
    torn: bool,
    dropped: IntCounter,
    /// What was dropped when that was looked at last.
    known: u64,
    cause: Option<io::Error>,
    told: Option<Instant>,
}

/// How long a file that cannot be opened is left alone.
const AGAIN: Duration = Duration::from_secs(1);
/// How long nothing more is said of what is lost.
const QUIET: Duration = Duration::from_mins(1);

impl Sink {
    /// One that leads nowhere.
    pub fn new(dropped: IntCounter) -> Self {
        let known = dropped.get();
        Self {
            place: Place::Off,
            opened: 0,
            file: None,
            tried: None,
            torn: false,
            dropped,
            known,
            cause: None,
            told: None,
        }
    }

    /// Whether it leads nowhere.
    pub fn is_off(&self) -> bool {
        self.place == Place::Off
    }

    /// Leads there from now on. A file is opened anew where `opened` has changed.
    pub fn turn_to(&mut self, place: &Place, opened: u64) {
        if self.place == *place && self.opened == opened {
            return;
        }
        self.place.clone_from(place);
        (self.opened, self.file, self.tried, self.torn) = (opened, None, None, false);
        if let Err(error) = self.open() {
            tracing::warn!(%error, place = ?self.place, "the access log cannot be opened; its lines are dropped");
            self.told = Some(Instant::now());
        }
    }

    /// Writes whole lines.
    pub fn write(&mut self, lines: &[u8]) {
        if lines.is_empty() || self.is_off() {
            return;
        }
        if self.file.is_none() && self.tried.is_none_or(|tried| tried.elapsed() >= AGAIN) {
            self.cause = self.open().err();
        }
        let written = match (&self.place, &mut self.file) {
            (Place::Stdout, _) => put(&mut io::stdout().lock(), lines, &mut self.torn),
            (_, Some(file)) => put(file, lines, &mut self.torn),
            (_, None) => (0, Ok(())),
        };
        self.dropped.inc_by(count(&lines[written.0..]));
        if let Err(error) = written.1 {
            self.cause = Some(error);
        }
    }

    /// Says what was lost since, unless that was said a moment ago.
    pub fn tell(&mut self) {
        let dropped = self.dropped.get();
        if dropped == self.known {
            return;
        }
        let lost = dropped - self.known;
        self.known = dropped;
        let cause = self.cause.take();
        if self.told.is_none_or(|told| told.elapsed() >= QUIET) {
            self.told = Some(Instant::now());
            let cause = cause.map_or_else(|| "they come faster than they are taken".to_owned(), |e| e.to_string());
            tracing::warn!(lost, cause, "lines of the access log are dropped; see lictor_access_log_dropped_total");
        }
    }

    fn open(&mut self) -> io::Result<()> {
        if let Place::File(path) = &self.place {
            self.tried = Some(Instant::now());
            self.file = Some(OpenOptions::new().append(true).create(true).open(path)?);
        }
        Ok(())
    }
}
