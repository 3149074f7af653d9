//! Plain forwarding: the request as upstream shall see it, and the answer as the client shall.

use std::{rc::Rc, sync::Arc};

use http::uri::PathAndQuery;
use tokio::time::Instant;

use super::{
    client::Caller,
    headers::{outbound, strip_connection},
    reply,
    told::Told,
    trail::Trail,
};
use crate::{
    body::Body,
    model::{
        Held,
        message::{Request, Response},
    },
    upstream::{
        Local,
        aside::Aside,
        call::{Outbound, Path, call},
        cluster::Cluster,
        deadline::{Deadline, GRPC_TIMEOUT},
        policy::Policy,
    },
};

/// Where a request goes, and by which rules.
pub struct To {
    /// The service.
    pub cluster: Arc<Cluster>,
    /// Its rules, or what the route makes of them.
    pub policy: Held<Policy>,
}

/// Sends the request to the service; `rewritten` is its path there, where the route changes it, and `came` when it came.
pub async fn forward(
    To { cluster, policy }: &To,
    local: &Rc<Local>,
    request: Request<Body>,
    rewritten: Option<String>,
    (caller, told): (&Caller, &Told),
    (trail, came): (&Trail, Instant),
    aside: &Rc<Aside>,
) -> Response<Body> {
    let Request { method, target: came_for, version, mut fields, body } = request;
    let key = cluster.key(caller.address, came_for.path(), &fields);
    let told_until = cluster.transport.protocol.is_grpc().then(|| fields.get(GRPC_TIMEOUT)).flatten();
    let deadline = told_until.and_then(|until| Deadline::read(until, Instant::now()));
    let (came_as, ours) = outbound(&mut fields, version, caller, told);
    let mut out = Outbound {
        method,
        target: target(came_for, rewritten),
        host: cluster.host.clone().unwrap_or(came_as),
        fields,
        ours,
        body,
        aside: aside.clone(),
        deadline,
        key,
    };
    match call(cluster, policy, local, &mut out, came).await {
        Ok(mut response) => {
            strip_connection(&mut response.fields);
            trail.mark(response)
        }
        Err(error) => {
            tracing::debug!(
                service = %cluster.service,
                request_id = trail.request_id.to_str().unwrap_or_default(),
                error = &error as &dyn std::error::Error,
                "no answer from upstream"
            );
            reply::failed(&error, &cluster.service, trail)
        }
    }
}

/// The path, rewritten or not, with the query as it came.
pub(super) fn target(came_for: PathAndQuery, rewritten: Option<String>) -> Path {
    match (rewritten, came_for.query()) {
        (None, _) => Path::AsItCame(came_for),
        (Some(path), None) => Path::Rewritten(path),
        (Some(mut path), Some(query)) => {
            path.push(if path.contains('?') { '&' } else { '?' });
            path.push_str(query);
            Path::Rewritten(path)
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
            assert_eq!(target(came.parse().unwrap(), rewritten.map(str::to_owned)).as_str(), want);
        }
    }
}
