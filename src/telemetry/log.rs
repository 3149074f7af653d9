//! The log of the program, on stderr: text or JSON, from a level up, both changeable while it runs.
//! One record is one line, whatever is in it: control characters are escaped on the way out.

use std::{borrow::Cow, env, fmt::Write as _, io};

use serde::{Deserialize, Serialize};
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    filter::ParseError,
    fmt::MakeWriter,
    layer::{Layered, SubscriberExt},
    reload,
    util::{SubscriberInitExt, TryInitError},
};

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
}

/// Starts the log of the program. `RUST_LOG`, where set, is in place of `level`.
///
/// # Errors
/// If the level cannot be read, or a log was started before.
pub fn start(format: Format, level: &str) -> Result<Log, LogError> {
    let (filter, filter_handle) = reload::Layer::new(filter(level)?);
    let (writer, writer_handle) = reload::Layer::new(layer(format, io::stderr));
    tracing_subscriber::registry().with(filter).with(writer).try_init().map_err(LogError::Started)?;
    Ok(Log { filter: filter_handle, writer: writer_handle })
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
        self.writer.reload(layer(format, io::stderr)).map_err(LogError::Gone)
    }
}

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

    use tracing::subscriber::with_default;

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
}
