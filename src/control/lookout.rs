//! Notices that files change, through whatever links lead to them: in Kubernetes and in deployments by releases it is a
//! link that is swapped, far from the file. What changed is for others to read.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs,
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

/// Looks at files, and at the links that lead to them as these were when it was last turned.
pub struct Lookout {
    files: Vec<PathBuf>,
    changed: Arc<Notify>,
    watcher: Option<RecommendedWatcher>,
}

impl Lookout {
    /// Sees nothing yet.
    #[must_use]
    pub fn new(files: &[PathBuf]) -> Self {
        Self { files: files.to_vec(), changed: Arc::default(), watcher: None }
    }

    /// Waits until something may have changed. Then it wants to be turned before the files are read, or a change that
    /// follows may go unseen.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Turns to where the files are now.
    ///
    /// # Errors
    /// The system does not let a folder be watched. What it does is seen nevertheless.
    pub fn turn(&mut self) -> notify::Result<()> {
        let mut spots = self.spots();
        // A link that is swapped before its folder is watched leads elsewhere by then.
        for _ in 0..MOST_TURNS {
            let result = self.watch(&spots);
            let now = self.spots();
            if now == spots {
                return result;
            }
            spots = now;
        }
        // They change all the time, and are seen to.
        self.changed.notify_one();
        Ok(())
    }

    /// All names whose change may be one of the files.
    fn spots(&self) -> BTreeSet<PathBuf> {
        self.files.iter().flat_map(|file| spots(file)).collect()
    }

    fn watch(&mut self, spots: &BTreeSet<PathBuf>) -> notify::Result<()> {
        // Folders, since a file may be replaced rather than written.
        let folders: BTreeSet<PathBuf> = spots.iter().filter_map(|spot| spot.parent()).map(Path::to_owned).collect();
        let (spots, all, changed) = (spots.clone(), folders.clone(), self.changed.clone());
        let concerns = move |event: &notify::Event| {
            let ours = |path: &PathBuf| spots.contains(path) || all.contains(path);
            !event.kind.is_access() && (event.need_rescan() || event.paths.iter().any(ours))
        };
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|event| concerns(&event)) {
                changed.notify_one();
            }
        })?;
        let results = folders.iter().map(|folder| watcher.watch(folder, RecursiveMode::NonRecursive));
        // All are tried, though one fails.
        let results: Vec<_> = results.collect();
        self.watcher = Some(watcher);
        results.into_iter().collect()
    }
}

/// The names of a file and of every link that leads to it, each in a folder that no link leads to. Where there is nothing,
/// the name that something has to come by.
fn spots(file: &Path) -> Vec<PathBuf> {
    let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let (mut spots, mut here, mut links) = (Vec::new(), PathBuf::new(), 0);
    let mut ahead = steps(&file);
    while let Some(step) = ahead.pop() {
        if step == ".." {
            here.pop();
            continue;
        }
        // The root takes the place of all before it.
        let next = here.join(step);
        let is_last = ahead.is_empty();
        match fs::read_link(&next) {
            Ok(target) if links < MOST_LINKS => {
                links += 1;
                spots.push(next);
                ahead.extend(steps(&target));
            }
            _ if is_last || !next.is_dir() => {
                spots.push(next);
                break;
            }
            _ => here = next,
        }
    }
    spots
}

/// The steps of a path, the first one last.
fn steps(path: &Path) -> Vec<OsString> {
    let steps = path.components().filter(|step| *step != Component::CurDir);
    steps.map(|step| step.as_os_str().to_owned()).rev().collect()
}

/// As many as the system follows.
const MOST_LINKS: usize = 40;
const MOST_TURNS: usize = 8;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// What is looked at below a folder, by names from there.
    fn seen(folder: &Path, file: &str) -> Vec<String> {
        let real = folder.canonicalize().unwrap();
        let within = |spot: PathBuf| Some(spot.strip_prefix(&real).ok()?.display().to_string());
        spots(&folder.join(file)).into_iter().filter_map(within).collect()
    }

    #[test]
    fn a_file_and_every_link_that_leads_to_it_are_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["etc", "real", "v1", "r1/conf"] {
            fs::create_dir_all(at(name)).unwrap();
        }
        for name in ["etc/plain.toml", "real/l.toml", "v1/l.toml", "r1/conf/l.toml"] {
            fs::write(at(name), "").unwrap();
        }
        for (target, link) in [
            ("../real/l.toml", "etc/near.toml"),
            (&*at("real/l.toml").display().to_string(), "etc/far.toml"),
            ("v1", "..data"),
            ("..data/l.toml", "l.toml"),
            ("r1", "current"),
            ("./r2/../r2", "next"),
            ("loop.toml", "loop.toml"),
        ] {
            symlink(target, at(link)).unwrap();
        }
        for (file, want) in [
            ("etc/plain.toml", ["etc/plain.toml"].as_slice()),
            ("etc/../etc/./plain.toml", &["etc/plain.toml"]),
            ("etc/near.toml", &["etc/near.toml", "real/l.toml"]),
            ("etc/far.toml", &["etc/far.toml", "real/l.toml"]),
            ("l.toml", &["l.toml", "..data", "v1/l.toml"]),
            ("current/conf/l.toml", &["current", "r1/conf/l.toml"]),
            ("next/l.toml", &["next", "r2"]),
            ("none/l.toml", &["none"]),
            ("etc/none.toml", &["etc/none.toml"]),
        ] {
            assert_eq!(seen(folder.path(), file), want, "{file}");
        }
        assert_eq!(seen(folder.path(), "loop.toml").len(), MOST_LINKS + 1);
    }
}
