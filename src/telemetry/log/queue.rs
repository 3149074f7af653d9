//! The lines of the log on their way out: who logs adds to bounded memory, one thread takes them from there. What is too
//! much is counted, and nobody waits for whoever reads it.

use std::{
    io::{self, Write},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use prometheus::IntCounter;
use tokio::time::Instant;

use super::super::lines::{count, put};

/// Takes lines from any thread.
#[derive(Debug, Default)]
pub struct Queue {
    state: Mutex<State>,
    arrived: Condvar,
    written: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Whole lines that nobody has taken yet.
    lines: Vec<u8>,
    is_writing: bool,
    lost: u64,
    counter: Option<IntCounter>,
}

/// The most that may wait, in bytes: minutes of a lively log.
const MOST: usize = 1024 * 1024;
/// What memory is kept when there is little to write.
const KEPT: usize = 64 * 1024;
/// How long nothing more is said of what is lost.
const QUIET: Duration = Duration::from_mins(1);

impl Queue {
    /// One whose lines go there, on a thread that lives as long as the program: whatever ends, logs until then.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(out: impl Write + Send + 'static) -> io::Result<Arc<Self>> {
        let queue = Arc::new(Self::default());
        let of = queue.clone();
        thread::Builder::new().name("log".into()).spawn(move || of.write(out))?;
        Ok(queue)
    }

    /// Adds a line, or counts it as lost.
    pub fn push(&self, line: &[u8]) {
        let mut state = self.state();
        if state.lines.len() + line.len() > MOST {
            state.lose(1);
            return;
        }
        state.lines.extend_from_slice(line);
        drop(state);
        self.arrived.notify_one();
    }

    /// Waits until all is written, for at most so long. False if it was not.
    pub fn flush(&self, limit: Duration) -> bool {
        let waits = |state: &mut State| state.is_writing || !state.lines.is_empty();
        let ended = self.written.wait_timeout_while(self.state(), limit, waits);
        !ended.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// Counts there what is lost, and what was lost before.
    pub fn count_lost(&self, lost: &IntCounter) {
        let mut state = self.state();
        lost.inc_by(state.lost);
        state.counter = Some(lost.clone());
    }

    /// The thread's work.
    fn write(&self, mut out: impl Write) {
        let (mut taken, mut torn) = (Vec::new(), false);
        let (mut known, mut told) = (0, None::<Instant>);
        loop {
            {
                let mut state = self.state();
                state.is_writing = false;
                self.written.notify_all();
                let waits = |state: &mut State| state.lines.is_empty();
                state = self.arrived.wait_while(state, waits).unwrap_or_else(PoisonError::into_inner);
                state.is_writing = true;
                std::mem::swap(&mut state.lines, &mut taken);
            }
            let (written, _) = put(&mut out, &taken, &mut torn);
            let lost = {
                let mut state = self.state();
                state.lose(count(&taken[written..]));
                state.lost
            };
            taken.clear();
            taken.shrink_to(KEPT);
            if lost > known && told.is_none_or(|told| told.elapsed() >= QUIET) {
                told = Some(Instant::now());
                tracing::warn!(lost = lost - known, "lines of the log were dropped; see lictor_log_dropped_total");
                known = lost;
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn lose(&mut self, lines: u64) {
        self.lost += lines;
        if let Some(counter) = &self.counter {
            counter.inc_by(lines);
        }
    }
}

/// A record comes as one piece.
impl Write for &Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{self, Receiver, Sender};

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    /// Takes nothing until it is let.
    struct Stuck {
        go: Receiver<()>,
        out: Sender<Vec<u8>>,
    }

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.go.recv();
            self.out.send(bytes.to_vec()).unwrap();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn who_logs_does_not_wait_for_a_place_that_takes_nothing_and_what_is_lost_is_counted() {
        let ((let_go, go), (out, taken)) = (mpsc::channel(), mpsc::channel());
        let queue = Queue::start(Stuck { go, out }).unwrap();
        let line = [[b'x'; 1023].as_slice(), b"\n"].concat();
        queue.push(&line);
        while !queue.state().lines.is_empty() {
            thread::yield_now(); // until the thread has taken it, and is stuck with it
        }
        for _ in 0..5 * MOST / line.len() {
            queue.push(&line);
        }
        assert!(!queue.flush(Duration::ZERO));
        let counter = IntCounter::new("lost", "lost").unwrap();
        queue.count_lost(&counter);
        let lost = counter.get();
        // What the thread took first is beside what waits.
        assert_eq!(lost, 4 * 1024);
        queue.push(&line);
        assert_eq!(counter.get(), lost + 1);

        drop(let_go);
        assert!(queue.flush(LONG));
        let written: Vec<u8> = taken.try_iter().flatten().collect();
        assert_eq!(count(&written) + counter.get(), 5 * 1024 + 2);
        assert!(written.chunks(line.len()).all(|one| one == line), "whole lines");
    }

    #[test]
    fn what_a_place_refuses_is_lost() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let queue = Queue::start(Full).unwrap();
        let counter = IntCounter::new("lost", "lost").unwrap();
        queue.count_lost(&counter);
        queue.push(b"a\nb\n");
        assert!(queue.flush(LONG));
        assert_eq!(counter.get(), 2);
    }
}
