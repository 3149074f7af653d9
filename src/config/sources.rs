//! Where a configuration is read from, as the command line says it.

use std::path::{Path, PathBuf};

/// Where a configuration is read from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// Files, the later over the earlier.
    pub files: Vec<PathBuf>,
    /// `key=value`, over all else.
    pub sets: Vec<String>,
}

impl Sources {
    /// The files that were named; none: `./lictor.toml` where there is one, else `/etc/lictor/lictor.toml`, else none.
    #[must_use]
    pub fn discover(named: Vec<PathBuf>) -> Self {
        Self::among(named, &USUAL.map(Path::new))
    }

    fn among(named: Vec<PathBuf>, usual: &[&Path]) -> Self {
        let usual = || usual.iter().find(|file| file.exists()).map(|file| vec![file.to_path_buf()]);
        let files = if named.is_empty() { usual().unwrap_or_default() } else { named };
        Self { files, sets: Vec::new() }
    }
}

const USUAL: [&str; 2] = ["lictor.toml", "/etc/lictor/lictor.toml"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_named_are_taken_as_they_are() {
        let named = vec![PathBuf::from("b.toml"), PathBuf::from("a.toml")];
        assert_eq!(Sources::discover(named.clone()).files, named);
    }

    #[test]
    fn the_first_usual_file_that_exists_is_taken_alone() {
        let folder = tempfile::tempdir().unwrap();
        let [near, far] = ["near.toml", "far.toml"].map(|name| folder.path().join(name));
        let found = || Sources::among(Vec::new(), &[&near, &far]).files;
        assert_eq!(found(), Vec::<PathBuf>::new());
        std::fs::write(&far, "").unwrap();
        assert_eq!(found(), vec![far.clone()]);
        std::fs::write(&near, "").unwrap();
        assert_eq!(found(), vec![near.clone()]);
    }
}
