//! A service behind the gateway: answers as it is told, and remembers the bytes that it got.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

/// One service. Ends with the test.
pub struct Origin {
    pub address: SocketAddr,
    got: Arc<Mutex<Vec<Got>>>,
    _serving: JoinSet<()>,
}

/// One request as it came.
#[derive(Clone, Debug)]
pub struct Got {
    /// Start line and fields, as bytes that are text.
    pub head: String,
    /// The body without its framing.
    pub body: Vec<u8>,
}

impl Got {
    /// The value of a field, or nothing.
    pub fn field(&self, name: &str) -> &str {
        self.fields(name).next().unwrap_or_default()
    }

    /// All values of a field.
    pub fn fields<'a, 'n>(&'a self, name: &'n str) -> impl Iterator<Item = &'a str> + use<'a, 'n> {
        let pairs = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        pairs.filter(move |(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    /// Method, target and version.
    pub fn line(&self) -> &str {
        self.head.lines().next().unwrap_or_default()
    }
}

impl Origin {
    /// Answers 200 with its name as body.
    pub async fn start(name: &str) -> Self {
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{name}", name.len());
        Self::answering(move |_| answer.clone().into_bytes()).await
    }

    /// Answers each request with the bytes that `answer` gives. Bytes without a length end with the connection.
    pub async fn answering(answer: impl Fn(&Got) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let answer = Arc::new(answer);
        Self::serving(move |mut connection| {
            let answer = answer.clone();
            async move {
                while let Some(got) = connection.request().await {
                    let bytes = answer(&got);
                    let framed = [&b"content-length"[..], b"HTTP/1.1 204", b"chunked", b"HTTP/1.1 304"];
                    let framed = framed.iter().any(|mark| bytes.windows(mark.len()).any(|at| at == *mark));
                    if connection.stream.write_all(&bytes).await.is_err() || !framed {
                        break;
                    }
                }
            }
        })
        .await
    }

    /// Sends early hints with each request, and other interim answers around them; the answer once it is let to.
    pub async fn hinting(go: watch::Receiver<bool>) -> Self {
        Self::serving(move |mut connection| {
            let mut go = go.clone();
            async move {
                while connection.request().await.is_some() {
                    let hints = "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n\
                                 HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nConnection: x-hop\r\nX-Hop: 1\r\n\r\n";
                    connection.stream.write_all(hints.as_bytes()).await.unwrap();
                    let _ = go.wait_for(|go| *go).await;
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                    connection.stream.write_all(answer).await.unwrap();
                }
            }
        })
        .await
    }

    /// Serves each connection as `serve` does.
    pub async fn serving<F>(serve: impl Fn(Connection) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let got = Arc::<Mutex<Vec<Got>>>::default();
        let mut serving = JoinSet::new();
        serving.spawn({
            let got = got.clone();
            async move {
                let mut connections = JoinSet::new();
                while let Ok((stream, _)) = listener.accept().await {
                    connections.spawn(serve(Connection::new(stream, got.clone())));
                }
            }
        });
        Self { address, got, _serving: serving }
    }

    /// All requests so far.
    pub fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }

    /// How many requests came so far.
    pub fn count(&self) -> usize {
        self.got.lock().unwrap().len()
    }

    /// The only request that came.
    pub fn only(&self) -> Got {
        let got = self.got();
        assert_eq!(got.len(), 1, "{got:#?}");
        got[0].clone()
    }
}

/// A connection that the gateway made.
pub struct Connection {
    pub stream: TcpStream,
    input: Vec<u8>,
    got: Arc<Mutex<Vec<Got>>>,
}

impl Connection {
    /// `got` remembers its requests.
    pub fn new(stream: TcpStream, got: Arc<Mutex<Vec<Got>>>) -> Self {
        Self { stream, input: Vec::new(), got }
    }

    /// The head of the next request; `None` when there is none.
    pub async fn head(&mut self) -> Option<String> {
        let end = loop {
            if let Some(end) = self.input.windows(4).position(|at| at == b"\r\n\r\n") {
                break end + 4;
            }
            self.more().await?;
        };
        let head = self.input.drain(..end).collect();
        Some(String::from_utf8(head).unwrap())
    }

    /// The next request with its body, remembered.
    pub async fn request(&mut self) -> Option<Got> {
        let head = self.head().await?;
        let mut got = Got { head, body: Vec::new() };
        if let Ok(length) = got.field("content-length").parse::<usize>() {
            while self.input.len() < length {
                self.more().await?;
            }
            got.body = self.input.drain(..length).collect();
        } else if got.field("transfer-encoding") == "chunked" {
            while let size @ 1.. = self.chunk_size().await? {
                while self.input.len() < size + 2 {
                    self.more().await?;
                }
                got.body.extend(self.input.drain(..size + 2).take(size));
            }
            while !self.line().await?.is_empty() {}
        }
        self.got.lock().unwrap().push(got.clone());
        Some(got)
    }

    async fn chunk_size(&mut self) -> Option<usize> {
        Some(usize::from_str_radix(&self.line().await?, 16).unwrap())
    }

    async fn line(&mut self) -> Option<String> {
        let end = loop {
            if let Some(end) = self.input.windows(2).position(|at| at == b"\r\n") {
                break end;
            }
            self.more().await?;
        };
        let line = self.input.drain(..end + 2).take(end).collect();
        Some(String::from_utf8(line).unwrap())
    }

    /// Reads until so many bytes have come behind the head.
    pub async fn until_input(&mut self, bytes: usize) {
        while self.input.len() < bytes {
            self.more().await.unwrap();
        }
    }

    /// Reads what comes; `None` at the end.
    pub async fn more(&mut self) -> Option<usize> {
        self.stream.read_buf(&mut self.input).await.ok().filter(|n| *n > 0)
    }
}
