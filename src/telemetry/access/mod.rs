//! The access log: a line for each request that has ended. Workers write into memory of their own, of bounded size, and pass
//! it on when they have nothing else to do; one thread takes it from there. What is too much is counted, and nobody waits for
//! a disk.

mod clock;
mod escape;
mod line;
#[cfg(test)]
mod line_tests;
mod near;
mod pen;
mod sink;

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
    thread::{self, Thread},
    time::Duration,
};

use prometheus::IntCounter;
use tokio::{sync::Notify, time::timeout};

pub use self::line::{Format, Line};
use self::sink::Sink;
use super::{
    cells::Padded,
    journey::{Ending, Journey},
    metrics::Metrics,
};

/// Where lines go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// Nowhere: none are written.
    #[default]
    Off,
    /// To standard output.
    Stdout,
    /// Behind what a file holds.
    File(PathBuf),
}

/// The access log of all workers.
#[derive(Debug)]
pub struct AccessLog {
    /// What workers look at first: off, or a format.
    mode: AtomicU8,
    /// The lines of each worker that nobody has taken yet.
    batches: Box<[Padded<Mutex<Vec<u8>>>]>,
    /// When the writer comes for what waits: nothing, soon or now.
    due: AtomicU8,
    orders: Mutex<Orders>,
    ended: Notify,
    dropped: IntCounter,
}

#[derive(Debug, Default)]
struct Orders {
    place: Place,
    /// Counts how often a file is to be opened anew.
    opened: u64,
    end: bool,
    writer: Option<Thread>,
}

const OFF: u8 = 0;
const JSON: u8 = 1;
const COMBINED: u8 = 2;
/// The most of a worker's lines that may wait.
const MOST: usize = 4 * 1024 * 1024;

impl AccessLog {
    /// One that is off, for so many workers.
    #[must_use]
    pub fn new(workers: usize, metrics: &Metrics) -> Arc<Self> {
        Arc::new(Self {
            mode: AtomicU8::new(OFF),
            batches: (0..workers).map(|_| Padded(Mutex::default())).collect(),
            due: AtomicU8::new(NOTHING),
            orders: Mutex::default(),
            ended: Notify::new(),
            dropped: metrics.access_log_dropped().clone(),
        })
    }

    /// How the line of a request that comes now is to be written; `None`: not at all.
    #[inline]
    #[must_use]
    pub fn format(&self) -> Option<Format> {
        match self.mode.load(Relaxed) {
            JSON => Some(Format::Json),
            COMBINED => Some(Format::Combined),
            _ => None,
        }
    }

    /// Goes on at another place, in another format. What waits still goes where it would have.
    ///
    /// # Errors
    /// The system gives no thread; the log is off then.
    pub fn set(self: &Arc<Self>, place: &Place, format: Format) -> io::Result<()> {
        let mut orders = self.orders();
        if *place != Place::Off && orders.writer.is_none() {
            let log = self.clone();
            let thread = thread::Builder::new().name("access-log".into()).spawn(move || log.write())?;
            orders.writer = Some(thread.thread().clone());
        }
        orders.place.clone_from(place);
        self.mode.store(
            match (place, format) {
                (Place::Off, _) => OFF,
                (_, Format::Json) => JSON,
                (_, Format::Combined) => COMBINED,
            },
            Relaxed,
        );
        wake(&orders);
        Ok(())
    }

    /// Opens its file anew: what it was opened as may have been moved away.
    pub fn reopen(&self) {
        let mut orders = self.orders();
        orders.opened += 1;
        wake(&orders);
    }

    /// Writes what waits, for at most so long, and nothing any more.
    pub async fn close(&self, limit: Duration) {
        self.mode.store(OFF, Relaxed);
        {
            let mut orders = self.orders();
            if orders.writer.is_none() {
                return;
            }
            orders.end = true;
            wake(&orders);
        }
        if timeout(limit, self.ended.notified()).await.is_err() {
            tracing::warn!("the access log takes too long; its last lines are lost");
        }
    }

    /// Adds the line of a request that ended just now, as it was begun. To be called by that worker alone, which passes it on.
    pub fn add(&self, worker: usize, journey: &Journey, ending: Ending) {
        let Some(line) = journey.line.as_ref().filter(|_| self.format().is_some()) else { return };
        if near::add(line, journey, ending) {
            self.pass_on(worker);
        }
    }

    /// Passes on what this worker has added. To be called by its thread, when it has nothing else to do and as it ends.
    pub fn pass_on(&self, worker: usize) {
        near::pass_on(|bytes, lines| {
            let held = {
                // The writer holds it for as long as it takes to swap two pointers.
                let mut batch = self.batch(worker);
                if batch.len() >= MOST {
                    self.dropped.inc_by(lines.count() as u64);
                    return;
                }
                batch.reserve(bytes);
                lines.for_each(|line| batch.extend_from_slice(line));
                batch.len()
            };
            self.tell(held);
        });
    }

    /// Tells the writer of lines, so many bytes of which wait now, where it would not come for them soon enough.
    #[inline]
    fn tell(&self, held: usize) {
        let due = if held < PART { SOON } else { NOW };
        if self.due.load(Relaxed) < due && self.due.fetch_max(due, Relaxed) < due {
            wake(&self.orders());
        }
    }

    /// The thread's work.
    fn write(&self) {
        let mut sink = Sink::new(self.dropped.clone());
        let mut taken = Vec::new();
        loop {
            let (place, opened, end) = {
                let orders = self.orders();
                (orders.place.clone(), orders.opened, orders.end)
            };
            if sink.is_off() {
                sink.turn_to(&place, opened);
            }
            let are_many = self.due.swap(SOON, Relaxed) == NOW;
            for worker in 0..self.batches.len() {
                std::mem::swap(&mut *self.batch(worker), &mut taken);
                sink.write(&taken);
                let used = taken.len();
                taken.clear();
                // Memory that is got anew each time costs more than lines do.
                if used < taken.capacity() / 4 {
                    taken.shrink_to(KEPT.max(2 * used));
                }
            }
            // Behind what was written before it was asked for.
            sink.turn_to(&place, opened);
            sink.tell();
            if end {
                self.ended.notify_one();
                return;
            }
            // Where many come, the next are not far, and to be woken for the first of them is not needed.
            if !are_many {
                self.due.store(NOTHING, Relaxed);
                if self.is_empty() {
                    thread::park();
                    if self.due.load(Relaxed) == NOTHING {
                        continue; // for orders
                    }
                }
                self.due.fetch_max(SOON, Relaxed);
            }
            // Others gather behind the first, unless many have by now: that wakes only once.
            if self.due.load(Relaxed) < NOW {
                thread::park_timeout(GATHER);
            }
        }
    }

    /// Whether no lines wait.
    fn is_empty(&self) -> bool {
        (0..self.batches.len()).all(|worker| self.batch(worker).is_empty())
    }

    fn batch(&self, worker: usize) -> MutexGuard<'_, Vec<u8>> {
        self.batches[worker].0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn orders(&self) -> MutexGuard<'_, Orders> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// It has been told of none, and sleeps until it is.
const NOTHING: u8 = 0;
/// It comes by itself, after `GATHER` at most.
const SOON: u8 = 1;
/// There are many, and it has been told so.
const NOW: u8 = 2;

/// How many bytes of a worker's lines are many. Fewer at once cost more, each time some 20 µs, and more do not stay in the near cache.
const PART: usize = 512 * 1024;
/// How long fewer gather. A timer that fires takes 60 µs in a virtual machine, a thread that another one wakes less than 10.
const GATHER: Duration = Duration::from_millis(50);
/// What memory for lines is kept when there are few.
const KEPT: usize = PART;

fn wake(orders: &Orders) {
    if let Some(writer) = &orders.writer {
        writer.unpark();
    }
}

#[cfg(test)]
mod tests;
