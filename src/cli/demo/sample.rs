//! The sample services: auth, users, experiments and metrics. Each answers its paths with and without `/api/v1/NAME` in
//! front, says in `x-instance` who answered, and keeps what it is given in memory, up to a bound.
//! They show the gateway at work; nothing in them is secret or safe.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::header::{ALLOW, AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// The services of the demo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Sample {
    /// Gives out tokens and checks them
    Auth,
    /// Who there is
    Users,
    /// What users try
    Experiments,
    /// What was measured
    Metrics,
}

impl Sample {
    /// All of them, in the order in which they are started.
    pub const ALL: [Self; 4] = [Self::Auth, Self::Users, Self::Experiments, Self::Metrics];

    /// What Consul calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::Users => "users",
            Self::Experiments => "experiments",
            Self::Metrics => "metrics",
        }
    }

    /// What the instance on `port` is called.
    pub fn instance(self, port: u16) -> String {
        format!("{}-{port}", self.name())
    }
}

/// What one service knows; its instances in one process share it.
pub struct Store {
    sample: Sample,
    records: Mutex<Vec<Value>>,
}

impl Store {
    /// With a few records to begin with.
    pub fn new(sample: Sample) -> Self {
        let records = match sample {
            Sample::Auth | Sample::Users => json!([
                { "id": 1, "username": "alice", "email": "alice@example.com" },
                { "id": 2, "username": "bob", "email": "bob@example.com" },
            ]),
            Sample::Experiments => json!([
                { "id": 1, "user_id": 1, "name": "learning-rate" },
                { "id": 2, "user_id": 1, "name": "batch-size" },
                { "id": 3, "user_id": 2, "name": "dropout" },
            ]),
            Sample::Metrics => json!([
                { "id": 1, "experiment_id": 1, "name": "accuracy", "value": 0.93 },
                { "id": 2, "experiment_id": 1, "name": "loss", "value": 0.21 },
            ]),
        };
        let Value::Array(records) = records else { unreachable!("the samples are lists") };
        Self { sample, records: Mutex::new(records) }
    }

    fn answer(&self, ask: &Ask<'_>) -> Reply {
        match (self.sample, ask.path.as_slice()) {
            (_, ["health" | "readyz"]) => ask.only(&[Method::GET], || Reply::ok(json!({ "status": "healthy" }))),
            (Sample::Auth, ["login"]) => ask.only(&[Method::POST], || self.login(ask)),
            (Sample::Auth, ["register"]) => ask.only(&[Method::POST], || self.create(ask)),
            (Sample::Auth, ["verify"]) => ask.only(&[Method::GET], || self.verify(ask)),
            (Sample::Auth, _) => Reply::not_found(),
            (_, []) if ask.method == Method::POST => self.create(ask),
            (_, []) => ask.only(&[Method::GET, Method::POST], || self.list(ask)),
            (_, [id]) => ask.only(&[Method::GET], || self.one(id)),
            _ => Reply::not_found(),
        }
    }

    /// Every user has the same password, and the token says who it is for, so that any instance can check it.
    fn login(&self, ask: &Ask<'_>) -> Reply {
        let Some(given) = ask.object() else { return Reply::bad("a JSON object is wanted") };
        let user = self.find(|user| Some(&user["username"]) == given.get("username"));
        match user {
            Some(user) if given.get("password") == Some(&json!(PASSWORD)) => {
                let token = format!("{TOKEN}-{}-{}", user["id"], user["username"].as_str().unwrap_or_default());
                Reply::ok(json!({ "token": token }))
            }
            _ => Reply::unauthorized("unknown user or wrong password"),
        }
    }

    fn verify(&self, ask: &Ask<'_>) -> Reply {
        let mut parts = ask.bearer.unwrap_or_default().splitn(3, '-');
        let (kind, id, name) = (parts.next(), parts.next(), parts.next());
        let user = self.find(|user| id == Some(&user["id"].to_string()) && name == user["username"].as_str());
        match user {
            Some(user) if kind == Some(TOKEN) => Reply::ok(json!({ "id": user["id"], "username": user["username"] })),
            _ => Reply::unauthorized("no valid token"),
        }
    }

    fn list(&self, ask: &Ask<'_>) -> Reply {
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = |record: &&Value| ask.query.iter().all(|(key, value)| plain(&record[key]) == *value);
        Reply::ok(records.iter().filter(wanted).cloned().collect())
    }

    fn one(&self, id: &str) -> Reply {
        self.find(|record| plain(&record["id"]) == id).map_or_else(Reply::not_found, Reply::ok)
    }

    fn create(&self, ask: &Ask<'_>) -> Reply {
        let Some(mut record) = ask.object() else { return Reply::bad("a JSON object is wanted") };
        record.remove("password");
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        if records.len() >= MAX_RECORDS {
            return Reply::error(StatusCode::INSUFFICIENT_STORAGE, "the sample is full");
        }
        record.insert("id".into(), json!(records.len() + 1));
        records.push(Value::Object(record.clone()));
        Reply { status: StatusCode::CREATED, ..Reply::ok(Value::Object(record)) }
    }

    fn find(&self, wanted: impl Fn(&Value) -> bool) -> Option<Value> {
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        records.iter().find(|record| wanted(record)).cloned()
    }
}

/// Serves until `stop`, then ends the requests under way.
///
/// # Errors
/// `InvalidInput` when `name` cannot be a header's value.
pub fn serve(
    listener: TcpListener,
    store: Arc<Store>,
    name: &str,
    stop: CancellationToken,
) -> io::Result<impl Future<Output = io::Result<()>> + use<>> {
    let name = HeaderValue::from_str(name).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    let service = Router::new()
        .fallback(respond)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(Instance { store, name });
    Ok(axum::serve(listener, service).with_graceful_shutdown(stop.cancelled_owned()).into_future())
}

#[derive(Clone)]
struct Instance {
    store: Arc<Store>,
    name: HeaderValue,
}

async fn respond(
    State(instance): State<Instance>,
    method: Method,
    uri: Uri,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let front = format!("/api/v1/{}", instance.store.sample.name());
    let path = match uri.path().strip_prefix(&front) {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => rest,
        _ => uri.path(),
    };
    let reply = instance.store.answer(&Ask {
        method: if method == Method::HEAD { Method::GET } else { method },
        path: path.split('/').filter(|part| !part.is_empty()).collect(),
        query,
        bearer: headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer ")),
        body: &body,
    });
    let mut response = (reply.status, axum::Json(reply.body)).into_response();
    response.headers_mut().extend(reply.header);
    response.headers_mut().insert("x-instance", instance.name);
    response
}

/// One request, as the services see it.
struct Ask<'a> {
    method: Method,
    path: Vec<&'a str>,
    query: HashMap<String, String>,
    bearer: Option<&'a str>,
    body: &'a [u8],
}

impl Ask<'_> {
    fn only(&self, methods: &[Method], answer: impl FnOnce() -> Reply) -> Reply {
        if methods.contains(&self.method) {
            return answer();
        }
        let names: Vec<&str> = methods.iter().map(Method::as_str).collect();
        let allow = HeaderValue::from_str(&names.join(", ")).ok();
        let reply = Reply::error(StatusCode::METHOD_NOT_ALLOWED, "not for this method");
        Reply { header: allow.map(|value| (ALLOW, value)), ..reply }
    }

    fn object(&self) -> Option<serde_json::Map<String, Value>> {
        serde_json::from_slice(self.body).ok()
    }
}

#[derive(Debug, PartialEq)]
struct Reply {
    status: StatusCode,
    header: Option<(HeaderName, HeaderValue)>,
    body: Value,
}

impl Reply {
    fn ok(body: Value) -> Self {
        Self { status: StatusCode::OK, header: None, body }
    }

    fn error(status: StatusCode, error: &str) -> Self {
        Self { status, header: None, body: json!({ "error": error }) }
    }

    fn bad(error: &str) -> Self {
        Self::error(StatusCode::BAD_REQUEST, error)
    }

    fn not_found() -> Self {
        Self::error(StatusCode::NOT_FOUND, "not here")
    }

    fn unauthorized(error: &str) -> Self {
        let challenge = HeaderValue::from_static("Bearer");
        Self { header: Some((WWW_AUTHENTICATE, challenge)), ..Self::error(StatusCode::UNAUTHORIZED, error) }
    }
}

/// A value as it stands in a query.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// How long requests under way may take at the end.
pub const GRACE: Duration = Duration::from_secs(2);
const MAX_BODY_BYTES: usize = 64 * 1024;
const MAX_RECORDS: usize = 1000;
const PASSWORD: &str = "secret";
const TOKEN: &str = "demo";

#[cfg(test)]
mod tests {
    use super::*;

    fn ask<'a>(method: Method, path: &'a str, body: &'a str) -> Ask<'a> {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        Ask {
            method,
            path: path.split('/').filter(|part| !part.is_empty()).collect(),
            query: query.split_once('=').map(|(key, value)| (key.into(), value.into())).into_iter().collect(),
            bearer: None,
            body: body.as_bytes(),
        }
    }

    #[test]
    fn a_token_from_login_is_good_at_another_instance() {
        let given = r#"{"username": "alice", "password": "secret"}"#;
        let login = Store::new(Sample::Auth).answer(&ask(Method::POST, "/login", given));
        let token = login.body["token"].as_str().unwrap().to_owned();

        let verified =
            Store::new(Sample::Auth).answer(&Ask { bearer: Some(&token), ..ask(Method::GET, "/verify", "") });

        assert_eq!(verified, Reply::ok(json!({ "id": 1, "username": "alice" })));
    }

    #[test]
    fn auth_refuses_what_it_does_not_know() {
        let store = Store::new(Sample::Auth);
        for bearer in
            [None, Some(""), Some("demo"), Some("demo-2-alice"), Some("other-1-alice"), Some("demo-1-alice-x")]
        {
            let reply = store.answer(&Ask { bearer, ..ask(Method::GET, "/verify", "") });
            assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "{bearer:?}");
        }
        for given in
            [r#"{"username": "alice", "password": "wrong"}"#, r#"{"username": "eve", "password": "secret"}"#, "{}"]
        {
            assert_eq!(store.answer(&ask(Method::POST, "/login", given)).status, StatusCode::UNAUTHORIZED, "{given}");
        }
    }

    #[test]
    fn each_path_has_its_answer() {
        for (sample, method, path, body, status) in [
            (Sample::Users, Method::GET, "/health", "", 200),
            (Sample::Users, Method::GET, "/readyz", "", 200),
            (Sample::Users, Method::GET, "/1", "", 200),
            (Sample::Users, Method::GET, "/99", "", 404),
            (Sample::Users, Method::GET, "/1/more", "", 404),
            (Sample::Users, Method::DELETE, "/1", "", 405),
            (Sample::Users, Method::PUT, "/", "{}", 405),
            (Sample::Users, Method::POST, "/", r#"{"username": "carol"}"#, 201),
            (Sample::Metrics, Method::POST, "/", "no JSON", 400),
            (Sample::Metrics, Method::GET, "/", "", 200),
            (Sample::Auth, Method::POST, "/register", r#"{"username": "carol"}"#, 201),
            (Sample::Auth, Method::GET, "/login", "", 405),
            (Sample::Auth, Method::GET, "/", "", 404),
        ] {
            let reply = Store::new(sample).answer(&ask(method.clone(), path, body));
            assert_eq!(reply.status, status, "{sample:?} {method} {path}");
        }
    }

    #[test]
    fn a_list_is_filtered_by_the_query() {
        let reply = Store::new(Sample::Experiments).answer(&ask(Method::GET, "/?user_id=2", ""));
        assert_eq!(reply.body, json!([{ "id": 3, "user_id": 2, "name": "dropout" }]));
    }

    #[test]
    fn a_created_record_is_found_and_their_number_is_bounded() {
        let store = Store::new(Sample::Users);
        let create = || store.answer(&ask(Method::POST, "/", r#"{"username": "carol", "password": "x"}"#));
        assert_eq!(create().body, json!({ "id": 3, "username": "carol" }));
        assert_eq!(store.answer(&ask(Method::GET, "/3", "")).body["username"], "carol");
        while create().status == StatusCode::CREATED {}
        assert_eq!(store.records.lock().unwrap().len(), MAX_RECORDS);
    }
}
