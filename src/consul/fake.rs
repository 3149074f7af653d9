//! For tests: an agent that can be made to answer as no real one can be made to.

use std::{
    fmt::Write as _,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

/// What is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// An error answer.
    Status(u16, &'static str),
    /// No `X-Consul-Index`.
    NoIndex,
    /// An `X-Consul-Index` that is no number.
    OddIndex,
    /// 200 with this body.
    Says(&'static str),
    /// 200 with a body that goes on and on.
    Endless,
    /// A body that ends in its middle.
    Half,
    /// Answers at once, and the index rises each time.
    Rising,
    /// Answers at once, and the index falls and rises.
    Jumping,
    /// Answers at once, with nothing new.
    Hasty,
    /// Closes the connection without an answer.
    Reset,
    /// Takes the request and does not answer.
    Hang,
}

/// The agent.
pub struct Fake {
    /// Where it listens.
    pub address: SocketAddr,
    world: Arc<World>,
    _tasks: JoinSet<()>,
}

struct World {
    state: watch::Sender<State>,
    asked: Mutex<Vec<(Instant, String)>>,
    kept: AtomicUsize,
}

#[derive(Clone, Copy, Debug)]
struct State {
    fault: Fault,
    /// Whether the leader is told as ever.
    leader: bool,
    /// Consul's index.
    index: u64,
    /// How many instances each service has.
    instances: u64,
    /// What the server says of how long ago it heard of the leader.
    stale_ms: u64,
}

impl Fake {
    /// An agent at which nothing is wrong; each service has one instance.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = State { fault: Fault::None, leader: true, index: 1, instances: 1, stale_ms: 0 };
        let world =
            Arc::new(World { state: watch::Sender::new(state), asked: Mutex::default(), kept: AtomicUsize::default() });
        let mut tasks = JoinSet::new();
        let ours = world.clone();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(serve(stream, ours.clone()));
            }
        });
        Self { address, world, _tasks: tasks }
    }

    /// From now on this is wrong; with `leader`, the leader is told as ever. Held queries end with it.
    pub fn fail(&self, fault: Fault, leader: bool) {
        self.world.state.send_modify(|state| (state.fault, state.leader) = (fault, leader));
    }

    /// Nothing is wrong any more, and each service has one instance more.
    pub fn mend(&self) {
        self.world.state.send_modify(|state| {
            state.fault = Fault::None;
            state.index += 1000;
            state.instances += 1;
        });
    }

    /// Its index begins anew, and rises with each answer.
    pub fn lose(&self) {
        self.world.state.send_modify(|state| (state.fault, state.index) = (Fault::Rising, 1));
    }

    /// How long ago the server that answers heard of the leader.
    pub fn stale(&self, ms: u64) {
        self.world.state.send_modify(|state| state.stale_ms = ms);
    }

    /// All that was asked, and when.
    pub fn asked(&self) -> Vec<(Instant, String)> {
        self.world.asked.lock().unwrap().clone()
    }

    /// How many queries wait for something newer.
    pub fn kept(&self) -> usize {
        self.world.kept.load(Relaxed)
    }
}

async fn serve(mut stream: TcpStream, world: Arc<World>) {
    let mut buffer = Vec::new();
    loop {
        while !buffer.ends_with(b"\r\n\r\n") {
            match stream.read_buf(&mut buffer).await {
                Ok(n) if n > 0 => {}
                _ => return,
            }
        }
        let head = String::from_utf8(std::mem::take(&mut buffer)).unwrap();
        let target = head.split(' ').nth(1).unwrap().to_owned();
        world.asked.lock().unwrap().push((Instant::now(), head));
        let mut gone = [0];
        let answer = tokio::select! {
            answer = answer(&target, &world) => answer,
            _ = stream.peek(&mut gone) => return,
        };
        let Some(answer) = answer else { return };
        if answer.is_empty() {
            let head = "HTTP/1.1 200 OK\r\nx-consul-index: 2\r\nconnection: close\r\n\r\n[";
            let mut sent = stream.write_all(head.as_bytes()).await;
            let blanks = vec![b' '; 1 << 20];
            while sent.is_ok() {
                sent = stream.write_all(&blanks).await;
            }
            return;
        }
        if stream.write_all(answer.as_bytes()).await.is_err() || answer.contains("connection: close") {
            return;
        }
    }
}

/// The bytes of an answer; none: the connection is closed. An empty one stands for one without an end.
async fn answer(target: &str, world: &World) -> Option<String> {
    let state = *world.state.borrow();
    let leader = target.starts_with("/v1/status/leader");
    if state.fault == Fault::None || (leader && state.leader) {
        return Some(if leader { plain(200, "", "\"127.0.0.1:8300\"") } else { held(target, world).await? });
    }
    let rise = || {
        world.state.send_if_modified(|state| {
            state.stale_ms += 1; // changes with every answer, and nobody is woken
            false
        });
        world.state.borrow().stale_ms
    };
    let index = |index: u64| format!("x-consul-index: {index}\r\n");
    let body = body(target, state.instances);
    match state.fault {
        Fault::Status(code, text) => Some(plain(code, "", text)),
        Fault::NoIndex => Some(plain(200, "", &body)),
        Fault::OddIndex => Some(plain(200, "x-consul-index: soon\r\n", &body)),
        Fault::Says(text) => Some(plain(200, &index(state.index), text)),
        Fault::Endless => Some(String::new()),
        Fault::Half => {
            let whole = plain(200, &format!("{}connection: close\r\n", index(state.index)), &body);
            Some(whole[..whole.len() - body.len() / 2].to_owned())
        }
        Fault::Rising => Some(plain(200, &index(state.index + rise()), &body)),
        Fault::Jumping => Some(plain(200, &index(state.index + rise() % 2), &body)),
        Fault::Hasty => Some(plain(200, &index(state.index), &body)),
        Fault::Hang => {
            sleep(Duration::from_mins(10)).await;
            None
        }
        Fault::None | Fault::Reset => None,
    }
}

/// Answers as Consul does: at once, or when there is something newer, or after the wait.
async fn held(target: &str, world: &World) -> Option<String> {
    let parameter = |name: &str| {
        let pairs = target.split(['?', '&']).skip(1);
        pairs.filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
    };
    let index: u64 = parameter("index").map_or(0, |index| index.parse().unwrap());
    let wait: u64 = parameter("wait").map_or(0, |wait| wait.trim_end_matches("ms").parse().unwrap());
    let mut state = world.state.subscribe();
    let newer = state.wait_for(|state| state.index > index || state.fault != Fault::None);
    let kept = (wait > 0).then(|| Kept::new(world));
    let _ = timeout(Duration::from_millis(wait), newer).await;
    drop(kept);
    let state = *world.state.borrow();
    if state.fault != Fault::None {
        return Box::pin(answer(target, world)).await;
    }
    let lag = if target.contains("stale") { state.stale_ms } else { 0 };
    let head = format!("x-consul-index: {}\r\nx-consul-lastcontact: {lag}\r\n", state.index);
    Some(plain(200, &head, &body(target, state.instances)))
}

/// A query that waits for something newer, also when it is taken back.
struct Kept<'w>(&'w AtomicUsize);

impl<'w> Kept<'w> {
    fn new(world: &'w World) -> Self {
        world.kept.fetch_add(1, Relaxed);
        Self(&world.kept)
    }
}

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

fn body(target: &str, instances: u64) -> String {
    if target.starts_with("/v1/status/leader") {
        return "\"127.0.0.1:8300\"".to_owned();
    }
    if target.starts_with("/v1/catalog/services") {
        return r#"{"consul": [], "shop": ["lictor"]}"#.to_owned();
    }
    let services = ["a", "b", "c", "d", "e", "f", "g", "h", "shop"];
    if target.starts_with("/v1/catalog/nodes") {
        return r#"[{"Node": "n"}]"#.to_owned();
    }
    if target.starts_with("/v1/catalog/node-services/") || target.starts_with("/v1/internal/ui/nodes") {
        let instances = services.iter().flat_map(|name| {
            (0..instances).map(move |i| format!(r#"{{"ID": "{name}-{i}", "Service": "{name}", "ModifyIndex": {i}}}"#))
        });
        let instances = instances.collect::<Vec<_>>().join(",");
        let is_whole = target.starts_with("/v1/internal");
        return if is_whole {
            format!(r#"[{{"Node": "n", "Services": [{instances}]}}]"#)
        } else {
            format!(r#"{{"Node": {{}}, "Services": [{instances}]}}"#)
        };
    }
    if target.starts_with("/v1/health/state/any") {
        let check = r#"{"Node": "n", "CheckID": "serfHealth", "Status": "passing", "ModifyIndex": 1}"#;
        return format!("[{check}]");
    }
    let mut body = String::new();
    for port in 8000..8000 + instances {
        let comma = if body.is_empty() { "" } else { "," };
        let entry = r#"{"Node": {"Address": "127.0.0.1"}, "Service": {"ID": "i", "Tags": ["lictor"], "Port": "#;
        write!(body, "{comma}{entry}{port}}}}}").unwrap();
    }
    format!("[{body}]")
}

fn plain(code: u16, head: &str, body: &str) -> String {
    format!("HTTP/1.1 {code} Told\r\n{head}content-length: {}\r\n\r\n{body}", body.len())
}
