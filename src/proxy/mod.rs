//! From a client's request to a client's answer: `handle` is the page to read first.

mod account;
mod client;
mod date;
pub mod entry;
pub mod explain;
mod forward;
mod grpc;
mod headers;
mod health;
mod hop;
mod reply;
mod told;
mod trail;

use std::{cell::RefCell, net::SocketAddr, rc::Rc, sync::Arc};

use http::{Method, Request, Response, header};
use tokio::time::Instant;

pub use account::Account;
pub use client::is_trusted;
pub use headers::strip_connection;
pub use reply::Refusal;
use told::Told;
use trail::Trail;

use crate::{
    body::Body,
    route::{Found, Target},
    state::{Reader, Snapshot},
    telemetry::{cells::RouteCells, metrics::Metrics},
    upstream::{Local, aside::Aside},
};

/// Who asks, as the listener knows. Whom a trusted proxy asks for is found in [`Proxy::handle`].
#[derive(Debug)]
pub struct Client {
    /// The socket's other end, or whom a trusted balancer connects for by the PROXY protocol.
    pub peer: SocketAddr,
    /// `http` or `https`.
    pub scheme: &'static str,
    told: Told,
}

impl Client {
    /// Who came from `peer`.
    #[must_use]
    pub fn new(peer: SocketAddr, scheme: &'static str) -> Self {
        Self { peer, scheme, told: Told::default() }
    }
}

/// An answer, and the account that ends with its last byte: whoever writes it keeps the account until then.
#[derive(Debug)]
pub struct Answer {
    /// What to write.
    pub response: Response<Body>,
    /// To be dropped after the last byte, or when the client is gone.
    pub account: Account,
}

/// One worker's way from requests to answers.
pub struct Proxy {
    world: RefCell<Rc<World>>,
    reader: Reader,
    local: Rc<Local>,
    /// Counts what no route took.
    unrouted: Arc<RouteCells>,
}

/// A worker's own hold on the snapshot: requests share it without touching what other workers touch.
pub struct World(Arc<Snapshot>);

impl std::ops::Deref for World {
    type Target = Snapshot;

    fn deref(&self) -> &Snapshot {
        &self.0
    }
}

impl Proxy {
    /// A worker's proxy.
    #[must_use]
    pub fn new(reader: Reader, metrics: &Metrics, worker: usize) -> Self {
        let world = RefCell::new(Rc::new(World(reader.load())));
        Self { world, reader, local: Rc::new(Local::new(worker)), unrouted: metrics.route("none", "none") }
    }

    /// The world as this worker sees it now.
    #[must_use]
    pub fn world(&self) -> Rc<World> {
        self.world.borrow().clone()
    }

    /// What this worker has of its own towards upstream.
    #[must_use]
    pub fn local(&self) -> &Local {
        &self.local
    }

    /// Takes up a new snapshot and closes idle connections to what left, even when no request comes.
    pub fn renew(&self) {
        *self.world.borrow_mut() = Rc::new(World(self.reader.load()));
        self.local.forget_unlisted();
    }

    /// Answers one request: find the route, forward, account for it. What upstream tells beside the answer is in `aside`.
    pub async fn handle(&self, mut request: Request<Body>, client: &Client, aside: &Rc<Aside>) -> Answer {
        let started = Instant::now();
        let world = self.world();
        let caller = client::resolve(client, request.headers(), &world.config.http.trusted_proxies);
        let takes_trailers = hop::takes_trailers(request.version(), request.headers());
        headers::strip_connection(request.headers_mut());
        if takes_trailers {
            request.headers_mut().insert(header::TE, hop::TRAILERS);
        }
        let trail = Trail::begin(request.headers_mut());
        let is_ours = *request.method() == Method::OPTIONS
            && (headers::is_last_hop(request.headers_mut()) || request.uri().path() == "*");
        let unrouted = |refusal| self.account(&self.unrouted, request.method(), started).close(refusal);

        if is_ours {
            return unrouted(reply::last_hop(&trail));
        }
        if let Some(answer) = health::answer(&world, &request, &trail) {
            return unrouted(answer);
        }
        let host = headers::host(request.headers());
        let (route, captures) = match world.routes.find(request.method(), host, request.uri().path(), request.headers())
        {
            Found::Route(route, captures) => (route, captures),
            Found::MethodNotAllowed(methods) => return unrouted(reply::method_not_allowed(&methods, &trail)),
            Found::Nothing if !world.ready => return unrouted(reply::not_ready(&trail)),
            Found::Nothing => return unrouted(reply::no_route(&trail)),
        };
        let account = self.account(&route.cells, request.method(), started);
        let response = match &route.target {
            Target::Service(service) => match world.clusters.get(service).cloned() {
                Some(cluster) => {
                    let rewritten = route.rewrite.as_ref().map(|rewrite| rewrite.fill(&captures));
                    drop(world); // streams outlive it
                    forward::forward(&cluster, &self.local, request, rewritten, (&caller, &client.told), &trail, aside)
                        .await
                }
                None => reply::no_instance(service, &trail),
            },
        };
        account.close(response)
    }

    /// Answers what never became a request: its head, or the way it came, was refused.
    #[must_use]
    pub fn refuse(&self, refusal: &Refusal, method: &Method) -> Answer {
        let started = Instant::now();
        let trail = Trail::begin(&mut http::HeaderMap::new());
        self.account(&self.unrouted, method, started).close(reply::refused(refusal, &trail))
    }

    fn account(&self, cells: &Arc<RouteCells>, method: &Method, started: Instant) -> Account {
        Account::open(cells.clone(), self.local.worker, method.clone(), started)
    }
}
