//! A service that speaks gRPC as far as calls begin and end: it remembers what it was asked for and answers as it is told.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::{net::TcpListener, task::JoinSet};

/// What a call gets.
#[derive(Clone, Copy, Debug)]
pub enum Reply {
    /// Nothing, not even a head.
    Silence,
    /// A message, and no end.
    Half,
    /// A message, and this status in the trailers.
    Status(u16),
}

/// One service. Ends with the test.
pub struct GrpcOrigin {
    pub address: SocketAddr,
    got: Arc<Mutex<Vec<HeaderMap>>>,
    _serving: JoinSet<()>,
}

impl GrpcOrigin {
    /// Answers each call as `reply` says, given how many there were before.
    pub async fn start(reply: impl Fn(usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let got = Arc::<Mutex<Vec<HeaderMap>>>::default();
        let mut serving = JoinSet::new();
        let (heard, reply) = (got.clone(), Arc::new(reply));
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (heard, reply) = (heard.clone(), reply.clone());
                connections.spawn(async move {
                    let mut connection = h2::server::handshake(stream).await.unwrap();
                    // What is kept is not reset.
                    let mut open = Vec::new();
                    while let Some(Ok((request, mut respond))) = connection.accept().await {
                        let before = {
                            let mut heard = heard.lock().unwrap();
                            heard.push(request.headers().clone());
                            heard.len() - 1
                        };
                        let reply = reply(before);
                        if matches!(reply, Reply::Silence) {
                            open.push((Some(respond), None, request));
                        } else {
                            let begun =
                                Response::builder().header("content-type", "application/grpc").body(()).unwrap();
                            let mut stream = respond.send_response(begun, false).unwrap();
                            stream.send_data(Bytes::from_static(b"\0\0\0\0\0"), false).unwrap();
                            if let Reply::Status(code) = reply {
                                let status = ("grpc-status".parse().unwrap(), HeaderValue::from(code));
                                stream.send_trailers([status].into_iter().collect()).unwrap();
                            }
                            open.push((None, Some(stream), request));
                        }
                    }
                });
            }
        });
        Self { address, got, _serving: serving }
    }

    /// The fields of all calls so far.
    pub fn got(&self) -> Vec<HeaderMap> {
        self.got.lock().unwrap().clone()
    }
}

/// A call without a message, with these further fields.
pub fn call(path: &str, fields: &[(&'static str, &str)]) -> Request<()> {
    let mut request = Request::post(format!("http://api.example.com{path}")).body(()).unwrap();
    request.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    request.headers_mut().insert("te", HeaderValue::from_static("trailers"));
    for (name, value) in fields {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    request
}
