//! What the route table should say, found by looking at each route: the measure of the matcher.

use std::{cmp::Reverse, sync::Arc};

use http::{HeaderName, HeaderValue, Method};
use proptest::{prelude::*, sample::select};

use super::{
    Route, RouteTable,
    tests::{find, route},
};
use crate::model::{
    host::{HostKey, HostPattern, Scope},
    pattern::{PathPattern, Segment},
};

/// How specific a pattern is; the least wins.
type Kinds = Vec<u8>;

fn covers_path(pattern: &PathPattern, path: &str) -> Option<Kinds> {
    let given: Vec<_> = path[1..].split('/').collect();
    let wanted = pattern.segments();
    let fits = wanted.iter().enumerate().all(|(i, segment)| match segment {
        Segment::Literal(text) => given.get(i) == Some(&&**text),
        Segment::One(_) => given.get(i).is_some_and(|segment| !segment.is_empty()),
        Segment::Rest(_) => given.len() >= i,
    });
    let open = matches!(wanted.last(), Some(Segment::Rest(_)));
    let kind = |segment: &Segment| match segment {
        Segment::Literal(_) => 0,
        Segment::One(_) => 1,
        Segment::Rest(_) => 2,
    };
    (fits && (open || given.len() == wanted.len())).then(|| wanted.iter().map(kind).collect())
}

fn covers_host(pattern: &HostPattern, host: &str) -> Option<(u8, Reverse<usize>)> {
    match pattern.scope() {
        Scope::Exact => (pattern.name() == host).then_some((0, Reverse(0))),
        Scope::Under => host.ends_with(&format!(".{}", pattern.name())).then_some((1, Reverse(pattern.name().len()))),
    }
}

/// What `find` should say, by looking at each route.
fn find_slowly(routes: &[Arc<Route>], request: &str) -> String {
    let [method, host, path, headers] = request.split(' ').collect::<Vec<_>>().try_into().unwrap();
    let mut key = HostKey::default();
    let host = key.read(host).unwrap_or_default();
    let mut covering = Vec::new();
    for (i, route) in routes.iter().enumerate() {
        let by_host = match route.hosts.iter().filter_map(|pattern| covers_host(pattern, host)).min() {
            None if route.hosts.is_empty() => Some((2, Reverse(0))),
            by_host => by_host,
        };
        let holds = |(name, value): &(HeaderName, HeaderValue)| {
            headers.split(',').any(|pair| pair == format!("{name}={}", value.to_str().unwrap()))
        };
        if let (Some(by_host), Some(by_path), true) =
            (by_host, covers_path(&route.path, path), route.headers.iter().all(holds))
        {
            let conditions = route.headers.len() + usize::from(!route.methods.is_empty());
            covering.push(((by_host, by_path, Reverse(conditions), route.exposed, i), route));
        }
    }
    let mut allowed: Vec<_> = covering.iter().flat_map(|(_, route)| route.methods.iter().map(Method::as_str)).collect();
    let listed = |route: &Route, method: &str| route.methods.iter().any(|listed| listed.as_str() == method);
    covering.retain(|(_, route)| {
        route.methods.is_empty() || listed(route, method) || method == "HEAD" && listed(route, "GET")
    });
    if let Some((_, best)) = covering.iter().min_by_key(|(rank, _)| rank) {
        return best.name.to_string();
    }
    if allowed.contains(&"GET") {
        allowed.push("HEAD");
    }
    allowed.sort_unstable();
    allowed.dedup();
    allowed.join(",")
}

fn any_route() -> impl Strategy<Value = String> {
    let methods = select(vec!["-", "-", "GET", "POST", "HEAD", "GET,POST"]);
    let hosts = select(vec!["-", "-", "x.y", "*.y", "*.x.y", "z", "x.y,*.y", "p.x.y,z"]);
    let end = select(vec!["", "", "/", "/{*r}", "/{*r}"]);
    let headers = select(vec!["-", "-", "a=1", "a=2", "a=1,b=1"]);
    let segments = proptest::collection::vec(select(vec!["a", "a", "b", "", "{}"]), 0..4);
    (methods, hosts, segments, end, headers).prop_map(|(methods, hosts, segments, end, headers)| {
        let named = segments.iter().enumerate().map(|(i, s)| format!("/{}", s.replace("{}", &format!("{{p{i}}}"))));
        let path = named.collect::<String>() + end;
        format!("{methods} {hosts} {} {headers}", if path.is_empty() { "/" } else { &path })
    })
}

fn any_request() -> impl Strategy<Value = String> {
    let methods = select(vec!["GET", "HEAD", "POST", "PUT"]);
    let hosts = select(vec!["x.y", "X.Y.:80", "q.y", "p.x.y", "n.p.x.y", "y", "z:1", "[::1]"]);
    let segments = proptest::collection::vec(select(vec!["a", "a", "b", "c", ""]), 1..5);
    let headers = select(vec!["-", "a=1", "a=2", "a=2,a=1,b=1", "b=1"]);
    (methods, hosts, segments, headers)
        .prop_map(|(method, host, segments, headers)| format!("{method} {host} /{} {headers}", segments.join("/")))
}

proptest! {
    #[test]
    fn the_tree_finds_what_a_look_at_each_route_finds(
        texts in proptest::collection::vec((any_route(), any::<bool>()), 0..24),
        requests in proptest::collection::vec(any_request(), 24),
    ) {
        let name = |i: usize, exposed| format!("{}{i}", if exposed { "x" } else { "r" });
        let routes: Vec<_> = texts.iter().enumerate().map(|(i, (text, exposed))| route(&name(i, *exposed), text)).collect();
        let table = RouteTable::build(routes.clone());
        for request in requests {
            prop_assert_eq!(find(&table, &request), find_slowly(&routes, &request), "{}", request);
        }
    }
}
