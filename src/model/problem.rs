//! What is wrong with a configuration: place and message, all of them at once. Who finds them is `config`.

use std::fmt;

use super::line;

/// Where in a configuration something stands. Prints as `lictor.toml:41 http.listen`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// A file, a variable of the environment or a flag; empty for what nobody wrote.
    pub source: String,
    /// The line in the file, counted from 1.
    pub line: Option<usize>,
    /// The key with all tables around it; empty for the file as a whole.
    pub key: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        let gap = if self.source.is_empty() || self.key.is_empty() { "" } else { " " };
        write!(f, "{gap}{}", self.key)
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// What was expected, what came and what to do, for people. Never holds a secret.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (place, message) = (self.place.to_string(), &self.message);
        write!(f, "{}: {}", line::one(&place), line::one(message))
    }
}

/// Everything that is wrong, in the order of the places. Prints one a line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl From<Vec<Problem>> for Problems {
    fn from(problems: Vec<Problem>) -> Self {
        Self(problems)
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            let gap = if i == 0 { "" } else { "\n" };
            write!(f, "{gap}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_prints_as_much_as_is_known_of_it() {
        let place = |source: &str, line, key: &str| Place { source: source.into(), line, key: key.into() }.to_string();
        assert_eq!(place("lictor.toml", Some(41), "http.listen"), "lictor.toml:41 http.listen");
        assert_eq!(place("lictor.toml", None, ""), "lictor.toml");
        assert_eq!(place("--set", None, "http.listen"), "--set http.listen");
        assert_eq!(place("", None, "expose.rewrite"), "expose.rewrite");
    }

    #[test]
    fn problems_print_one_a_line() {
        let problem = |line| Problem {
            place: Place { source: "a.toml".into(), line: Some(line), key: "x".into() },
            message: "unknown key".into(),
        };
        assert_eq!(
            Problems::from(vec![problem(1), problem(3)]).to_string(),
            "a.toml:1 x: unknown key\na.toml:3 x: unknown key"
        );
        assert_eq!(Problems::default().to_string(), "");
        let forged = Problem { message: "got `a\nok: b\u{1b}[8m`".into(), ..problem(1) };
        assert_eq!(forged.to_string(), "a.toml:1 x: got `a\\nok: b\\u{1b}[8m`");
    }
}
