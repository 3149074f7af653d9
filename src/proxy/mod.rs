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
pub mod trail;
mod world;

use std::{cell::RefCell, net::SocketAddr, rc::Rc};

use http::{Method, Version, header, uri::PathAndQuery};
use tokio::time::Instant;

pub use account::Account;
use account::Story;
use client::Caller;
pub use client::is_trusted;
use forward::forward;
pub use headers::strip_connection;
pub use reply::Refusal;
use told::Told;
use trail::{TRACEPARENT, Trail};
pub use world::World;

use crate::{
    body::Body,
    model::{
        Held,
        fields::Fields,
        message::{Request, Response},
    },
    route::{Found, Target},
    state::Reader,
    telemetry::{
        access::Format,
        cells::RouteCells,
        journey::{Asked, Journey},
        metrics::Metrics,
        scribe::Scribe,
    },
    upstream::{Local, aside::Aside},
};

/// Who asks, as the listener knows. Whom a trusted proxy asks for is found in [`Proxy::handle`].
#[derive(Debug)]
pub struct Client {
    /// The socket's other end, or whom a trusted balancer connects for by the PROXY protocol.
    pub peer: SocketAddr,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// The version of TLS; `None`: there is none, or it is not known yet.
    pub tls: Option<&'static str>,
    told: Told,
}

impl Client {
    /// Who came from `peer`.
    #[must_use]
    pub fn new(peer: SocketAddr, scheme: &'static str) -> Self {
        Self { peer, scheme, tls: None, told: Told::default() }
    }
}

/// What is known of a request that was refused before it became one.
#[derive(Debug)]
pub struct Glimpse<'r> {
    /// Its method.
    pub method: &'r Method,
    /// Its path and query, where they were understood.
    pub target: Option<&'r str>,
    /// Its version, where that was understood.
    pub version: Option<Version>,
    /// Its fields.
    pub fields: &'r Fields,
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
    unrouted: Held<RouteCells>,
    scribe: Rc<Scribe>,
}

impl Proxy {
    /// A worker's proxy.
    #[must_use]
    pub fn new(reader: Reader, metrics: &Metrics, worker: usize, scribe: Rc<Scribe>) -> Self {
        let world = RefCell::new(Rc::new(World::new(reader.load())));
        let unrouted = Rc::new(metrics.route("none", "none"));
        Self { world, reader, local: Rc::new(Local::new(worker)), unrouted, scribe }
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
        *self.world.borrow_mut() = Rc::new(World::new(self.reader.load()));
        self.local.forget_unlisted();
    }

    /// Answers one request: find the route, forward, account for it. What upstream tells beside the answer is in `aside`.
    pub async fn handle(&self, mut request: Request<Body>, client: &Client, aside: &Rc<Aside>) -> Answer {
        let started = Instant::now();
        let world = self.world();
        let caller = client::resolve(client, &request.fields, &world.config.http.trusted_proxies);
        let takes_trailers = hop::takes_trailers(request.version, &request.fields);
        headers::strip_connection(&mut request.fields);
        if takes_trailers {
            request.fields.insert(header::TE, hop::TRAILERS);
        }
        let sampler = self.scribe.tracer().map(|tracer| &tracer.sampler);
        let trail = Trail::begin(&mut request.fields, sampler);
        let is_ours = request.method == Method::OPTIONS
            && (headers::is_last_hop(&mut request.fields) || request.target.path() == "*");
        let format = self.scribe.format();
        let story = if trail.sampled || format.is_some() {
            Some(self.story(&request, (client, &caller), started, (&trail, format), aside))
        } else {
            None
        };
        let journey = story.as_ref().map(|story| story.journey.clone());
        let unrouted = |refusal, story| self.account(&self.unrouted, &request.method, started, story).close(refusal);

        if is_ours {
            return unrouted(reply::last_hop(&trail), story);
        }
        if let Some(answer) = health::answer(&world, &request, &trail) {
            return unrouted(answer, story);
        }
        let host = headers::host(&request.fields);
        let Request { method, target, fields, .. } = &request;
        let (route, captures) = match world.routes.find(method, host, target.path(), fields) {
            Found::Route(route, captures) => (route, captures),
            Found::MethodNotAllowed(methods) => return unrouted(reply::method_not_allowed(&methods, &trail), story),
            Found::Nothing if !world.ready => return unrouted(reply::not_ready(&trail), story),
            Found::Nothing => return unrouted(reply::no_route(&trail), story),
        };
        let way = world.way(route);
        let account = self.account(&way.cells, &request.method, started, story);
        if let Some(journey) = journey {
            journey.taken_by(&way.taker);
            aside.follow(journey);
        }
        aside.allow(way.max_body);
        let is_over = way.max_body != 0 && request.body.length().is_some_and(|length| length > way.max_body);
        if is_over && !trail.is_grpc {
            return account.close(reply::too_large(way.max_body, &trail));
        }
        let Some(to) = &way.to else {
            let Target::Service(service) = &route.target;
            return account.close(reply::no_instance(service, &trail));
        };
        let rewritten = route.rewrite.as_ref().map(|rewrite| rewrite.fill(&captures));
        drop(world); // streams outlive it
        let caller = (&caller, &client.told);
        account.close(forward(to, &self.local, request, rewritten, caller, (&trail, started), aside).await)
    }

    /// Answers what never became a request: its head, or the way it came, was refused.
    #[must_use]
    pub fn refuse(&self, refusal: &Refusal, client: &Client, glimpse: &Glimpse<'_>) -> Answer {
        let started = Instant::now();
        let mut fields = Fields::new();
        let trail = Trail::begin(&mut fields, self.scribe.tracer().map(|tracer| &tracer.sampler));
        let format = self.scribe.format();
        let story = (trail.sampled || format.is_some()).then(|| {
            let target = glimpse.target.and_then(|target| PathAndQuery::try_from(target).ok());
            let by = Asked::by(client.peer.ip().to_canonical(), glimpse.method, glimpse.fields, &trail.request_id);
            let (target, context) = (target.as_ref(), fields.get(TRACEPARENT));
            let (scheme, tls, version) = (client.scheme, client.tls, glimpse.version);
            let asked = Asked { scheme, tls, target, version, context, ..by };
            self.tale(Journey::new(&asked, started, format, trail.marks(&fields)), Rc::default())
        });
        self.account(&self.unrouted, glimpse.method, started, story).close(reply::refused(refusal, &trail))
    }

    #[inline(never)] // few want it, and its room is not for all to hold
    fn story(
        &self,
        request: &Request<Body>,
        (client, caller): (&Client, &Caller),
        started: Instant,
        (trail, format): (&Trail, Option<Format>),
        aside: &Rc<Aside>,
    ) -> Story {
        let Request { method, fields, .. } = request;
        let (target, version) = (Some(&request.target), Some(request.version));
        let by = Asked::by(caller.address, method, fields, &trail.request_id);
        let (tls, told_host) = (client.tls, caller.host.as_ref());
        let asked = Asked { scheme: caller.scheme, tls, target, version, told_host, ..by };
        self.tale(Journey::new(&asked, started, format, trail.marks(fields)), aside.clone())
    }

    fn tale(&self, journey: Journey, aside: Rc<Aside>) -> Story {
        Story { scribe: self.scribe.clone(), journey: Rc::new(journey), aside }
    }

    fn account(&self, cells: &Held<RouteCells>, method: &Method, started: Instant, story: Option<Story>) -> Account {
        Account::open(cells.clone(), self.local.worker, method.clone(), started, story)
    }
}
