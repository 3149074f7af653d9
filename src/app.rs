//! Puts the parts together, starts them, and ends them in order. Owns every task and thread.

pub mod agent;
mod systemd;
mod telling;

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc, thread::JoinHandle, time::Duration};

use anyhow::{Context, Result, anyhow};
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, oneshot, watch},
    task::{JoinSet, spawn_blocking},
    time::{Instant, sleep, timeout},
};

use crate::{
    admin::{self, Admin, Scope},
    config::{Config, Sources},
    consul, control,
    control::{
        Control, News, keeper, kv,
        lookout::Lookout,
        registrar::Registrar,
        reload::{self, Reloader},
    },
    discovery::{self, Wanted},
    edge::{certs::Certificates, crowd::Crowd, listener::Entrance, sockets::bind},
    state,
    telemetry::{
        access::AccessLog,
        events::{Event, Events},
        log::Log,
        metrics::Metrics,
    },
    worker::{self, Order, Setup},
};

/// A gateway that runs.
pub struct Gateway {
    /// Where clients are served.
    pub addresses: Vec<SocketAddr>,
    /// Until it runs.
    signals: Option<Signals>,
    reader: state::Reader,
    events: Arc<Events>,
    access: Arc<AccessLog>,
    orders: watch::Sender<Order>,
    workers: Vec<JoinHandle<()>>,
    asking: mpsc::Sender<()>,
    tasks: JoinSet<()>,
    keeping: Option<Last>,
    registering: Option<Last>,
    export: Option<JoinSet<()>>,
}

/// Lists from discovery that may wait for the writer.
const QUEUE: usize = 1024;
const LAST_WRITE: Duration = Duration::from_secs(5);
/// An agent that is well takes a few milliseconds; one that hangs must not hold up the end.
const LAST_WORD: Duration = Duration::from_secs(2);

impl Gateway {
    /// Starts all parts. The caller's runtime carries the control plane; each worker has a thread of its own.
    ///
    /// # Errors
    /// An address that cannot be listened on, signals that cannot be received, or a Consul client that cannot be built.
    pub async fn start(config: Config, sources: Sources, log: Log) -> Result<Self> {
        // Who sees that it listens may signal it at once.
        let signals = Signals::new().context("cannot receive signals")?;
        let events = Events::new();
        let (saved, kept) = keeper::open(&config, &events);
        let config = Arc::new(reload::resumed(config, &sources, saved.as_ref(), &events));
        relog(&log, &config);
        let count = config.http.workers;
        let metrics = Metrics::bounded(count, config.metrics.buckets.clone());
        log.count_lost(metrics.log_dropped());
        let access = AccessLog::new(count, &metrics);
        telling::access(&access, &config);
        let (tracer, export) = telling::traces(&config, &metrics);
        let (writer, reader) = state::world(control::nothing(config.clone()));
        let (orders, ordered) = watch::channel(Order::Serve);
        let mut tasks = JoinSet::new();

        let client = config.consul.as_ref().map(|consul| agent::client(consul, &metrics)).transpose()?;
        // Sockets before all tasks: an address that is taken ends the start before anything else has begun.
        let Listening { sockets, addresses, certificates } = listen(&config, &metrics)?;
        let https = config.https.as_ref();
        let (files, wanted_files) = watch::channel(https.map(|https| https.files.clone()));
        if let Some(certificates) = certificates {
            tasks.spawn(certificates.follow(wanted_files, events.clone()));
        }
        let (news, absorbed) = mpsc::channel(QUEUE);
        let admin = Arc::new(Admin::new(reader.clone(), metrics.clone(), events.clone(), news.clone()));
        operate(&config, &admin, &mut tasks).await?;

        let keeper = |path| keeper::Keeper::new(path, reader.clone(), metrics.clone(), events.clone());
        let keeping = kept.map(keeper).map(|keeper| Last::start(|end| keeper.run(end)));
        let (wanted, wanting) = watch::channel(control::wanted(&config));
        let carriers = saved.as_ref().map(|saved| saved.lists.carriers.clone()).unwrap_or_default();
        discover(client.as_ref(), wanting, carriers, news.clone(), &mut tasks);
        let (telling, documents) = mpsc::channel(1);
        if let Some((client, key)) =
            client.clone().zip(config.consul.as_ref().and_then(|consul| consul.config.as_ref()))
        {
            tasks.spawn(kv::follow(client, key.name.clone(), telling));
        }
        let registering = client.map(|client| {
            let host = gethostname::gethostname().to_string_lossy().into_owned();
            let port = addresses.first().map(SocketAddr::port);
            let registrar = Registrar::new(client, reader.clone(), events.clone(), host, port);
            Last::start(|end| registrar.run(end))
        });
        let control = Control::new(&config, writer, wanted, metrics.clone(), events.clone());
        tasks.spawn(control.run(saved, absorbed));
        // The first request is to find what the configuration alone says.
        reader.clone().changed().await;

        let (asking, asked) = mpsc::channel(1);
        let reloader = Reloader {
            sources,
            current: config.clone(),
            newest: config.stored.clone(),
            lookout: Lookout::new(&config.files),
            blind: None,
            seen: reload::contents(&config.files),
            started: config.clone(),
            refused: false,
            metrics: metrics.clone(),
            events: events.clone(),
            news,
            taken: Box::new({
                let access = access.clone();
                move |config| {
                    relog(&log, config);
                    telling::access(&access, config);
                    files.send_replace(config.https.as_ref().map(|https| https.files.clone()));
                }
            }),
        };
        tasks.spawn(reloader.run(asked, documents));

        if systemd::is_asked() {
            tasks.spawn(systemd::run(reader.clone(), events.clone()));
        }
        let crowd = Crowd::new(count);
        let (ways, passed): (Vec<_>, Vec<_>) = (0..count).map(|_| mpsc::unbounded_channel()).unzip();
        let workers = sockets.into_iter().zip(passed).enumerate().map(|(worker, (sockets, passed))| {
            let (reader, metrics, crowd) = (reader.clone(), metrics.clone(), crowd.clone());
            let (access, tracer) = (access.clone(), tracer.clone());
            let (ways, orders) = (ways.clone(), ordered.clone());
            worker::start(Setup { worker, reader, metrics, access, tracer, crowd, sockets, passed, ways, orders })
        });
        let workers = workers.collect::<Result<_, _>>().context("cannot start a worker")?;
        drop((ways, tracer)); // spans end with the workers
        Ok(Self {
            addresses,
            signals: Some(signals),
            reader,
            events,
            access,
            orders,
            workers,
            asking,
            tasks,
            keeping,
            registering,
            export,
        })
    }

    /// Serves until a signal ends it: SIGTERM and SIGINT drain, a second one ends at once, SIGHUP reloads.
    ///
    /// # Errors
    /// A part of the control plane ended in a panic. What is left would serve what it knows for ever, and look well.
    pub async fn run(mut self) -> Result<()> {
        let Some(mut signals) = self.signals.take() else { return Ok(()) };
        let ended = loop {
            tokio::select! {
                received = signals.next() => match received {
                    Received::End => break Ok(()),
                    Received::Reload => {
                        systemd::reloading(&self.reader);
                        self.access.reopen();
                        // One that waits already does for this one too.
                        let _ = self.asking.try_send(());
                    }
                },
                Some(Err(error)) = self.tasks.join_next(), if !self.tasks.is_empty() => {
                    tracing::error!(%error, "a part of the control plane has failed; the gateway ends");
                    break Err(anyhow!("a part of the control plane has failed: {error}"));
                }
            }
        };
        tokio::select! {
            () = self.drain() => {}
            () = signals.end() => tracing::warn!("ended at once by a second signal"),
        }
        ended
    }

    /// Ends in order: not ready, then no new connections, then nothing.
    pub async fn drain(mut self) {
        let config = self.reader.load().config.clone();
        self.events.publish(Event::new(
            "draining",
            format!("requests under way have {:?} to end", config.http.drain_wait + config.http.drain),
        ));
        self.reader.leave();
        systemd::stopping(config.http.drain_wait + config.http.drain);
        if config.http.drain_wait > Duration::ZERO {
            self.orders.send_replace(Order::Leave);
        }
        let deregister = async {
            if let Some(registering) = self.registering.take() {
                registering.end(LAST_WORD, "Consul takes too long; its check of the gateway will fail instead").await;
            }
        };
        tokio::join!(deregister, sleep(config.http.drain_wait));
        self.orders.send_replace(Order::Drain(Instant::now() + config.http.drain));
        for worker in std::mem::take(&mut self.workers) {
            if spawn_blocking(|| worker.join().is_err()).await.unwrap_or(true) {
                tracing::error!("a worker ended in a panic");
            }
        }
        self.access.close(LAST_WRITE).await;
        if let Some(mut export) = self.export.take()
            && timeout(LAST_WRITE, export.join_next()).await.is_err()
        {
            tracing::warn!("the collector takes too long; the last spans are lost");
        }
        if let Some(keeping) = self.keeping.take() {
            keeping.end(LAST_WRITE, "the disk takes too long for the snapshot; it stays as it was").await;
        }
        self.tasks.shutdown().await;
        tracing::info!("drained");
    }
}

/// What the public listeners are made of.
struct Listening {
    /// Those of each worker.
    sockets: Vec<Vec<(std::net::TcpListener, Entrance)>>,
    addresses: Vec<SocketAddr>,
    certificates: Option<Arc<Certificates>>,
}

/// Binds the public listeners, `[http]` before `[https]`.
fn listen(config: &Config, metrics: &Metrics) -> Result<Listening> {
    let mut sockets: Vec<Vec<_>> = (0..config.http.workers).map(|_| Vec::new()).collect();
    let mut addresses = Vec::new();
    let https = config.https.as_ref();
    let certificates = https.map(|https| Certificates::read(&https.files)).transpose().context("cannot use [https]")?;
    let plain = config.http.listen.iter().map(|&address| (address, "http", None));
    let secure = https.into_iter().flat_map(|https| &https.listen);
    for (address, name, tls) in plain.chain(secure.map(|&address| (address, "https", certificates.clone()))) {
        let bound = bind(address, config.http.workers, tls.is_some());
        let bound = bound.with_context(|| format!("cannot listen on {address} ({name}.listen)"))?;
        let address = bound.first().map_or(Ok(address), std::net::TcpListener::local_addr)?;
        let entrance = Entrance { gauge: metrics.listener(&address.to_string()), tls };
        for (place, socket) in sockets.iter_mut().zip(bound) {
            place.push((socket, entrance.clone()));
        }
        tracing::info!(listener = name, %address, "listening");
        addresses.push(address);
    }
    Ok(Listening { sockets, addresses, certificates })
}

/// Binds and serves the operators' listeners.
async fn operate(config: &Config, admin: &Arc<Admin>, tasks: &mut JoinSet<()>) -> Result<()> {
    let of = |listen: &[SocketAddr], scope, name| listen.iter().map(|&at| (at, scope, name)).collect::<Vec<_>>();
    let operators = of(&config.admin.listen, Scope::All, "admin");
    for (address, scope, name) in operators.into_iter().chain(of(&config.metrics.listen, Scope::Probes, "metrics")) {
        let listener = TcpListener::bind(address).await;
        let listener = listener.with_context(|| format!("cannot listen on {address} ({name}.listen)"))?;
        tracing::info!(listener = name, address = %listener.local_addr()?, "listening");
        tasks.spawn(admin::serve(listener, admin.clone(), scope));
    }
    Ok(())
}

/// A task that has one thing left to do when the gateway ends.
struct Last {
    end: oneshot::Sender<()>,
    task: JoinSet<()>,
}

impl Last {
    fn start<F: Future<Output = ()> + Send + 'static>(run: impl FnOnce(oneshot::Receiver<()>) -> F) -> Self {
        let (end, ended) = oneshot::channel();
        let mut task = JoinSet::new();
        task.spawn(run(ended));
        Self { end, task }
    }

    async fn end(mut self, limit: Duration, late: &str) {
        let _ = self.end.send(());
        if timeout(limit, self.task.join_next()).await.is_err() {
            tracing::warn!("{late}");
        }
    }
}

/// Starts the sources, and passes on what they tell. Gives the client of Consul, where there is one.
fn discover(
    client: Option<&Arc<consul::Client>>,
    wanting: watch::Receiver<Wanted>,
    carriers: BTreeSet<String>,
    news: mpsc::Sender<News>,
    tasks: &mut JoinSet<()>,
) {
    let (told, mut telling) = mpsc::channel(QUEUE);
    tasks.spawn(discovery::dns::run(wanting.clone(), told.clone()));
    if let Some(client) = client {
        tasks.spawn(discovery::datacenters::run(client.clone(), wanting, told, carriers));
    }
    tasks.spawn(async move {
        while let Some(change) = telling.recv().await {
            if news.send(News::Told(change)).await.is_err() {
                break;
            }
        }
    });
}

fn relog(log: &Log, config: &Config) {
    let rules = &config.telemetry.log;
    if let Err(error) = log.change(rules.format, &rules.level) {
        tracing::warn!(%error, "the log goes on as it was");
    }
}

/// The signals that mean something to the gateway.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

enum Received {
    End,
    Reload,
}

impl Signals {
    fn new() -> Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Received {
        tokio::select! {
            _ = self.terminate.recv() => Received::End,
            _ = self.interrupt.recv() => Received::End,
            _ = self.hangup.recv() => Received::Reload,
        }
    }

    async fn end(&mut self) {
        while matches!(self.next().await, Received::Reload) {}
    }
}

#[cfg(test)]
mod tests;
