//! One HTTP/2 request, from its head to the last byte of its answer.

use std::{
    future::poll_fn,
    pin::pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use http::{Method, StatusCode, Version, header};
use http_body::Frame;
use tokio::time::{Instant, timeout};

use super::{
    flood::Credit,
    received::{Incoming, Owed},
    request::{awaits_leave, read},
};
use crate::{
    body::{Body, BodyError},
    http2::{
        Reason,
        hpack::{write_field, write_status},
        message::RequestHead,
    },
    model::{fields::Fields, message},
    proxy::{Account, Answer, Client, Glimpse, Proxy, Refusal, strip_connection},
    upstream::aside::Aside,
    wire::{
        Timer,
        http2::{Outflow, Stream},
    },
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
}

/// Answers one request. It ends early when the client resets the stream.
pub async fn answer(shared: Rc<Shared>, mut head: RequestHead, stream: Stream) {
    let Shared { proxy, client, credit } = &*shared;
    let world = proxy.world();
    let rules = &world.config.http;
    let (max_head, patience) = (rules.max_header_size, rules.header_timeout);
    drop(world);
    let (only_head, stream) = (head.method == Method::HEAD, Rc::new(stream));
    let incoming = (!stream.is_taken()).then(|| Incoming::new(stream.clone()));
    let (owed, aside) = (awaits_leave(&head.fields), Rc::<Aside>::default());
    aside.begin(None, true);
    let bare = match incoming.as_ref().filter(|_| head.length == Some(0)) {
        None => Ok(()),
        // Else it would be forwarded as whole, and be answered before it is found to be malformed.
        Some(body) => match Box::pin(timeout(patience, is_bare(body))).await {
            Ok(true) => Ok(()),
            Ok(false) => return,
            Err(_) => Err(Refusal::TimedOut),
        },
    };
    let answer = {
        let mut handling = pin!(async {
            match bare.and_then(|()| read(&mut head, incoming.as_ref(), max_head, (&aside, owed.as_ref()))) {
                Ok((target, body)) => {
                    let RequestHead { method, fields, .. } = head;
                    let request = message::Request { method, target, version: Version::HTTP_2, fields, body };
                    proxy.handle(request, client, &aside).await
                }
                Err(refusal) => {
                    let RequestHead { method, target, fields, .. } = &head;
                    let (target, version) = (Some(target.as_str()), Some(Version::HTTP_2));
                    proxy.refuse(&refusal, client, &Glimpse { method, target, version, fields })
                }
            }
        });
        poll_fn(|cx| {
            let polled = handling.as_mut().poll(cx);
            tell(&stream, &aside, owed.as_ref());
            if polled.is_pending() && stream.poll_reset(cx).is_ready() {
                return Poll::Ready(None);
            }
            polled.map(Some)
        })
        .await
    };
    let Some(Answer { response, account }) = answer else { return };
    let answering = give(&stream, response, only_head, (account, credit, &aside));
    match incoming {
        None => answering.await,
        // Nobody reads it any more: it runs out beside the answer.
        Some(rest) if rest.is_only() => {
            tokio::join!(answering, run_out(rest));
        }
        Some(rest) => {
            answering.await;
            run_out(rest).await;
        }
    }
}

/// Whether a body ends as it begins. The stream of one that was announced so and does not is reset.
async fn is_bare(body: &Incoming) -> bool {
    poll_fn(|cx| {
        while let Some(data) = ready!(body.stream().poll_data(cx)) {
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
    stream: &Rc<Stream>,
    response: message::Response<Body>,
    only_head: bool,
    (mut account, credit, aside): (Account, &Credit, &Aside),
) {
    let mut sent = send(stream, response, only_head, &Watch { credit, account: &account, aside }).await;
    if matches!(sent, Err(Broken::Before)) {
        // There is still time to say so.
        let instead = account.instead();
        sent = send(stream, instead, only_head, &Watch { credit, account: &account, aside }).await;
    }
    if sent.is_err() {
        stream.reset(Reason::INTERNAL_ERROR);
    }
    account.end();
}

/// Lets a client that has its answer, or is about to, go on sending for a moment: else its stream would be reset, which
/// is in order (RFC 9113 §8.1), but has some lose the answer.
async fn run_out(rest: Incoming) {
    let (mut left, stream) = (LINGER_BYTES, rest.stream());
    let all = poll_fn(|cx| {
        while let Some(Ok(data)) = ready!(stream.poll_data(cx)) {
            stream.release(data.len());
            let Some(less) = left.checked_sub(data.len()) else { break };
            left = less;
        }
        Poll::Ready(())
    });
    if !stream.is_taken() {
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
    stream: &Rc<Stream>,
    response: message::Response<Body>,
    only_head: bool,
    watch: &Watch<'_>,
) -> Result<(), Broken> {
    let message::Response { status, mut fields, mut body, .. } = response;
    if status == StatusCode::NO_CONTENT {
        // Source: RFC 9110 §8.6; clients reset the stream over it.
        fields.remove(header::CONTENT_LENGTH);
        body = Body::empty();
    } else if only_head || status == StatusCode::NOT_MODIFIED {
        tell_length(&mut fields, body.length().filter(|&length| length > 0));
        body = Body::empty();
    }
    if body.is_empty() {
        start(stream, (status, &fields), true);
        return Ok(());
    }
    tell_length(&mut fields, body.length());
    let first = poll_fn(|cx| Poll::Ready(body.poll_piece(cx))).await;
    let first = match first {
        Poll::Pending => None,
        Poll::Ready(None) => {
            start(stream, (status, &fields), true);
            return Ok(());
        }
        Poll::Ready(Some(Err(_))) => return Err(Broken::Before),
        Poll::Ready(Some(Ok(frame))) => Some(frame),
    };
    start(stream, (status, &fields), false);
    drop(fields);
    let mut out = Outflow::new(stream.clone(), body, false);
    match first.map(Frame::into_data) {
        None => {}
        Some(Ok(piece)) => out.push(piece),
        Some(Err(frame)) => out.trail(frame.into_trailers().unwrap_or_default()),
    }
    let (mut timer, mut waiting) = (Timer::default(), None);
    poll_fn(|cx| poll_out(&mut out, watch, &mut waiting, &mut timer, cx)).await.map_err(|error| {
        tracing::debug!(%error, "an answer broke off");
        Broken::Within
    })
}

fn start(stream: &Stream, (status, fields): (StatusCode, &Fields), is_all: bool) {
    stream.head(!status.is_informational(), is_all, |out| {
        write_status(out, status);
        for (name, value, never_indexed) in fields.lines() {
            // Source: RFC 9113 §8.2.2.
            if !name.is_of_connection() {
                write_field(out, name, value.as_bytes(), never_indexed);
            }
        }
    });
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

fn tell_length(fields: &mut Fields, length: Option<u64>) {
    if let (Some(length), false) = (length, fields.contains_key(header::CONTENT_LENGTH)) {
        fields.append(header::CONTENT_LENGTH, length.into());
    }
}

/// Passes on what the service tells beside its answer.
fn tell(stream: &Stream, aside: &Aside, owed: Option<&Owed>) {
    for (status, mut fields) in aside.interim() {
        // To who waits for none, a 100 would say nothing.
        if status != StatusCode::CONTINUE || owed.is_some_and(Owed::settle) {
            strip_connection(&mut fields);
            fields.remove(header::CONTENT_LENGTH); // RFC 9110 §8.6
            start(stream, (status, &fields), false);
        }
    }
    if owed.is_some_and(Owed::is_due) {
        start(stream, (StatusCode::CONTINUE, &Fields::new()), false);
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use bytes::Bytes;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::{
        http2::{
            connection::{Connection, Rules},
            hpack::Limits,
        },
        telemetry::metrics::Metrics,
        wire::{Io, Link},
    };

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
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (near, far) = tokio::join!(listener.accept(), TcpStream::connect(address));
        let client = async {
            let (mut send, connection) = h2::client::handshake(far.unwrap()).await.unwrap();
            let request = http::Request::get("http://a/").body(()).unwrap();
            let (answer, _) = send.send_request(request, true).unwrap();
            let unread = async {
                let _answer = answer.await;
                pending::<()>().await;
            };
            let _ = tokio::join!(connection, unread);
        };
        let server = async {
            let limits = Limits { max_list: 4096, max_lines: 10 };
            let rules = Rules { streams: 1, stream_window: 65_535, connection_window: 65_535, limits };
            let link = Link::new(Io::new(near.unwrap().0), Bytes::new(), Connection::server(rules));
            let mut accepted = None;
            poll_fn(|cx| {
                assert!(link.poll_turn(cx).is_pending());
                accepted = link.accept();
                if accepted.is_some() { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
            let stream = Rc::new(accepted.unwrap().1);
            let cells = Metrics::new(1).route("s", "r");
            let account = Account::open(cells.into(), 0, Method::GET, Instant::now(), None);
            let watch = Watch { credit: &Credit::default(), account: &account, aside: &Aside::default() };
            let sending = send(&stream, message::Response::new(StatusCode::OK, body), false, &watch);
            tokio::select! {
                sent = timeout(Duration::from_hours(1), sending) => sent.ok(),
                _ = poll_fn(|cx| link.poll_turn(cx)) => panic!("the connection ended"),
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
