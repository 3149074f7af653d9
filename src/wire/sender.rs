//! Sends one message: its head, then its body as it comes, framed for the connection.
//! The head leaves with the first piece of the body where that is there already: one system call.

use std::{
    future::Future as _,
    io::{self, IoSlice},
    num::NonZero,
    pin::pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use tokio::task::yield_now;

use super::{Io, socket::Then, spare};
use crate::{
    body::{Body, BodyError},
    http1::encode,
};

/// How the end of a body is told, and so how it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// There is none to send.
    Nothing,
    /// Exactly so many bytes.
    Length(u64),
    /// In chunks.
    Chunks,
    /// All there is; the end of the connection is its end.
    UntilClose,
}

/// A message on its way out.
#[derive(Debug)]
pub struct Sender {
    /// Framing and small pieces, written up to `written`.
    out: Vec<u8>,
    written: usize,
    /// A large piece, behind `out`.
    piece: Bytes,
    /// What stands behind `piece`: the end of a chunk.
    tail: Vec<u8>,
    body: Body,
    mode: Mode,
    /// Bytes that a body of known length has yet to give.
    left: u64,
    gathered: bool,
    finished: bool,
    progress: u64,
    /// Bytes before those of the body.
    head: u64,
    /// Written, but perhaps not yet with the system.
    unflushed: bool,
    turn: Turn,
    /// What follows the message on its connection.
    then: Then,
}

/// Messages leave one right after the other, when all tasks that can go on have made theirs: who receives several of
/// them is woken once, and does not fall asleep between two. Waking somebody is the dearest part of a system call; one longer than
/// [`NEAR`] costs more than that, and waits for nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// It has not been asked to send yet.
    Fresh,
    /// It lets the other tasks go first.
    Waits,
    /// It sends whenever it can.
    Has,
}

/// Why a message could not be sent.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The connection does not take it.
    #[error("the connection broke")]
    Write(#[source] io::Error),
    /// Its body broke off.
    #[error("the body broke off")]
    Body(#[source] BodyError),
    /// Its body has another length than was announced.
    #[error("the body has not the length that was announced")]
    Length,
}

/// A piece up to this size is copied behind the head rather than sent from where it lies: the system takes more time over two
/// places than that takes, up to some 14 KiB.
const COPY: usize = 12 * 1024;

/// A message longer than this is sent while it lies in the near cache: when others had their turn it would have to be fetched again,
/// which takes longer than to wake somebody.
const NEAR: usize = 4 * 1024;

/// What is sent, in bytes, before the sockets of others are looked at: where hundreds take much at once, each for as long as it can,
/// everybody else would wait for all of them.
const SHARE: u64 = 256 * 1024;

impl Sender {
    /// What a small body takes behind its head, which had better not move then.
    #[must_use]
    pub fn room(body: &Body) -> usize {
        body.length().and_then(|bytes| usize::try_from(bytes).ok()).filter(|&bytes| bytes <= COPY).unwrap_or(0)
    }

    /// `head` is written out already; `body` follows it as `mode` says.
    #[must_use]
    pub fn new(head: Vec<u8>, body: Body, mode: Mode) -> Self {
        Self {
            head: head.len() as u64,
            out: head,
            written: 0,
            piece: Bytes::new(),
            tail: Vec::new(),
            finished: matches!(mode, Mode::Nothing | Mode::Length(0)),
            body,
            mode,
            left: if let Mode::Length(n) = mode { n } else { 0 },
            gathered: false,
            progress: 0,
            unflushed: false,
            turn: Turn::Fresh,
            then: Then::Leave,
        }
    }

    /// The same as the last message of its connection, which whoever sends it ends at once: its last bytes wait for that, to leave with it.
    #[must_use]
    pub fn last(self) -> Self {
        Self { then: Then::Wait, ..self }
    }

    /// Bytes that the socket took: it moves while the peer reads.
    #[must_use]
    pub fn progress(&self) -> u64 {
        self.progress
    }

    /// Bytes of the body that the socket took, with their framing.
    #[must_use]
    pub fn body_progress(&self) -> u64 {
        self.progress.saturating_sub(self.head)
    }

    /// True when all has been given to the socket.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.finished && !self.pending() && !self.unflushed
    }

    /// True when there is something to write that the socket does not take.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.pending() || self.unflushed
    }

    /// True when it has only let other tasks go first: it will be asked again at once.
    #[must_use]
    pub fn gives_way(&self) -> bool {
        self.turn == Turn::Waits
    }

    fn pending(&self) -> bool {
        self.written < self.out.len() || !self.piece.is_empty() || !self.tail.is_empty()
    }

    /// Sends what can be sent now; ready when all of the message has been given to the socket.
    pub fn poll(&mut self, io: &Io, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        let until = self.progress + SHARE;
        loop {
            if !self.finished && (!self.pending() || !self.gathered) {
                self.gathered = true;
                match self.pull(cx) {
                    Poll::Pending if !self.pending() => {
                        // What comes next may take its time; what has come is not to wait for it.
                        ready!(io.poll_flush(cx)).map_err(SendError::Write)?;
                        self.unflushed = false;
                        return Poll::Pending;
                    }
                    Poll::Pending => {}
                    Poll::Ready(pulled) => pulled?,
                }
            }
            if self.pending() {
                if self.turn == Turn::Fresh && self.out.len() + self.piece.len() <= NEAR {
                    self.turn = Turn::Waits;
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                self.turn = Turn::Has;
                let Poll::Ready(flushed) = self.flush(io, cx) else {
                    self.body.poll_request(cx);
                    return Poll::Pending;
                };
                flushed.map_err(SendError::Write)?;
                self.unflushed = true;
                if self.progress >= until && !self.finished {
                    let _ = pin!(yield_now()).poll(cx);
                    return Poll::Pending;
                }
            } else if self.finished {
                ready!(io.poll_flush(cx)).map_err(SendError::Write)?;
                self.unflushed = false;
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Takes the next piece of the body, with its framing, behind what is to be written.
    fn pull(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        let Some(frame) = ready!(self.body.poll_piece(cx)) else {
            return Poll::Ready(self.end(None));
        };
        let frame = match frame.map_err(SendError::Body)?.into_data() {
            Ok(data) => return Poll::Ready(self.queue(data)),
            Err(frame) => frame,
        };
        let trailers = frame.into_trailers().ok();
        Poll::Ready(self.end(trailers.as_ref()))
    }

    fn queue(&mut self, data: Bytes) -> Result<(), SendError> {
        if data.is_empty() {
            return Ok(());
        }
        match self.mode {
            Mode::Nothing => return Err(SendError::Length),
            Mode::Length(_) => {
                let n = data.len() as u64;
                self.left = self.left.checked_sub(n).ok_or(SendError::Length)?;
                self.put(data);
                // The body's own end is nothing more to wait for.
                self.finished = self.left == 0;
            }
            Mode::Chunks => {
                if let Some(bytes) = NonZero::new(data.len()) {
                    encode::write_chunk_head(&mut self.out, bytes);
                }
                self.put(data);
                self.behind().extend_from_slice(encode::CHUNK_END);
                if self.body.is_empty() {
                    return self.end(None);
                }
            }
            Mode::UntilClose => self.put(data),
        }
        Ok(())
    }

    fn put(&mut self, data: Bytes) {
        if data.len() <= COPY && self.written < self.out.len() {
            self.out.extend_from_slice(&data);
        } else {
            self.piece = data;
        }
    }

    /// Where what follows the last piece is written.
    fn behind(&mut self) -> &mut Vec<u8> {
        if self.piece.is_empty() { &mut self.out } else { &mut self.tail }
    }

    fn end(&mut self, trailers: Option<&http::HeaderMap>) -> Result<(), SendError> {
        if self.left != 0 {
            return Err(SendError::Length);
        }
        if self.mode == Mode::Chunks {
            encode::write_last_chunk(self.behind(), trailers);
        }
        self.finished = true;
        Ok(())
    }

    fn flush(&mut self, io: &Io, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let then = if self.finished { self.then } else { Then::Leave };
        while self.pending() {
            let out = &self.out[self.written..];
            let slices = [IoSlice::new(out), IoSlice::new(&self.piece), IoSlice::new(&self.tail)];
            let from = usize::from(out.is_empty());
            let to = if self.tail.is_empty() { if self.piece.is_empty() { 1 } else { 2 } } else { 3 };
            let mut sent = ready!(io.poll_write(cx, &slices[from..to], then))?;
            self.progress += sent as u64;
            let of_out = sent.min(out.len());
            self.written += of_out;
            sent -= of_out;
            let of_piece = sent.min(self.piece.len());
            self.piece.advance(of_piece);
            self.tail.drain(..sent - of_piece);
        }
        self.written = 0;
        if self.finished {
            spare::give_back_text(&mut self.out); // who waits for an answer needs it no more
        } else {
            self.out.clear();
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, pin::Pin, task::Waker};

    use http_body::Frame;
    use tokio::{
        io::AsyncReadExt,
        net::{TcpListener, TcpStream},
    };

    use super::*;

    /// A service that has so many pieces left, all of them at once.
    struct Rich(usize);

    impl http_body::Body for Rich {
        type Data = Bytes;
        type Error = BodyError;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
            let piece = self.0.checked_sub(1).map(|left| {
                self.0 = left;
                Ok(Frame::data(Bytes::from(vec![b'x'; 32 * 1024])))
            });
            Poll::Ready(piece)
        }
    }

    #[tokio::test]
    async fn the_sockets_of_others_are_looked_at_while_a_long_body_is_sent() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (near, far) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        let (io, mut far) = (Io::new(near.unwrap()), far.unwrap().0);
        let mut sender = Sender::new(b"head".to_vec(), Body::stream(Rich(200)), Mode::Length(200 * 32 * 1024));
        let mut most = 0;
        let sending = poll_fn(|cx| {
            let before = sender.progress();
            let polled = sender.poll(&io, cx);
            most = most.max(sender.progress() - before);
            polled
        });
        let mut came = vec![0; 200 * 32 * 1024 + 4];
        let (sent, read) = tokio::join!(sending, far.read_exact(&mut came));
        assert!(sent.is_ok() && read.is_ok());
        assert!((SHARE..=SHARE + 64 * 1024).contains(&most), "{most} at once");
    }

    #[tokio::test]
    async fn a_short_message_lets_others_go_first_and_a_long_one_goes_while_it_is_near() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let io = Io::new(TcpStream::connect(listener.local_addr().unwrap()).await.unwrap());
        for (length, waits) in [(0, true), (NEAR - 4, true), (NEAR - 3, false), (COPY + 1, false)] {
            let body = Body::from("x".repeat(length));
            let mut sender = Sender::new(b"head".to_vec(), body, Mode::Length(length as u64));
            let mut cx = Context::from_waker(Waker::noop());
            assert_eq!(sender.poll(&io, &mut cx).is_pending(), waits, "{length}");
            assert_eq!((sender.gives_way(), sender.progress() == 0), (waits, waits), "{length}");
            assert!(sender.poll(&io, &mut cx).is_ready() && sender.is_done(), "{length}");
            assert_eq!((sender.progress(), sender.body_progress()), (length as u64 + 4, length as u64));
        }
    }
}
