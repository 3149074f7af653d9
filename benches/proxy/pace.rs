//! Open-loop HTTP/1.1 load: requests leave evenly spaced, whatever the answers do, and each answer's
//! time counts from the moment the request was due, so that a stall is not hidden.
//!
//!     rustc -O pace.rs && ./pace 127.0.0.1:18000 /api/v1/echo/1k RATE SECONDS CONNECTIONS
//!
//! Prints one line of JSON, times in microseconds.
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

#[repr(C, packed)]
#[derive(Clone, Copy)]
struct Event {
    events: u32,
    data: u64,
}
#[repr(C)]
struct Timespec {
    sec: i64,
    nsec: i64,
}
unsafe extern "C" {
    fn epoll_create1(flags: i32) -> i32;
    fn epoll_ctl(ep: i32, op: i32, fd: i32, event: *mut Event) -> i32;
    fn epoll_pwait2(ep: i32, events: *mut Event, max: i32, timeout: *const Timespec, mask: *const u8) -> i32;
    fn prctl(option: i32, value: u64, ...) -> i32;
}

struct Conn {
    sock: TcpStream,
    due: Instant,
    got: usize,
    /// Length of the whole answer, known after its head.
    want: usize,
}

fn main() {
    let a: Vec<String> = std::env::args().collect();
    let (rate, seconds, count): (f64, f64, usize) =
        (a[3].parse().unwrap(), a[4].parse().unwrap(), a[5].parse().unwrap());
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: proxybench/1\r\nAccept: */*\r\nAccept-Encoding: gzip\r\n\
         X-Request-Id: 0123456789abcdef\r\n\r\n",
        a[2], a[1]
    );
    let ep = unsafe {
        prctl(29, 1);
        epoll_create1(0)
    }; // PR_SET_TIMERSLACK: wake at the nanosecond asked for
    let start = Instant::now();
    let mut conns: Vec<Conn> = (0..count)
        .map(|i| {
            let sock = TcpStream::connect(&a[1]).expect("connect");
            sock.set_nodelay(true).unwrap();
            sock.set_nonblocking(true).unwrap();
            let mut e = Event { events: 1, data: i as u64 };
            unsafe { epoll_ctl(ep, 1, sock.as_raw_fd(), &mut e) };
            Conn { sock, due: start, got: 0, want: 0 }
        })
        .collect();
    let mut idle: VecDeque<usize> = (0..count).collect();
    let mut times = Vec::with_capacity((rate * seconds) as usize + 1);
    let (mut sent, mut bad, total) = (0usize, 0usize, (rate * seconds) as usize);
    let start = Instant::now() + Duration::from_millis(50);
    let end = start + Duration::from_secs_f64(seconds + 2.0);
    let mut buf = vec![0; 65536];
    let mut events = [Event { events: 0, data: 0 }; 64];
    while times.len() + bad < total && Instant::now() < end {
        // send all that is due, as far as connections are free
        let mut next = start + Duration::from_secs_f64(sent as f64 / rate);
        while sent < total && next <= Instant::now() {
            let Some(i) = idle.pop_front() else { break };
            let c = &mut conns[i];
            (c.due, c.got, c.want) = (next, 0, 0);
            c.sock.write_all(request.as_bytes()).expect("a small write");
            sent += 1;
            next = start + Duration::from_secs_f64(sent as f64 / rate);
        }
        let wait = if sent < total && !idle.is_empty() {
            next.saturating_duration_since(Instant::now())
        } else {
            Duration::from_millis(100)
        };
        let t = Timespec { sec: wait.as_secs() as i64, nsec: wait.subsec_nanos() as i64 };
        let n = unsafe { epoll_pwait2(ep, events.as_mut_ptr(), 64, &t, std::ptr::null()) };
        for e in &events[..n.max(0) as usize] {
            let i = e.data as usize;
            let c = &mut conns[i];
            match c.sock.read(&mut buf) {
                Ok(0) => panic!("the proxy closed a connection"),
                Ok(n) => {
                    if c.want == 0 {
                        let head = buf.windows(4).position(|w| w == b"\r\n\r\n").expect("a whole head in one read") + 4;
                        let text = String::from_utf8_lossy(&buf[..head]).to_ascii_lowercase();
                        let body: usize = text
                            .split("content-length: ")
                            .nth(1)
                            .and_then(|s| s.split('\r').next()?.parse().ok())
                            .expect("content-length");
                        c.want = head + body;
                        if !text.starts_with("http/1.1 200") {
                            bad += 1;
                            c.due = end
                        }
                    }
                    c.got += n;
                    if c.got >= c.want {
                        if c.due != end {
                            times.push(c.due.elapsed().as_nanos() as u64)
                        }
                        idle.push_back(i);
                    }
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                Err(e) => panic!("{e}"),
            }
        }
    }
    times.sort_unstable();
    let at = |q: f64| times.get((times.len() as f64 * q) as usize).or(times.last()).map_or(0.0, |t| *t as f64 / 1000.0);
    println!(
        r#"{{"n": {}, "bad": {}, "p50": {:.1}, "p99": {:.1}, "p999": {:.1}, "max": {:.1}}}"#,
        times.len(),
        total - times.len(),
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0)
    );
}
