//! Every route that covers a host and path, the most specific first: a tree of segments per host.
//! Methods and headers are `mod.rs`'s to judge, so a leaf keeps all of its routes, not the best alone.

use std::{
    collections::HashMap,
    ops::ControlFlow::{self, Continue},
};

use crate::model::{
    host::{HostKey, HostPattern, Scope},
    pattern::{PathPattern, Segment},
};

/// Trees of path patterns, by host.
#[derive(Debug, Default)]
pub struct Matcher {
    /// Nodes of all trees; a number of one is its place here.
    nodes: Vec<Node>,
    exact: HashMap<Box<str>, usize>,
    under: HashMap<Box<str>, usize>,
    any: Option<usize>,
}

/// What patterns have in common up to some segment. A node has one way in, so a look-up sees each at most once:
/// however hostile the path, the work is bounded by the patterns that begin as it does.
#[derive(Debug, Default)]
struct Node {
    literal: Children,
    one: Option<usize>,
    /// Routes whose pattern ends here.
    here: Vec<usize>,
    /// Routes whose pattern takes all the rest from here.
    rest: Vec<usize>,
}

/// Most nodes have a child or two, for which hashing costs more than comparing.
#[derive(Debug)]
enum Children {
    Few(Vec<(Box<str>, usize)>),
    Many(HashMap<Box<str>, usize>),
}

impl Matcher {
    /// Adds a route. Of routes with equal patterns, those added earlier are visited earlier.
    pub fn insert(&mut self, host: Option<&HostPattern>, path: &PathPattern, route: usize) {
        let mut at = self.tree(host);
        for segment in path.segments() {
            at = match segment {
                Segment::Rest(_) => return keep(&mut self.nodes[at].rest, route),
                Segment::Literal(text) => {
                    if let Some(child) = self.nodes[at].literal.get(text) {
                        child
                    } else {
                        let child = self.grow();
                        self.nodes[at].literal.insert(text.clone(), child);
                        child
                    }
                }
                Segment::One(_) => {
                    if let Some(child) = self.nodes[at].one {
                        child
                    } else {
                        let child = self.grow();
                        self.nodes[at].one = Some(child);
                        child
                    }
                }
            };
        }
        keep(&mut self.nodes[at].here, route);
    }

    /// Visits every route that covers the host and path, the most specific first, until told to stop.
    pub fn visit<B>(&self, host: &str, path: &str, visit: &mut impl FnMut(usize) -> ControlFlow<B>) -> ControlFlow<B> {
        let Some(path) = path.strip_prefix('/') else { return Continue(()) };
        if !(self.exact.is_empty() && self.under.is_empty()) {
            let mut key = HostKey::default();
            if let Some(host) = key.read(host) {
                if let Some(&tree) = self.exact.get(host) {
                    self.descend(tree, Some(path), visit)?;
                }
                if !self.under.is_empty() {
                    let mut below = host;
                    while let Some((_, parent)) = below.split_once('.') {
                        if let Some(&tree) = self.under.get(parent) {
                            self.descend(tree, Some(path), visit)?;
                        }
                        below = parent;
                    }
                }
            }
        }
        self.any.map_or(Continue(()), |tree| self.descend(tree, Some(path), visit))
    }

    /// `left` is what follows the last slash seen; `None` when the path has ended.
    /// As deep as the longest pattern, not as the path.
    fn descend<B>(
        &self,
        node: usize,
        left: Option<&str>,
        visit: &mut impl FnMut(usize) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        let node = &self.nodes[node];
        if let Some(left) = left {
            // Segments are short: to look at each byte is faster than to prepare a search.
            let (segment, after) = match left.bytes().position(|b| b == b'/') {
                Some(slash) => (&left[..slash], Some(&left[slash + 1..])),
                None => (left, None),
            };
            if let Some(child) = node.literal.get(segment) {
                self.descend(child, after, visit)?;
            }
            if let Some(child) = node.one.filter(|_| !segment.is_empty()) {
                self.descend(child, after, visit)?;
            }
        } else {
            node.here.iter().try_for_each(|&route| visit(route))?;
        }
        node.rest.iter().try_for_each(|&route| visit(route))
    }

    /// The root of a host's tree.
    fn tree(&mut self, host: Option<&HostPattern>) -> usize {
        let fresh = self.nodes.len();
        let root = match host {
            None => *self.any.get_or_insert(fresh),
            Some(host) => {
                let trees = match host.scope() {
                    Scope::Exact => &mut self.exact,
                    Scope::Under => &mut self.under,
                };
                *trees.entry(host.name().into()).or_insert(fresh)
            }
        };
        if root == fresh {
            self.grow();
        }
        root
    }

    fn grow(&mut self) -> usize {
        self.nodes.push(Node::default());
        self.nodes.len() - 1
    }
}

impl Children {
    fn get(&self, segment: &str) -> Option<usize> {
        match self {
            Self::Few(few) => few.iter().find(|(text, _)| **text == *segment).map(|&(_, child)| child),
            Self::Many(many) => many.get(segment).copied(),
        }
    }

    fn insert(&mut self, segment: Box<str>, child: usize) {
        match self {
            Self::Few(few) if few.len() < FEW => few.push((segment, child)),
            Self::Few(few) => {
                let mut many: HashMap<_, _> = few.drain(..).collect();
                many.insert(segment, child);
                *self = Self::Many(many);
            }
            Self::Many(many) => drop(many.insert(segment, child)),
        }
    }
}

impl Default for Children {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

/// Keeps a route once, also if it names a host twice.
fn keep(routes: &mut Vec<usize>, route: usize) {
    if routes.last() != Some(&route) {
        routes.push(route);
    }
}

/// Up to here comparing beats hashing.
const FEW: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn visited(routes: &[(&str, &str)], host: &str, path: &str) -> Vec<usize> {
        let mut matcher = Matcher::default();
        for (i, (host, path)) in routes.iter().enumerate() {
            let host = (!host.is_empty()).then(|| host.parse().unwrap());
            matcher.insert(host.as_ref(), &path.parse().unwrap(), i);
        }
        let mut visited = Vec::new();
        let flow = matcher.visit(host, path, &mut |route| {
            visited.push(route);
            ControlFlow::<()>::Continue(())
        });
        assert!(flow.is_continue());
        visited
    }

    #[test]
    fn a_pattern_covers_what_it_says() {
        let cases = [
            ("/", "/", true),
            ("/", "//", false),
            ("/", "/a", false),
            ("/a", "/a", true),
            ("/a", "/a/", false),
            ("/a", "/A", false),
            ("/a/", "/a/", true),
            ("/a/", "/a", false),
            ("/api", "//api", false),
            ("/a/{id}", "/a/b", true),
            ("/a/{id}", "/a/", false),
            ("/a/{id}", "/a", false),
            ("/a/{id}", "/a/b/", false),
            ("/a/{id}", "/a/b/c", false),
            ("/a/{id}", "/a/b%2Fc", true),
            ("/a/{id}/", "/a/b/", true),
            ("/a/{id}/c", "/a//c", false),
            ("/a/{*rest}", "/a", true),
            ("/a/{*rest}", "/a/", true),
            ("/a/{*rest}", "/a/b/c", true),
            ("/a/{*rest}", "/a//", true),
            ("/a/{*rest}", "/ab", false),
            ("/{*rest}", "/", true),
            ("/{*rest}", "//api/x", true),
            ("/{a}/{*rest}", "/", false),
            ("/{a}/{*rest}", "/x", true),
        ];
        for (pattern, path, want) in cases {
            assert_eq!(visited(&[("", pattern)], "x", path) == [0], want, "{pattern} {path}");
        }
        assert_eq!(visited(&[("", "/{*rest}")], "x", "*"), [0; 0]);
    }

    #[test]
    fn a_host_covers_what_it_says() {
        let cases = [
            ("a.b", "a.b", true),
            ("a.b", "A.B:80", true),
            ("a.b", "a.b.", true),
            ("a.b", "x.a.b", false),
            ("*.b", "a.b", true),
            ("*.b", "x.A.b:80", true),
            ("*.b", "b", false),
            ("*.b", "ab", false),
            ("*.a.b", "a.b", false),
            ("[::1]", "[0::1]:80", true),
            ("[::1]", "[::2]", false),
            ("", "", true),
            ("", "[", true),
        ];
        for (pattern, host, want) in cases {
            assert_eq!(visited(&[(pattern, "/")], host, "/") == [0], want, "{pattern} {host}");
        }
    }

    #[test]
    fn the_most_specific_is_visited_first() {
        let routes = [
            ("", "/a/b"),
            ("*.com", "/{*rest}"),
            ("*.example.com", "/{*rest}"),
            ("api.example.com", "/{*rest}"),
            ("api.example.com", "/a/{*rest}"),
            ("api.example.com", "/{x}/b"),
            ("api.example.com", "/a/{y}"),
            ("api.example.com", "/a/b/{*rest}"),
            ("api.example.com", "/a/b"),
        ];
        assert_eq!(visited(&routes, "api.example.com", "/a/b"), [8, 7, 6, 4, 5, 3, 2, 1, 0]);
    }

    #[test]
    fn a_node_with_many_children_finds_each() {
        let paths: Vec<_> = (0..100).map(|i| format!("/a/{i}/{{*rest}}")).collect();
        let routes: Vec<_> = paths.iter().map(|path| ("", path.as_str())).collect();
        for i in 0..100 {
            assert_eq!(visited(&routes, "x", &format!("/a/{i}/b")), [i]);
        }
        assert_eq!(visited(&routes, "x", "/a/100/b"), [0; 0]);
    }

    #[test]
    fn a_hostile_path_costs_no_more_than_the_patterns_that_begin_like_it() {
        // Each of 64 places may be a literal or a parameter: tried in every combination it would never end.
        let paths: Vec<String> = (0..200_usize)
            .map(|i| (0..63).map(move |bit| if (i * 7919) >> (bit % 20) & 1 == 0 { "/a" } else { "/{p}" }))
            .map(|segments| segments.enumerate().map(|(n, s)| s.replace('p', &format!("p{n}"))).collect())
            .map(|path: String| path + "/end")
            .collect();
        let routes: Vec<_> = paths.iter().map(|path| ("", path.as_str())).collect();
        assert_eq!(visited(&routes, "x", &"/a".repeat(64)), [0; 0]);
        assert_eq!(visited(&routes, "x", &"/a".repeat(16_000)), [0; 0]);
        assert_eq!(visited(&routes, "x", &("/a".repeat(63) + "/end")).len(), routes.len());
    }
}
