//! Reads the configuration again: on SIGHUP, and when one of its files changes. One that does not hold changes nothing.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use notify::{RecursiveMode, Watcher};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};

use super::News;
use crate::{
    config::{self, Config, Sources},
    telemetry::{
        events::{Event, Events},
        metrics::Metrics,
    },
};

/// Why the configuration is read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occasion {
    /// SIGHUP.
    Asked,
    /// A file changed.
    Changed,
}

/// Reads the configuration on each occasion and passes on what holds.
pub struct Reloader {
    /// Where it is read from.
    pub sources: Sources,
    /// What was read last and held.
    pub current: Arc<Config>,
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
    pub async fn run(mut self, mut occasions: mpsc::Receiver<Occasion>) {
        while let Some(mut occasion) = occasions.recv().await {
            sleep(SETTLE).await;
            while let Ok(Some(more)) = timeout(Duration::ZERO, occasions.recv()).await {
                if more == Occasion::Asked {
                    occasion = more;
                }
            }
            self.reload(occasion).await;
        }
    }

    async fn reload(&mut self, occasion: Occasion) {
        let contents = contents(&self.sources.files);
        if occasion == Occasion::Changed && contents == self.seen {
            return; // another file in the same folder, such as our own log
        }
        self.seen = contents;
        let config = match config::load(&self.sources) {
            Ok(config) => Arc::new(config),
            Err(problems) => {
                self.refused = true;
                self.metrics.reload(false);
                self.events.publish(Event::new("reload_refused", problems.to_string()));
                return;
            }
        };
        // One that holds again is told, though it is the one in force.
        let refused = std::mem::take(&mut self.refused);
        if occasion == Occasion::Changed && config == self.current && !refused {
            return;
        }
        self.metrics.reload(true);
        let restart = self.started.needs_restart(&config);
        let cause = match occasion {
            Occasion::Asked => "asked for by SIGHUP",
            Occasion::Changed => "a file changed",
        };
        let cause = if restart.is_empty() {
            cause.to_owned()
        } else {
            format!("{cause}; a change of {} waits for a restart", restart.join(", "))
        };
        self.events.publish(Event::new("reloaded", cause));
        (self.taken)(&config);
        let in_force = Config::clone(&config).held(&self.started);
        self.current = config;
        // The writer is gone only when the program ends.
        let _ = self.news.send(News::Document(Box::new(in_force))).await;
    }
}

/// What the files hold, as far as they can be read.
#[must_use]
pub fn contents(files: &[PathBuf]) -> Vec<Option<Vec<u8>>> {
    files.iter().map(|file| std::fs::read(file).ok()).collect()
}

/// Watches the folders of `files`, since a file may be replaced rather than written. The watch ends when it is dropped.
///
/// # Errors
/// The system watches no more folders.
pub fn watch(files: &[PathBuf], occasions: mpsc::Sender<Occasion>) -> notify::Result<impl Send + use<>> {
    let names: BTreeSet<PathBuf> = files.iter().map(|file| absolute(file)).collect();
    let folders: BTreeSet<PathBuf> = names.iter().filter_map(|file| file.parent()).map(Path::to_owned).collect();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Kubernetes swaps a link beside the file: any change but a mere look in these folders is worth one.
        if event.is_ok_and(|event| !event.kind.is_access()) {
            // One that waits already does for this one too.
            let _ = occasions.try_send(Occasion::Changed);
        }
    })?;
    for folder in folders {
        watcher.watch(&folder, RecursiveMode::NonRecursive)?;
    }
    Ok(watcher)
}

fn absolute(file: &Path) -> PathBuf {
    std::path::absolute(file).unwrap_or_else(|_| file.to_owned())
}
