//! Where operators are answered, for commands that ask a gateway which runs: what is wrong elsewhere in the files does
//! not matter to it either, as it goes on with what it has read before.

use super::{
    Admin, Document, Metrics, Sources, Variables, check::Check, environment, fit, layers::Merged, read, schema::Node,
};
use crate::model::problem::Problems;

/// The operators' listeners.
#[derive(Clone, Debug)]
pub struct Operators {
    /// With all there is.
    pub admin: Admin,
    /// With probes and metrics alone.
    pub metrics: Metrics,
    /// Why it may not be so: what could not be read of these.
    pub problems: Problems,
}

impl Operators {
    /// As the sources have it.
    #[must_use]
    pub fn find(sources: &Sources) -> Self {
        Self::find_from(sources, &environment::variables())
    }

    /// As [`Self::find`], with the environment as an argument.
    #[must_use]
    pub fn find_from(sources: &Sources, variables: &Variables) -> Self {
        let (layers, mut problems) = read(sources, None, variables);
        let merged = Merged::new(layers);
        let mut root = merged.root.clone();
        let check = Check::new(merged);
        fit::fit(&mut root, Node::root(), &check.root());
        let document = check.root().take(root.deserialize::<Document>()).unwrap_or_default();
        let admin = Admin::check(&document.admin, &check.root().key("admin"));
        let metrics = Metrics::check(&document.metrics, &check.root().key("metrics"));
        let ours = |key: &str| ["admin", "metrics"].iter().any(|table| key.split('.').next() == Some(table));
        problems.extend(check.problems().into_iter().filter(|problem| ours(&problem.place.key)));
        Self { admin, metrics, problems: problems.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::units::Secret;

    #[test]
    fn the_listeners_are_found_though_much_else_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let [good, bad] = ["good.toml", "bad.toml"].map(|name| folder.path().join(name));
        std::fs::write(&good, "[http]\nlisten = 7\nno = 1\n[[routes]]\n[admin]\nlisten = \"[::]:99\"\ntoken = \"t\"\n")
            .unwrap();
        std::fs::write(&bad, "[metrics\n").unwrap();
        let sources = Sources { files: vec![good, bad.clone()], sets: vec!["metrics.listen=10.0.0.1:98".into()] };
        let found = Operators::find_from(&sources, &Variables::new());
        assert_eq!(found.admin.listen, ["[::]:99".parse().unwrap()]);
        assert_eq!(found.admin.token.as_ref().map(Secret::reveal), Some("t"));
        assert_eq!(found.metrics.listen, ["10.0.0.1:98".parse().unwrap()]);
        let problems = found.problems.to_string();
        assert!(problems.starts_with(&bad.display().to_string()) && problems.lines().count() == 1, "{problems}");
    }

    #[test]
    fn what_is_wrong_with_the_listeners_themselves_is_told() {
        let sources = Sources { files: Vec::new(), sets: vec!["admin.listen=here".into()] };
        let found = Operators::find_from(&sources, &Variables::new());
        assert!(found.admin.listen.is_empty());
        assert!(found.problems.to_string().contains("admin.listen"), "{}", found.problems);
    }
}
