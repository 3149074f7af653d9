//! The HTTP/2 server: hyper's, within our limits. What a request is in either version is `request`; its task is `streams`.

use std::{
    cell::Cell,
    convert::Infallible,
    future::poll_fn,
    pin::pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header, request::Parts, uri::PathAndQuery};
use hyper::{body::Incoming, server::conn::http2::Builder, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::Instant;

use super::{
    flood::{Credit, Watched},
    http1::Server,
    received::Received,
    request::target,
    streams::{Answered, Progress, Spawn, Streams},
};
use crate::{
    body::Body,
    http1::{
        head::HeadError,
        host,
        request::RequestError::{self, Host, NoHost, RepeatedHost},
    },
    proxy::{Answer, Client, Glimpse, Proxy, Refusal},
    upstream::aside::Aside,
    wire::{Io, Timer, gathered},
};

/// What a client of this version sends first. Source: RFC 9113 §3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Requests of one connection at once.
const STREAMS: u32 = 100;
/// What a client may send ahead on one stream, and on all of them; also the most that is kept for it to read.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// How often a client is asked for a sign of life, and how long it may take to give one.
const PING: Duration = Duration::from_secs(20);
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
    let max_head = u32::try_from(rules.max_header_size).unwrap_or(u32::MAX);
    drop(world); // an idle connection holds no snapshot

    let credit = Credit::default();
    let streams = Streams::new(credit.clone());
    let _end = End(streams.clone());
    let (peer, client) = (client.peer, Rc::new(client));
    let service = service_fn(|request| {
        let (proxy, client, progress) = (server.proxy.clone(), client.clone(), streams.take());
        // In a box: the task that it becomes part of is moved several times before it runs.
        Box::pin(async move { Ok::<_, Infallible>(answer(&proxy, request, &client, progress).await) })
    });
    let (stream, outlet) = gathered(io.rewound(read));
    let connection = Builder::new(Spawn(streams.clone()))
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(max_head)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(STREAM_WINDOW as usize)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .auto_date_header(false)
        .serve_connection(TokioIo::new(Watched::new(stream, credit)), service);

    let mut connection = pin!(connection);
    let mut left = pin!(server.phase.left());
    let mut timer = Timer::default();
    // A client that comes while we leave gets its first answer.
    let late = server.phase.is_leaving();
    let (mut leaving, mut ending) = (late, None);
    poll_fn(|cx| {
        loop {
            match connection.as_mut().poll(cx) {
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
            leaving = leaving || left.as_mut().poll(cx).is_ready();
            let begun = streams.has_served();
            if ending.is_none() && !(leaving && (begun || !late)) {
                let limit = if begun { keep_alive } else { header_timeout };
                ready!(quiet(&streams, None, limit, &mut timer, cx));
            }
            if ending.is_some() {
                return quiet(&streams, ending, FAREWELL, &mut timer, cx);
            }
            ending = Some(Instant::now());
            connection.as_mut().graceful_shutdown();
        }
    })
    .await;
}

/// Ready when, after `from`, no request has been under way for so long.
fn quiet(
    streams: &Streams,
    from: Option<Instant>,
    limit: Duration,
    timer: &mut Timer,
    cx: &mut Context<'_>,
) -> Poll<()> {
    loop {
        let quiet_since = streams.quiet_since();
        // While one is under way the timer goes on, for its end wakes nobody.
        let since = quiet_since.unwrap_or_else(Instant::now);
        ready!(timer.poll(cx, from.map_or(since, |from| from.max(since)) + limit));
        if quiet_since.is_some() {
            return Poll::Ready(());
        }
    }
}

/// Ends what is under way with its connection, however that ends.
struct End(Rc<Streams>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.end();
    }
}

async fn answer(
    proxy: &Proxy,
    request: Request<Incoming>,
    client: &Client,
    progress: Rc<Progress>,
) -> Response<Answered> {
    let limit = proxy.world().config.http.max_body_size.unwrap_or(0);
    let (mut head, body) = request.into_parts();
    let is_head = head.method == Method::HEAD;
    let aside = Rc::default();
    let answer = match read(&mut head, body, limit, &aside) {
        Ok(body) => proxy.handle(Request::from_parts(head, body), client, &aside).await,
        Err(refusal) => {
            let target = head.uri.path_and_query().map(PathAndQuery::as_str);
            let (method, version, fields) = (&head.method, Some(head.version), &head.headers);
            proxy.refuse(&refusal, client, &Glimpse { method, target, version, fields })
        }
    };
    let Answer { response, account } = answer;
    let (mut head, mut body) = response.into_parts();
    if is_head || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        let length = body.length().filter(|&length| length > 0 && head.status != StatusCode::NO_CONTENT);
        if let (Some(length), false) = (length, head.headers.contains_key(header::CONTENT_LENGTH)) {
            head.headers.insert(header::CONTENT_LENGTH, length.into());
        }
        body = Body::empty();
    }
    Response::from_parts(head, Answered::new(body, progress, account))
}

/// Brings the head to the form that the rest of the gateway sees: its path in its one form, its host and cookies in one
/// place. Gives the body.
fn read(head: &mut Parts, body: Incoming, limit: u64, aside: &Rc<Aside>) -> Result<Body, Refusal> {
    if matches!(head.method, Method::CONNECT | Method::TRACE) {
        return Err(Refusal::Method);
    }
    if head.uri.path() == "*" && head.method != Method::OPTIONS {
        return Err(Refusal::Target);
    }
    if head.uri.scheme_str().is_some_and(|scheme| !matches!(scheme, "http" | "https")) {
        return Err(Refusal::Target);
    }
    // Source: RFC 9113 §8.2.1, which the library leaves to us.
    let blank = |value: &HeaderValue| value.as_bytes().trim_ascii().len() != value.len();
    if head.headers.values().any(blank) {
        return Err(Refusal::Head(RequestError::Head(HeadError::Value)));
    }
    if head.headers.get(header::EXPECT).is_some_and(|expect| !expect.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
        return Err(Refusal::Expectation);
    }
    let host = authority(head)?;
    head.headers.insert(header::HOST, host);
    join_cookies(&mut head.headers);
    head.uri = target(head.uri.path(), head.uri.query(), || head.uri.path_and_query().cloned())?;
    let announced = http_body::Body::size_hint(&body).exact();
    Ok(if announced == Some(0) || http_body::Body::is_end_stream(&body) {
        Body::empty()
    } else if is_grpc(&head.headers) {
        Body::stream(Received::unlimited(body, aside))
    } else if limit != 0 && announced.is_some_and(|length| length > limit) {
        return Err(Refusal::TooLarge { limit });
    } else {
        Body::stream(Received::limited(body, limit, aside))
    })
}

/// What the request is for: `:authority`, else its one Host. Source: RFC 9113 §8.3.1.
fn authority(head: &Parts) -> Result<HeaderValue, Refusal> {
    let mut fields = head.headers.get_all(header::HOST).iter();
    let value = match (head.uri.authority(), fields.next(), fields.next()) {
        (Some(authority), _, _) => HeaderValue::from_str(authority.as_str()).map_err(|_| Refusal::Target)?,
        (None, Some(host), None) => host.clone(),
        (None, None, _) => return Err(Refusal::Head(NoHost)),
        (None, Some(_), Some(_)) => return Err(Refusal::Head(RepeatedHost)),
    };
    host::validate(value.as_bytes()).map_err(|e| Refusal::Head(Host(e)))?;
    Ok(value)
}

/// HTTP/1 has one line of cookies. Source: RFC 9113 §8.2.3.
fn join_cookies(headers: &mut HeaderMap) {
    let crumbs = headers.get_all(header::COOKIE);
    if crumbs.iter().nth(1).is_none() {
        return;
    }
    let joined = crumbs.iter().map(HeaderValue::as_bytes).collect::<Vec<_>>().join(&b"; "[..]);
    if let Ok(joined) = HeaderValue::from_bytes(&joined) {
        headers.insert(header::COOKIE, joined);
    }
}

/// Whether the body may be a conversation, which takes its time.
fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
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

    #[test]
    fn crumbs_become_one_line_of_cookies() {
        let mut headers = HeaderMap::new();
        for crumb in ["a=1", "b=2; c=3", "d=4"] {
            headers.append(header::COOKIE, HeaderValue::from_static(crumb));
        }
        join_cookies(&mut headers);
        assert_eq!(headers.get_all(header::COOKIE).iter().collect::<Vec<_>>(), ["a=1; b=2; c=3; d=4"]);
    }
}
