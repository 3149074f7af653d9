//! One core: a thread with a runtime of its own, its listeners, its hold on the snapshot, its connections.
//! Nothing on a request's path leaves it.

use std::{io, net::TcpListener, rc::Rc, sync::Arc, thread, time::Duration};

use tokio::{
    runtime::{Builder, LocalOptions},
    sync::{
        mpsc::{UnboundedReceiver, UnboundedSender},
        watch,
    },
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, timeout_at},
};

use crate::{
    edge::{
        Phase,
        crowd::Crowd,
        http1::Server,
        listener::{Connections, Entrance, Passed, Ways},
    },
    proxy::Proxy,
    state::Reader,
    telemetry::{access::AccessLog, metrics::Metrics, otlp::Tracer, scribe::Scribe},
};

/// What a worker is made of.
pub struct Setup {
    /// Which one it is, counted from 0.
    pub worker: usize,
    /// The world.
    pub reader: Reader,
    /// Where it counts.
    pub metrics: Arc<Metrics>,
    /// Where it tells of each request.
    pub access: Arc<AccessLog>,
    /// Where it tells of those whose trace is recorded.
    pub tracer: Option<Arc<Tracer>>,
    /// All connections of the program.
    pub crowd: Arc<Crowd>,
    /// Its sockets, each with what its listener is.
    pub sockets: Vec<(TcpListener, Entrance)>,
    /// What other workers pass on to this one.
    pub passed: UnboundedReceiver<Passed>,
    /// The ways to all workers, by their number.
    pub ways: Vec<UnboundedSender<Passed>>,
    /// What to do.
    pub orders: watch::Receiver<Order>,
}

/// What all workers are to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Accept and serve.
    Serve,
    /// The same, but with each answer tell the client to go elsewhere.
    Leave,
    /// Accept no more; end when all requests have ended, at this moment at the latest.
    Drain(Instant),
}

/// Turns of tasks between two looks at the sockets. Messages leave together (`wire::Sender`), the more at once the better.
const TURNS: u32 = 256;
/// How often idle upstream connections are looked through.
const TIDY: Duration = Duration::from_secs(1);
/// How long, as the worker ends, a connection may still bring a request, or the next one.
const LAST_CALL: Duration = Duration::from_secs(1);

/// Starts a worker; its thread ends when it has drained.
///
/// # Errors
/// The system gives no thread or no event queue.
pub fn start(setup: Setup) -> io::Result<thread::JoinHandle<()>> {
    let name = format!("worker-{}", setup.worker);
    let (ready, started) = std::sync::mpsc::channel();
    let handle = thread::Builder::new().name(name).spawn(move || {
        let (worker, access) = (setup.worker, setup.access.clone());
        let pass_on = {
            let access = access.clone();
            move || access.pass_on(worker)
        };
        let mut builder = Builder::new_current_thread();
        builder.enable_all().event_interval(TURNS).on_thread_park(pass_on);
        match builder.build_local(LocalOptions::default()) {
            Ok(runtime) => {
                let _ = ready.send(Ok(()));
                runtime.block_on(run(setup));
                drop(runtime); // what still ran in it ends, and is told of
                access.pass_on(worker);
            }
            Err(e) => {
                let _ = ready.send(Err(e));
            }
        }
    })?;
    started.recv().unwrap_or_else(|_| Err(io::Error::other("the worker ended as it started")))?;
    Ok(handle)
}

async fn run(setup: Setup) {
    let Setup { worker, mut reader, metrics, access, tracer, crowd, sockets, passed, ways, mut orders } = setup;
    let proxy = Rc::new(Proxy::new(reader.clone(), &metrics, worker, Scribe::new(access, tracer, worker)));
    let phase = Rc::new(Phase::default());
    let connections = Connections::new(Server { proxy: proxy.clone(), phase: phase.clone() }, crowd, worker);

    let (closing, closed) = watch::channel(false);
    let mut tasks = JoinSet::new();
    let ways = Ways::from(ways);
    for (socket, entrance) in sockets {
        tasks.spawn_local(listen(connections.clone(), socket, entrance, ways.clone(), closed.clone()));
    }
    drop(ways); // when the last listener of all workers has closed, nothing is passed on any more
    tasks.spawn_local({
        let connections = connections.clone();
        async move { connections.take(passed).await }
    });
    let upkeep = async {
        let mut tidy = interval(TIDY);
        tidy.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                alive = reader.changed() => if alive { proxy.renew() } else { std::future::pending().await },
                now = tidy.tick() => proxy.local().tidy(now),
            }
        }
    };
    let end = async {
        loop {
            let order = *orders.borrow_and_update();
            match order {
                Order::Serve => {}
                Order::Leave => phase.leave(),
                Order::Drain(until) => break until,
            }
            if orders.changed().await.is_err() {
                break Instant::now();
            }
        }
    };
    let drain = async {
        let until = end.await;
        closing.send_replace(true);
        connections.leave();
        let _ = timeout_at(until, async { while tasks.join_next().await.is_some() {} }).await;
        // Idle connections are no reason to use up a short drain.
        let last_call = LAST_CALL.min(until.saturating_duration_since(Instant::now()) / 2);
        loop {
            connections.end_idle();
            let next = until.min(Instant::now() + last_call);
            if timeout_at(next, connections.gone()).await.is_ok() {
                break;
            }
            if next == until {
                tracing::warn!(worker, "requests were still under way at the end of the drain");
                connections.end();
                connections.gone().await;
                break;
            }
        }
    };
    tokio::select! {
        () = drain => {}
        () = upkeep => {}
    }
}

async fn listen(
    connections: Rc<Connections>,
    socket: TcpListener,
    entrance: Entrance,
    ways: Ways,
    mut closed: watch::Receiver<bool>,
) {
    let listener = match tokio::net::TcpListener::from_std(socket) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "cannot listen");
            return;
        }
    };
    tokio::select! {
        () = connections.accept(&listener, &entrance, &ways) => {}
        _ = closed.wait_for(|&closed| closed) => {}
    }
    drop(ways);
    connections.accept_rest(listener, &entrance).await;
}
