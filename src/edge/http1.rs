//! The HTTP/1.1 server: one connection's requests, one after the other, each served by this very task.

use std::{
    cell::Cell,
    future::poll_fn,
    pin::pin,
    rc::Rc,
    task::{Poll, ready},
    time::Duration,
};

use bytes::BytesMut;
use http::{Method, StatusCode, Version, header, uri::PathAndQuery};
use tokio::time::{Instant, timeout};

use super::{
    Phase,
    downstream::{Downstream, Incoming},
    http2, placed, tunnel,
};
use crate::{
    body::Body,
    http1::{
        body::Decoder,
        encode::{Connection, Framing, response_room, write_response_head},
        framing::Length,
        head::Limits,
        request::{RequestHead, RequestReader},
    },
    model::{
        fields::Fields,
        message::{Request, Response},
        protocol,
    },
    proxy::{Answer, Client, Glimpse, Proxy, Refusal, entry},
    upstream::aside::Switched,
    wire::{Io, Mode, SendError, Sender, spare},
};

/// What a connection is served with.
pub struct Server {
    /// Where requests go.
    pub proxy: Rc<Proxy>,
    /// Whether the worker is leaving.
    pub phase: Rc<Phase>,
}

/// How long a client may read nothing of an answer.
const STALL: Duration = Duration::from_secs(30);
/// How long and how much is read, after the last answer, of what a client still sends.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 256 * 1024;
/// Room for a head and a small body.
const ROOM: usize = 16 * 1024;

impl Server {
    /// Serves a connection to its end. `idle` tells, at any moment, that no request is under way. `open`: the client may
    /// begin as one of HTTP/2.
    pub async fn serve(&self, io: Io, client: Client, idle: &Cell<bool>, mut open: bool) {
        let connection = Rc::new(Downstream::new(io));
        let (mut fresh, mut since) = (true, None);
        loop {
            let next = self.head(&connection, fresh, open, since, idle).await;
            idle.set(false);
            (fresh, open) = (false, false);
            let ended = match next {
                Next::Head(head) => placed(|| self.exchange(&connection, head, &client)).await,
                Next::Refused(refusal, head_only) => {
                    let glimpse =
                        Glimpse { method: &unknown_method(), target: None, version: None, fields: &Fields::new() };
                    let answer = self.proxy.refuse(&refusal, &client, &glimpse);
                    let asked = Asked { head_only, http10: false, keep_alive: false };
                    Ended { written: self.answer(&connection, answer, &asked).await.is_some(), ..Ended::default() }
                }
                Next::Http2 => {
                    let Some(Downstream { io, input, .. }) = Rc::into_inner(connection) else { return };
                    // In a box: connections of the other version need not have room for it.
                    return Box::pin(http2::serve(self, io, input.into_inner().freeze(), client, idle)).await;
                }
                Next::Gone => return,
            };
            if !ended.keep {
                if ended.last {
                    connection.io.close_notify(); // the end of the socket follows at once, and takes the last bytes with it
                } else if ended.written {
                    linger(&connection).await;
                }
                return;
            }
            since = ended.at;
        }
    }

    /// Answers the first request of a connection for which there is no room, and ends it.
    pub async fn turn_away(&self, io: Io, client: &Client) {
        let connection = Rc::new(Downstream::new(io));
        let head = timeout(LINGER, self.head(&connection, true, false, None, &Cell::new(false))).await;
        let Ok(Next::Head(head)) = head else { return };
        let (target, version) = (Some(head.target.path_and_query()), Some(head.version));
        let glimpse = Glimpse { method: &head.method, target, version, fields: &head.fields };
        let answer = self.proxy.refuse(&Refusal::Crowded, client, &glimpse);
        let http10 = head.version == Version::HTTP_10;
        let asked = Asked { head_only: head.method == Method::HEAD, http10, keep_alive: false };
        if self.answer(&connection, answer, &asked).await.is_some() {
            linger(&connection).await;
        }
    }

    /// Waits for the head of the next request, `since` the last answer; `idle` as long as nothing of it has come.
    async fn head(
        &self,
        connection: &Downstream,
        fresh: bool,
        open: bool,
        since: Option<Instant>,
        idle: &Cell<bool>,
    ) -> Next {
        let world = self.proxy.world();
        let rules = &world.config.http;
        let limits = Limits { max_head: rules.max_header_size, ..Limits::default() };
        let (header_timeout, keep_alive) = (rules.header_timeout, rules.keep_alive);
        drop(world); // an idle connection holds no snapshot
        let mut reader = RequestReader::new(limits);
        let (mut since, mut begun) = (since, false);
        poll_fn(|cx| {
            let input = &mut *connection.input.borrow_mut();
            loop {
                let preface = if open { http2::preface(input) } else { Some(false) };
                if preface == Some(true) {
                    return Poll::Ready(Next::Http2);
                }
                if !input.is_empty() && preface == Some(false) {
                    match reader.read(input) {
                        Ok(Some(head)) => return Poll::Ready(Next::Head(head)),
                        Ok(None) => {}
                        Err(e) => {
                            let head_only = reader.wants_head_alone(input);
                            return Poll::Ready(Next::Refused(Refusal::Head(e), head_only));
                        }
                    }
                }
                match connection.io.poll_read(cx, input, ROOM) {
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Next::Gone),
                    Poll::Ready(Ok(_)) => {}
                    Poll::Pending => break,
                }
            }
            if !begun && !input.is_empty() {
                (begun, since) = (true, None);
            }
            if begun {
                connection.io.acknowledge(); // there are clients that send the rest only then
            }
            idle.set(input.is_empty());
            spare::give_back(input); // an idle connection holds no memory but its own
            let limit = if fresh || begun { header_timeout } else { keep_alive };
            let since = *since.get_or_insert_with(Instant::now);
            ready!(connection.timer.borrow_mut().poll(cx, since + limit));
            let head_only = reader.wants_head_alone(input);
            Poll::Ready(if begun { Next::Refused(Refusal::TimedOut, head_only) } else { Next::Gone })
        })
        .await
    }

    async fn exchange(&self, connection: &Rc<Downstream>, head: RequestHead, client: &Client) -> Ended {
        connection.begin(Decoder::of(head.length, &head.fields), head.expect_continue);
        connection.aside.begin(tunnel::wish(&head), head.version == Version::HTTP_11);
        let says_close = !head.keep_alive;
        let mut asked = Asked {
            head_only: head.method == Method::HEAD,
            http10: head.version == Version::HTTP_10,
            keep_alive: head.keep_alive,
        };
        let answer = match entry::admit(&head) {
            Ok(target) => {
                let request = request(head, target, connection);
                let mut handling = pin!(self.proxy.handle(request, client, &connection.aside));
                let answer = poll_fn(|cx| {
                    if let Poll::Ready(answer) = handling.as_mut().poll(cx) {
                        return Poll::Ready(Some(answer));
                    }
                    if connection.aside.was_deferred() {
                        return Poll::Pending;
                    }
                    match connection.poll_interim(cx) {
                        Poll::Ready(Err(_)) => Poll::Ready(None),
                        _ => connection.poll_gone(cx, true).map(|()| None),
                    }
                });
                match answer.await {
                    Some(answer) => answer,
                    None => return Ended::default(),
                }
            }
            Err(refusal) => {
                asked.keep_alive = false;
                let (target, version) = (Some(head.target.path_and_query()), Some(head.version));
                let glimpse = Glimpse { method: &head.method, target, version, fields: &head.fields };
                self.proxy.refuse(&refusal, client, &glimpse)
            }
        };
        if let Some(switched) = connection.aside.switched() {
            switch(connection, answer, switched).await;
            return Ended::default();
        }
        // What is left of the body has no taker when the answer is ours or has ended already.
        let abandoned = !connection.is_body_done() && answer.response.body.length().is_some();
        asked.keep_alive &= !abandoned && !self.phase.is_leaving();
        let written = self.answer(connection, answer, &asked).await;
        let keep = written.is_some_and(|(mode, _)| mode != Mode::UntilClose);
        let whole = connection.is_body_done();
        let last = says_close && whole && written.is_some() && connection.input.borrow().is_empty();
        let at = written.map(|(_, ended)| ended);
        Ended { written: at.is_some(), keep: keep && asked.keep_alive && whole, last, at }
    }

    /// Writes an answer and tells how its body was sent, and when it ended; `None` when it broke off.
    async fn answer(&self, connection: &Downstream, answer: Answer, asked: &Asked) -> Option<(Mode, Instant)> {
        let Answer { response, mut account } = answer;
        let ahead = connection.answer();
        let (mut whole, mut mode) = sender(ahead.clone(), response, asked);
        let mut sent = send(connection, &mut whole).await;
        if sent == Err(Broken::Body) && whole.progress() == 0 {
            // There is still time to say so.
            (whole, mode) = sender(ahead, account.instead(), asked);
            sent = send(connection, &mut whole).await;
        }
        account.sent(whole.body_progress());
        drop(whole); // what was tried for it ends before it does
        let ended = account.end();
        if sent.is_err() {
            // A client that reads until the end must not take this for one.
            connection.io.abort();
        }
        sent.ok().map(|()| (mode, ended))
    }
}

/// Of a request that was not read so far.
fn unknown_method() -> Method {
    Method::from_bytes(b"UNKNOWN").unwrap_or_default()
}

enum Next {
    Head(RequestHead),
    /// True: it asked for a head alone.
    Refused(Refusal, bool),
    /// The client speaks HTTP/2, without having asked.
    Http2,
    /// The client left, or was idle for too long.
    Gone,
}

/// How a request was served.
#[derive(Default)]
struct Ended {
    /// The whole answer was written.
    written: bool,
    /// The connection can carry another request.
    keep: bool,
    /// The client said itself that nothing follows, and nothing did.
    last: bool,
    /// When the answer ended.
    at: Option<Instant>,
}

/// What the client's request says about how to answer it.
struct Asked {
    head_only: bool,
    http10: bool,
    keep_alive: bool,
}

/// Makes the request that the rest of the gateway sees.
fn request(head: RequestHead, target: PathAndQuery, connection: &Rc<Downstream>) -> Request<Body> {
    let body = match head.length {
        Length::Empty | Length::Exact(0) => Body::empty(),
        length => {
            // A call that is too large is told so in its own way, for which its body has to break off.
            let is_grpc = head.fields.get(header::CONTENT_TYPE).is_some_and(|kind| protocol::is_grpc(kind.as_bytes()));
            let whole = if is_grpc { None } else { connection.whole_body() };
            whole.map_or_else(|| Body::stream(Incoming::new(connection.clone(), length)), Body::from)
        }
    };
    Request { method: head.method, target, version: head.version, fields: head.fields, body }
}

/// Writes the head of a 101, and passes on what comes until one side ends. It is a request under way for all that time.
async fn switch(connection: &Downstream, answer: Answer, switched: Switched) {
    let Answer { mut response, account } = answer;
    let mut out = connection.answer();
    response.fields.insert(header::UPGRADE, switched.protocol.clone());
    write_response_head(&mut out, response.status, &response.fields, Framing::None, Connection::Upgrade);
    let mut downward = BytesMut::from(&out[..]);
    let head = downward.len();
    downward.extend_from_slice(&switched.input);
    let upward = connection.input.take();
    let (up, down) = tunnel::run(&connection.io, upward, &switched.io, downward, switched.idle).await;
    connection.aside.note(up);
    account.sent(down.saturating_sub(head) as u64);
    drop(switched); // what was tried for it ends before it does
    drop(account);
}

/// The answer as it goes on the wire, behind what `out` holds.
fn sender(mut out: Vec<u8>, response: Response<Body>, asked: &Asked) -> (Sender, Mode) {
    let Response { status, fields, body, .. } = response;
    let room = response_room(&fields) + Sender::room(&body);
    if out.is_empty() {
        out = spare::text(room);
    } else {
        out.reserve(room);
    }
    let (framing, mode) = framing(status, &fields, &body, asked);
    let connection = match (asked.keep_alive && mode != Mode::UntilClose, asked.http10) {
        (true, false) => Connection::Implied,
        (true, true) => Connection::KeepAlive,
        (false, _) => Connection::Close,
    };
    write_response_head(&mut out, status, &fields, framing, connection);
    let sender = Sender::new(out, body, mode);
    (if connection == Connection::Close { sender.last() } else { sender }, mode)
}

/// What the head says of the body, and how that is sent. An answer to HEAD and 304 tell a length and send nothing.
fn framing(status: StatusCode, fields: &Fields, body: &Body, asked: &Asked) -> (Framing, Mode) {
    if status == StatusCode::NO_CONTENT || status.is_informational() {
        return (Framing::None, Mode::Nothing);
    }
    if asked.head_only || status == StatusCode::NOT_MODIFIED {
        let told = fields.get(header::CONTENT_LENGTH).and_then(|value| value.to_str()?.parse().ok());
        let length = told.or_else(|| body.length().filter(|&n| n > 0));
        return (length.map_or(Framing::None, Framing::Length), Mode::Nothing);
    }
    match body.length() {
        Some(length) => (Framing::Length(length), Mode::Length(length)),
        None if asked.http10 => (Framing::None, Mode::UntilClose),
        None => (Framing::Chunked, Mode::Chunks),
    }
}

/// What an answer breaks off for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broken {
    /// The client has left, or does not read.
    Client,
    /// The body has no end in order.
    Body,
}

async fn send(connection: &Downstream, sender: &mut Sender) -> Result<(), Broken> {
    let mut stalled: Option<(u64, Instant)> = None;
    poll_fn(|cx| {
        match sender.poll(&connection.io, cx) {
            Poll::Ready(Ok(())) => return Poll::Ready(Ok(())),
            Poll::Ready(Err(SendError::Write(_))) => return Poll::Ready(Err(Broken::Client)),
            Poll::Ready(Err(SendError::Body(_) | SendError::Length)) => return Poll::Ready(Err(Broken::Body)),
            Poll::Pending if sender.gives_way() => return Poll::Pending,
            Poll::Pending if !sender.is_blocked() => {
                stalled = None;
                return connection.poll_gone(cx, false).map(|()| Err(Broken::Client));
            }
            Poll::Pending => {}
        }
        // Who still sends its request may well read its answer later.
        let progress = sender.progress() + connection.received();
        let since = match stalled {
            Some((before, since)) if before == progress => since,
            _ => Instant::now(),
        };
        stalled = Some((progress, since));
        connection.timer.borrow_mut().poll(cx, since + STALL).map(|()| Err(Broken::Client))
    })
    .await
}

/// Ends a connection on which the client may still be sending, so that it gets to read its answer:
/// closing with unread bytes would reset it. Source: RFC 9112 §9.6.
async fn linger(connection: &Downstream) {
    connection.io.finish();
    let until = Instant::now() + LINGER;
    let mut dropped = 0;
    poll_fn(|cx| {
        let input = &mut *connection.input.borrow_mut();
        loop {
            input.clear();
            match connection.io.poll_read(cx, input, ROOM) {
                Poll::Ready(Ok(n)) if n > 0 && dropped < LINGER_BYTES => dropped += n,
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return connection.timer.borrow_mut().poll(cx, until),
            }
        }
    })
    .await;
}

#[cfg(test)]
mod tests;
