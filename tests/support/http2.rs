//! HTTP/2 clients: one that keeps the rules, and one of bare frames that need not.

use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use h2::client::{ResponseFuture, SendRequest};
use http::{HeaderMap, Request, Response};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};

use super::PATIENCE;

/// A connection that keeps the rules. Ends with the test.
pub struct Http2 {
    pub send: SendRequest<Bytes>,
    driving: JoinSet<Result<(), h2::Error>>,
}

/// What came back on a stream.
#[derive(Debug)]
pub struct Came {
    pub head: http::response::Parts,
    pub body: Bytes,
    pub trailers: Option<HeaderMap>,
}

impl Http2 {
    /// With prior knowledge.
    pub async fn connect(to: SocketAddr) -> Self {
        Self::over(TcpStream::connect(to).await.unwrap()).await
    }

    pub async fn over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        // Until the gateway has said how many it takes.
        let handshake = h2::client::Builder::new().initial_max_send_streams(100).handshake(stream);
        let (send, connection) = handshake.await.unwrap();
        let mut driving = JoinSet::new();
        driving.spawn(connection);
        Self { send, driving }
    }

    /// Begins a request; its body ends with `body`.
    pub async fn begin(&self, request: Request<()>, body: &[u8]) -> Result<ResponseFuture, h2::Error> {
        let mut send = self.send.clone().ready().await?;
        let (answer, mut stream) = send.send_request(request, body.is_empty())?;
        if !body.is_empty() {
            stream.send_data(Bytes::copy_from_slice(body), true)?;
        }
        Ok(answer)
    }

    /// A request and its whole answer.
    pub async fn ask(&self, request: Request<()>, body: &[u8]) -> Result<Came, h2::Error> {
        timeout(PATIENCE, async { whole(self.begin(request, body).await?.await?).await }).await.expect("no answer")
    }

    /// The end of the connection.
    pub async fn ended(&mut self) -> Result<(), h2::Error> {
        timeout(PATIENCE, self.driving.join_next()).await.expect("it did not end").unwrap().unwrap()
    }
}

/// Reads an answer to its end.
pub async fn whole(answer: Response<h2::RecvStream>) -> Result<Came, h2::Error> {
    let (head, mut stream) = answer.into_parts();
    let mut body = BytesMut::new();
    while let Some(data) = stream.data().await {
        let data = data?;
        stream.flow_control().release_capacity(data.len())?;
        body.extend_from_slice(&data);
    }
    Ok(Came { head, body: body.freeze(), trailers: stream.trailers().await? })
}

/// GET of a path, from a host.
pub fn get(path: &str) -> Request<()> {
    Request::get(format!("http://api.example.com{path}")).body(()).unwrap()
}

/// What a client says first. Source: RFC 9113 §3.4.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;
pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const PADDED: u8 = 8;
/// Of HEADERS: what the stream depends on is in front.
pub const WEIGHED: u8 = 0x20;

/// One frame. Source: RFC 9113 §4.1.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A field section without any compression; names and values of up to 126 bytes.
pub fn fields(list: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    list.iter().flat_map(|(name, value)| [vec![0], text(name), text(value)].concat()).collect()
}

/// The pseudo-fields of `GET /`.
pub const GET: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "http"), (":authority", "api.example.com"), (":path", "/")];

/// A connection of bare frames.
pub struct Frames {
    pub stream: TcpStream,
    input: BytesMut,
}

impl Frames {
    /// Preface and settings are exchanged already.
    pub async fn connect(to: SocketAddr) -> Self {
        let mut frames = Self::over(TcpStream::connect(to).await.unwrap());
        frames.send(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await;
        frames
    }

    /// Nothing was said yet.
    pub fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        Self { stream, input: BytesMut::new() }
    }

    /// Sends what the connection takes; false when it is at its end.
    pub async fn send(&mut self, bytes: &[u8]) -> bool {
        matches!(timeout(PATIENCE, self.stream.write_all(bytes)).await, Ok(Ok(())))
    }

    /// Kind, flags, stream and payload of the next frame; `None` at the end.
    pub async fn next(&mut self) -> Option<(u8, u8, u32, Bytes)> {
        loop {
            if let Some(head) = self.input.first_chunk::<9>() {
                let number = |bytes: [u8; 4]| u32::from_be_bytes(bytes);
                let length = number([0, head[0], head[1], head[2]]) as usize;
                let (kind, flags, id) = (head[3], head[4], number([head[5], head[6], head[7], head[8]]));
                if self.input.len() >= 9 + length {
                    let payload = self.input.split_to(9 + length).freeze().slice(9..);
                    return Some((kind, flags, id, payload));
                }
            }
            match timeout(PATIENCE, self.stream.read_buf(&mut self.input)).await.expect("nothing came") {
                Ok(1..) => {}
                Ok(0) | Err(_) => return None,
            }
        }
    }

    /// The next frame of one of these kinds; `None` at the end.
    pub async fn until(&mut self, kinds: &[u8]) -> Option<(u8, u8, u32, Bytes)> {
        loop {
            let next = self.next().await?;
            if kinds.contains(&next.0) {
                return Some(next);
            }
        }
    }
}
