//! A connection that many tasks put small pieces on, through a codec that wants each to leave at once: they leave
//! together, when whoever drives the connection says so. A system call costs more than all the rest of a small answer.

use std::{
    cell::RefCell,
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Frames, Rewound, socket::Prompt, spare};

/// The codec's side: what it writes waits here, and what it flushes too.
#[derive(Debug)]
pub struct Gathered(Rc<RefCell<Waiting>>);

/// The driver's side.
#[derive(Clone, Debug)]
pub struct Outlet(Rc<RefCell<Waiting>>);

#[derive(Debug)]
struct Waiting {
    stream: Rewound,
    /// What comes, where somebody bounds it.
    frames: Option<Frames>,
    out: Vec<u8>,
    /// Of `out`, what has left.
    sent: usize,
    /// Whether other tasks were let go first, since there was nothing to send.
    gave_way: bool,
    /// Written, but TLS may hold some of it back.
    unflushed: bool,
    prompt: Prompt,
}

/// What may wait; beyond it the codec has to.
const MOST: usize = 32 * 1024;
/// Room for what usually waits: it is not to grow step by step.
const USUAL: usize = 8 * 1024;
/// A piece of this size does not wait, and is sent from where it lies.
const LARGE: usize = 4 * 1024;

/// The two sides of a connection.
#[must_use]
pub fn gathered(stream: Rewound) -> (Gathered, Outlet) {
    let (out, prompt) = (Vec::new(), Prompt::default());
    let waiting = Waiting { stream, frames: None, out, sent: 0, gave_way: false, unflushed: false, prompt };
    let waiting = Rc::new(RefCell::new(waiting));
    (Gathered(waiting.clone()), Outlet(waiting))
}

impl Gathered {
    /// The same, where what comes is bounded so.
    #[must_use]
    pub fn bounded(self, frames: Frames) -> Self {
        self.0.borrow_mut().frames = Some(frames);
        self
    }
}

impl Outlet {
    /// Whether all that was put on the connection has left.
    #[must_use]
    pub fn is_clear(&self) -> bool {
        let waiting = self.0.borrow();
        waiting.left() == 0 && !waiting.unflushed
    }

    /// Sends what waits, after all tasks that can go on now: they may have more. To be asked after each turn of the
    /// codec.
    ///
    /// # Errors
    /// The connection does not take it, and never will.
    pub fn poll_send(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let waiting = &mut *self.0.borrow_mut();
        if waiting.left() > 0 && !waiting.gave_way {
            waiting.gave_way = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        waiting.poll_send(cx)
    }

    /// Has what came be acknowledged at once, and what comes until something is sent: see [`Prompt`].
    pub fn acknowledge(&self) {
        let waiting = self.0.borrow();
        waiting.prompt.begin(waiting.stream.socket());
    }
}

/// A connection's codec with the outlet under it: one future that ends as the codec does, or with what keeps it from
/// sending.
#[derive(Debug)]
pub struct Driven<C> {
    /// The codec.
    pub codec: C,
    /// What it writes to.
    pub outlet: Outlet,
}

impl<C: Future + Unpin> Future for Driven<C> {
    type Output = io::Result<C::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Poll::Ready(ended) = Pin::new(&mut self.codec).poll(cx) {
            return Poll::Ready(Ok(ended));
        }
        match self.outlet.poll_send(cx) {
            Poll::Ready(Err(e)) => Poll::Ready(Err(e)),
            _ => Poll::Pending,
        }
    }
}

impl Waiting {
    fn left(&self) -> usize {
        self.out.len() - self.sent
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.left() > 0 {
            let sent = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.out[self.sent..]))?;
            self.took(sent)?;
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// So much of what waits has left.
    fn took(&mut self, bytes: usize) -> io::Result<()> {
        if bytes == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.sent += bytes;
        self.unflushed = true;
        self.prompt.end();
        if self.left() == 0 {
            // A connection at rest holds no memory but its own.
            spare::give_back_text(&mut self.out);
            (self.sent, self.gave_way) = (0, false);
        }
        Ok(())
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let bytes: usize = slices.iter().map(|slice| slice.len()).sum();
        if bytes >= LARGE || self.left() + bytes > MOST {
            ready!(self.poll_send(cx))?;
        }
        if bytes >= LARGE {
            self.unflushed = true;
            self.prompt.end();
            return Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        }
        if self.out.capacity() == 0 {
            self.out = spare::text(USUAL);
        }
        for slice in slices {
            self.out.extend_from_slice(slice);
        }
        Poll::Ready(Ok(bytes))
    }
}

impl AsyncRead for Gathered {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Waiting { stream, frames, .. } = &mut *self.0.borrow_mut();
        let before = buffer.filled().len();
        ready!(Pin::new(stream).poll_read(cx, buffer))?;
        Poll::Ready(frames.as_mut().map_or(Ok(()), |frames| frames.note(&buffer.filled()[before..])))
    }
}

impl AsyncWrite for Gathered {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_write(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_write(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Nothing: sending is the driver's.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let waiting = &mut *self.0.borrow_mut();
        ready!(waiting.poll_send(cx))?;
        Pin::new(&mut waiting.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, sync::Arc};

    use bytes::Bytes;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };
    use tokio_rustls::{TlsAcceptor, TlsConnector, client::TlsStream};

    use super::*;
    use crate::wire::Io;

    async fn pair() -> (Gathered, Outlet, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (near, outlet) = gathered(Io::new(near.unwrap()).rewound(Bytes::new()));
        (near, outlet, far.unwrap().0)
    }

    #[tokio::test]
    async fn small_pieces_leave_together_when_the_driver_says_so() {
        let (mut near, outlet, mut far) = pair().await;
        near.write_all(b"one ").await.unwrap();
        near.flush().await.unwrap();
        near.write_all(b"two").await.unwrap();
        assert!(far.try_read(&mut [0; 8]).is_err(), "nothing was to leave yet");
        poll_fn(|cx| outlet.poll_send(cx)).await.unwrap();
        let mut came = [0; 7];
        far.read_exact(&mut came).await.unwrap();
        assert_eq!(&came, b"one two");
    }

    #[tokio::test]
    async fn all_bytes_come_in_order_whatever_their_sizes_and_the_end_behind_them() {
        let (mut near, _outlet, mut far) = pair().await;
        let sizes = [1, 5_000, 3, LARGE, LARGE - 1, 100_000, 2, 40_000, 9, 1_000_000, 1];
        let sent: Vec<u8> = (0..=250).cycle().take(sizes.iter().sum()).collect();
        let mut came = Vec::new();
        let write = async {
            let mut at = 0;
            for size in sizes {
                near.write_all(&sent[at..at + size]).await.unwrap();
                at += size;
            }
            near.shutdown().await.unwrap();
        };
        let (read, ()) = tokio::join!(far.read_to_end(&mut came), write);
        read.unwrap();
        assert!(came == sent);
    }

    #[tokio::test]
    async fn who_does_not_read_makes_the_codec_wait() {
        let (mut near, _outlet, _far) = pair().await;
        let mut taken = 0;
        poll_fn(|cx| {
            while let Poll::Ready(n) = Pin::new(&mut near).poll_write(cx, &[0; 1000]) {
                taken += n.unwrap();
                assert!(taken < 64 << 20, "there is no end to what is kept");
            }
            Poll::Ready(())
        })
        .await;
        assert!(near.0.borrow().left() <= MOST);
    }

    #[tokio::test]
    async fn what_tls_holds_back_leaves_when_there_is_room_though_nothing_more_is_written() {
        let (near, mut far) = secured().await;
        let (mut near, outlet) = gathered(near.rewound(Bytes::new()));
        let mut taken = 0;
        poll_fn(|cx| {
            while let Poll::Ready(n) = Pin::new(&mut near).poll_write(cx, &[0; 2 * LARGE]) {
                taken += n.unwrap();
            }
            Poll::Ready(())
        })
        .await;
        let driven = poll_fn(|cx| outlet.poll_send(cx));
        let read = async {
            let mut came = vec![0; taken];
            tokio::time::timeout(std::time::Duration::from_secs(20), far.read_exact(&mut came)).await.unwrap().unwrap();
        };
        let (sent, ()) = tokio::join!(driven, read);
        sent.unwrap();
    }

    /// The two ends of a connection with TLS.
    async fn secured() -> (Io, TlsStream<TcpStream>) {
        use rustls::{ClientConfig, RootCertStore, ServerConfig, crypto::aws_lc_rs, pki_types::PrivateKeyDer};

        let pair = rcgen::generate_simple_self_signed(["a.test".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(pair.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let server = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
        let server =
            server.unwrap().with_no_client_auth().with_single_cert(vec![pair.cert.der().clone()], key).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(pair.cert.der().clone()).unwrap();
        let client = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let client = client.unwrap().with_root_certificates(roots).with_no_client_auth();

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (near, far) = tokio::join!(listener.accept(), TcpStream::connect(address));
        let accept = TlsAcceptor::from(Arc::new(server)).accept(near.unwrap().0);
        let connect = TlsConnector::from(Arc::new(client)).connect("a.test".try_into().unwrap(), far.unwrap());
        let (near, far) = tokio::join!(accept, connect);
        (Io::tls(near.unwrap().into()), far.unwrap())
    }
}
