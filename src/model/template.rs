//! `/users/{rest}`: filled from what a path pattern took, each value encoded for the place where it lands.
//! Values come from a path in its one form, so they are encoded already and are never decoded.

use std::{fmt, sync::Arc};

use super::{
    path::{self, PathError},
    pattern::{Captures, PathPattern, Segment},
};

/// An absolute path, perhaps with a query, with `{name}` where a value of the route's path goes.
///
/// `{name}` may be part of a segment. The value of `{*name}` has slashes, so in the path it has a segment of
/// its own; if the request's path ended before it, its slash is left out too: with `/a/{*rest}` and
/// `/users/{rest}`, `/a` becomes `/users` and `/a/` becomes `/users/`. Empty segments of a value stay:
/// merging them would let `/a//admin` reach what a route for `/a/admin` guards.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Template {
    text: Arc<str>,
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Piece {
    Text(Box<str>),
    One { position: usize, place: Place },
    Rest { position: usize, place: Place },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Place {
    Path,
    Query,
}

impl Template {
    /// Reads a template whose values come from `pattern`.
    ///
    /// # Errors
    /// A parameter that the pattern does not have, or a text that would not give an absolute path.
    pub fn parse(text: &str, pattern: &PathPattern) -> Result<Self, TemplateError> {
        let (path, query) = text.split_once('?').map_or((text, None), |(path, query)| (path, Some(query)));
        let segments = path.strip_prefix('/').ok_or_else(|| TemplateError::Relative(text.into()))?;
        let mut pieces = Vec::new();
        for segment in segments.split('/') {
            push(&mut pieces, "/");
            let parts = Part::split(segment)?;
            for part in &parts {
                match part {
                    Part::Text(text) => push(&mut pieces, &literal(text, &parts)?),
                    Part::Name(name) => match value(name, pattern, Place::Path)? {
                        Piece::Rest { .. } if parts.len() > 1 => return Err(TemplateError::Rest(segment.into())),
                        value => pieces.push(value),
                    },
                }
            }
        }
        if let Some(query) = query {
            push(&mut pieces, "?");
            for part in Part::split(query)? {
                match part {
                    Part::Text(text) => {
                        path::unescape(&text.replace('?', "/")).map_err(|why| TemplateError::Text(text.into(), why))?;
                        push(&mut pieces, text);
                    }
                    Part::Name(name) => pieces.push(value(name, pattern, Place::Query)?),
                }
            }
        }
        Ok(Self { text: text.into(), pieces })
    }

    /// The absolute path, with the template's query if it has one, for what its pattern took from a path.
    #[must_use]
    pub fn fill(&self, captures: &Captures<'_>) -> String {
        let mut out = String::with_capacity(self.text.len() + 64);
        for (i, piece) in self.pieces.iter().enumerate() {
            match *piece {
                Piece::Text(ref text) => out.push_str(text),
                Piece::One { position, place } => add(&mut out, captures.one(position), place),
                Piece::Rest { position, place: Place::Query } => {
                    add(&mut out, captures.rest(position).unwrap_or_default(), Place::Query);
                }
                Piece::Rest { position, place: Place::Path } => {
                    let inside = matches!(self.pieces.get(i + 1), Some(Piece::Text(next)) if next.starts_with('/'));
                    match captures.rest(position) {
                        // The slash before it stays where it is all that the path has.
                        None | Some("") if inside => drop(out.pop()),
                        None if out.len() > 1 => drop(out.pop()),
                        None => {}
                        Some(rest) => out.push_str(rest),
                    }
                }
            }
        }
        out
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

enum Part<'a> {
    Text(&'a str),
    Name(&'a str),
}

impl<'a> Part<'a> {
    fn split(text: &'a str) -> Result<Vec<Self>, TemplateError> {
        let stray = || TemplateError::Brace(text.into());
        let mut parts = Vec::new();
        let mut left = text;
        while let Some(brace) = left.find(['{', '}']) {
            let (before, after) = left.split_at(brace);
            let (name, after) = after.strip_prefix('{').and_then(|after| after.split_once('}')).ok_or_else(stray)?;
            if name.contains('{') {
                return Err(stray());
            }
            if !before.is_empty() {
                parts.push(Self::Text(before));
            }
            parts.push(Self::Name(name));
            left = after;
        }
        if !left.is_empty() {
            parts.push(Self::Text(left));
        }
        Ok(parts)
    }
}

/// A literal part of a path in its one form. Dots that are a whole part are refused also beside a
/// value, which could make a dot segment of them.
fn literal(text: &str, parts: &[Part<'_>]) -> Result<String, TemplateError> {
    let ascii = percent_encoding::utf8_percent_encode(text, &percent_encoding::AsciiSet::EMPTY);
    let form = format!("/{ascii}");
    match path::normalize(&form) {
        Ok(form) if form.len() > 1 => Ok(form[1..].into()),
        Ok(_) | Err(PathError::ClimbsOut) if parts.len() == 1 => Err(TemplateError::Dots(text.into())),
        Ok(_) | Err(PathError::ClimbsOut) => Err(TemplateError::Text(text.into(), PathError::HiddenDots)),
        Err(why) => Err(TemplateError::Text(text.into(), why)),
    }
}

fn value(name: &str, pattern: &PathPattern, place: Place) -> Result<Piece, TemplateError> {
    let unknown = || TemplateError::Unknown { name: name.into(), pattern: pattern.clone() };
    let position = pattern.position(name).ok_or_else(unknown)?;
    Ok(match pattern.segments()[position] {
        Segment::Rest(_) => Piece::Rest { position, place },
        Segment::Literal(_) | Segment::One(_) => Piece::One { position, place },
    })
}

/// Adds text, as one piece with the text before it.
fn push(pieces: &mut Vec<Piece>, text: &str) {
    let joined = match pieces.last() {
        Some(Piece::Text(before)) => format!("{before}{text}"),
        _ => return pieces.push(Piece::Text(text.into())),
    };
    pieces.pop();
    pieces.push(Piece::Text(joined.into()));
}

/// Adds a value that is encoded for a path. In a query some bytes mean more than in a path.
fn add(out: &mut String, value: &str, place: Place) {
    if place == Place::Path {
        out.push_str(value);
        return;
    }
    for c in value.chars() {
        match c {
            '&' => out.push_str("%26"),
            '+' => out.push_str("%2B"),
            ';' => out.push_str("%3B"),
            '=' => out.push_str("%3D"),
            _ => out.push(c),
        }
    }
}

/// Why a text is no template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// No slash at the start.
    #[error("expected a path that starts with `/`, such as `/users/{{rest}}`; got `{0}`")]
    Relative(String),
    /// A parameter that the route's path does not have.
    #[error("expected a parameter of the path `{pattern}`; got `{{{name}}}`")]
    Unknown {
        /// The name, without braces.
        name: String,
        /// The path that it should be in.
        pattern: PathPattern,
    },
    /// A brace without its other.
    #[error("expected `{{` and `}}` around a parameter's name; got `{0}`")]
    Brace(String),
    /// `{*name}` within a segment.
    #[error("expected the rest of the path to be a whole segment, such as `/users/{{rest}}`; got `{0}`")]
    Rest(String),
    /// A dot segment.
    #[error("expected no `{0}` segment")]
    Dots(String),
    /// Text that no path or query could have.
    #[error("expected text that a path may have; got `{0}`: {1}")]
    Text(String, PathError),
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;

    fn fill(template: &str, pattern: &str, path: &str) -> String {
        let template = Template::parse(template, &pattern.parse().unwrap()).unwrap();
        template.fill(&Captures::new(path))
    }

    #[test]
    fn a_value_is_encoded_for_the_place_where_it_lands() {
        let cases = [
            ("/users/{rest}", "/a/{*rest}", "/a/b%20c", "/users/b%20c"),
            ("/users/{rest}", "/a/{*rest}", "/a/b/c/", "/users/b/c/"),
            ("/users/{rest}", "/a/{*rest}", "/a/b%2Fc", "/users/b%2Fc"),
            ("/users/{rest}", "/a/{*rest}", "/a/%2525", "/users/%2525"),
            ("/u/{id}", "/a/{id}", "/a/x%2Fy", "/u/x%2Fy"),
            ("/u/{id}", "/a/{id}", "/a/x&y=1+2;3", "/u/x&y=1+2;3"),
            ("/u?id={id}", "/a/{id}", "/a/x&y=1+2;3", "/u?id=x%26y%3D1%2B2%3B3"),
            ("/u?id={id}", "/a/{id}", "/a/x%20%23%26", "/u?id=x%20%23%26"),
            ("/u?path={rest}&x=1", "/a/{*rest}", "/a/b/c", "/u?path=b/c&x=1"),
            ("/u?path={rest}", "/a/{*rest}", "/a", "/u?path="),
            ("/{b}/{a}/{a}", "/{a}/{b}", "/1/2", "/2/1/1"),
            ("/v{a}/{b}.json", "/{a}/{b}", "/1/2", "/v1/2.json"),
            ("/fixed?a[]=1&b=/?", "/a", "/a", "/fixed?a[]=1&b=/?"),
            ("/%7Ecaf\u{e9}/{a}", "/{a}", "/1", "/~caf%C3%A9/1"),
        ];
        for (template, pattern, path, want) in cases {
            assert_eq!(fill(template, pattern, path), want, "{template} {path}");
        }
    }

    #[test]
    fn an_empty_rest_leaves_an_absolute_path() {
        let cases = [
            ("/{rest}", "/a", "/"),
            ("/{rest}", "/a/", "/"),
            ("/users/{rest}", "/a", "/users"),
            ("/users/{rest}", "/a/", "/users/"),
            ("/users/{rest}/x", "/a", "/users/x"),
            ("/users/{rest}/x", "/a/", "/users/x"),
            ("/{rest}/x", "/a", "/x"),
            ("/{rest}?y", "/a", "/?y"),
            ("/users/{rest}?y", "/a", "/users?y"),
        ];
        for (template, path, want) in cases {
            assert_eq!(fill(template, "/a/{*rest}", path), want, "{template} {path}");
        }
    }

    #[test]
    fn empty_segments_stay_empty_segments() {
        assert_eq!(fill("/users/{rest}", "/a/{*rest}", "/a//b"), "/users//b");
        assert_eq!(fill("/{rest}", "/a/{*rest}", "/a//admin"), "//admin");
        assert_eq!(fill("/x/{rest}", "/{*rest}", "//api"), "/x//api");
    }

    #[test]
    fn a_template_that_cannot_be_is_refused() {
        let cases = [
            ("users/{rest}", "expected a path that starts with `/`, such as `/users/{rest}`; got `users/{rest}`"),
            ("", "expected a path that starts with `/`, such as `/users/{rest}`; got ``"),
            ("/{id}", "expected a parameter of the path `/{a}/{*rest}`; got `{id}`"),
            ("/{*rest}", "expected a parameter of the path `/{a}/{*rest}`; got `{*rest}`"),
            ("/{}", "expected a parameter of the path `/{a}/{*rest}`; got `{}`"),
            ("/x?y={auth.id}", "expected a parameter of the path `/{a}/{*rest}`; got `{auth.id}`"),
            ("/{a", "expected `{` and `}` around a parameter's name; got `{a`"),
            ("/{a{a}}", "expected `{` and `}` around a parameter's name; got `{a{a}}`"),
            ("/a}", "expected `{` and `}` around a parameter's name; got `a}`"),
            ("/x{rest}", "expected the rest of the path to be a whole segment, such as `/users/{rest}`; got `x{rest}`"),
            ("/a/../b", "expected no `..` segment"),
            ("/./b", "expected no `.` segment"),
            (
                "/..{a}",
                "expected text that a path may have; got `..`: dots beside `;` or `%2F` mean different things to different servers",
            ),
            ("/%2{a}", "expected text that a path may have; got `%2`: `%` is followed by two hexadecimal digits"),
            ("/a#b", "expected text that a path may have; got `a#b`: `#` has to be percent-encoded"),
            ("/a?b#c", "expected text that a path may have; got `b#c`: `#` has to be percent-encoded"),
            ("/a?b c", "expected text that a path may have; got `b c`: ` ` has to be percent-encoded"),
        ];
        for (text, want) in cases {
            let error = Template::parse(text, &"/{a}/{*rest}".parse().unwrap()).unwrap_err();
            assert_eq!(error.to_string(), want, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_filled_is_a_path_in_its_one_form(
            pieces in vec(select(vec!["a", ".", "..", ";", "%2F", "%3B", "/", "/", "{x}", "{y}", "/{rest}", "/{rest}/"]), 0..6),
            values in vec(select(vec!["a", ".a", "..a", "a.", "...", ";", ";..", "%2F", "a%2F", "%3B.", "%25"]), 2),
            rest in vec(select(vec!["/", "/", ".a", "..", ".", ";", "%2F", "%41"]), 0..5),
        ) {
            let path = format!("/{}/{}", values.join("/"), rest.concat());
            let Ok(path) = path::normalize(&path) else { return Ok(()) };
            let Ok(template) = Template::parse(&format!("/{}", pieces.concat()), &"/{x}/{y}/{*rest}".parse().unwrap()) else {
                return Ok(());
            };
            let captures = Captures::new(&path);
            prop_assume!(!captures.one(0).is_empty() && !captures.one(1).is_empty());
            let filled = template.fill(&captures);
            let form = path::normalize(&filled);
            prop_assert_eq!(form.as_deref(), Ok(filled.as_str()), "{} {}", template, path);
        }
    }
}
