//! The cheapest upstream we can have: one thread, one epoll, HTTP/1.1 only.
//!
//!     rustc -O upstream.rs && ./upstream 19001 19002 19003
//!
//! Any path is answered with 1 KiB of JSON-like bytes; a path that ends in `1m` with 1 MiB; a path
//! that ends in `503` with status 503; a path that ends in `head` with the request's own head, so that
//! a test can see what the proxy made of it. Request bodies (Content-Length or chunked) are read and
//! dropped. Each answer tells which port made it (`x-port`), so that a test can see the balancing.
use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;

#[repr(C, packed)]
#[derive(Clone, Copy)]
struct Event {
    events: u32,
    data: u64,
}
unsafe extern "C" {
    fn epoll_create1(flags: i32) -> i32;
    fn epoll_ctl(ep: i32, op: i32, fd: i32, event: *mut Event) -> i32;
    fn epoll_wait(ep: i32, events: *mut Event, max: i32, timeout: i32) -> i32;
}
const IN: u32 = 1;
const OUT: u32 = 4;

struct Conn {
    sock: TcpStream,
    port: u16,
    input: Vec<u8>,
    /// Body bytes of the current request that are still to come and be dropped.
    skip: usize,
    /// Inside a chunked body: dropped until its last chunk has been seen.
    chunked: bool,
    /// The answer to send once the body is in.
    answer: Option<usize>,
    output: Vec<u8>,
    sent: usize,
    close: bool,
}

fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    hay.windows(needle.len()).position(|w| w == needle)
}

fn watch(ep: i32, op: i32, fd: i32, events: u32) {
    let mut event = Event { events, data: fd as u64 };
    unsafe { epoll_ctl(ep, op, fd, &mut event) };
}

impl Conn {
    /// Takes whole requests off `input`, and puts their answers on `output`.
    fn serve(&mut self, answers: &[Vec<u8>]) {
        let mut at = 0;
        loop {
            let rest = &self.input[at..];
            if self.chunked {
                match find(rest, b"0\r\n\r\n") {
                    Some(i) => {
                        at += i + 5;
                        self.chunked = false
                    }
                    None => {
                        at = self.input.len().saturating_sub(4).max(at);
                        break;
                    }
                }
            } else if self.skip > 0 {
                let n = self.skip.min(rest.len());
                at += n;
                self.skip -= n;
                if self.skip > 0 {
                    break;
                }
            } else if let Some(i) = self.answer.take() {
                self.output.extend_from_slice(&answers[i]);
                let digits = self.port.to_string();
                let head = self.output.len() - answers[i].len();
                let at = head + find(&answers[i], b"x-port: ").unwrap() + 8;
                self.output[at..at + 5].copy_from_slice(digits.as_bytes());
            } else {
                let Some(end) = find(rest, b"\r\n\r\n") else { break };
                let mut lines = rest[..end].split(|&b| b == b'\n');
                let path = lines.next().unwrap_or(b"").split(|&b| b == b' ').nth(1).unwrap_or(b"/");
                self.answer = match path {
                    p if p.ends_with(b"1m") => Some(1),
                    p if p.ends_with(b"503") => Some(2),
                    p if p.ends_with(b"head") => {
                        write!(self.output, "HTTP/1.1 200 OK\r\ncontent-length: {end}\r\n\r\n").unwrap();
                        self.output.extend_from_slice(&rest[..end]);
                        None
                    }
                    _ => Some(0),
                };
                for line in lines {
                    // Told apart by length and first letter before anything dearer.
                    let is = |name: &[u8]| line.len() > name.len() && line[..name.len()].eq_ignore_ascii_case(name);
                    match line.first().map(u8::to_ascii_lowercase) {
                        Some(b'c') if is(b"content-length:") => {
                            self.skip =
                                std::str::from_utf8(&line[15..]).ok().and_then(|s| s.trim().parse().ok()).unwrap_or(0)
                        }
                        Some(b'c') if is(b"connection:") => self.close = find(line, b"close").is_some(),
                        Some(b't') if is(b"transfer-encoding:") => self.chunked = true,
                        _ => {}
                    }
                }
                at += end + 4;
            }
        }
        self.input.drain(..at);
    }

    /// Sends what it can; true while the connection lives.
    fn flush(&mut self, ep: i32) -> bool {
        while self.sent < self.output.len() {
            match self.sock.write(&self.output[self.sent..]) {
                Ok(n) => self.sent += n,
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    watch(ep, 3, self.sock.as_raw_fd(), IN | OUT);
                    return true;
                }
                Err(_) => return false,
            }
        }
        if self.sent > 65536 {
            watch(ep, 3, self.sock.as_raw_fd(), IN)
        }
        self.output.clear();
        self.sent = 0;
        !self.close
    }
}

fn main() {
    let answers: Vec<Vec<u8>> = [("200 OK", 1 << 10), ("200 OK", 1 << 20), ("503 Service Unavailable", 64)]
        .map(|(status, n)| {
            let head = format!(
                "HTTP/1.1 {status}\r\ndate: Thu, 01 Jan 2026 00:00:00 GMT\r\ncontent-type: application/json\r\n\
                 content-length: {n}\r\ncache-control: no-store\r\nx-port: 00000\r\n\r\n"
            );
            [head.into_bytes(), vec![b'x'; n]].concat()
        })
        .into();
    let ep = unsafe { epoll_create1(0) };
    let mut listeners = HashMap::new();
    for port in std::env::args().skip(1).map(|a| a.parse().expect("a port")) {
        let l = TcpListener::bind(("127.0.0.1", port)).expect("bind");
        l.set_nonblocking(true).unwrap();
        watch(ep, 1, l.as_raw_fd(), IN);
        listeners.insert(l.as_raw_fd(), (l, port));
    }
    let mut conns: HashMap<i32, Conn> = HashMap::new();
    let mut events = [Event { events: 0, data: 0 }; 256];
    let mut buf = vec![0; 65536];
    loop {
        let n = unsafe { epoll_wait(ep, events.as_mut_ptr(), 256, -1) };
        for event in &events[..n.max(0) as usize] {
            let (fd, what) = (event.data as i32, event.events);
            if let Some((l, port)) = listeners.get(&fd) {
                while let Ok((sock, _)) = l.accept() {
                    sock.set_nonblocking(true).unwrap();
                    sock.set_nodelay(true).unwrap();
                    let fd = sock.as_raw_fd();
                    watch(ep, 1, fd, IN);
                    conns.insert(
                        fd,
                        Conn {
                            sock,
                            port: *port,
                            input: vec![],
                            skip: 0,
                            chunked: false,
                            answer: None,
                            output: vec![],
                            sent: 0,
                            close: false,
                        },
                    );
                }
                continue;
            }
            let Some(c) = conns.get_mut(&fd) else { continue };
            let mut alive = true;
            if what & !OUT != 0 {
                alive = match c.sock.read(&mut buf) {
                    Ok(0) => false,
                    Ok(n) => {
                        c.input.extend_from_slice(&buf[..n]);
                        c.serve(&answers);
                        true
                    }
                    Err(e) => e.kind() == ErrorKind::WouldBlock,
                };
            }
            if !(alive && c.flush(ep)) {
                conns.remove(&fd);
            }
        }
    }
}
