//! Calls into the system on a socket of tokio's: by the system's own numbers, since those of the C library make each call one at which
//! a thread may be cancelled, which no thread of ours ever is, and that costs a fifth of a short one.

use std::{
    cell::Cell,
    io::{self, IoSlice},
    os::fd::AsFd,
    task::{Context, Poll, ready},
};

use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, recv, send, sendmsg};
use tokio::{io::Interest, net::TcpStream};

/// Whether more follows at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// What is written leaves.
    Leave,
    /// It waits for what follows, which may be the end of the connection, so that both leave as one.
    Wait,
}

/// Writes what the socket takes of `slices`.
pub fn poll_send(
    socket: &TcpStream,
    cx: &mut Context<'_>,
    slices: &[IoSlice<'_>],
    then: Then,
) -> Poll<io::Result<usize>> {
    loop {
        ready!(socket.poll_write_ready(cx))?;
        match socket.try_io(Interest::WRITABLE, || write(socket, slices, then)) {
            // The next time, it is the event loop that says when.
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            sent => {
                if sent.as_ref().is_ok_and(|&sent| sent < slices.iter().map(|slice| slice.len()).sum()) {
                    expect(socket, Interest::WRITABLE);
                }
                return Poll::Ready(sent);
            }
        }
    }
}

fn write(socket: &TcpStream, slices: &[IoSlice<'_>], then: Then) -> io::Result<usize> {
    let flags = if then == Then::Wait { SendFlags::NOSIGNAL | SendFlags::MORE } else { SendFlags::NOSIGNAL };
    let sent = match slices {
        [one] => send(socket, one, flags),
        many => sendmsg(socket, many, &mut SendAncillaryBuffer::default(), flags), // quicker than `writev`
    };
    Ok(sent?)
}

/// Whether the system has nothing to read of it now, neither bytes nor an end.
pub fn is_quiet(socket: &TcpStream) -> bool {
    let peeked = recv(socket, &mut [0], RecvFlags::PEEK | RecvFlags::DONTWAIT);
    peeked.is_err_and(|e| e == rustix::io::Errno::AGAIN)
}

/// Has the next call of this kind wait for the event loop's word: there is nothing to be had now.
pub fn expect(socket: &TcpStream, interest: Interest) {
    let _ = socket.try_io(interest, || io::Result::<()>::Err(io::ErrorKind::WouldBlock.into()));
}

/// Whether what comes is acknowledged at once, or with what is sent next; a socket hands that down to those that it accepts. Where it
/// does not work, it is only a packet more.
pub fn acknowledge(socket: impl AsFd, at_once: bool) {
    #[cfg(target_os = "linux")]
    let _ = rustix::net::sockopt::set_tcp_quickack(socket, at_once);
    #[cfg(not(target_os = "linux"))]
    let _ = (socket, at_once);
}

/// Whether what comes on a socket is acknowledged at once, which the system does from when it is asked to until something is sent: then it
/// waits 40 ms for an answer again. For the other side's system may hold back small writes until the last is acknowledged (Nagle's
/// algorithm, RFC 9293 §3.7.4), so who needs more of a message before there is anything to send asks for it.
#[derive(Debug, Default)]
pub struct Prompt(Cell<bool>);

impl Prompt {
    /// From now on.
    #[inline]
    pub fn begin(&self, socket: impl AsFd) {
        if !self.0.replace(true) {
            acknowledge(socket, true);
        }
    }

    /// Something was sent.
    #[inline]
    pub fn end(&self) {
        self.0.set(false);
    }

    /// Whether it was asked for since.
    #[cfg(test)]
    pub fn is_on(&self) -> bool {
        self.0.get()
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, time::Duration};

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
        time::timeout,
    };

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (listener.accept().await.unwrap().0, client)
    }

    #[tokio::test]
    async fn what_has_come_is_looked_for_when_the_event_loop_says_so() {
        let (accepted, client) = pair().await;
        client.try_write(b"early").unwrap();
        // The system has it by now: it needs no event loop to pass it on over loopback.
        assert!(!is_quiet(&accepted));
        expect(&accepted, Interest::READABLE);
        let looked = accepted.try_read(&mut [0; 8]);
        assert!(
            looked.is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock),
            "no call into the system before its word"
        );
        accepted.readable().await.unwrap();
        assert_eq!(accepted.try_read(&mut [0; 8]).unwrap(), 5, "what came before is told too");
    }

    #[tokio::test]
    async fn all_slices_arrive_in_order_however_much_the_socket_takes() {
        let (near, mut far) = pair().await;
        let bytes: Vec<u8> = (0..=250).cycle().take(4_000_000).collect();
        for then in [Then::Leave, Then::Wait] {
            let send = async {
                let mut sent = 0;
                while sent < bytes.len() {
                    let middle = sent + (bytes.len() - sent) / 2;
                    let slices = [IoSlice::new(&bytes[sent..middle]), IoSlice::new(&bytes[middle..])];
                    sent += poll_fn(|cx| poll_send(&near, cx, &slices, then)).await.unwrap();
                }
            };
            let mut got = vec![0; bytes.len()];
            let ((), read) = tokio::join!(send, far.read_exact(&mut got));
            assert!(read.is_ok() && got == bytes, "{then:?}");
        }
    }

    #[tokio::test]
    async fn what_waits_leaves_with_what_follows() {
        // The system holds it back for a fifth of a second at most, which a busy machine may take to look.
        let mut waited = false;
        for _ in 0..20 {
            let (mut near, mut far) = pair().await;
            poll_fn(|cx| poll_send(&near, cx, &[IoSlice::new(b"ab")], Then::Wait)).await.unwrap();
            waited |= is_quiet(&far);
            near.shutdown().await.unwrap();
            let mut got = Vec::new();
            timeout(Duration::from_secs(10), far.read_to_end(&mut got)).await.unwrap().unwrap();
            assert_eq!(got, b"ab");
        }
        assert!(waited);
    }

    #[tokio::test]
    async fn a_socket_whose_other_side_is_gone_says_so() {
        let (near, far) = pair().await;
        assert!(is_quiet(&near));
        drop(far);
        assert!(!is_quiet(&near));
        let sent = async {
            loop {
                poll_fn(|cx| poll_send(&near, cx, &[IoSlice::new(b"ab")], Then::Leave)).await?;
            }
        };
        let broken: io::Result<()> = timeout(Duration::from_secs(10), sent).await.unwrap();
        assert!(broken.is_err());
    }
}
