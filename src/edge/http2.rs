//! The HTTP/2 server: one connection, with the requests on it, is one task. What a request is, is `stream`.

use std::{
    cell::Cell,
    future::poll_fn,
    pin::pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::{Instant, sleep, timeout};

use super::{
    flood::{Credit, Watch},
    http1::Server,
    stream::{Shared, answer},
    streams::Streams,
};
use crate::{
    http2::{
        Ended, PREFACE, Reason,
        connection::{Connection, Rules},
        hpack::Limits,
    },
    proxy::Client,
    wire::{Io, Link, Timer},
};

/// Requests of one connection at once.
const STREAMS: u32 = 100;
/// What a client may send ahead on one stream, and on all of them; also the most that is kept for it to read.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// What is kept at least of one head, or of trailers, by RFC 9113's measure (§6.5.2): of one that is not far over its limit so
/// much is read that it is refused by an answer of ours, with what it asks for in the log.
const FIELDS: usize = 64 * 1024;
/// The most lines of one, also as crumbs of cookies.
const LINES: usize = 1024;
/// How often a client is asked for a sign of life, and how long it may take to give one.
const PING: Duration = Duration::from_secs(30);
/// How long the end of a connection without requests may take.
const FAREWELL: Duration = Duration::from_secs(2);
/// How long and how much is read after it, of what the client sent before it knew.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 256 * 1024;

/// Whether a connection begins as one of this version; `None`: more has to come.
#[must_use]
pub fn preface(input: &[u8]) -> Option<bool> {
    let common = input.len().min(PREFACE.len());
    match input[..common] == PREFACE[..common] {
        true if common < PREFACE.len() => None,
        begins => Some(begins),
    }
}

/// Serves a connection to its end; `read` came first. `idle` is never set: its end is told to the client, by this.
pub async fn serve(server: &Server, io: Io, read: Bytes, client: Client, idle: &Cell<bool>) {
    idle.set(false);
    let world = server.proxy.world();
    let rules = &world.config.http;
    let (header_timeout, keep_alive) = (rules.header_timeout, rules.keep_alive);
    let limits = Limits { max_list: rules.max_header_size.saturating_mul(2).max(FIELDS), max_lines: LINES };
    drop(world); // an idle connection holds no snapshot

    let rules = Rules { streams: STREAMS, stream_window: STREAM_WINDOW, connection_window: CONNECTION_WINDOW, limits };
    let link = Link::new(io, read, Connection::server(rules));
    let peer = client.peer;
    // A client that comes while we leave gets its first answer.
    let late = server.phase.is_leaving();
    let greeted = tokio::select! {
        greeted = greeted(&link) => greeted,
        // Who has said nothing yet is told nothing.
        () = sleep(header_timeout) => return,
        () = async { server.phase.left().await; sleep(FAREWELL).await }, if !late => return,
    };
    let ended = match greeted {
        Ok(()) => converse(server, &link, client, (header_timeout, keep_alive), late).await,
        Err(ended) => Some(ended),
    };
    let is_gone = ended.as_ref().is_some_and(Ended::is_io);
    if let Some(ended) = ended {
        tracing::debug!(%peer, error = &ended as &dyn std::error::Error, "connection ended");
    }
    // What it ended with may be of use to the client.
    let sent = timeout(FAREWELL, poll_fn(|cx| link.poll_send(cx))).await;
    link.finish();
    if let Ok(Ok(())) = sent
        && !is_gone
    {
        linger(&link).await;
    }
}

/// Reads on for a moment: what comes to a closed socket, or is unread in one, has the client lose what was sent to it last.
async fn linger(link: &Link) {
    let mut came = 0;
    let _ = timeout(LINGER, poll_fn(|cx| link.poll_rest(cx, LINGER_BYTES, &mut came))).await;
}

/// Waits until the client has said that it speaks this version.
async fn greeted(link: &Link) -> Result<(), Ended> {
    poll_fn(|cx| match link.poll_turn(cx) {
        Poll::Ready(ended) => Poll::Ready(Err(ended)),
        Poll::Pending if link.state().is_greeted() => Poll::Ready(Ok(())),
        Poll::Pending => Poll::Pending,
    })
    .await
}

/// Answers all requests of a connection; why it ended, where that was not by our word.
async fn converse(
    server: &Server,
    link: &Link,
    client: Client,
    (header_timeout, keep_alive): (Duration, Duration),
    late: bool,
) -> Option<Ended> {
    let credit = Credit::default();
    let shared = Rc::new(Shared { proxy: server.proxy.clone(), client, credit });
    let mut conversation = Conversation::new(link.clone(), shared);
    let mut left = pin!(server.phase.left());
    let mut timer = Timer::default();
    let (mut leaving, mut ending) = (late, None);
    poll_fn(|cx| {
        loop {
            if let Poll::Ready(ended) = conversation.poll(cx) {
                return Poll::Ready(ended);
            }
            let partial = conversation.watch.partial_since();
            if partial.is_some() {
                link.acknowledge(); // there are clients that send the rest only then
            }
            leaving = leaving || left.as_mut().poll(cx).is_ready();
            let streams = &mut conversation.streams;
            let begun = streams.has_served();
            if ending.is_none() && !(leaving && (begun || !late)) {
                let limit = if begun && partial.is_none() { keep_alive } else { header_timeout };
                ready!(streams.poll_quiet(partial.filter(|_| begun), limit, &mut timer, cx));
            }
            if ending.is_some() {
                if !link.is_clear() {
                    streams.linger();
                }
                ready!(streams.poll_quiet(ending, FAREWELL, &mut timer, cx));
                link.codec().part();
                return Poll::Ready(None);
            }
            ending = Some(Instant::now());
            link.codec().leave();
        }
    })
    .await
}

/// A connection on which both sides have said who they are.
struct Conversation {
    // First: what is under way ends before its connection does.
    streams: Streams,
    link: Link,
    shared: Rc<Shared>,
    watch: Watch,
    pulse: Pulse,
}

impl Conversation {
    fn new(link: Link, shared: Rc<Shared>) -> Self {
        let watch = Watch::new(shared.credit.clone());
        Self { streams: Streams::new(), link, shared, watch, pulse: Pulse::new() }
    }

    /// Goes on with everything; ready when the connection has ended.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Ended>> {
        if self.pulse.poll(&self.link, cx).is_ready() {
            return Poll::Ready(None);
        }
        loop {
            let read = self.link.poll_read(cx);
            if self.watch.is_flood(&self.link.counts()) {
                return Poll::Ready(Some(self.link.codec().fail(Reason::ENHANCE_YOUR_CALM)));
            }
            if let Poll::Ready(ended) = read {
                return Poll::Ready(Some(ended));
            }
            while let Some((head, stream)) = self.link.accept() {
                self.shared.credit.request();
                self.streams.begin(|| answer(self.shared.clone(), head, stream));
            }
            // Before what they send leaves.
            self.streams.poll(cx);
            let was_full = self.link.is_full();
            match self.link.poll_send(cx) {
                Poll::Ready(Err(ended)) => return Poll::Ready(Some(ended)),
                _ if was_full && !self.link.is_full() => {} // there is more to read
                Poll::Ready(Ok(())) if self.link.state().is_done() => return Poll::Ready(None),
                _ => return Poll::Pending,
            }
        }
    }
}

/// Asks for signs of life.
struct Pulse {
    timer: Timer,
    next: Instant,
    is_awaited: bool,
    /// What had been heard when it was asked last.
    heard: u64,
    /// What had left by then, where more waited.
    stuck: Option<u64>,
}

impl Pulse {
    fn new() -> Self {
        Self { timer: Timer::default(), next: Instant::now() + PING, is_awaited: false, heard: 0, stuck: None }
    }

    /// Ready when none comes, or the client takes nothing of what waits for it.
    fn poll(&mut self, link: &Link, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.timer.poll(cx, self.next));
            let heard = link.heard();
            // Whatever comes is a sign: the answer may wait behind what the client has not read yet.
            // But who says something now and then, and never reads, holds what waits for ever.
            let stuck = (!link.is_clear()).then(|| link.told());
            if self.is_awaited && (heard == self.heard || (stuck.is_some() && stuck == self.stuck)) {
                return Poll::Ready(());
            }
            (self.is_awaited, self.stuck) = (true, stuck);
            link.codec().ask();
            (self.next, self.heard) = (Instant::now() + PING, heard);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::{
        io::AsyncWriteExt,
        net::{TcpListener, TcpStream},
    };

    use super::*;

    /// After how many seconds a client is given up that says something every ten, and may never read what waits for it.
    async fn given_up(reads: bool) -> Option<u64> {
        let start = Instant::now();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (near, far) = tokio::join!(listener.accept(), TcpStream::connect(address));
        let (mut from, mut to) = far.unwrap().into_split();
        let limits = Limits { max_list: 4096, max_lines: 10 };
        let rules = Rules { streams: 1, stream_window: 65_535, connection_window: 65_535, limits };
        let link = Link::new(Io::new(near.unwrap().0), Bytes::new(), Connection::server(rules));
        link.codec().out().push(vec![0; 64 << 20].into());
        let mut pulse = Pulse::new();
        let server = poll_fn(|cx| {
            assert!(link.poll_turn(cx).is_pending());
            pulse.poll(&link, cx)
        });
        let speaking = async {
            to.write_all(PREFACE).await.unwrap();
            to.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
            loop {
                sleep(Duration::from_secs(10)).await;
                to.write_all(&[0, 0, 0, 99, 0, 0, 0, 0, 0]).await.unwrap();
            }
        };
        let reading = async {
            if reads {
                let _ = tokio::io::copy(&mut from, &mut tokio::io::sink()).await;
            }
            pending::<()>().await;
        };
        tokio::select! {
            () = server => Some(start.elapsed().as_secs()),
            () = async { tokio::join!(speaking, reading); } => None,
            () = sleep(Duration::from_mins(10)) => None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_speaks_and_never_reads_is_given_up() {
        assert_eq!((given_up(false).await, given_up(true).await), (Some(60), None));
    }

    #[test]
    fn a_connection_is_told_by_its_first_bytes_as_soon_as_they_tell() {
        for (input, want) in [
            (&b""[..], None),
            (b"P", None),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r", None),
            (PREFACE, Some(true)),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04", Some(true)),
            (b"PO", Some(false)),
            (b"PRI * HTTP/1.1\r\n", Some(false)),
            (b"GET / HTTP/1.1\r\n", Some(false)),
        ] {
            assert_eq!(preface(input), want, "{}", input.escape_ascii());
        }
    }
}
