//! The HTTP/2 server: one connection, with the requests on it, is one task. What a request is, is `stream`.

use std::{
    cell::Cell,
    future::poll_fn,
    io,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use h2::{
    Ping, PingPong,
    server::{Builder, Connection, Handshake},
};
use tokio::time::{Instant, sleep};

use super::{
    flood::{Credit, Watched},
    http1::Server,
    stream::{Shared, answer},
    streams::Streams,
};
use crate::{
    proxy::Client,
    wire::{Driven, Io, Outlet, Timer, gathered},
};

/// What a client of this version sends first. Source: RFC 9113 §3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Requests of one connection at once.
const STREAMS: u32 = 100;
/// What a client may send ahead on one stream, and on all of them; also the most that is kept for it to read.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// What is taken at least of one head, or of trailers, by RFC 9113's measure (§6.5.2): of trailers beyond it the library
/// loses a part without a word.
const FIELDS: u32 = 64 * 1024;
/// What small frames of data may cost that nobody has read yet: many small messages are no attack.
const SMALL_FRAMES: usize = 4 * 1024 * 1024;
/// How often a client is asked for a sign of life, and how long it may take to give one.
const PING: Duration = Duration::from_secs(30);
/// How long the end of a connection without requests may take.
const FAREWELL: Duration = Duration::from_secs(2);

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
    // One that is not far over it is refused by an answer of ours; and where trailers are too large, enough of them is
    // kept for that to be seen.
    let max_head = u32::try_from(rules.max_header_size.saturating_mul(2)).unwrap_or(u32::MAX).max(FIELDS);
    drop(world); // an idle connection holds no snapshot

    let peer = client.peer;
    let credit = Credit::default();
    let (stream, outlet) = gathered(io.rewound(read));
    let handshake = Builder::new()
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(max_head)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(STREAM_WINDOW as usize)
        .data_frame_budget(SMALL_FRAMES)
        .handshake(Watched::new(stream, credit.clone()));
    // A client that comes while we leave gets its first answer.
    let late = server.phase.is_leaving();
    let driven = Driven { codec: handshake, outlet };
    let (connection, outlet) = tokio::select! {
        greeted = greeted(driven) => match greeted {
            Ok(greeted) => greeted,
            Err(error) => return tracing::debug!(%peer, %error, "connection ended"),
        },
        // Who has said nothing yet is told nothing.
        () = sleep(header_timeout) => return,
        () = async { server.phase.left().await; sleep(FAREWELL).await }, if !late => return,
    };
    let shared = Rc::new(Shared { proxy: server.proxy.clone(), client, credit, outlet: outlet.clone() });
    let mut conversation = Conversation::new(connection, shared);

    let mut left = pin!(server.phase.left());
    let mut timer = Timer::default();
    let (mut leaving, mut ending) = (late, None);
    poll_fn(|cx| {
        loop {
            match conversation.poll(cx) {
                Poll::Ready(Ok(())) => return Poll::Ready(()),
                Poll::Ready(Err(error)) => {
                    tracing::debug!(%peer, error = &error as &dyn std::error::Error, "connection ended");
                    return Poll::Ready(());
                }
                Poll::Pending => {}
            }
            if let Poll::Ready(Err(error)) = outlet.poll_send(cx) {
                tracing::debug!(%peer, %error, "connection broke");
                return Poll::Ready(());
            }
            if conversation.shared.credit.partial_since().is_some() {
                outlet.acknowledge(); // there are clients that send the rest only then
            }
            leaving = leaving || left.as_mut().poll(cx).is_ready();
            let streams = &mut conversation.streams;
            let begun = streams.has_served();
            if ending.is_none() && !(leaving && (begun || !late)) {
                let partial = conversation.shared.credit.partial_since();
                let limit = if begun && partial.is_none() { keep_alive } else { header_timeout };
                ready!(streams.poll_quiet(partial.filter(|_| begun), limit, &mut timer, cx));
            }
            if ending.is_some() {
                if !outlet.is_clear() {
                    streams.linger();
                }
                return streams.poll_quiet(ending, FAREWELL, &mut timer, cx);
            }
            ending = Some(Instant::now());
            conversation.connection.graceful_shutdown();
        }
    })
    .await;
}

/// Waits until the client has said that it speaks this version.
async fn greeted(mut driven: Driven<Handshake<Watched, Bytes>>) -> io::Result<(Connection<Watched, Bytes>, Outlet)> {
    let connection = poll_fn(|cx| Pin::new(&mut driven).poll(cx)).await?.map_err(io::Error::other)?;
    Ok((connection, driven.outlet))
}

/// A connection on which both sides have said who they are.
struct Conversation {
    // First: what is under way ends before its connection does.
    streams: Streams,
    connection: Connection<Watched, Bytes>,
    shared: Rc<Shared>,
    pulse: Option<Pulse>,
}

impl Conversation {
    fn new(mut connection: Connection<Watched, Bytes>, shared: Rc<Shared>) -> Self {
        let pulse = connection.ping_pong().map(|ping| Pulse::new(ping, shared.credit.clone()));
        Self { streams: Streams::new(), connection, shared, pulse }
    }

    /// Goes on with everything; ready when the connection has ended.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        if self.pulse.as_mut().is_some_and(|pulse| pulse.poll(cx).is_ready()) {
            return Poll::Ready(Ok(()));
        }
        loop {
            // Before the connection, which sends what they have for it.
            self.streams.poll(cx);
            match ready!(self.connection.poll_accept(cx)) {
                Some(Ok((request, respond))) => {
                    self.shared.credit.request();
                    self.streams.begin(|| answer(self.shared.clone(), request, respond));
                }
                Some(Err(error)) => return Poll::Ready(Err(error)),
                None => return Poll::Ready(Ok(())),
            }
        }
    }
}

/// Asks for signs of life.
struct Pulse {
    ping: PingPong,
    timer: Timer,
    next: Instant,
    is_awaited: bool,
    credit: Credit,
    /// What had been heard when it was asked last.
    heard: u64,
}

impl Pulse {
    fn new(ping: PingPong, credit: Credit) -> Self {
        Self { ping, timer: Timer::default(), next: Instant::now() + PING, is_awaited: false, credit, heard: 0 }
    }

    /// Ready when none comes.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.is_awaited && self.ping.poll_pong(cx).is_ready() {
                self.is_awaited = false;
            }
            ready!(self.timer.poll(cx, self.next));
            let heard = self.credit.heard();
            // Whatever comes is a sign: the question may wait behind what the client has not read yet.
            let is_silent = self.is_awaited && heard == self.heard;
            if is_silent || (!self.is_awaited && self.ping.send_ping(Ping::opaque()).is_err()) {
                return Poll::Ready(());
            }
            (self.next, self.is_awaited, self.heard) = (Instant::now() + PING, true, heard);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
