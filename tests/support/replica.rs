//! An instance that comes and goes: it ends in peace, as who is told to, or all at once, as in a crash.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

use super::{
    origin::{Connection, Got},
    reset_at_end,
};

/// An instance that answers with its name, after a while.
pub struct Replica {
    pub name: String,
    pub address: SocketAddr,
    got: Arc<Mutex<Vec<Got>>>,
    /// Connections that are open.
    open: watch::Receiver<usize>,
    end: watch::Sender<End>,
    /// It answers nothing any more.
    hangs: Arc<AtomicBool>,
    serving: JoinSet<()>,
}

/// The first line of an answer.
const LINE: &str = "HTTP/1.1 200 OK\r\n";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    NotYet,
    InPeace,
    Crash,
}

impl Replica {
    /// Listens; each answer takes so long, and each connection carries so many.
    pub async fn start(name: String, takes: Duration, most: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let got = Arc::<Mutex<Vec<Got>>>::default();
        let (end, told) = watch::channel(End::NotYet);
        let (count, open) = watch::channel(0);
        let mut serving = JoinSet::new();
        let hangs = Arc::<AtomicBool>::default();
        let manner = Manner { takes, most, hangs: hangs.clone() };
        serving.spawn(listen(listener, name.clone(), manner, got.clone(), told, count));
        Self { name, address, got, open, end, hangs, serving }
    }

    /// All requests so far.
    pub fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }

    /// Connections that are open now.
    pub fn connections(&self) -> usize {
        *self.open.borrow()
    }

    /// Accepts no more, closes idle connections, and answers what is under way.
    pub async fn leave(self) -> Vec<Got> {
        self.over(End::InPeace).await
    }

    /// From now on takes connections and requests, and answers none.
    pub fn hang(&self) {
        self.hangs.store(true, Relaxed);
    }

    /// Resets all connections; of answers under way the first line may have come.
    pub async fn crash(self) -> Vec<Got> {
        self.over(End::Crash).await
    }

    async fn over(mut self, end: End) -> Vec<Got> {
        self.end.send_replace(end);
        while self.serving.join_next().await.is_some() {}
        self.got()
    }
}

/// How connections are served.
#[derive(Clone)]
struct Manner {
    /// An answer takes so long.
    takes: Duration,
    /// A connection carries so many.
    most: usize,
    hangs: Arc<AtomicBool>,
}

async fn listen(
    listener: TcpListener,
    name: String,
    manner: Manner,
    got: Arc<Mutex<Vec<Got>>>,
    mut told: watch::Receiver<End>,
    count: watch::Sender<usize>,
) {
    let answer = |more: &str| format!("{LINE}content-length: {}\r\n{more}\r\n{name}", name.len()).into_bytes();
    let answers = Arc::new([answer(""), answer("connection: close\r\n")]);
    let count = Arc::new(count);
    let mut connections = JoinSet::new();
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted.unwrap().0,
            _ = told.wait_for(|end| *end != End::NotYet) => break,
        };
        let (answers, got, told, count) = (answers.clone(), got.clone(), told.clone(), count.clone());
        let manner = manner.clone();
        connections.spawn(async move {
            count.send_modify(|count| *count += 1);
            serve(stream, &answers, manner, got, told).await;
            count.send_modify(|count| *count -= 1);
        });
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn serve(
    stream: TcpStream,
    [answer, last]: &[Vec<u8>; 2],
    Manner { takes, most, hangs }: Manner,
    got: Arc<Mutex<Vec<Got>>>,
    mut told: watch::Receiver<End>,
) {
    let mut crash = told.clone();
    let mut connection = Connection::new(stream, got);
    let busy = AtomicBool::new(false);
    let peaceful = async {
        for turn in 1.. {
            tokio::select! {
                biased;
                request = connection.request() => if request.is_none() { return },
                _ = told.wait_for(|end| *end != End::NotYet) => return,
            }
            busy.store(true, Relaxed);
            tokio::time::sleep(takes).await;
            busy.store(false, Relaxed);
            if hangs.load(Relaxed) {
                let _ = told.wait_for(|end| *end != End::NotYet).await;
                return;
            }
            // In one write: no answer is cut in its body.
            let answer = if turn == most { last } else { answer };
            if connection.stream.write_all(answer).await.is_err() || turn == most {
                return;
            }
        }
    };
    let crashed = tokio::select! {
        () = peaceful => false,
        _ = crash.wait_for(|end| *end == End::Crash) => true,
    };
    if crashed {
        if busy.load(Relaxed) {
            let _ = connection.stream.try_write(LINE.as_bytes());
        }
        reset_at_end(&connection.stream);
    }
}
