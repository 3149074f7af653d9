//! What the benchmarks measure, made ready for them: the only door to the inside, and no interface for users.

use std::sync::Arc;

use http::{HeaderMap, Method};

use crate::{
    route::{Found, Route, RouteTable, Target},
    telemetry::metrics::Metrics,
};

/// A table of routes to look up in.
pub struct Routes(RouteTable);

impl Routes {
    /// So many routes, as services that expose themselves make them.
    ///
    /// # Panics
    /// Never: the patterns are patterns.
    #[must_use]
    #[expect(clippy::expect_used, reason = "the patterns are constants but for a number")]
    pub fn new(count: usize) -> Self {
        let cells = Metrics::new(1).route("s", "r");
        let route = |i: usize| {
            Arc::new(Route {
                name: format!("r{i}").into(),
                hosts: Vec::new(),
                path: format!("/api/v1/service-{i}/{{*rest}}").parse().expect("a pattern"),
                methods: Vec::new(),
                headers: Vec::new(),
                target: Target::Service("s".into()),
                rewrite: None,
                exposed: false,
                cells: Arc::clone(&cells),
            })
        };
        Self(RouteTable::build((0..count).map(route).collect()))
    }

    /// Whether a route takes a GET of this path.
    #[must_use]
    pub fn find(&self, path: &str) -> bool {
        matches!(self.0.find(&Method::GET, "localhost:8000", path, &HeaderMap::new()), Found::Route(..))
    }
}
