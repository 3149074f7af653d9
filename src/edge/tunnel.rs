//! Upgraded connections: which upgrade a request asks for, and the bytes both ways after it was granted.
//! What is read on either side is never a request again.

use std::{
    future::poll_fn,
    io::{self, IoSlice},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, BytesMut};
use http::{HeaderValue, Version, header};
use tokio::time::Instant;

use crate::{
    http1::{framing::Length, request::RequestHead},
    wire::{Io, Timer, socket::Then},
};

/// What is read at once; so much is held in each direction, while there is something to hold.
const ROOM: usize = 32 * 1024;

/// The protocols that a request asks for and that may pass. Not `h2c`, which would hide requests from us. Nobody may
/// ask in HTTP/1.0, nor with a body, whose bytes would stand before those of the other protocol.
/// Source: RFC 9110 §7.8.
#[must_use]
pub fn wish(head: &RequestHead) -> Option<HeaderValue> {
    if head.version != Version::HTTP_11 || !matches!(head.length, Length::Empty | Length::Exact(0)) {
        return None;
    }
    let members = |name| head.fields.get_all(name).flat_map(|value| value.as_bytes().split(|&b| b == b','));
    members(header::CONNECTION).find(|option| option.trim_ascii().eq_ignore_ascii_case(b"upgrade"))?;
    let wanted: Vec<&[u8]> = members(header::UPGRADE)
        .map(<[u8]>::trim_ascii)
        .filter(|protocol| !protocol.is_empty() && !is_h2c(protocol))
        .collect();
    let is_valid = wanted.iter().all(|protocol| protocol.iter().all(|&b| is_of_protocol(b)));
    if wanted.is_empty() || !is_valid {
        return None;
    }
    HeaderValue::from_bytes(&wanted.join(&b", "[..])).ok()
}

fn is_h2c(protocol: &[u8]) -> bool {
    let name = protocol.split(|&b| b == b'/').next().unwrap_or_default();
    name.trim_ascii().eq_ignore_ascii_case(b"h2c")
}

/// A token, a slash and a token.
fn is_of_protocol(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~/".contains(&byte)
}

/// Bytes one way.
struct Flow {
    held: BytesMut,
    state: State,
    unflushed: bool,
    passed: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// The one side has ended.
    Ended,
    /// The other side was told.
    Closed,
}

/// Passes bytes both ways until both sides have ended, one of them has broken, or nothing has passed for `idle`.
/// `upward` and `downward` were read already, and go first. Gives how many bytes went up, and down.
pub async fn run(client: &Io, upward: BytesMut, instance: &Io, downward: BytesMut, idle: Duration) -> (usize, usize) {
    let mut up = Flow { held: upward, state: State::Open, unflushed: false, passed: 0 };
    let mut down = Flow { held: downward, state: State::Open, unflushed: false, passed: 0 };
    let mut timer = Timer::default();
    let mut since = Instant::now();
    let broken = poll_fn(|cx| {
        let (mut ended, mut moved) = (true, false);
        for (flow, from, to) in [(&mut up, client, instance), (&mut down, instance, client)] {
            match flow.poll(from, to, &mut moved, cx) {
                Poll::Ready(Err(e)) => return Poll::Ready(Some(e)),
                Poll::Ready(Ok(())) => {}
                Poll::Pending => ended = false,
            }
        }
        if ended {
            return Poll::Ready(None);
        }
        if moved {
            since = Instant::now();
        }
        timer.poll(cx, since + idle).map(|()| None)
    })
    .await;
    if broken.is_some() {
        // Neither side shall take this for an end.
        client.abort();
        instance.abort();
    }
    (up.passed, down.passed)
}

impl Flow {
    /// Moves what can be moved; ready once the end has been passed on. `moved`: something was.
    fn poll(&mut self, from: &Io, to: &Io, moved: &mut bool, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            while !self.held.is_empty() {
                let written = ready!(to.poll_write(cx, &[IoSlice::new(&self.held)], Then::Leave))?;
                self.held.advance(written);
                self.passed += written;
                (*moved, self.unflushed) = (true, true);
            }
            if self.state == State::Open {
                match from.poll_read(cx, &mut self.held, ROOM)? {
                    Poll::Ready(0) => self.state = State::Ended,
                    Poll::Ready(_) => {
                        *moved = true;
                        continue;
                    }
                    Poll::Pending => {}
                }
            }
            self.held = BytesMut::new(); // a quiet connection holds no memory
            if self.unflushed {
                ready!(to.poll_flush(cx))?;
                self.unflushed = false;
            }
            match self.state {
                State::Open => return Poll::Pending,
                State::Ended => {
                    to.finish();
                    self.state = State::Closed;
                }
                State::Closed => return Poll::Ready(Ok(())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };

    use super::*;
    use crate::http1::{head::Limits, request::RequestReader};

    fn wished(head: &str) -> Option<String> {
        let mut bytes = BytesMut::from(format!("{head}\r\n\r\n").as_bytes());
        let head = RequestReader::new(Limits::default()).read(&mut bytes).unwrap().unwrap();
        wish(&head).map(|protocols| protocols.to_str().unwrap().to_owned())
    }

    #[test]
    fn an_upgrade_is_asked_for_in_http_1_1_without_a_body_and_never_to_h2c() {
        for (fields, wanted) in [
            ("Connection: upgrade\r\nUpgrade: websocket", Some("websocket")),
            ("Connection: keep-alive, UPGRADE\r\nUpgrade: WebSocket", Some("WebSocket")),
            ("Connection: upgrade\r\nUpgrade: a/1, , b", Some("a/1, b")),
            ("Connection: upgrade\r\nUpgrade: a\r\nUpgrade: b", Some("a, b")),
            ("Connection: upgrade\r\nUpgrade: h2c, websocket", Some("websocket")),
            ("Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 0", Some("websocket")),
            ("Connection: upgrade\r\nUpgrade: h2c", None),
            ("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: H2C\r\nHTTP2-Settings: x", None),
            ("Connection: upgrade\r\nUpgrade: h2c/1", None),
            ("Connection: upgrade\r\nUpgrade: two words", None),
            ("Connection: upgrade\r\nUpgrade: ", None),
            ("Connection: upgrade", None),
            ("Connection: close\r\nUpgrade: websocket", None),
            ("Upgrade: websocket", None),
            ("Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 1", None),
            ("Connection: upgrade\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked", None),
        ] {
            let head = format!("GET / HTTP/1.1\r\nHost: x\r\n{fields}");
            assert_eq!(wished(&head).as_deref(), wanted, "{fields}");
        }
        assert_eq!(wished("GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: websocket"), None);
    }

    async fn pair() -> (Io, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
        (Io::new(near.unwrap()), far.unwrap().0)
    }

    #[tokio::test(start_paused = true)]
    async fn a_tunnel_ends_when_nothing_has_passed_either_way_for_its_time() {
        let ((client, mut at_client), (instance, mut at_instance)) = (pair().await, pair().await);
        let begun = Instant::now();
        let play = async {
            // Bytes of one side keep both alive.
            for _ in 0..5 {
                tokio::time::sleep(Duration::from_secs(40)).await;
                at_client.write_all(b"a").await.unwrap();
                assert_eq!(at_instance.read_u8().await.unwrap(), b'a');
            }
        };
        let tunnel = run(&client, BytesMut::new(), &instance, BytesMut::new(), Duration::from_mins(1));
        tokio::join!(tunnel, play);
        assert_eq!(begun.elapsed().as_secs(), 5 * 40 + 60);
    }

    #[tokio::test]
    async fn what_is_held_for_who_does_not_read_is_bounded() {
        let ((client, at_client), (instance, mut at_instance)) = (pair().await, pair().await);
        let mut down = Flow { held: BytesMut::new(), state: State::Open, unflushed: false, passed: 0 };
        let piece = vec![0; 1024 * 1024];
        for _ in 0..64 {
            tokio::select! {
                sent = at_instance.write_all(&piece) => sent.unwrap(),
                _ = poll_fn(|cx| down.poll(&instance, &client, &mut false, cx)) => unreachable!("nobody has ended"),
                () = tokio::time::sleep(Duration::from_millis(100)) => break,
            }
        }
        assert!((1..=ROOM).contains(&down.held.len()), "{}", down.held.len());
        drop(at_client);
    }
}
