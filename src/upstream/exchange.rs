//! One request and its answer on one connection, driven by the task that wants the answer:
//! the upload goes on while the answer is awaited and read.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, StatusCode, Version, header::TRANSFER_ENCODING};
use http_body::{Frame, SizeHint};
use tokio::time::Instant;

use super::{
    aside::Aside,
    permit::Permit,
    policy::Timeouts,
    pool::Connection,
    progress::{Progress, Upload},
};
use crate::{
    body::{Body, BodyError, Duplex},
    http1::{
        body::{Decoder, Piece},
        framing::Length,
        head::Limits,
        response::{ResponseError, ResponseHead, ResponseReader},
    },
    telemetry::cells::Outcome,
    wire::{SendError, Sender},
};

/// A request on its way, waiting for the head of its answer.
pub struct Exchange {
    /// The connection, which nothing else uses.
    pub connection: Connection,
    /// The request.
    pub sender: Sender,
    /// The method, for it decides whether the answer has a body.
    pub method: Method,
    /// What the client hears and asks beside the answer.
    pub aside: Rc<Aside>,
    /// When the request last moved, once its answer has come.
    pub uploaded: Instant,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// The connection ended before the head of an answer. `untouched`: not a byte of an answer had come.
    #[error("the instance closed the connection without an answer")]
    Closed {
        /// Whether not a byte of an answer had come.
        untouched: bool,
        /// What the system says, where it was a reset.
        #[source]
        source: Option<io::Error>,
    },
    /// What came is no HTTP answer.
    #[error("the instance's answer is not valid HTTP")]
    Malformed(#[source] ResponseError),
    /// What came is no HTTP/2.
    #[error("what the instance says is not valid HTTP/2")]
    Http2(#[source] crate::http2::Ended),
    /// Its head is good, but what came of the body with it is not.
    #[error("the body of the instance's answer is malformed")]
    MalformedBody(#[source] crate::http1::body::BodyError),
    /// It switched to a protocol that nobody asked for.
    #[error("the instance switched protocols unasked")]
    Switched,
    /// It says again and again that an answer is to come.
    #[error("the instance sent more than {INTERIM} interim answers")]
    Interim,
    /// The client's body broke off.
    #[error("the request's body broke off")]
    Body(#[source] BodyError),
    /// Nothing came for `timeout.read`.
    #[error("no byte of an answer within {0:?}")]
    ReadTimeout(Duration),
    /// The answer did not come while its client waits, by its `grpc-timeout`.
    #[error("no answer within the {0:?} that the client waits")]
    Deadline(Duration),
    /// The head did not come within `timeout.total`.
    #[error("no answer within {0:?}")]
    TotalTimeout(Duration),
}

/// The bounds of an answer's head.
pub const HEAD: Limits = Limits { max_head: 32 * 1024, max_fields: 256 };
/// Interim answers that are read before the connection is given up.
pub const INTERIM: u32 = 8;
/// Room for a head and a small body: as much as for those of clients, so that both share what is spare.
const HEAD_ROOM: usize = 16 * 1024;
/// Room for a piece of a body: measured to be the best.
const BODY_ROOM: usize = 32 * 1024;

impl Exchange {
    /// Waits for the head of the answer, sending the request meanwhile. `started` is now; `whole`, since when the
    /// request has been whole, where its body is not still to come.
    ///
    /// # Errors
    /// [`ExchangeError`]; the connection is then of no more use.
    pub async fn head(
        &mut self,
        started: Instant,
        whole: Option<Instant>,
        timeouts: &Timeouts,
    ) -> Result<ResponseHead, ExchangeError> {
        let mut reader = ResponseReader::new(HEAD);
        let mut interim = 0;
        let mut broken = None;
        let mut progress = Progress::new(started, whole);
        let mut read = 0;
        let head = poll_fn(|cx| {
            if broken.is_none() && !self.sender.is_done() {
                match self.sender.poll(&self.connection.io, cx) {
                    Poll::Ready(Err(SendError::Write(e))) => broken = Some(e),
                    Poll::Ready(Err(SendError::Body(e))) => return Poll::Ready(Err(ExchangeError::Body(e))),
                    Poll::Ready(Err(SendError::Length)) => {
                        return Poll::Ready(Err(ExchangeError::Body(BodyError::CutShort(None))));
                    }
                    Poll::Pending if self.sender.gives_way() => {
                        self.aside.defer();
                        return Poll::Pending;
                    }
                    Poll::Ready(Ok(())) | Poll::Pending => {}
                }
            }
            loop {
                if !self.connection.input.is_empty() {
                    match reader.read(&mut self.connection.input, &self.method) {
                        Ok(Some(head)) if is_interim(head.status) && interim < INTERIM => {
                            interim += 1;
                            self.aside.tell(head.status, head.fields);
                            continue;
                        }
                        Ok(Some(head)) if self.is_switch(&head) => return Poll::Ready(Ok(head)),
                        Ok(Some(head)) if head.status.is_informational() => {
                            let too_many = is_interim(head.status);
                            let error = if too_many { ExchangeError::Interim } else { ExchangeError::Switched };
                            return Poll::Ready(Err(error));
                        }
                        Ok(Some(head)) => return Poll::Ready(Ok(head)),
                        Ok(None) => {}
                        Err(e) => return Poll::Ready(Err(ExchangeError::Malformed(e))),
                    }
                }
                match self.connection.io.poll_read(cx, &mut self.connection.input, HEAD_ROOM) {
                    Poll::Ready(Ok(0)) => {
                        return Poll::Ready(Err(ExchangeError::Closed { untouched: read == 0, source: broken.take() }));
                    }
                    Poll::Ready(Ok(n)) => read += n as u64,
                    Poll::Ready(Err(e)) => {
                        return Poll::Ready(Err(ExchangeError::Closed { untouched: read == 0, source: Some(e) }));
                    }
                    Poll::Pending => break,
                }
            }
            if read > 0 {
                self.connection.io.acknowledge(); // there are instances that send the rest only then
            }
            progress.note(self.sender.progress(), read);
            let upload = Upload::of(self.sender.is_done(), self.sender.is_blocked());
            let Some((deadline, error)) = progress.deadline(upload, timeouts) else { return Poll::Pending };
            self.connection.timer.poll(cx, deadline).map(|()| Err(error))
        })
        .await;
        self.uploaded = progress.uploaded;
        head
    }

    /// Whether it is the switch of protocols that was asked for, on a connection where nothing else is under way. A server of
    /// HTTP/1.0 cannot switch, and there is no body to it. Source: RFC 9110 §7.8, RFC 9112 §6.1.
    fn is_switch(&self, head: &ResponseHead) -> bool {
        head.status == StatusCode::SWITCHING_PROTOCOLS
            && head.version == Version::HTTP_11
            && !head.fields.contains_key(TRANSFER_ENCODING)
            && self.sender.is_done()
            && self.aside.granted(&head.fields).is_some()
    }

    /// The body of the answer with this head. It gives the connection back and reports to the permit when it ends.
    ///
    /// # Errors
    /// `MalformedBody`: there is still time to say so. Later, an answer can only be broken off.
    pub fn body(self, head: &ResponseHead, mut permit: Permit) -> Result<Body, ExchangeError> {
        permit.asked(self.uploaded);
        permit.heard(head.status);
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            let protocol = self.aside.granted(&head.fields).ok_or(ExchangeError::Switched)?;
            let idle = permit.policy().timeout.idle;
            self.aside.switch(self.connection, protocol, idle, permit);
            return Ok(Body::empty());
        }
        let policy = permit.policy();
        let (outcome, wait) = (policy.breaker.judge(head.status), policy.timeout.of_body(&head.fields));
        let mut answer = Answer {
            keep: head.keep_alive && !matches!(head.length, Length::UntilClose),
            decoder: Decoder::of(head.length, &head.fields),
            connection: Some(self.connection),
            sender: (!self.sender.is_done()).then_some(self.sender),
            permit: Some(permit),
            outcome,
            wait,
            left: if let Length::Exact(n) = head.length { Some(n) } else { None },
            first: None,
            waiting: None,
        };
        match answer.begin() {
            Ok(Some(whole)) => Ok(whole),
            Ok(None) => {
                if let Some(permit) = &mut answer.permit {
                    permit.answered();
                    match outcome {
                        Outcome::Success => permit.proven(),
                        // Whatever becomes of the rest, and whoever waits for it.
                        failed => permit.settle(failed),
                    }
                }
                Ok(Body::duplex(answer))
            }
            Err(e) => {
                answer.fail(Outcome::Failure);
                Err(ExchangeError::MalformedBody(e))
            }
        }
    }
}

fn is_interim(status: StatusCode) -> bool {
    status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS
}

/// The body of an answer as it comes.
struct Answer {
    connection: Option<Connection>,
    /// The rest of the request, where the answer came early.
    sender: Option<Sender>,
    decoder: Decoder,
    keep: bool,
    permit: Option<Permit>,
    outcome: Outcome,
    /// How long nothing may come.
    wait: Duration,
    /// Bytes to come, where that is known.
    left: Option<u64>,
    /// What had come with the head.
    first: Option<Piece>,
    /// Since when nothing came.
    waiting: Option<Instant>,
}

impl Answer {
    /// Looks at what has come with the head; gives the body where that is all of it: nothing more to wait for.
    fn begin(&mut self) -> Result<Option<Body>, crate::http1::body::BodyError> {
        if self.decoder.is_done() {
            self.end();
            return Ok(Some(Body::empty()));
        }
        let Some(connection) = &mut self.connection else { return Ok(None) };
        match self.decoder.decode(&mut connection.input)? {
            Piece::More => {}
            Piece::Data(data) if self.decoder.is_done() && self.sender.is_none() => {
                self.end();
                return Ok(Some(data.into()));
            }
            piece => self.first = Some(piece),
        }
        Ok(None)
    }

    /// All has been read: the connection is free, and the request is over.
    fn end(&mut self) {
        let (Some(connection), Some(permit)) = (self.connection.take(), self.permit.take()) else { return };
        let now = Instant::now();
        if self.keep && self.sender.as_ref().is_none_or(Sender::is_done) {
            permit.link().keep(connection, &permit.policy().pool, now);
        }
        self.sender = None;
        permit.report_at(now, self.outcome);
    }

    /// The answer broke off: what came of it cannot be trusted to be all.
    fn fail(&mut self, outcome: Outcome) {
        self.connection = None;
        self.sender = None;
        if let Some(permit) = self.permit.take() {
            permit.report(outcome);
        }
    }

    /// Goes on with the request.
    fn upload(&mut self, cx: &mut Context<'_>) {
        if let (Some(connection), Some(sender)) = (&self.connection, &mut self.sender)
            && let Poll::Ready(sent) = sender.poll(&connection.io, cx)
        {
            // A request that broke off spoils the connection, not the answer that is on its way.
            self.keep &= sent.is_ok();
            self.sender = None;
        }
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece, BodyError>> {
        self.upload(cx);
        let Some(connection) = &mut self.connection else { return Poll::Ready(Ok(Piece::End)) };
        if let Some(piece) = self.first.take() {
            return Poll::Ready(Ok(piece));
        }
        loop {
            match self.decoder.decode(&mut connection.input).map_err(BodyError::Malformed)? {
                Piece::More => {}
                piece => {
                    self.waiting = None;
                    return Poll::Ready(Ok(piece));
                }
            }
            match connection.io.poll_read(cx, &mut connection.input, BODY_ROOM) {
                Poll::Ready(Ok(0)) => {
                    self.keep = false;
                    self.decoder.eof().map_err(|_| BodyError::CutShort(None))?;
                    return Poll::Ready(Ok(Piece::End));
                }
                Poll::Ready(Ok(_)) => self.waiting = None,
                Poll::Ready(Err(e)) => return Poll::Ready(Err(BodyError::CutShort(Some(e)))),
                Poll::Pending => break,
            }
        }
        connection.io.acknowledge(); // there are instances that send the rest only then
        if self.sender.as_ref().is_some_and(|sender| !sender.is_blocked()) {
            // It is the client that is awaited, and who reads its body says for how long.
            self.waiting = None;
            return Poll::Pending;
        }
        let since = *self.waiting.get_or_insert_with(Instant::now);
        connection.timer.poll(cx, since + self.wait).map(|()| Err(BodyError::TooSlow))
    }
}

impl Duplex for Answer {
    fn poll_request(mut self: Pin<&mut Self>, cx: &mut Context<'_>) {
        self.upload(cx);
    }
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        Poll::Ready(match ready!(this.poll_piece(cx)) {
            Ok(Piece::Data(data)) => {
                this.left = this.left.map(|left| left.saturating_sub(data.len() as u64));
                // The connection is free with the last byte, not when somebody asks for more.
                if this.decoder.is_done() {
                    this.end();
                }
                Some(Ok(Frame::data(data)))
            }
            Ok(Piece::Trailers(trailers)) => {
                this.end();
                Some(Ok(Frame::trailers(trailers)))
            }
            Ok(Piece::End | Piece::More) => {
                this.end();
                None
            }
            Err(e) => {
                this.fail(if matches!(e, BodyError::TooSlow) { Outcome::Timeout } else { Outcome::Failure });
                Some(Err(e))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.connection.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
