//! Why a request is served by the route that serves it: the walk of `find`, with a verdict on every route.

use std::{ops::ControlFlow, sync::Arc};

use http::{HeaderName, HeaderValue, Method};

use super::{Route, RouteTable, matcher::Matcher};
use crate::model::fields::Fields;

/// One route, and what becomes of it.
#[derive(Debug)]
pub struct Considered<'t> {
    /// The route.
    pub route: &'t Arc<Route>,
    /// Whether it serves the request, or why not.
    pub verdict: Verdict<'t>,
}

/// Whether a route serves a request, or why not.
#[derive(Debug)]
pub enum Verdict<'t> {
    /// It does.
    Serves,
    /// It could, but this one comes before it.
    Yields(&'t Arc<Route>),
    /// It wants this header.
    Header(&'t HeaderName, &'t HeaderValue),
    /// It is for other methods.
    Method,
    /// It is for other hosts.
    Host,
    /// It is for other paths.
    Path,
}

impl RouteTable {
    /// Every route with its verdict: those that cover host and path, the most specific first, then the others as they
    /// were given. The one that serves is the one that `find` finds.
    #[must_use]
    pub fn explain<'t>(&'t self, method: &Method, host: &str, path: &str, headers: &Fields) -> Vec<Considered<'t>> {
        let mut covering = Vec::new();
        let _ = self.matcher.visit(host, path, &mut |i| {
            // A route may cover a host by several of its patterns.
            if !covering.contains(&i) {
                covering.push(i);
            }
            ControlFlow::<()>::Continue(())
        });
        let mut first = None;
        let mut considered: Vec<_> = covering
            .iter()
            .map(|&i| {
                let route = &self.routes[i];
                let verdict = match (route.missing(headers), first) {
                    (Some((name, value)), _) => Verdict::Header(name, value),
                    (None, _) if !route.takes_method(method) => Verdict::Method,
                    (None, Some(first)) => Verdict::Yields(first),
                    (None, None) => {
                        first = Some(route);
                        Verdict::Serves
                    }
                };
                Considered { route, verdict }
            })
            .collect();
        let rest = self.routes.iter().enumerate().filter(|(i, _)| !covering.contains(i));
        considered.extend(rest.map(|(_, route)| {
            let mut alone = Matcher::default();
            alone.insert(None, &route.path, 0);
            let covers = alone.visit(host, path, &mut |_| ControlFlow::Break(())).is_break();
            Considered { route, verdict: if covers { Verdict::Host } else { Verdict::Path } }
        }));
        considered
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{find, route},
        *,
    };

    const ROUTES: &[(&str, &str)] = &[
        ("other", "- - /b/{*rest} -"),
        ("all", "- - /{*rest} -"),
        ("beta", "GET - /a/{id} x-beta=1"),
        ("get", "GET - /a/{id} -"),
        ("host", "- a.example,*.example /a/{*rest} -"),
        ("xone", "- - /a/{id} -"),
    ];

    fn verdicts(request: &str) -> Vec<(String, String)> {
        let [method, host, path, headers] = request.split(' ').collect::<Vec<_>>().try_into().unwrap();
        let mut fields = Fields::new();
        for (name, value) in headers.split(',').filter_map(|pair| pair.split_once('=')) {
            fields.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        let table = RouteTable::build(ROUTES.iter().map(|(name, text)| route(name, text)).collect());
        let considered = table.explain(&method.parse().unwrap(), host, path, &fields);
        assert_eq!(considered.len(), ROUTES.len());
        let serving = considered.iter().find(|one| matches!(one.verdict, Verdict::Serves));
        let found = find(&table, request);
        assert_eq!(serving.map_or_else(|| found.clone(), |one| one.route.name.to_string()), found);
        let said = |verdict: &Verdict<'_>| match verdict {
            Verdict::Serves => "serves".into(),
            Verdict::Yields(to) => format!("yields to {}", to.name),
            Verdict::Header(name, _) => format!("header {name}"),
            Verdict::Method => "method".into(),
            Verdict::Host => "host".into(),
            Verdict::Path => "path".into(),
        };
        considered.iter().map(|one| (one.route.name.to_string(), said(&one.verdict))).collect()
    }

    #[test]
    fn every_route_has_its_verdict_the_nearest_first() {
        for (request, want) in [
            (
                "GET h /a/7 -",
                [
                    "beta header x-beta",
                    "get serves",
                    "xone yields to get",
                    "all yields to get",
                    "other path",
                    "host host",
                ],
            ),
            (
                "POST h /a/7 x-beta=1",
                ["beta method", "get method", "xone serves", "all yields to xone", "other path", "host host"],
            ),
            (
                "GET a.example /a/7 x-beta=1",
                [
                    "host serves",
                    "beta yields to host",
                    "get yields to host",
                    "xone yields to host",
                    "all yields to host",
                    "other path",
                ],
            ),
        ] {
            let told = verdicts(request);
            let told: Vec<_> = told.iter().map(|(name, verdict)| format!("{name} {verdict}")).collect();
            assert_eq!(told, want, "{request}");
        }
    }
}
