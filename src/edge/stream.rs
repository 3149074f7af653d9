//! One HTTP/2 request, from its head to the last byte of its answer.

use std::{
    cell::RefCell,
    future::poll_fn,
    pin::pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream, server::SendResponse};
use http::{HeaderMap, Method, Request, Response, StatusCode, header, uri::PathAndQuery};
use tokio::time::{Instant, timeout};

use super::{
    flood::Credit,
    received::{Incoming, Owed},
    request::{announced, awaits_leave, read},
};
use crate::{
    body::{Body, BodyError},
    model::message,
    proxy::{Account, Answer, Client, Glimpse, Proxy, Refusal, strip_connection},
    upstream::aside::Aside,
    wire::{Outflow, Outlet, Timer},
};

/// How long a client may take nothing of an answer: less than a piece of a body in this time is nothing.
const STALL: Duration = Duration::from_secs(30);

/// How long and how much is read, after the answer, of what a client still sends.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 256 * 1024;

/// What a connection's requests have in common.
pub struct Shared {
    /// Where they go.
    pub proxy: Rc<Proxy>,
    /// Who asks.
    pub client: Client,
    /// Which frames they account for.
    pub credit: Credit,
    /// What they go out by.
    pub outlet: Outlet,
}

/// Answers one request. It ends early when the client resets the stream.
pub async fn answer(shared: Rc<Shared>, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let Shared { proxy, client, credit, outlet } = &*shared;
    let world = proxy.world();
    let rules = &world.config.http;
    let (max_head, patience) = (rules.max_header_size, rules.header_timeout);
    drop(world);
    let (mut head, body) = request.into_parts();
    let only_head = head.method == Method::HEAD;
    let incoming = (!body.is_end_stream()).then(|| Rc::new(RefCell::new(body)));
    let (owed, aside) = (awaits_leave(&head.headers), Rc::<Aside>::default());
    aside.begin(None, true);
    let bare = match incoming.as_ref().filter(|_| announced(&head.headers) == Some(0)) {
        None => Ok(()),
        // Else it would be forwarded as whole, and be answered before the library finds it to be malformed.
        Some(body) => match Box::pin(timeout(patience, is_bare(body))).await {
            Ok(true) => Ok(()),
            Ok(false) => return,
            Err(_) => Err(Refusal::TimedOut),
        },
    };
    let answer = {
        let mut handling = pin!(async {
            match bare.and_then(|()| read(&mut head, (incoming.as_ref(), outlet), max_head, (&aside, owed.as_ref()))) {
                Ok((target, body)) => {
                    let (method, version, fields) = (head.method, head.version, head.headers.into());
                    proxy.handle(message::Request { method, target, version, fields, body }, client, &aside).await
                }
                Err(refusal) => {
                    let target = head.uri.path_and_query().map(PathAndQuery::as_str);
                    let (method, version, fields) = (&head.method, Some(head.version), &head.headers.clone().into());
                    proxy.refuse(&refusal, client, &Glimpse { method, target, version, fields })
                }
            }
        });
        poll_fn(|cx| {
            let polled = handling.as_mut().poll(cx);
            tell(&mut respond, &aside, owed.as_ref());
            if polled.is_pending() && respond.poll_reset(cx).is_ready() {
                return Poll::Ready(None);
            }
            polled.map(Some)
        })
        .await
    };
    let Some(Answer { response, account }) = answer else { return };
    let answering = give(&mut respond, response, only_head, (account, credit, &aside));
    match incoming {
        None => answering.await,
        // Nobody reads it any more: it runs out beside the answer.
        Some(rest) if Rc::strong_count(&rest) == 1 => {
            tokio::join!(answering, run_out(rest));
        }
        Some(rest) => {
            answering.await;
            run_out(rest).await;
        }
    }
}

/// Whether a body ends as it begins. The library resets the stream of one that was announced so and does not.
async fn is_bare(body: &Incoming) -> bool {
    poll_fn(|cx| {
        let stream = &mut *body.borrow_mut();
        while let Some(data) = ready!(stream.poll_data(cx)) {
            if data.is_err() {
                return Poll::Ready(false);
            }
        }
        Poll::Ready(true)
    })
    .await
}

/// Gives the client its answer, or says that it broke off.
async fn give(
    respond: &mut SendResponse<Bytes>,
    response: message::Response<Body>,
    only_head: bool,
    (mut account, credit, aside): (Account, &Credit, &Aside),
) {
    let mut sent = send(respond, response, only_head, &Watch { credit, account: &account, aside }).await;
    if matches!(sent, Err(Broken::Before)) {
        // There is still time to say so.
        let instead = account.instead();
        sent = send(respond, instead, only_head, &Watch { credit, account: &account, aside }).await;
    }
    if sent.is_err() {
        respond.send_reset(Reason::INTERNAL_ERROR);
    }
    account.end();
}

/// Lets a client that has its answer, or is about to, go on sending for a moment: else its stream would be reset, which
/// is in order (RFC 9113 §8.1), but has some lose the answer.
async fn run_out(rest: Incoming) {
    let mut left = LINGER_BYTES;
    let all = poll_fn(|cx| {
        let stream = &mut *rest.borrow_mut();
        while let Some(Ok(data)) = ready!(stream.poll_data(cx)) {
            let _ = stream.flow_control().release_capacity(data.len());
            let Some(less) = left.checked_sub(data.len()) else { break };
            left = less;
        }
        Poll::Ready(())
    });
    if !rest.borrow().is_end_stream() {
        let _ = timeout(LINGER, all).await;
    }
}

/// Who looks at how an answer goes out.
struct Watch<'a> {
    credit: &'a Credit,
    account: &'a Account,
    aside: &'a Aside,
}

/// Why an answer did not go out whole.
#[derive(Debug)]
enum Broken {
    /// Its body broke off before anything was sent.
    Before,
    /// It broke off in the middle, or the stream takes no more.
    Within,
}

/// Sends an answer as fast as the client takes it.
async fn send(
    respond: &mut SendResponse<Bytes>,
    response: message::Response<Body>,
    only_head: bool,
    watch: &Watch<'_>,
) -> Result<(), Broken> {
    let message::Response { status, fields, mut body, .. } = response;
    let mut head = Response::new(());
    (*head.status_mut(), *head.headers_mut()) = (status, fields.into_map());
    if status == StatusCode::NO_CONTENT {
        // Source: RFC 9110 §8.6; clients reset the stream over it.
        head.headers_mut().remove(header::CONTENT_LENGTH);
        body = Body::empty();
    } else if only_head || status == StatusCode::NOT_MODIFIED {
        tell_length(head.headers_mut(), body.length().filter(|&length| length > 0));
        body = Body::empty();
    }
    if body.is_empty() {
        return start(respond, head, true).map(|_| ());
    }
    tell_length(head.headers_mut(), body.length());
    let first = poll_fn(|cx| Poll::Ready(body.poll_piece(cx))).await;
    let mut out = match first {
        Poll::Pending => Outflow::new(start(respond, head, false)?, body, false),
        Poll::Ready(None) => return start(respond, head, true).map(|_| ()),
        Poll::Ready(Some(Err(_))) => return Err(Broken::Before),
        Poll::Ready(Some(Ok(frame))) => {
            let mut out = Outflow::new(start(respond, head, false)?, body, false);
            match frame.into_data() {
                Ok(piece) => out.push(piece),
                Err(frame) => out.trail(frame.into_trailers().unwrap_or_default()),
            }
            out
        }
    };
    let (mut timer, mut waiting) = (Timer::default(), None);
    poll_fn(|cx| poll_out(&mut out, watch, &mut waiting, &mut timer, cx)).await.map_err(|error| {
        tracing::debug!(%error, "an answer broke off");
        Broken::Within
    })
}

fn start(respond: &mut SendResponse<Bytes>, head: Response<()>, is_all: bool) -> Result<SendStream<Bytes>, Broken> {
    respond.send_response(head, is_all).map_err(|error| {
        tracing::debug!(%error, "an answer cannot be sent");
        Broken::Within
    })
}

/// Sends what the client has room for. Its time runs while it has something to take: from when that was first so.
fn poll_out(
    out: &mut Outflow,
    watch: &Watch<'_>,
    held: &mut Option<(u64, Instant)>,
    timer: &mut Timer,
    cx: &mut Context<'_>,
) -> Poll<Result<(), BodyError>> {
    let before = out.sent();
    let polled = out.poll(cx);
    let sent = out.sent();
    if sent > before {
        watch.credit.piece(sent - before);
        watch.account.sent(sent - before);
    }
    if polled.is_ready() || !out.is_held() {
        *held = None;
        return polled;
    }
    // Who still sends its request may well read its answer later.
    let pieces = out.pieces() + watch.aside.received();
    let since = match *held {
        Some((piece, since)) if piece == pieces => since,
        _ => Instant::now(),
    };
    *held = Some((pieces, since));
    timer.poll(cx, since + STALL).map(|()| Err(BodyError::TooSlow))
}

fn tell_length(headers: &mut HeaderMap, length: Option<u64>) {
    if let (Some(length), false) = (length, headers.contains_key(header::CONTENT_LENGTH)) {
        headers.insert(header::CONTENT_LENGTH, length.into());
    }
}

/// Passes on what the service tells beside its answer.
fn tell(respond: &mut SendResponse<Bytes>, aside: &Aside, owed: Option<&Owed>) {
    for (status, mut fields) in aside.interim() {
        // To who waits for none, a 100 would say nothing.
        if status != StatusCode::CONTINUE || owed.is_some_and(Owed::settle) {
            strip_connection(&mut fields);
            fields.remove(header::CONTENT_LENGTH); // RFC 9110 §8.6
            inform(respond, status, fields.into_map());
        }
    }
    if owed.is_some_and(Owed::is_due) {
        inform(respond, StatusCode::CONTINUE, HeaderMap::new());
    }
}

fn inform(respond: &mut SendResponse<Bytes>, status: StatusCode, headers: HeaderMap) {
    let mut interim = Response::new(());
    (*interim.status_mut(), *interim.headers_mut()) = (status, headers);
    if let Err(error) = respond.send_informational(interim) {
        tracing::debug!(%error, "an interim answer cannot be sent");
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use http_body::Frame;

    use super::*;
    use crate::telemetry::metrics::Metrics;

    /// A service that never goes on.
    struct Slow;

    impl http_body::Body for Slow {
        type Data = Bytes;
        type Error = BodyError;

        fn poll_frame(
            self: std::pin::Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
            Poll::Pending
        }
    }

    /// How sending `body` to a client that takes nothing of it ends within an hour, and when.
    async fn sent(body: Body) -> (Option<Result<(), Broken>>, Duration) {
        let start = Instant::now();
        let (near, far) = tokio::io::duplex(1024 * 1024);
        let client = async {
            let (mut send, connection) = h2::client::handshake(far).await.unwrap();
            let (answer, _) = send.send_request(Request::get("http://a/").body(()).unwrap(), true).unwrap();
            let unread = async {
                let _answer = answer.await;
                pending::<()>().await;
            };
            let _ = tokio::join!(connection, unread);
        };
        let server = async {
            let mut connection = h2::server::handshake(near).await.unwrap();
            let (_, mut respond) = connection.accept().await.unwrap().unwrap();
            let cells = Metrics::new(1).route("s", "r");
            let account = Account::open(cells.into(), 0, Method::GET, Instant::now(), None);
            let watch = Watch { credit: &Credit::default(), account: &account, aside: &Aside::default() };
            let sending = send(&mut respond, message::Response::new(StatusCode::OK, body), false, &watch);
            tokio::select! {
                sent = timeout(Duration::from_hours(1), sending) => sent.ok(),
                _ = connection.accept() => panic!("the connection ended"),
            }
        };
        tokio::select! {
            sent = server => (sent, start.elapsed()),
            () = client => panic!("the client left"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_for_half_a_minute_loses_its_stream() {
        let (ended, after) = sent(Body::from(Bytes::from(vec![b'x'; 200_000]))).await;
        assert!(matches!(ended, Some(Err(Broken::Within))), "{ended:?}");
        assert_eq!(after.as_secs(), 30);
        let (ended, _) = sent(Body::stream(Slow)).await;
        assert!(ended.is_none(), "a service may take its time: {ended:?}");
        let (ended, after) = sent(Body::from(Bytes::from_static(b"small"))).await;
        assert!(matches!(ended, Some(Ok(()))) && after.is_zero(), "{ended:?} {after:?}");
    }
}
