//! What the benchmarks measure, made ready for them: the only door to the inside, and no interface for users.

use std::{cell::RefCell, collections::BTreeMap, net::Ipv4Addr, rc::Rc, sync::Arc, time::Duration};

use http::{HeaderValue, Method, StatusCode, Version, header, uri::PathAndQuery};
use tokio::{
    runtime::{Builder, Runtime},
    sync::{mpsc, watch},
    task::JoinSet,
    time::Instant,
};

use crate::{
    config::{Sources, load_from},
    control::{self, Control, News},
    discovery::{Change, fixed},
    model::{
        Held,
        fields::Fields,
        instance::{Address, Instance},
        random::{Draws, place},
        topology::Update,
    },
    proxy::trail::{TRACEPARENT, Trail, X_REQUEST_ID},
    route::{Found, Route, RouteTable, Target},
    state::{Reader, world},
    telemetry::{
        access::{AccessLog, Format, Place},
        cells::{Gauge, Outcome, RouteCells},
        events::Events,
        journey::{Asked, Ending, Found as Taker, Journey},
        metrics::Metrics,
        sampling::Sampler,
    },
    upstream::{
        balance::Ask,
        circuit::Circuit,
        cluster::{Cluster, Member, Rules},
        endpoint::{Endpoint, EndpointKey, Transport},
        policy::Policy,
        pool::Link,
        service::Service,
    },
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
                policy: None,
                max_body: None,
                exposed: false,
                cells: Arc::clone(&cells),
            })
        };
        Self(RouteTable::build((0..count).map(route).collect()))
    }

    /// Whether a route takes a GET of this path.
    #[must_use]
    pub fn find(&self, path: &str) -> bool {
        matches!(self.0.find(&Method::GET, "localhost:8000", path, &Fields::new()), Found::Route(..))
    }
}

/// A service that each worker of two has called once at all of its members.
pub struct Members {
    cluster: Cluster,
    now: Instant,
}

impl Members {
    /// The policies, as the configuration has them.
    pub const POLICIES: [&str; 5] = ["consistent_hash", "least_request", "p2c_ewma", "random", "round_robin"];

    /// So many members that have answered after `took`, picked among by this policy.
    ///
    /// # Panics
    /// Where there is no such policy.
    #[must_use]
    #[expect(clippy::expect_used, reason = "a benchmark names what there is")]
    pub fn new(balance: &str, count: u32, took: Duration) -> Self {
        let metrics = Metrics::new(2);
        let policy = Arc::new(Policy { balance: balance.parse().expect("a policy"), ..Policy::default() });
        let live = Arc::new(Service::new("s".into(), &metrics, &Events::new()));
        let now = Instant::now();
        let member = |instance: Instance| {
            let (id, address) = (instance.id.clone(), instance.address.clone());
            let cells = metrics.instance("s", &address.to_string());
            let key = EndpointKey { service: "s".into(), id, address, transport: Transport::default() };
            let circuit = Circuit::new(metrics.circuit("s", &key.address.to_string()));
            let endpoint = Arc::new(Endpoint::new(key, cells, circuit.into()));
            for worker in [0, 1] {
                let link = Rc::new(Link::new(endpoint.clone(), live.clone()));
                let permit = link.admit(&policy.clone().into(), worker, now);
                permit.expect("a closed circuit").report_at(now + took, Outcome::Success);
            }
            Member::new([instance].into(), endpoint, &policy.accept)
        };
        let members = instances(count).into_iter().map(member).collect();
        let rules = Rules {
            service: "s".into(),
            policy: policy.clone(),
            host: None,
            barred: Arc::default(),
            transport: Transport::default(),
            tls: None,
            datacenters: std::sync::Arc::default(),
        };
        Self { cluster: Cluster::new(rules, members, Vec::new(), live), now: now + Duration::from_secs(1) }
    }

    /// Whether one was picked for this draw, or this key.
    #[must_use]
    #[inline]
    pub fn pick(&self, draw: u64) -> bool {
        let draw = crate::model::random::mix(draw);
        self.cluster.pick(&Ask { worker: 0, now: self.now, draw, key: Some(draw), tried: &[] }).is_some()
    }
}

/// A service with one instance that is well, which workers send requests to.
pub struct Admission {
    live: Arc<Service>,
    endpoint: Arc<Endpoint>,
    policy: Arc<Policy>,
    now: Instant,
}

impl Admission {
    /// For so many workers.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        let metrics = Metrics::new(workers);
        let live = Arc::new(Service::new("s".into(), &metrics, &Events::new()));
        let address = Address::Ip((Ipv4Addr::LOCALHOST, 8000).into());
        let key = EndpointKey { service: "s".into(), id: "a".into(), address, transport: Transport::default() };
        let circuit = Circuit::new(metrics.circuit("s", "a"));
        let endpoint = Arc::new(Endpoint::new(key, metrics.instance("s", "a"), circuit.into()));
        Self { live, endpoint, policy: Arc::default(), now: Instant::now() }
    }

    /// What lets one request of this worker in and reports that it went well. The worker's thread has to be the only one
    /// that calls it.
    ///
    /// # Panics
    /// Never: nothing fails, and one request at a time is below any limit.
    #[expect(clippy::expect_used, reason = "nothing has failed")]
    pub fn on(&self, worker: usize) -> impl FnMut() {
        let link = Rc::new(Link::new(self.endpoint.clone(), self.live.clone()));
        let policy = Rc::new(self.policy.clone());
        move || {
            let entry = self.live.enter(worker, policy.max_in_flight).expect("a place");
            let permit = link.clone().admit(&policy, worker, self.now).expect("a closed circuit");
            permit.report_at(self.now, Outcome::Success);
            drop(entry);
        }
    }
}

fn instances(count: u32) -> Vec<Instance> {
    let address = |n| Address::Ip((Ipv4Addr::from(0x0a00_0000 + n), 8000).into());
    fixed::update(&"s".into(), &(1..=count).map(address).collect::<Vec<_>>(), &[]).instances
}

/// A control plane that knows many instances.
pub struct World {
    runtime: Runtime,
    _tasks: JoinSet<()>,
    news: mpsc::Sender<News>,
    reader: RefCell<Reader>,
    instances: u32,
}

/// News of one service, ready to be told.
pub struct Telling(Update);

impl Telling {
    /// The same in no order, as instances that Consul lists by their nodes' names may come.
    #[must_use]
    pub fn shuffled(mut self) -> Self {
        let instances = &mut self.0.instances;
        let mut draws = Draws::seeded(1);
        for at in 1..instances.len() {
            instances.swap(at, place(draws.next(), at + 1));
        }
        self
    }
}

impl World {
    /// So many services of so many instances each.
    ///
    /// # Panics
    /// Where the system gives no event queue.
    #[must_use]
    #[expect(clippy::expect_used, reason = "a benchmark without a system is none")]
    pub fn new(services: usize, instances: u32) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().expect("an event queue");
        let sets = (0..services).map(|n| format!("services.s{n}.consul=s{n}"));
        let sources = Sources { files: Vec::new(), sets: sets.chain(["expose.tag=".into()]).collect() };
        let config = Arc::new(load_from(&sources, &BTreeMap::new()).expect("it holds"));
        let (writer, reader) = world(control::nothing(config.clone()));
        let (wanted, _) = watch::channel(control::wanted(&config));
        let (news, absorbed) = mpsc::channel(8);
        let control = Control::new(&config, writer, wanted, Metrics::new(2), Events::new());
        let mut tasks = JoinSet::new();
        tasks.spawn_on(control.run(None, absorbed), runtime.handle());
        let made = Self { runtime, _tasks: tasks, news, reader: reader.into(), instances };
        for n in 0..services {
            let _ = made.tell(Telling(Update { service: format!("s{n}").into(), ..made.update(0).0 }));
        }
        made
    }

    /// The first service's list with one instance that is not as it was.
    #[must_use]
    pub fn update(&self, version: u32) -> Telling {
        let mut instances = instances(self.instances);
        if let Some(changed) = instances.get_mut(self.instances as usize / 2) {
            changed.weight = 1 + version % 2;
        }
        Telling(Update { service: "s0".into(), datacenter: None, instances, rejected: Vec::new() })
    }

    /// Tells it, and waits until it is in force. Answers how many members there are then.
    #[must_use]
    pub fn tell(&self, telling: Telling) -> usize {
        let mut reader = self.reader.borrow_mut();
        let service = telling.0.service.clone();
        self.runtime.block_on(async {
            let told = self.news.send(News::Told(Change::Instances { update: telling.0, index: 1 })).await;
            while told.is_ok() && reader.changed().await {
                let members = reader.load().clusters.get(&service).map_or(0, |cluster| cluster.members.len());
                if members > 0 {
                    return members;
                }
            }
            0
        })
    }
}

/// What is counted of one request, on as many threads as there are workers.
pub struct Counting {
    route: Arc<RouteCells>,
    service: Arc<Service>,
    endpoint: Arc<Endpoint>,
    policy: Arc<Policy>,
    connections: Arc<Gauge>,
    now: Instant,
}

impl Counting {
    /// Nothing was counted yet, by any of so many workers.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        let metrics = Metrics::new(workers);
        let key = EndpointKey {
            service: "s".into(),
            id: "i".into(),
            address: Address::Ip((Ipv4Addr::LOCALHOST, 1).into()),
            transport: Transport::default(),
        };
        let cells = metrics.instance("s", "a");
        let circuit = Circuit::new(metrics.circuit("s", "a"));
        Self {
            route: metrics.route("s", "r"),
            service: Arc::new(Service::new("s".into(), &metrics, &Events::new())),
            endpoint: Arc::new(Endpoint::new(key, cells, circuit.into())),
            policy: Arc::default(),
            connections: metrics.listener("l"),
            now: Instant::now(),
        }
    }

    /// What counts a request of this worker's that took so long, and its one try, on a connection of its own: all metrics
    /// that it touches. The times are known already, as they are to those who count. The worker's thread has to be the
    /// only one that calls it.
    pub fn on(&self, worker: usize) -> impl FnMut(Duration) {
        let link = Rc::new(Link::new(self.endpoint.clone(), self.service.clone()));
        let policy = Rc::new(self.policy.clone());
        move |took| {
            self.connections.up(worker);
            self.service.asked(worker, self.now);
            if let Some(permit) = link.clone().admit(&policy, worker, self.now) {
                permit.report_at(self.now + took, Outcome::Success);
            }
            self.route.count(worker, &Method::GET, StatusCode::OK, took);
            self.connections.down(worker);
        }
    }
}

/// The fields of a request that came with an id and with the context of a trace that is not recorded.
pub struct Marked(Fields);

impl Marked {
    /// Such fields.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it is one of many that could be")]
    pub fn new() -> Self {
        let context = HeaderValue::from_static("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00");
        let named = [(TRACEPARENT, context), (X_REQUEST_ID, HeaderValue::from_static("a-request"))];
        Self(named.into_iter().collect())
    }

    /// Whether the trace of the request is recorded.
    #[must_use]
    #[inline]
    pub fn samples(&mut self) -> bool {
        Trail::begin(&mut self.0, Some(&Sampler::DEFAULT)).sampled
    }

    /// The same where no traces are sent: what is to be taken off for the decision alone.
    #[must_use]
    #[inline]
    pub fn reads_marks(&mut self) -> bool {
        Trail::begin(&mut self.0, None).sampled
    }
}

/// What is kept of requests for the access log, and its lines.
pub struct Lines {
    log: Arc<AccessLog>,
    fields: Fields,
    target: PathAndQuery,
    taker: Held<Taker>,
}

impl Lines {
    /// Of a log that nobody reads.
    ///
    /// # Panics
    /// Where the system gives no thread.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it starts a thread")]
    #[expect(clippy::expect_used, reason = "a benchmark without a system is none")]
    pub fn new() -> Self {
        let log = AccessLog::new(1, &Metrics::new(1));
        log.set(&Place::File("/dev/null".into()), Format::Json).expect("a thread");
        let context = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
        let named = [(header::HOST, "127.0.0.1:8000"), (header::USER_AGENT, "proxybench/1"), (TRACEPARENT, context)];
        let fields = named.into_iter().map(|(name, value)| (name, HeaderValue::from_static(value))).collect();
        let taker = Rc::new(Taker::new("echo".into(), "echo".into(), "/api/v1/echo/{*rest}".into()));
        let target = PathAndQuery::from_static("/api/v1/echo/1k");
        Self { log, fields, target, taker }
    }

    /// A request whose one try was answered.
    pub fn tell(&self, began: Instant) {
        let client = Ipv4Addr::new(192, 0, 2, 7).into();
        let id = HeaderValue::from_static("0123456789abcdef0123456789abcdef");
        let by = Asked::by(client, &Method::GET, &self.fields, &id);
        let asked = Asked { target: Some(&self.target), version: Some(Version::HTTP_11), ..by };
        let journey = Journey::new(&asked, began, self.log.format(), None);
        journey.taken_by(&self.taker);
        let took = Duration::from_micros(750);
        let one = journey.begin_try("127.0.0.1:19001");
        journey.answered(one, StatusCode::OK);
        journey.end_try(one, took, Outcome::Success);
        journey.sent.set(1024);
        self.log.add(0, &journey, Ending { status: StatusCode::OK, at: began + took, took, received: 0 });
    }
}
