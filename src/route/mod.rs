//! Which route serves a request: host, path, method and headers, the most specific first.
//! Paths come in their one form; what a route does with the request is `proxy`'s.

mod explain;
#[cfg(test)]
mod linear;
mod matcher;

use std::{cmp::Reverse, collections::HashSet, ops::ControlFlow, sync::Arc};

use http::{HeaderName, HeaderValue, Method};

use crate::{
    model::{
        fields::Fields,
        name::{RouteName, ServiceName},
        pattern::{Captures, HostPattern, PathPattern},
        template::Template,
    },
    telemetry::cells::RouteCells,
    upstream::policy::Policy,
};
pub use explain::{Considered, Verdict};
use matcher::Matcher;

/// What a request must be, and what then answers it.
#[derive(Debug)]
pub struct Route {
    /// What labels and messages call it.
    pub name: RouteName,
    /// Any of these hosts; empty for all.
    pub hosts: Vec<HostPattern>,
    /// The path.
    pub path: PathPattern,
    /// Any of these methods; empty for all. `GET` covers `HEAD`.
    pub methods: Vec<Method>,
    /// All of these headers, each with this very value among its values.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// What answers.
    pub target: Target,
    /// The path that the target gets; `None` for the path as it came.
    pub rewrite: Option<Template>,
    /// The rules of its calls, where they are not just the service's.
    pub policy: Option<Arc<Policy>>,
    /// As many bytes may the body of a request have, where that is not just as for all; 0: any number.
    pub max_body: Option<u64>,
    /// Whether it comes from a service's tags, not from the configuration.
    pub exposed: bool,
    /// Where its requests are counted.
    pub cells: Arc<RouteCells>,
}

/// What answers a route's requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// An instance of a service.
    Service(ServiceName),
}

impl Target {
    /// The service that is asked.
    #[must_use]
    pub fn service(&self) -> &ServiceName {
        let Self::Service(service) = self;
        service
    }
}

impl Route {
    fn takes_headers(&self, headers: &Fields) -> bool {
        self.missing(headers).is_none()
    }

    /// The first header that it wants and that is not among these.
    fn missing(&self, headers: &Fields) -> Option<&(HeaderName, HeaderValue)> {
        self.headers.iter().find(|(name, value)| !headers.get_all(name).any(|has| has == *value))
    }

    fn takes_method(&self, method: &Method) -> bool {
        let covered = |listed: &Method| listed == method || (method == Method::HEAD && listed == Method::GET);
        self.methods.is_empty() || self.methods.iter().any(covered)
    }

    /// How it stands among routes of equal host and path.
    fn rank(&self) -> impl Ord + use<> {
        (Reverse(self.headers.len() + usize::from(!self.methods.is_empty())), self.exposed)
    }
}

/// All routes of one snapshot.
#[derive(Debug, Default)]
pub struct RouteTable {
    routes: Vec<Arc<Route>>,
    matcher: Matcher,
}

/// What a look-up comes to.
#[derive(Debug)]
pub enum Found<'t, 'p> {
    /// This route, and what its pattern took from the path.
    Route(&'t Arc<Route>, Captures<'p>),
    /// Routes, but for other methods only: these, sorted.
    MethodNotAllowed(Vec<Method>),
    /// No route.
    Nothing,
}

impl RouteTable {
    /// Of equally specific routes the one with more conditions wins, then one of the configuration over an
    /// exposed one, then the one that comes first here.
    #[must_use]
    pub fn build(routes: Vec<Arc<Route>>) -> Self {
        let mut order: Vec<_> = (0..routes.len()).collect();
        order.sort_by_cached_key(|&i| routes[i].rank());
        let mut matcher = Matcher::default();
        for i in order {
            let route = &routes[i];
            if route.hosts.is_empty() {
                matcher.insert(None, &route.path, i);
            }
            for host in &route.hosts {
                matcher.insert(Some(host), &route.path, i);
            }
        }
        Self { routes, matcher }
    }

    /// The route for a request: `host` as it came, `path` in its one form and without its query.
    /// Where conditions fail, the next less specific route that covers the request is tried.
    pub fn find<'t, 'p>(&'t self, method: &Method, host: &str, path: &'p str, headers: &Fields) -> Found<'t, 'p> {
        let mut refused = false;
        let found = self.matcher.visit(host, path, &mut |i| {
            let route = &self.routes[i];
            if !route.takes_headers(headers) {
                return ControlFlow::Continue(());
            }
            if route.takes_method(method) {
                return ControlFlow::Break(route);
            }
            refused = true;
            ControlFlow::Continue(())
        });
        match found {
            ControlFlow::Break(route) => Found::Route(route, Captures::new(path)),
            ControlFlow::Continue(()) if refused => Found::MethodNotAllowed(self.allowed(host, path, headers)),
            ControlFlow::Continue(()) => Found::Nothing,
        }
    }

    /// Every route, in the order in which they were given.
    #[must_use]
    pub fn routes(&self) -> &[Arc<Route>] {
        &self.routes
    }

    /// The services that a route leads to.
    #[must_use]
    pub fn services(&self) -> HashSet<&ServiceName> {
        self.routes.iter().map(|route| route.target.service()).collect()
    }

    /// The methods for which some route covers the request. A second walk, so that the first one allocates nothing.
    fn allowed(&self, host: &str, path: &str, headers: &Fields) -> Vec<Method> {
        let mut methods = Vec::new();
        let _ = self.matcher.visit(host, path, &mut |i| {
            let route = &self.routes[i];
            if route.takes_headers(headers) {
                methods.extend(route.methods.iter().cloned());
            }
            ControlFlow::<()>::Continue(())
        });
        if methods.contains(&Method::GET) {
            methods.push(Method::HEAD);
        }
        methods.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        methods.dedup();
        methods
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;
    use crate::telemetry::metrics::Metrics;

    static CELLS: LazyLock<Arc<RouteCells>> = LazyLock::new(|| Metrics::new(1).route("s", "r"));

    /// `METHODS HOSTS PATH HEADERS`, with `-` for none. A name that begins with `x` is an exposed route's.
    pub fn route(name: &str, text: &str) -> Arc<Route> {
        fn list<T>(text: &str, read: impl Fn(&str) -> T) -> Vec<T> {
            text.split(',').filter(|part| *part != "-").map(read).collect()
        }
        let [methods, hosts, path, headers] = text.split(' ').collect::<Vec<_>>().try_into().unwrap();
        Arc::new(Route {
            name: name.into(),
            hosts: list(hosts, |host| host.parse().unwrap()),
            path: path.parse().unwrap(),
            methods: list(methods, |method| method.parse().unwrap()),
            headers: list(headers, |header| {
                let (name, value) = header.split_once('=').unwrap();
                (name.parse().unwrap(), value.parse().unwrap())
            }),
            target: Target::Service("s".into()),
            rewrite: None,
            policy: None,
            max_body: None,
            exposed: name.starts_with('x'),
            cells: Arc::clone(&CELLS),
        })
    }

    fn table(routes: &[(&str, &str)]) -> RouteTable {
        RouteTable::build(routes.iter().map(|(name, text)| route(name, text)).collect())
    }

    /// The route's name, or the methods allowed, or nothing. The request is `METHOD HOST PATH HEADERS`.
    pub fn find(table: &RouteTable, request: &str) -> String {
        let [method, host, path, headers] = request.split(' ').collect::<Vec<_>>().try_into().unwrap();
        let pairs = headers.split(',').filter_map(|pair| pair.split_once('='));
        let mut headers = Fields::new();
        for (name, value) in pairs {
            headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        match table.find(&method.parse().unwrap(), host, path, &headers) {
            Found::Route(route, _) => route.name.to_string(),
            Found::MethodNotAllowed(methods) => methods.iter().map(Method::as_str).collect::<Vec<_>>().join(","),
            Found::Nothing => String::new(),
        }
    }

    #[test]
    fn the_most_specific_route_wins() {
        let table = table(&[
            ("all", "- - /{*rest} -"),
            ("xusers", "- - /api/v1/users/{*rest} -"),
            ("one", "- - /api/v1/users/{id} -"),
            ("me", "- - /api/v1/users/me -"),
            ("get", "GET - /api/v1/users/me -"),
            ("beta", "GET - /api/v1/users/me x-beta=1"),
            ("host", "- *.example.com /api/{*rest} -"),
        ]);
        let cases = [
            ("GET a /api/v1/users/me -", "get"),
            ("HEAD a /api/v1/users/me -", "get"),
            ("POST a /api/v1/users/me -", "me"),
            ("GET a /api/v1/users/me x-beta=1", "beta"),
            ("GET a /api/v1/users/me x-beta=2,x-beta=1", "beta"),
            ("GET a /api/v1/users/me x-beta=10", "get"),
            ("GET a /api/v1/users/7 -", "one"),
            ("GET a /api/v1/users/7/x -", "xusers"),
            ("GET a /api/v1/users -", "xusers"),
            ("GET a /api/v1/user -", "all"),
            ("GET b.example.com /api/v1/users/me -", "host"),
            ("GET b.example.com /other -", "all"),
        ];
        for (request, want) in cases {
            assert_eq!(find(&table, request), want, "{request}");
        }
    }

    #[test]
    fn an_explicit_route_wins_over_an_exposed_one_of_the_same_pattern() {
        let table = table(&[
            ("x1", "- - /a/{*rest} -"),
            ("explicit", "- - /a/{*all} -"),
            ("second", "- - /a/{*all} -"),
            ("x2", "- - /b/{*rest} -"),
            ("x3", "- - /b/{*rest} -"),
            ("post", "POST - /c -"),
            ("x4", "- - /c -"),
        ]);
        let cases =
            [("GET h /a/b -", "explicit"), ("GET h /b/b -", "x2"), ("POST h /c -", "post"), ("GET h /c -", "x4")];
        for (request, want) in cases {
            assert_eq!(find(&table, request), want, "{request}");
        }
    }

    #[test]
    fn other_methods_are_named_when_no_route_takes_this_one() {
        let table = table(&[
            ("get", "GET - /a/{id} -"),
            ("put", "PUT,GET - /a/b -"),
            ("beta", "DELETE - /a/{*rest} x-beta=1"),
            ("host", "PATCH h.example /a/{*rest} -"),
            ("any", "- - /free -"),
        ]);
        let cases = [
            ("POST a /a/b -", "GET,HEAD,PUT"),
            ("POST a /a/c -", "GET,HEAD"),
            ("POST a /a/b x-beta=1", "DELETE,GET,HEAD,PUT"),
            ("POST h.example /a/b -", "GET,HEAD,PATCH,PUT"),
            ("GET h.example /a/b -", "put"),
            ("POST a /b -", ""),
            ("BREW a /free -", "any"),
            ("BREW a /a/b/c -", ""),
        ];
        for (request, want) in cases {
            assert_eq!(find(&table, request), want, "{request}");
        }
    }

    #[test]
    fn a_table_tells_its_routes_as_they_were_given_and_what_a_pattern_took() {
        let table = table(&[("x1", "- - /a/{*rest} -"), ("b", "GET - /a/{id}/c -")]);
        assert_eq!(table.routes().iter().map(|route| route.name.as_str()).collect::<Vec<_>>(), ["x1", "b"]);
        let Found::Route(_, captures) = table.find(&Method::GET, "h", "/a/7/c", &Fields::new()) else { panic!() };
        assert_eq!(captures.one(1), "7");
    }
}
