//! A socket that is read and written through a shared reference, since one task streams both ways at once.

use std::{
    cell::RefCell,
    io,
    io::IoSlice,
    pin::{Pin, pin},
    task::{Context, Poll, Waker, ready},
};

use bytes::BytesMut;
use tokio::{io::AsyncWrite, net::TcpStream, task::coop::unconstrained};
use tokio_rustls::TlsStream;
use tokio_util::io::poll_read_buf;

use super::{
    socket::{self, Prompt, Then, poll_send},
    spare,
};

/// A connection's socket, with or without TLS around it.
#[derive(Debug)]
pub struct Io {
    stream: RefCell<Stream>,
    prompt: Prompt,
}

/// What the bytes go through.
#[derive(Debug)]
pub enum Stream {
    /// The socket alone.
    Plain(TcpStream),
    /// A finished handshake, of either side.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Io {
    /// Takes a connected socket, which whoever opened it has told to send small writes at once.
    #[must_use]
    pub fn new(stream: TcpStream) -> Self {
        Stream::Plain(stream).into()
    }

    /// Takes a connection whose handshake has ended.
    #[must_use]
    pub fn tls(stream: TlsStream<TcpStream>) -> Self {
        Stream::Tls(Box::new(stream)).into()
    }

    /// Reads what there is, up to `room` bytes or so, behind what `buffer` holds; 0 is the end.
    /// Without TLS, room is made only once there is something to read: a waiting connection holds no memory.
    pub fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut BytesMut, room: usize) -> Poll<io::Result<usize>> {
        let stream = &mut *self.stream.borrow_mut();
        if let Stream::Plain(socket) = stream {
            ready!(socket.poll_read_ready(cx))?;
        }
        if buffer.capacity() - buffer.len() < room / 4 {
            let spare = if buffer.capacity() == 0 { spare::take(room) } else { None };
            match spare {
                Some(spare) => *buffer = spare,
                None => buffer.reserve(room),
            }
        }
        // A read that does not fill the buffer has taken all there was, and tokio knows: the next one asks the event
        // loop first, not the system.
        match stream {
            Stream::Plain(socket) => poll_read_buf(Pin::new(socket), cx, buffer),
            Stream::Tls(tls) => poll_read_buf(Pin::new(tls), cx, buffer),
        }
    }

    /// Writes what the socket takes of `slices`; TLS never has it wait.
    pub fn poll_write(&self, cx: &mut Context<'_>, slices: &[IoSlice<'_>], then: Then) -> Poll<io::Result<usize>> {
        let written = match &mut *self.stream.borrow_mut() {
            Stream::Plain(socket) => poll_send(socket, cx, slices, then),
            Stream::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, slices),
        };
        match ready!(written) {
            Ok(0) => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            written => {
                self.prompt.end();
                Poll::Ready(written)
            }
        }
    }

    /// Ready when the system has all that was written.
    pub fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self.stream.borrow_mut() {
            Stream::Plain(_) => Poll::Ready(Ok(())),
            Stream::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    /// True when nothing has come on a connection on which nothing should come: neither bytes nor an end.
    /// What came since the last turn of the event loop may be missed.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        match &mut *self.stream.borrow_mut() {
            // Not `poll_read_ready`: a task that has used up its budget would be told that nothing came.
            Stream::Plain(socket) => is_nothing(socket.try_read(&mut [0])),
            // What came may be a ticket for a later session, which is nothing to anybody but TLS.
            Stream::Tls(tls) => {
                let mut byte = BytesMut::with_capacity(1);
                let read = std::future::poll_fn(|cx| poll_read_buf(Pin::new(&mut *tls), cx, &mut byte));
                pin!(unconstrained(read)).poll(&mut Context::from_waker(Waker::noop())).is_pending()
            }
        }
    }

    /// The same, by the word of the system, at the price of a call into it.
    #[must_use]
    pub fn is_surely_quiet(&self) -> bool {
        self.is_quiet() && socket::is_quiet(self.stream.borrow().socket())
    }

    /// Makes the end of the connection a reset, which nobody can take for the end of a message.
    pub fn abort(&self) {
        // It may be gone already; then there is nobody to tell.
        let _ = socket2::SockRef::from(self.stream.borrow().socket()).set_linger(Some(std::time::Duration::ZERO));
    }

    /// Has what came be acknowledged at once, and what comes until something is sent: see [`Prompt`].
    #[inline]
    pub fn acknowledge(&self) {
        self.prompt.begin(self.stream.borrow().socket());
    }

    /// Whether that is so.
    #[cfg(test)]
    pub fn is_prompt(&self) -> bool {
        self.prompt.is_on()
    }

    /// Says that nothing more will be written.
    pub fn finish(&self) {
        self.close_notify();
        // It may be gone already; then there is nobody to tell.
        let _ = socket2::SockRef::from(self.stream.borrow().socket()).shutdown(std::net::Shutdown::Write);
    }

    /// Says so to TLS alone, for who lets go of the socket next: its end without this might be somebody else's doing.
    pub fn close_notify(&self) {
        if let Stream::Tls(tls) = &mut *self.stream.borrow_mut() {
            // The alert is small; a socket that does not take it belongs to who does not read.
            let _ = Pin::new(tls).poll_shutdown(&mut Context::from_waker(Waker::noop()));
        }
    }
}

impl From<Stream> for Io {
    fn from(stream: Stream) -> Self {
        Self { stream: RefCell::new(stream), prompt: Prompt::default() }
    }
}

impl Stream {
    /// The socket under it all.
    #[must_use]
    pub fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(tls) => tls.get_ref().0,
        }
    }
}

fn is_nothing(read: io::Result<usize>) -> bool {
    matches!(read, Err(e) if e.kind() == io::ErrorKind::WouldBlock)
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::{
        io::AsyncWriteExt,
        net::TcpListener,
        task::coop::{consume_budget, has_budget_remaining},
    };

    use super::*;

    async fn pair() -> (Io, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
        (Io::new(near.unwrap()), far.unwrap().0)
    }

    async fn readable(io: &Io) {
        poll_fn(|cx| io.stream.borrow().socket().poll_read_ready(cx)).await.unwrap();
    }

    #[tokio::test]
    async fn bytes_and_an_end_are_no_silence_however_busy_the_task() {
        let (io, mut far) = pair().await;
        assert!(io.is_quiet() && io.is_surely_quiet());
        far.write_all(b"ab").await.unwrap();
        readable(&io).await;
        poll_fn(|cx| {
            while has_budget_remaining() {
                let _ = pin!(consume_budget()).poll(cx);
            }
            assert!(!io.is_quiet() && !io.is_surely_quiet());
            Poll::Ready(())
        })
        .await;

        let (io, far) = pair().await;
        drop(far);
        readable(&io).await;
        assert!(!io.is_quiet() && !io.is_surely_quiet());
    }

    #[tokio::test]
    async fn what_the_event_loop_has_not_told_yet_is_heard_from_the_system() {
        let (io, far) = pair().await;
        assert!(io.is_surely_quiet());
        drop(far);
        // No await between: the event loop had no turn.
        assert!(!io.is_surely_quiet());
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn what_is_to_wait_for_an_answer_is_acknowledged_when_there_is_none_yet() {
        let quickack = |io: &Io| rustix::net::sockopt::tcp_quickack(io.stream.borrow().socket()).unwrap();
        let (io, _far) = pair().await;
        socket::acknowledge(io.stream.borrow().socket(), false);
        assert!(!quickack(&io));
        io.acknowledge();
        assert!(quickack(&io));
        // The system is asked anew once something was sent, and not before.
        socket::acknowledge(io.stream.borrow().socket(), false);
        io.acknowledge();
        assert!(!quickack(&io));
        poll_fn(|cx| io.poll_write(cx, &[IoSlice::new(b"ab")], Then::Leave)).await.unwrap();
        io.acknowledge();
        assert!(quickack(&io));
    }
}
