//! Reads the configuration again: on SIGHUP, and when one of its files or its document in Consul's KV changes. One that
//! does not hold changes nothing.

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::{select, sync::mpsc, time::sleep};

use super::{News, kv, lookout::Lookout};
use crate::{
    config::{self, Config, Sources, Stored},
    consul,
    discovery::saved::Saved,
    model::problem::Problems,
    telemetry::{
        events::{Event, Events},
        metrics::Metrics,
    },
};

/// Why the configuration is read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Occasion {
    /// SIGHUP.
    Asked,
    /// A file changed.
    Changed,
    /// Consul told another document.
    Told,
}

/// Reads the configuration on each occasion and passes on what holds.
pub struct Reloader {
    /// Where it is read from.
    pub sources: Sources,
    /// What was read last and held.
    pub current: Arc<Config>,
    /// The document in Consul's KV as it was told last; the one in force is in `current`.
    pub newest: Option<Stored>,
    /// Sees that they change.
    pub lookout: Lookout,
    /// Why some change may not be seen.
    pub blind: Option<String>,
    /// What the files held when they were read last.
    pub seen: Vec<Option<Vec<u8>>>,
    /// What the program was started with: some of it cannot be changed.
    pub started: Arc<Config>,
    /// Whether the last one that was read did not hold.
    pub refused: bool,
    /// Counts reloads.
    pub metrics: Arc<Metrics>,
    /// Is told of them.
    pub events: Arc<Events>,
    /// Takes what holds.
    pub news: mpsc::Sender<News>,
    /// Told of each configuration that is taken, for what is not the writer's.
    pub taken: Box<dyn Fn(&Config) + Send>,
}

/// Editors and mounted volumes change a file in several steps: what follows within this is one change.
const SETTLE: Duration = Duration::from_millis(50);

impl Reloader {
    /// Works until nobody can ask any more.
    pub async fn run(mut self, mut asking: mpsc::Receiver<()>, mut documents: mpsc::Receiver<kv::Told>) {
        self.look_out();
        // What changed before it could be seen.
        self.reload(Occasion::Changed).await;
        loop {
            let mut occasion = select! {
                Some(told) = documents.recv() => {
                    self.hear(told).await;
                    continue;
                }
                asked = asking.recv() => match asked {
                    Some(()) => Occasion::Asked,
                    None => return,
                },
                () = self.lookout.changed() => Occasion::Changed,
            };
            sleep(SETTLE).await;
            if asking.try_recv().is_ok() {
                occasion = Occasion::Asked;
            }
            // Before they are read: what changes from then on is seen.
            self.look_out();
            self.reload(occasion).await;
        }
    }

    /// Looks at the files where they are now. That this fails is said once, until it does not.
    fn look_out(&mut self) {
        let failed = self.lookout.turn().err().map(|error| error.to_string());
        if let Some(error) = failed.as_ref().filter(|_| failed != self.blind) {
            let cause = format!("changes of the configuration files may not be seen: {error}; SIGHUP still reloads");
            self.events.publish(Event::new("watch_failed", cause));
        }
        self.blind = failed;
    }

    /// Takes in what Consul says of the document.
    async fn hear(&mut self, told: kv::Told) {
        match told {
            Ok(newest) => {
                self.newest = newest;
                if self.newest != self.current.stored || self.refused {
                    self.reload(Occasion::Told).await;
                }
            }
            Err(error) => self.unreadable(&error),
        }
        // The writer is gone only when the program ends.
        let _ = self.news.send(News::Consulted).await;
    }

    /// Says that the document cannot be read, where anybody has reason to think that it can.
    fn unreadable(&self, error: &consul::Error) {
        let Some(key) = self.started.consul.as_ref().and_then(|consul| consul.config.as_ref()) else { return };
        let hint = match error {
            consul::Error::Status { code: 403, text } if text.contains("Permission denied") => {
                format!("; the token lacks {}", consul::Right::Key(key.name.clone()))
            }
            _ => String::new(),
        };
        let cause = format!("KV {} cannot be read: {}{hint}", key.name, error.causes());
        if key.is_written || self.current.stored.is_some() {
            self.events.publish(Event::new("config_failed", cause));
        } else {
            tracing::debug!(cause, "no configuration from Consul's KV");
        }
    }

    async fn reload(&mut self, occasion: Occasion) {
        let contents = contents(&self.sources.files);
        if occasion == Occasion::Changed && contents == self.seen {
            return; // one of the links on the way, and it leads to the same
        }
        self.seen = contents;
        let config = match self.load(occasion) {
            Ok(config) => Arc::new(config),
            Err(problems) => {
                self.refused = true;
                self.metrics.reload(false);
                self.events.publish(Event::new("reload_refused", problems.to_string()));
                return;
            }
        };
        let behind = config.stored != self.newest;
        // One that holds again is told, though it is the one in force.
        let mended = std::mem::replace(&mut self.refused, behind) && !behind;
        if occasion != Occasion::Asked && config == self.current && !mended {
            return;
        }
        self.metrics.reload(!behind);
        let cause = match occasion {
            Occasion::Asked => "asked for by SIGHUP".to_owned(),
            Occasion::Changed => "a file changed".to_owned(),
            Occasion::Told => match (&config.stored, &self.current.stored) {
                (Some(stored), _) => format!("Consul told {stored}"),
                (None, Some(stored)) => format!("{stored} was deleted"),
                (None, None) => "Consul has no document".to_owned(),
            },
        };
        let behind = match &self.newest {
            Some(stored) if behind => format!("; {stored} is still refused"),
            None if behind => "; the document in Consul's KV is gone, but the files do not hold without it".to_owned(),
            _ => String::new(),
        };
        let restart = self.restart(&config);
        let cause = format!("{cause}{behind}{restart}");
        self.events.publish(Event::new("reloaded", cause));
        (self.taken)(&config);
        let in_force = Config::clone(&config).held(&self.started);
        self.current = config;
        // The writer is gone only when the program ends.
        let _ = self.news.send(News::Document(Box::new(in_force))).await;
    }

    /// Reads all layers, with the newest document. Where that one does not hold, a file may still be taken without it.
    fn load(&self, occasion: Occasion) -> Result<Config, Problems> {
        let newest = config::load_with(&self.sources, self.newest.as_ref());
        if occasion == Occasion::Told || self.newest == self.current.stored {
            return newest;
        }
        newest.or_else(|problems| config::load_with(&self.sources, self.current.stored.as_ref()).map_err(|_| problems))
    }

    /// What of it has to wait.
    fn restart(&self, config: &Config) -> String {
        let keys = self.started.needs_restart(config);
        if keys.is_empty() {
            return String::new();
        }
        format!("; a change of {} waits for a restart", keys.join(", "))
    }
}

/// The configuration with the document in Consul's KV as an earlier run has kept it, where that still holds.
#[must_use]
pub fn resumed(config: Config, sources: &Sources, saved: Option<&Saved>, events: &Events) -> Config {
    let key = config.consul.as_ref().and_then(|consul| consul.config.as_ref());
    let Some((saved, document)) = saved
        .and_then(|saved| Some((saved, saved.lists.document.as_ref()?)))
        .filter(|(_, document)| key.is_some_and(|key| key.name == document.key))
    else {
        return config;
    };
    let stored = Stored { key: document.key.clone(), text: document.text.clone().into_bytes() };
    match config::load_with(sources, Some(&stored)) {
        Ok(config) => {
            let at = humantime::format_rfc3339_seconds(saved.at);
            let cause = format!("until Consul answers, {stored} is in force as it was at {at}");
            events.publish(Event::new("config_restored", cause));
            config
        }
        Err(problems) => {
            let cause = format!("what the snapshot has of {stored} does not hold any more:\n{problems}");
            events.publish(Event::new("snapshot_refused", cause));
            config
        }
    }
}

/// What the files hold, as far as they can be read.
#[must_use]
pub fn contents(files: &[PathBuf]) -> Vec<Option<Vec<u8>>> {
    files.iter().map(|file| std::fs::read(file).ok()).collect()
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::discovery::saved::{Document, Lists};

    #[test]
    fn a_document_that_an_earlier_run_kept_and_that_may_not_be_any_more_is_left_out() {
        let sources = Sources { sets: vec!["http.listen=127.0.0.1:7001".into()], ..Sources::default() };
        let files = config::load(&sources).unwrap();
        let resume = |text: &str| {
            let document = Some(Document { key: "lictor/config".into(), text: text.into() });
            let saved = Saved { at: SystemTime::now(), lists: Lists { document, ..Lists::default() } };
            let events = Events::new();
            let config = resumed(files.clone(), &sources, Some(&saved), &events);
            (config, events.subscribe().0)
        };
        let (config, told) = resume("[http]\nmax_connections = 7\n");
        assert_eq!((config.http.max_connections, told[0].event.kind), (7, "config_restored"));
        let (config, told) = resume("[http]\nmax_connections = 7\n[admin]\nlisten = '0.0.0.0:1'\n");
        assert_eq!((config, told[0].event.kind), (files.clone(), "snapshot_refused"));
        assert!(told[0].event.cause.contains("KV lictor/config:3 admin: "), "{}", told[0].event.cause);
    }
}
