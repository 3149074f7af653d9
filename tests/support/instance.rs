//! A service of bare HTTP/2 frames, which need not keep the rules.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use tokio::{io::AsyncReadExt, net::TcpListener, task::JoinSet};

use super::{
    Gateway,
    hpack::Blocks,
    http2::{
        CONTINUATION, DATA, END_HEADERS, END_STREAM, Frames, HEADERS, PREFACE, SETTINGS, WINDOW_UPDATE, fields, frame,
    },
};

/// One service. Ends with the test.
pub struct Instance {
    pub address: SocketAddr,
    connections: Arc<AtomicUsize>,
    _serving: JoinSet<()>,
}

/// A connection that the gateway made. Settings were sent on it, and its preface was read.
pub struct Peer {
    pub frames: Frames,
    /// How many connections came before.
    pub number: usize,
    /// What the connection has room for, as far as was read between requests.
    pub room: usize,
    blocks: Blocks,
}

/// The head of a request.
#[derive(Debug)]
pub struct Asked {
    pub stream: u32,
    pub list: Vec<(String, String)>,
    pub ended: bool,
}

impl Asked {
    /// The value of a field, or nothing.
    pub fn field(&self, name: &str) -> &str {
        self.list.iter().find(|(found, _)| found == name).map_or("", |(_, value)| value)
    }
}

impl Instance {
    /// Sends these settings on each connection, and serves it as `serve` does.
    pub async fn serving<F>(settings: Vec<u8>, serve: impl Fn(Peer) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::<AtomicUsize>::default();
        let counted = connections.clone();
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut peers = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut preface = [0; PREFACE.len()];
                stream.read_exact(&mut preface).await.unwrap();
                assert_eq!(preface, PREFACE);
                let mut frames = Frames::over(stream);
                frames.send(&frame(SETTINGS, 0, 0, &settings)).await;
                let number = counted.fetch_add(1, SeqCst);
                peers.spawn(serve(Peer { frames, number, room: 65_535, blocks: Blocks::default() }));
            }
        });
        Self { address, connections, _serving: serving }
    }

    /// How many connections were made.
    pub fn connections(&self) -> usize {
        self.connections.load(SeqCst)
    }

    /// A gateway in front of it, for which no failure is too many; `lines` are of the service.
    pub async fn before(&self, protocol: &str, lines: &str) -> Gateway {
        let route = "[[routes]]\nmatch = { path = \"/{*rest}\" }\nservice = \"web\"\n";
        let service = format!("[services.web]\ninstances = [\"{}\"]\nprotocol = \"{protocol}\"\n", self.address);
        let breaker = "breaker = { consecutive = 1000, min_requests = 10000 }\n";
        let gateway = Gateway::fixed(&format!("[http]\nworkers = 1\n{service}{breaker}{lines}\n{route}")).await;
        gateway.until_ready().await;
        gateway
    }
}

impl Peer {
    /// The next request; `None` at the end.
    pub async fn request(&mut self) -> Option<Asked> {
        let (flags, stream, block) = loop {
            let (kind, flags, stream, payload) = self.frames.until(&[HEADERS, WINDOW_UPDATE]).await?;
            match kind {
                HEADERS => break (flags, stream, payload),
                _ if stream == 0 => self.room += u32::from_be_bytes(payload[..].try_into().unwrap()) as usize,
                _ => {}
            }
        };
        let (ended, mut last, mut block) = (flags & END_STREAM != 0, flags & END_HEADERS != 0, block.to_vec());
        while !last {
            let (kind, flags, _, piece) = self.frames.next().await?;
            assert_eq!(kind, CONTINUATION);
            block.extend_from_slice(&piece);
            last = flags & END_HEADERS != 0;
        }
        Some(Asked { stream, list: self.blocks.read(&block), ended })
    }

    /// What was read so far.
    pub fn blocks(&self) -> &Blocks {
        &self.blocks
    }

    /// Sends what the connection takes.
    pub async fn send(&mut self, bytes: &[u8]) {
        self.frames.send(bytes).await;
    }
}

/// A head.
pub fn head(stream: u32, list: &[(&str, &str)], flags: u8) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | flags, stream, &fields(list))
}

/// A whole answer with this body.
pub fn answer(stream: u32, body: &str) -> Vec<u8> {
    [head(stream, &[(":status", "200")], 0), frame(DATA, END_STREAM, stream, body.as_bytes())].concat()
}
