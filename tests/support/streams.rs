//! A service that speaks HTTP/2, each stream served as the test says.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use bytes::Bytes;
use h2::{RecvStream, server, server::SendResponse};
use http::{HeaderMap, Request, Response};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::watch,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

/// One service. Ends with the test.
pub struct Streams {
    pub address: SocketAddr,
    seen: Arc<Seen>,
    leaving: watch::Sender<usize>,
    _serving: JoinSet<()>,
}

#[derive(Default)]
struct Seen {
    connections: AtomicUsize,
    ended: AtomicUsize,
    streams: AtomicUsize,
}

/// One request and the way to answer it.
pub struct Stream {
    pub request: Request<RecvStream>,
    pub respond: SendResponse<Bytes>,
    /// How many streams came before, on whichever connection.
    pub number: usize,
}

impl Streams {
    /// Serves each stream as `serve` does.
    pub async fn serving<F>(serve: impl Fn(Stream) -> F + Clone + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::start(server::Builder::new(), None, serve).await
    }

    /// The same, by these rules, and over TLS where there is a configuration for it.
    pub async fn start<F>(
        rules: server::Builder,
        tls: Option<Arc<ServerConfig>>,
        serve: impl Fn(Stream) -> F + Clone + Send + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::<Seen>::default();
        let (leaving, left) = watch::channel(0);
        let mut serving = JoinSet::new();
        serving.spawn({
            let seen = seen.clone();
            async move {
                let mut connections = JoinSet::new();
                while let Ok((stream, _)) = listener.accept().await {
                    let (rules, serve, seen, left) = (rules.clone(), serve.clone(), seen.clone(), left.clone());
                    seen.connections.fetch_add(1, SeqCst);
                    let tls = tls.clone();
                    connections.spawn(async move {
                        match tls {
                            None => accept(stream, &rules, serve, &seen, left).await,
                            Some(config) => {
                                let shaken = TlsAcceptor::from(config).accept(stream).await.unwrap();
                                accept(shaken, &rules, serve, &seen, left).await;
                            }
                        }
                        seen.ended.fetch_add(1, SeqCst);
                    });
                }
            }
        });
        Self { address, seen, leaving, _serving: serving }
    }

    /// Sends GOAWAY on each connection that is open now; what is under way goes on.
    pub fn leave(&self) {
        self.leaving.send_modify(|times| *times += 1);
    }

    /// Connections so far, those that have ended, and streams so far.
    pub fn seen(&self) -> (usize, usize, usize) {
        (self.seen.connections.load(SeqCst), self.seen.ended.load(SeqCst), self.seen.streams.load(SeqCst))
    }
}

async fn accept<F: Future<Output = ()> + Send + 'static>(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    rules: &server::Builder,
    serve: impl Fn(Stream) -> F,
    seen: &Seen,
    mut left: watch::Receiver<usize>,
) {
    left.mark_unchanged();
    let Ok(mut connection) = rules.handshake::<_, Bytes>(stream).await else { return };
    let mut streams = JoinSet::new();
    loop {
        tokio::select! {
            Ok(()) = left.changed() => connection.graceful_shutdown(),
            accepted = connection.accept() => {
                let Some(Ok((request, respond))) = accepted else { return };
                streams.spawn(serve(Stream { request, respond, number: seen.streams.fetch_add(1, SeqCst) }));
            }
        }
    }
}

impl Stream {
    /// Answers 200 with this text.
    pub fn answer(mut self, text: &str) {
        let head = Response::builder().header("content-length", text.len()).body(()).unwrap();
        let mut body = self.respond.send_response(head, false).unwrap();
        body.send_data(Bytes::copy_from_slice(text.as_bytes()), true).unwrap();
    }

    /// The request's body and trailers.
    pub async fn body(&mut self) -> (String, HeaderMap) {
        let body = self.request.body_mut();
        let mut text = Vec::new();
        while let Some(data) = body.data().await {
            let data = data.unwrap();
            body.flow_control().release_capacity(data.len()).unwrap();
            text.extend_from_slice(&data);
        }
        (String::from_utf8(text).unwrap(), body.trailers().await.unwrap().unwrap_or_default())
    }
}
