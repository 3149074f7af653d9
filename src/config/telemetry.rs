//! `[telemetry]`: what the program says of itself.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{check::At, environment::Variables, otel, schema::nearest};
use crate::telemetry::{
    access,
    log::{self, Format},
    otlp::Settings,
};

/// What the program says of itself.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Table {
    /// The program's log, on standard error.
    pub log: LogTable,
    /// A line for each request: "off", "stdout", or a file that they are added to.
    #[schemars(extend("examples" = ["stdout", "/var/log/lictor/access.log"]))]
    pub access_log: Option<String>,
    /// How such a line is written: one JSON object, or as Apache's and nginx's "combined".
    #[schemars(extend("enum" = ["json", "combined"]))]
    pub access_format: Option<String>,
    /// The collector that traces are sent to by OTLP; left out: `OTEL_EXPORTER_OTLP_ENDPOINT`, else none; "": none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("examples" = ["http://127.0.0.1:4317"]))]
    pub otlp: Option<String>,
}

impl Default for Table {
    fn default() -> Self {
        let text = |text: &str| Some(text.to_owned());
        Self { log: LogTable::default(), access_log: text(OFF), access_format: text("json"), otlp: None }
    }
}

/// The program's log.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct LogTable {
    /// For people, or one JSON object a line.
    #[schemars(extend("enum" = ["text", "json"]))]
    pub format: Option<String>,
    /// From which level on: error, warn, info, debug or trace; parts of the program may have their own, as in
    /// "warn,lictor=debug". The variable `RUST_LOG` wins over it.
    pub level: Option<String>,
}

impl Default for LogTable {
    fn default() -> Self {
        Self { format: Some("text".into()), level: Some("info".into()) }
    }
}

/// `[telemetry]`, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Telemetry {
    /// The program's log.
    pub log: Log,
    /// Where a line for each request goes.
    pub access_log: access::Place,
    /// How it is written.
    pub access_format: access::Format,
    /// Where traces go; `None`: nowhere.
    pub otlp: Option<Settings>,
    /// What of the environment was ignored, and why.
    pub ignored: Vec<String>,
}

/// `telemetry.log`, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Text or JSON.
    pub format: Format,
    /// From this level on.
    pub level: String,
}

impl Telemetry {
    /// Checks what was written.
    #[must_use]
    pub fn check(table: &Table, variables: &Variables, at: &At<'_>) -> Self {
        let format = if table.log.format.as_deref() == Some("json") { Format::Json } else { Format::Text };
        if let Some(level) = &table.log.level {
            check_level(level, &at.key("log").key("level"));
        }
        let level = table.log.level.clone().unwrap_or_default();
        let access_log = match table.access_log.as_deref().map(str::trim) {
            None | Some("" | OFF) => access::Place::Off,
            Some(STDOUT) => access::Place::Stdout,
            Some(file) => access::Place::File(file.into()),
        };
        let combined = table.access_format.as_deref() == Some(COMBINED);
        let access_format = if combined { access::Format::Combined } else { access::Format::Json };
        let read = otel::read(table.otlp.as_deref(), variables);
        if let Some(problem) = read.problem {
            at.key("otlp").say(problem);
        }
        let (otlp, ignored) = (read.settings, read.ignored);
        Self { log: Log { format, level }, access_log, access_format, otlp, ignored }
    }

    /// As it would be written.
    #[must_use]
    pub fn shown(&self) -> Table {
        let format = if self.log.format == Format::Json { "json" } else { "text" };
        let log = LogTable { format: Some(format.into()), level: Some(self.log.level.clone()) };
        let access_log = match &self.access_log {
            access::Place::Off => OFF.into(),
            access::Place::Stdout => STDOUT.into(),
            access::Place::File(file) => file.display().to_string(),
        };
        let access_format = if self.access_format == access::Format::Combined { COMBINED } else { "json" };
        let otlp = self.otlp.as_ref().map(|otlp| match otlp.endpoint.split_once("://") {
            Some((scheme, rest)) if otlp.login.is_some() => format!("{scheme}://***@{rest}"),
            _ => otlp.endpoint.clone(),
        });
        Table { log, access_log: Some(access_log), access_format: Some(access_format.into()), otlp }
    }
}

/// Whether the access log that is written so goes to no file.
pub(super) fn is_no_file(access_log: &str) -> bool {
    matches!(access_log.trim(), "" | OFF | STDOUT)
}

const OFF: &str = "off";
const STDOUT: &str = "stdout";
const COMBINED: &str = "combined";

fn check_level(level: &str, at: &At<'_>) {
    // A lone word that is no level would be taken for a part of the program, and all others fall silent.
    let word = !level.contains([',', '=', '[']);
    let known = LEVELS.iter().any(|known| known.eq_ignore_ascii_case(level.trim()));
    if (word && !known) || log::check(level).is_err() {
        let near = nearest(level, LEVELS.into_iter()).unwrap_or("info");
        at.say(format!("`{level}` is not a log level; try `{near}` or `warn,lictor=debug`"));
    }
}

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
