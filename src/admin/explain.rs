//! `/api/explain`: what would become of a request, and why. Nothing is sent.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::Value;

use super::{
    Admin, problem,
    views::{self, RouteShown, Shown},
};
use crate::{
    config,
    model::value,
    proxy::explain::{Explanation, Upstream, explain},
    route::{Considered, Route, Verdict},
};

#[derive(Debug, Serialize)]
struct Told {
    request: Asked,
    /// The route that serves it.
    route: Option<RouteShown>,
    /// All routes, the nearest first.
    considered: Vec<Judged>,
    upstream: Option<Sent>,
    answer: Option<Given>,
}

#[derive(Debug, Serialize)]
struct Asked {
    method: String,
    url: String,
    host: String,
    /// In its one form, in which it is matched and forwarded.
    path: Option<String>,
}

#[derive(Debug, Serialize)]
struct Judged {
    route: String,
    source: &'static str,
    path: String,
    serves: bool,
    reason: String,
}

#[derive(Debug, Serialize)]
struct Sent {
    service: String,
    protocol: &'static str,
    host: String,
    path: String,
    policy: Value,
    instances: Vec<Shown>,
}

#[derive(Debug, Serialize)]
struct Given {
    status: u16,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    allow: Option<String>,
}

/// `/api/explain?method=GET&url=/api/v1/users/7&header=x-beta:1`
pub async fn explained(State(admin): State<Arc<Admin>>, Query(query): Query<Vec<(String, String)>>) -> Response {
    let (mut method, mut url, mut fields) = ("GET".to_owned(), None, Vec::new());
    for (name, value) in query {
        if value.contains(char::is_control) {
            let detail = format!("`{name}` has a control character in it, which no request can");
            return problem(StatusCode::BAD_REQUEST, &detail);
        }
        match name.as_str() {
            "method" => method = value,
            "url" => url = Some(value),
            "header" => fields.push(value),
            _ => {
                let detail = format!("`{name}` is unknown here; there are `method`, `url` and any number of `header`");
                return problem(StatusCode::BAD_REQUEST, &detail);
            }
        }
    }
    let Some(url) = url else {
        return problem(StatusCode::BAD_REQUEST, "expected `url`, such as `url=/api/v1/users/7`");
    };
    if let Some(field) = fields.iter().find(|field| !field.contains(':')) {
        let detail = format!("expected a header as `name: value`; got `{field}`");
        return problem(StatusCode::BAD_REQUEST, &detail);
    }
    let named = |field: &String| field.split(':').next().is_some_and(|name| name.trim().eq_ignore_ascii_case("host"));
    if !fields.iter().any(named) {
        fields.push("host: localhost".into());
    }
    let lines = fields.join("\r\n");
    let world = admin.reader.load();
    let explanation = explain(&world, &format!("{method} {url} HTTP/1.1\r\n{lines}\r\n\r\n"));
    Json(told(method, url, explanation)).into_response()
}

fn told(method: String, url: String, explanation: Explanation<'_>) -> Told {
    let Explanation { host, path, considered, answer, upstream } = explanation;
    let serving = considered.iter().find(|one| matches!(one.verdict, Verdict::Serves));
    Told {
        route: serving.map(|one| views::shown(one.route)),
        request: Asked { method, url, host, path },
        considered: considered.iter().map(judged).collect(),
        upstream: upstream.map(sent),
        answer: answer.map(|answer| Given { status: answer.status, detail: answer.detail, allow: answer.allow }),
    }
}

fn judged(considered: &Considered<'_>) -> Judged {
    let Considered { route, verdict } = considered;
    Judged {
        route: route.name.to_string(),
        source: views::source(route),
        path: route.path.to_string(),
        serves: matches!(verdict, Verdict::Serves),
        reason: reason(route, verdict),
    }
}

fn reason(route: &Route, verdict: &Verdict<'_>) -> String {
    let list = |things: Vec<String>| things.join(", ");
    match verdict {
        Verdict::Serves => "the most specific of those that take the request".into(),
        Verdict::Yields(first) => format!("it takes the request too, but `{}` comes before it", first.name),
        Verdict::Header(name, value) => format!("it wants the header `{name}: {}`", value::shown(value)),
        Verdict::Method => format!("it takes {}", list(route.methods.iter().map(ToString::to_string).collect())),
        Verdict::Host => format!("it is for {}", list(route.hosts.iter().map(ToString::to_string).collect())),
        Verdict::Path => "its path is another".into(),
    }
}

fn sent(upstream: Upstream<'_>) -> Sent {
    let cluster = upstream.cluster;
    Sent {
        service: cluster.service.to_string(),
        protocol: cluster.transport.protocol.as_str(),
        host: upstream.host,
        path: upstream.target,
        policy: config::policy_shown(upstream.policy),
        instances: views::service(cluster).instances,
    }
}
