//! A socket that is read and written through a shared reference, since one task streams both ways at once.

use std::{
    cell::RefCell,
    io,
    io::IoSlice,
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::BytesMut;
use tokio::{io::AsyncWrite, net::TcpStream};
use tokio_util::io::poll_read_buf;

/// A connection's socket.
#[derive(Debug)]
pub struct Io(RefCell<TcpStream>);

impl Io {
    /// Takes a connected socket; small writes leave at once.
    ///
    /// # Errors
    /// The socket is already gone.
    pub fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self(RefCell::new(stream)))
    }

    /// Reads what there is, up to `room` bytes or so, behind what `buffer` holds; 0 is the end.
    /// Room is made only once there is something to read, so that a waiting connection holds no memory.
    pub fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut BytesMut, room: usize) -> Poll<io::Result<usize>> {
        let socket = &mut *self.0.borrow_mut();
        ready!(socket.poll_read_ready(cx))?;
        if buffer.capacity() - buffer.len() < room / 4 {
            buffer.reserve(room);
        }
        // A read that does not fill the buffer has taken all there was, and tokio knows: the next one asks the event
        // loop first, not the system.
        poll_read_buf(Pin::new(socket), cx, buffer)
    }

    /// Writes what the socket takes of `slices`.
    pub fn poll_write(&self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let socket = &mut *self.0.borrow_mut();
        let written = match slices {
            [one] => Pin::new(socket).poll_write(cx, one),
            many => Pin::new(socket).poll_write_vectored(cx, many),
        };
        match ready!(written) {
            Ok(0) => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            written => Poll::Ready(written),
        }
    }

    /// True when nothing has come on a connection on which nothing should come: neither bytes nor an end.
    /// What came since the last turn of the event loop may be missed.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        // Not `poll_read_ready`: a task that has used up its budget would be told that nothing came.
        is_nothing(self.0.borrow().try_read(&mut [0]))
    }

    /// The same, by the word of the system, at the price of a call into it.
    #[must_use]
    pub fn is_surely_quiet(&self) -> bool {
        self.is_quiet() && is_nothing(socket2::SockRef::from(&*self.0.borrow()).peek(&mut [MaybeUninit::uninit()]))
    }

    /// Makes the end of the connection a reset, which nobody can take for the end of a message.
    pub fn abort(&self) {
        // It may be gone already; then there is nobody to tell.
        let _ = socket2::SockRef::from(&*self.0.borrow()).set_linger(Some(std::time::Duration::ZERO));
    }

    /// Says that nothing more will be written.
    pub fn finish(&self) {
        // It may be gone already; then there is nobody to tell.
        let _ = socket2::SockRef::from(&*self.0.borrow()).shutdown(std::net::Shutdown::Write);
    }
}

fn is_nothing(read: io::Result<usize>) -> bool {
    matches!(read, Err(e) if e.kind() == io::ErrorKind::WouldBlock)
}

#[cfg(test)]
mod tests {
    use std::{
        future::{Future, poll_fn},
        pin::pin,
    };

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
        (Io::new(near.unwrap()).unwrap(), far.unwrap().0)
    }

    async fn readable(io: &Io) {
        poll_fn(|cx| io.0.borrow().poll_read_ready(cx)).await.unwrap();
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
}
