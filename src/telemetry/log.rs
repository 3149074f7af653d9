//! The log of the program, on stderr: text or JSON, from a level up, both changeable while it runs.
//! One record is one line, whatever is in it: control characters are escaped on the way out. Who logs never waits: `queue`.

mod queue;

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    borrow::Cow,
    env,
    fmt::Write as _,
    io,
    panic::{self, PanicHookInfo},
    sync::Arc,
    thread,
    time::Duration,
};

use prometheus::IntCounter;
use serde::{Deserialize, Serialize};
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    filter::ParseError,
    fmt::MakeWriter,
    layer::{Layered, SubscriberExt},
    reload,
    util::{SubscriberInitExt, TryInitError},
};

use self::queue::Queue;
use crate::model::line::{self, is_odd};

/// How a record is written.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For machines: one JSON object a line.
    Json,
}

/// The running log.
pub struct Log {
    filter: reload::Handle<EnvFilter, Registry>,
    writer: reload::Handle<Boxed, Filtered>,
    queue: Arc<Queue>,
}

/// Writes what waits when it goes, for as long as [`LAST_LINES`] at most: who drops it is at the end.
#[must_use]
pub struct Ending(Arc<Queue>);

/// How long the end waits for a standard error that takes nothing.
const LAST_LINES: Duration = Duration::from_secs(1);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.flush(LAST_LINES);
    }
}

/// Starts the log of the program. `RUST_LOG`, where set, is in place of `level`.
///
/// # Errors
/// If the level cannot be read, the system gives no thread, or a log was started before.
pub fn start(format: Format, level: &str) -> Result<Log, LogError> {
    let (filter, filter_handle) = reload::Layer::new(filter(level)?);
    let queue = Queue::start(io::stderr()).map_err(LogError::Thread)?;
    let (writer, writer_handle) = reload::Layer::new(layer(format, queue.clone()));
    tracing_subscriber::registry().with(filter).with(writer).try_init().map_err(LogError::Started)?;
    Ok(Log { filter: filter_handle, writer: writer_handle, queue })
}

/// Whether [`start`] would take this as a level.
///
/// # Errors
/// If it would not.
pub fn check(level: &str) -> Result<(), LogError> {
    parse(level, "level").map(drop)
}

impl Log {
    /// Goes on in another format, from another level.
    ///
    /// # Errors
    /// If the level cannot be read; then nothing changes.
    pub fn change(&self, format: Format, level: &str) -> Result<(), LogError> {
        let filter = filter(level)?;
        self.filter.reload(filter).map_err(LogError::Gone)?;
        self.writer.reload(layer(format, self.queue.clone())).map_err(LogError::Gone)
    }

    /// Counts there what is lost from now on, and what was lost before.
    pub fn count_lost(&self, lost: &IntCounter) {
        self.queue.count_lost(lost);
    }

    /// To be held until nothing is logged any more.
    pub fn ending(&self) -> Ending {
        Ending(self.queue.clone())
    }

    /// Has panics logged, in place of being written by whoever panics: that would wait for a standard error that takes
    /// nothing, and a worker's connections with it.
    pub fn take_panics(&self) {
        panic::set_hook(Box::new(telling(self.queue.clone())));
    }
}

/// What to do with a panic.
fn telling(queue: Arc<Queue>) -> impl Fn(&PanicHookInfo<'_>) {
    move |what| {
        let thread = thread::current();
        let thread = thread.name().unwrap_or("unnamed");
        let place = what.location().map(ToString::to_string).unwrap_or_default();
        let cause = what.payload_as_str().unwrap_or("something that is no text");
        // As `RUST_BACKTRACE` says.
        let trace = Backtrace::capture();
        let trace = (trace.status() == BacktraceStatus::Captured).then(|| trace.to_string());
        if tracing::enabled!(tracing::Level::ERROR) {
            tracing::error!(thread, place, cause, trace, "panicked");
        } else {
            let text = format!("lictor: thread `{thread}` panicked at {place}: {cause}");
            queue.push(format!("{}\n", line::one(&text)).as_bytes());
        }
        // It may be the last that is done.
        queue.flush(LAST_WORDS);
    }
}

/// How long a panic waits until it is told.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// Why the log does not do as it is told.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// What should be a level is none.
    #[error("{place} `{text}` is not a log level; try `info` or `warn,lictor=debug`")]
    Level {
        /// Where it stands.
        place: &'static str,
        /// What stands there.
        text: String,
        /// What is wrong with it.
        source: ParseError,
    },
    /// Nobody would write it.
    #[error("the system gives no thread for the log")]
    Thread(#[source] io::Error),
    /// There is a log already.
    #[error("the log was started before")]
    Started(#[source] TryInitError),
    /// The log has ended.
    #[error("the log has ended")]
    Gone(#[source] reload::Error),
}

type Filtered = Layered<reload::Layer<EnvFilter, Registry>, Registry>;
type Boxed = Box<dyn Layer<Filtered> + Send + Sync>;

fn filter(level: &str) -> Result<EnvFilter, LogError> {
    match env::var("RUST_LOG") {
        Ok(text) if !text.trim().is_empty() => parse(&text, "RUST_LOG"),
        // That a service's certificate does not hold is ours to tell, once and with the service's name.
        _ => parse(&format!("rustls_platform_verifier=off,{level}"), "level"),
    }
}

fn parse(text: &str, place: &'static str) -> Result<EnvFilter, LogError> {
    EnvFilter::try_new(text).map_err(|source| LogError::Level { place, text: text.to_owned(), source })
}

fn layer<S, W>(format: Format, out: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    // No colours: `Lines` could not tell them from what a field holds.
    // A failed write must not be told with `eprintln!`, which panics where stderr is closed.
    let layer = tracing_subscriber::fmt::layer().log_internal_errors(false);
    match format {
        Format::Text => layer.with_ansi(false).with_writer(Lines { out, format }).boxed(),
        // Without spans: those of libraries may have begun while the format was another, and could not be written.
        Format::Json => layer
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .with_writer(Lines { out, format })
            .boxed(),
    }
}

/// Keeps each record on one line. The formatter escapes some control characters in some fields only.
struct Lines<W> {
    out: W,
    format: Format,
}

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for Lines<W> {
    type Writer = Line<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        Line { out: self.out.make_writer(), format: self.format }
    }
}

/// Takes one whole record.
struct Line<W> {
    out: W,
    format: Format,
}

impl<W: io::Write> io::Write for Line<W> {
    fn write(&mut self, record: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(record);
        let text = text.strip_suffix('\n').unwrap_or(&text);
        let mut line = escaped(text, self.format).into_owned();
        line.push('\n');
        self.out.write_all(line.as_bytes())?;
        Ok(record.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn escaped(text: &str, format: Format) -> Cow<'_, str> {
    if format == Format::Text || !text.contains(is_odd) {
        return line::one(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_odd(c) { _ = write!(out, "\\u{:04x}", u32::from(c)) } else { out.push(c) }
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing::subscriber::{NoSubscriber, with_default};

    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(format: Format, log: impl FnOnce()) -> String {
        let buffer = Buffer::default();
        let out = buffer.clone();
        let layer = layer(format, move || out.clone());
        with_default(tracing_subscriber::registry().with(layer), log);
        String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap()
    }

    const EVIL: &str = "a\r\n2026 INFO forged\t\u{1b}[2J\u{7f}\u{85}\u{9b}\u{2028}\0z";

    fn log_evil() {
        tracing::info!(text = EVIL, shown = %EVIL, debug = ?EVIL, "{EVIL}");
        let error: &dyn std::error::Error = &io::Error::other(EVIL);
        tracing::info!(error);
    }

    #[test]
    fn no_text_can_forge_a_line_or_reach_the_terminal() {
        let text = written(Format::Text, log_evil);
        assert_eq!(text.lines().count(), 2, "{text:?}");
        assert_eq!(text.chars().find(|&c| c != '\n' && is_odd(c)), None, "{text:?}");
        assert_eq!(text.matches(r"a\r\n2026").count(), 5, "{text:?}");
    }

    #[test]
    fn json_holds_what_was_said_on_one_line() {
        let json = written(Format::Json, log_evil);
        assert_eq!(json.lines().count(), 2);
        assert_eq!(json.chars().find(|&c| c != '\n' && is_odd(c)), None, "{json:?}");
        let line: serde_json::Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
        assert_eq!((&line["text"], &line["shown"], &line["message"]), (&EVIL.into(), &EVIL.into(), &EVIL.into()));
        assert_eq!(line["level"], "INFO");
    }

    #[test]
    fn plain_records_are_left_as_they_are() {
        let text = written(Format::Text, || tracing::warn!(service = "users", age_s = 3, "no answer – Zürich"));
        assert!(text.contains("WARN") && text.ends_with("no answer – Zürich service=\"users\" age_s=3\n"), "{text}");
    }

    #[test]
    fn format_and_level_change_while_it_runs() {
        let buffer = Buffer::default();
        let out = buffer.clone();
        let (filter, level) = reload::Layer::new(parse("warn", "level").unwrap());
        let (writer, format) = reload::Layer::new(layer(Format::Text, move || out.clone()));
        with_default(tracing_subscriber::registry().with(filter).with(writer), || {
            let _span = tracing::error_span!("old", field = 1).entered();
            tracing::info!("one");
            tracing::warn!("two");
            let out = buffer.clone();
            level.reload(parse("info", "level").unwrap()).unwrap();
            format.reload(layer(Format::Json, move || out.clone())).unwrap();
            tracing::info!("three");
        });
        let text = String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(lines[0].contains("two") && lines[1].starts_with('{') && lines[1].contains("three"), "{text}");
    }

    #[test]
    fn a_level_is_checked_before_it_is_used() {
        for good in ["info", "warn,lictor=debug", "off", "INFO"] {
            assert!(check(good).is_ok(), "{good}");
        }
        let error = check("lictor=loud").unwrap_err();
        assert_eq!(error.to_string(), "level `lictor=loud` is not a log level; try `info` or `warn,lictor=debug`");
    }

    #[test]
    fn a_panic_is_told_even_where_nothing_is_logged() {
        let buffer = Buffer::default();
        let queue = Queue::start(buffer.clone()).unwrap();
        let tell = telling(queue.clone());
        let before = panic::take_hook();
        panic::set_hook(Box::new(
            move |what| {
                if thread::current().name() == Some("fails") { tell(what) } else { before(what) }
            },
        ));
        let fail = || with_default(NoSubscriber::default(), || panic!("this {}\nwent", "part"));
        assert!(thread::Builder::new().name("fails".into()).spawn(fail).unwrap().join().is_err());
        assert!(queue.flush(Duration::from_secs(20)));
        let text = String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.starts_with("lictor: thread `fails` panicked at src/telemetry/log.rs:"), "{text}");
        assert!(text.ends_with(": this part\\nwent\n"), "{text}");
    }
}
