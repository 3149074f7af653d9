//! A socket that is read and written through a shared reference, since one task streams both ways at once.

use std::{
    io,
    io::IoSlice,
    net::SocketAddr,
    task::{Context, Poll, Waker, ready},
};

use bytes::BytesMut;
use tokio::net::TcpStream;

/// A connection's socket.
#[derive(Debug)]
pub struct Io(TcpStream);

impl Io {
    /// Takes a connected socket; small writes leave at once.
    ///
    /// # Errors
    /// The socket is already gone.
    pub fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self(stream))
    }

    /// Who is at the other end.
    ///
    /// # Errors
    /// The socket is already gone.
    pub fn peer(&self) -> io::Result<SocketAddr> {
        self.0.peer_addr()
    }

    /// Reads what there is, up to `room` bytes or so, behind what `buffer` holds; 0 is the end.
    /// Room is made only once there is something to read, so that a waiting connection holds no memory.
    pub fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut BytesMut, room: usize) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_read_ready(cx))?;
            if buffer.capacity() - buffer.len() < room / 4 {
                buffer.reserve(room);
            }
            match self.0.try_read_buf(buffer) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                read => return Poll::Ready(read),
            }
        }
    }

    /// Writes what the socket takes of `slices`.
    pub fn poll_write(&self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(cx))?;
            let written = match slices {
                [one] => self.0.try_write(one),
                many => self.0.try_write_vectored(many),
            };
            match written {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => return Poll::Ready(written),
            }
        }
    }

    /// True when nothing has come on a connection on which nothing should come: neither bytes nor an end.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        match self.0.poll_read_ready(&mut cx) {
            Poll::Pending => true,
            Poll::Ready(Err(_)) => false,
            // Readiness may be left from a read that took all there was: the socket has the last word.
            Poll::Ready(Ok(())) => {
                matches!(self.0.try_read(&mut [0]), Err(e) if e.kind() == io::ErrorKind::WouldBlock)
            }
        }
    }

    /// Makes the end of the connection a reset, which nobody can take for the end of a message.
    pub fn abort(&self) {
        // It may be gone already; then there is nobody to tell.
        let _ = socket2::SockRef::from(&self.0).set_linger(Some(std::time::Duration::ZERO));
    }

    /// Says that nothing more will be written.
    pub fn finish(&self) {
        // It may be gone already; then there is nobody to tell.
        let _ = socket2::SockRef::from(&self.0).shutdown(std::net::Shutdown::Write);
    }
}
