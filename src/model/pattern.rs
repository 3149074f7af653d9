//! Path patterns, parsed, and what one took from a path.
//! Which of many patterns wins is the route table's to say.

use std::{
    fmt::{self, Write},
    str::FromStr,
    sync::Arc,
};

pub use super::host::HostPattern;
use super::path::{self, PathError};

/// `/api/v1/users/{id}`, `/a/{*rest}`: literals in the one form of a path, `{name}` for one segment that is
/// not empty, `{*name}` for the rest, which may be empty.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PathPattern {
    text: Arc<str>,
    segments: Vec<Segment>,
}

/// One segment of a path pattern.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Segment {
    /// This very text, in the one form of a path; empty after a slash at the end.
    Literal(Box<str>),
    /// One segment that is not empty, by this name.
    One(Box<str>),
    /// All that is left, by this name; only at the end.
    Rest(Box<str>),
}

impl PathPattern {
    /// The segments, each without its slash; at least one, and at most [`MAX_SEGMENTS`].
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The segments without the names of parameters: two of one shape serve the same paths.
    #[must_use]
    pub fn shape(&self) -> Vec<Segment> {
        let nameless = |segment: &Segment| match segment {
            Segment::Literal(text) => Segment::Literal(text.clone()),
            Segment::One(_) => Segment::One("".into()),
            Segment::Rest(_) => Segment::Rest("".into()),
        };
        self.segments.iter().map(nameless).collect()
    }

    /// Whether it serves this path, which is in its one form, and no other.
    #[must_use]
    pub fn is_only(&self, path: &str) -> bool {
        self.segments.iter().all(|segment| matches!(segment, Segment::Literal(_))) && self.to_string() == path
    }

    /// Where the parameter of this name stands.
    #[must_use]
    pub fn position(&self, name: &str) -> Option<usize> {
        self.segments.iter().position(|segment| segment.name() == Some(name))
    }
}

impl Segment {
    /// The name of a parameter.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Literal(_) => None,
            Self::One(name) | Self::Rest(name) => Some(name),
        }
    }

    fn parse(text: &str) -> Result<Self, PatternError> {
        if !text.contains(['{', '}']) {
            // What people write in a file is Unicode; what arrives is escaped.
            let ascii = percent_encoding::utf8_percent_encode(text, &percent_encoding::AsciiSet::EMPTY);
            let form = format!("/{ascii}");
            return match path::normalize(&form) {
                Ok(form) if form.len() > 1 || text.is_empty() => Ok(Self::Literal(form[1..].into())),
                Ok(_) | Err(PathError::ClimbsOut) => Err(PatternError::Dots(text.into())),
                Err(why) => Err(PatternError::Literal(text.into(), why)),
            };
        }
        let inner = text.strip_prefix('{').and_then(|t| t.strip_suffix('}')).filter(|t| !t.contains(['{', '}']));
        let inner = inner.ok_or_else(|| PatternError::Parameter(text.into()))?;
        let (name, make): (_, fn(Box<str>) -> Self) =
            inner.strip_prefix('*').map_or((inner, Self::One), |name| (name, Self::Rest));
        if !is_name(name) {
            return Err(PatternError::Name(text.into()));
        }
        Ok(make(name.into()))
    }
}

impl FromStr for PathPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let relative = || PatternError::Relative(text.into());
        let segments: Vec<_> =
            text.strip_prefix('/').ok_or_else(relative)?.split('/').map(Segment::parse).collect::<Result<_, _>>()?;
        if segments.len() > MAX_SEGMENTS {
            return Err(PatternError::Long(segments.len()));
        }
        let names: Vec<_> = segments.iter().filter_map(Segment::name).collect();
        if let Some(twice) = names.iter().enumerate().find_map(|(i, name)| names[..i].contains(name).then_some(*name)) {
            return Err(PatternError::Twice(twice.into()));
        }
        let early = segments.iter().rev().skip(1).find(|segment| matches!(segment, Segment::Rest(_)));
        if let Some(name) = early.and_then(Segment::name) {
            return Err(PatternError::Early(name.into()));
        }
        let mut written = String::with_capacity(text.len());
        for segment in &segments {
            let _ = write!(written, "/{segment}");
        }
        Ok(Self { text: written.into(), segments })
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(text) => f.write_str(text),
            Self::One(name) => write!(f, "{{{name}}}"),
            Self::Rest(name) => write!(f, "{{*{name}}}"),
        }
    }
}

/// Whether a parameter may be called so. A dot is left for names such as `auth.id`.
pub(super) fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}

/// What a pattern took from the path that it matched: looked up when asked, so a match costs nothing.
#[derive(Clone, Copy, Debug)]
pub struct Captures<'p>(&'p str);

impl<'p> Captures<'p> {
    /// Of a path in its one form, which a pattern has matched.
    #[must_use]
    pub fn new(path: &'p str) -> Self {
        Self(path)
    }

    /// The segment at this position, as encoded as it came.
    #[must_use]
    pub fn one(self, position: usize) -> &'p str {
        self.rest(position).and_then(|rest| rest.split('/').next()).unwrap_or_default()
    }

    /// All from the segment at this position on; `None` if the path ends before it, without even a slash.
    #[must_use]
    pub fn rest(self, position: usize) -> Option<&'p str> {
        (0..=position).try_fold(self.0, |rest, _| rest.split_once('/').map(|(_, after)| after))
    }
}

/// More segments than this have no use, and looking a path up goes as deep as its patterns.
pub const MAX_SEGMENTS: usize = 64;

/// Why a text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// No slash at the start.
    #[error("expected a path that starts with `/`, such as `/api/{{*rest}}`; got `{0}`")]
    Relative(String),
    /// A parameter that is a part of a segment, or a brace too many.
    #[error("expected a parameter to be a whole segment, such as `{{id}}` or `{{*rest}}`; got `{0}`")]
    Parameter(String),
    /// A parameter whose name is none.
    #[error("expected a parameter's name of letters, digits, `_` and `-`; got `{0}`")]
    Name(String),
    /// Two parameters of one name.
    #[error("expected each parameter once; got `{0}` twice")]
    Twice(String),
    /// `{*name}` before the end.
    #[error("expected `{{*{0}}}` at the end only: it takes all the rest")]
    Early(String),
    /// A dot segment.
    #[error("expected no `{0}` segment: paths are resolved before they are matched")]
    Dots(String),
    /// A literal that no path could have.
    #[error("expected a segment that a path may have; got `{0}`: {1}")]
    Literal(String, PathError),
    /// Too many segments.
    #[error("expected at most {MAX_SEGMENTS} segments; got {0}")]
    Long(usize),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_pattern_is_kept_in_its_one_form() {
        let cases = [
            ("/", "/"),
            ("/a", "/a"),
            ("/a/", "/a/"),
            ("//a", "//a"),
            ("/api/v1/users/{id}", "/api/v1/users/{id}"),
            ("/a/{*rest}", "/a/{*rest}"),
            ("/{*rest}", "/{*rest}"),
            ("/%7Euser/%c3%a9", "/~user/%C3%A9"),
            ("/café", "/caf%C3%A9"),
            ("/{a}/b/{c_1}/{*d-e}", "/{a}/b/{c_1}/{*d-e}"),
        ];
        for (text, want) in cases {
            let pattern: PathPattern = text.parse().unwrap();
            assert_eq!(pattern.to_string(), want);
            assert_eq!(want.parse(), Ok(pattern), "{text}");
        }
    }

    #[test]
    fn a_path_pattern_that_cannot_be_is_refused() {
        let cases = [
            ("", "expected a path that starts with `/`, such as `/api/{*rest}`; got ``"),
            ("a/b", "expected a path that starts with `/`, such as `/api/{*rest}`; got `a/b`"),
            ("/a{b}", "expected a parameter to be a whole segment, such as `{id}` or `{*rest}`; got `a{b}`"),
            ("/{a}b", "expected a parameter to be a whole segment, such as `{id}` or `{*rest}`; got `{a}b`"),
            ("/{a}{b}", "expected a parameter to be a whole segment, such as `{id}` or `{*rest}`; got `{a}{b}`"),
            ("/{a", "expected a parameter to be a whole segment, such as `{id}` or `{*rest}`; got `{a`"),
            ("/a}", "expected a parameter to be a whole segment, such as `{id}` or `{*rest}`; got `a}`"),
            ("/{}", "expected a parameter's name of letters, digits, `_` and `-`; got `{}`"),
            ("/{*}", "expected a parameter's name of letters, digits, `_` and `-`; got `{*}`"),
            ("/{**a}", "expected a parameter's name of letters, digits, `_` and `-`; got `{**a}`"),
            ("/{a.b}", "expected a parameter's name of letters, digits, `_` and `-`; got `{a.b}`"),
            ("/{a}/b/{*a}", "expected each parameter once; got `a` twice"),
            ("/{*a}/b", "expected `{*a}` at the end only: it takes all the rest"),
            ("/{*a}/", "expected `{*a}` at the end only: it takes all the rest"),
            ("/a/../b", "expected no `..` segment: paths are resolved before they are matched"),
            ("/%2e/b", "expected no `%2e` segment: paths are resolved before they are matched"),
            ("/a?b", "expected a segment that a path may have; got `a?b`: `?` has to be percent-encoded"),
            ("/a b", "expected a segment that a path may have; got `a b`: ` ` has to be percent-encoded"),
        ];
        for (text, want) in cases {
            assert_eq!(text.parse::<PathPattern>().unwrap_err().to_string(), want, "{text}");
        }
        let long = "/a".repeat(MAX_SEGMENTS + 1);
        assert_eq!(long.parse::<PathPattern>(), Err(PatternError::Long(MAX_SEGMENTS + 1)));
        assert!(long[2..].parse::<PathPattern>().is_ok());
    }

    #[test]
    fn captures_are_found_by_position() {
        let cases =
            [("/a/b%2Fc//d", 1, "b%2Fc", Some("b%2Fc//d")), ("/a//d", 2, "d", Some("d")), ("/a/", 1, "", Some(""))];
        for (path, position, one, rest) in cases {
            let captures = Captures::new(path);
            assert_eq!((captures.one(position), captures.rest(position)), (one, rest), "{path}");
        }
        assert_eq!(Captures::new("/a").rest(1), None);
        assert_eq!(Captures::new("/").rest(0), Some(""));
    }
}
