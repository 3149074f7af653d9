//! Plain forwarding: the request as upstream shall see it, and the answer as the client shall.

use std::rc::Rc;

use http::{Request, Response};

use super::{
    client::Caller,
    headers::{outbound, strip_connection},
    reply,
    trail::Trail,
};
use crate::{
    body::Body,
    upstream::{
        Local,
        aside::Aside,
        call::{Outbound, call},
        cluster::Cluster,
    },
};

/// Sends the request to the service; `rewritten` is its path there, where the route changes it.
pub async fn forward(
    cluster: &Cluster,
    local: &Rc<Local>,
    request: Request<Body>,
    rewritten: Option<String>,
    caller: &Caller,
    trail: &Trail,
    aside: &Rc<Aside>,
) -> Response<Body> {
    let (mut head, body) = request.into_parts();
    let key = cluster.key(caller.address, head.uri.path(), &head.headers);
    let came_as = outbound(&mut head.headers, caller);
    let out = Outbound {
        method: head.method,
        target: target(&head.uri, rewritten),
        host: cluster.host.clone().unwrap_or(came_as),
        headers: head.headers,
        body,
        aside: aside.clone(),
        key,
    };
    match call(cluster, local, out).await {
        Ok(mut response) => {
            strip_connection(response.headers_mut());
            trail.mark(response)
        }
        Err(error) => {
            tracing::debug!(
                service = %cluster.service,
                request_id = ?trail.request_id,
                error = &error as &dyn std::error::Error,
                "no answer from upstream"
            );
            reply::failed(&error, &cluster.service, trail)
        }
    }
}

/// The path, rewritten or not, with the query as it came.
fn target(uri: &http::Uri, rewritten: Option<String>) -> String {
    match (rewritten, uri.query()) {
        (None, _) => uri.path_and_query().map_or("/", |whole| whole.as_str()).to_owned(),
        (Some(path), None) => path,
        (Some(mut path), Some(query)) => {
            path.push(if path.contains('?') { '&' } else { '?' });
            path.push_str(query);
            path
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rewritten_path_keeps_the_query() {
        let cases = [
            ("/a/b?x=1", None, "/a/b?x=1"),
            ("/a/b?", None, "/a/b?"),
            ("/a/b?x=1", Some("/b"), "/b?x=1"),
            ("/a/b", Some("/b"), "/b"),
            ("/a/b?x=1", Some("/b?y=2"), "/b?y=2&x=1"),
        ];
        for (came, rewritten, want) in cases {
            assert_eq!(target(&came.parse().unwrap(), rewritten.map(str::to_owned)), want);
        }
    }
}
