//! Instances that write an answer in pieces, which their system holds back until the one before is acknowledged.

use std::{
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener},
    thread,
    time::Duration,
};

use crate::support::{Gateway, now};

/// To acknowledge what nothing is sent with, a system takes at least so long.
const DELAY: Duration = Duration::from_millis(40);
/// It acknowledges the first few of a connection at once by itself.
const FEW: usize = 30;

/// A gateway in front of one instance.
async fn before(instance: SocketAddr) -> Gateway {
    let service = format!("[services.web]\ninstances = ['{instance}']\n");
    let route = "[[routes]]\nmatch.path = '/'\nservice = 'web'\n";
    Gateway::fixed(&format!("[http]\nworkers = 1\n{service}{route}")).await
}

/// Answers all requests in these pieces, without having told its system to send small ones at once.
fn in_pieces(pieces: &'static [&'static str]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                let read = BufReader::new(stream.try_clone().unwrap());
                for line in read.lines().map_while(Result::ok) {
                    if line.is_empty() {
                        pieces.iter().try_for_each(|piece| stream.write_all(piece.as_bytes())).unwrap();
                    }
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn pieces_that_wait_to_be_acknowledged_come_without_delay() {
    const ANSWERS: [&[&str]; 4] = [
        &["HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", "ok"],
        &["HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"],
        &["HTTP/1.1 200 OK\r\n", "Content-Length: 2\r\n", "\r\n", "ok"],
        &["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "2\r\n", "ok", "\r\n", "0\r\n", "\r\n"],
    ];
    for pieces in ANSWERS {
        let gateway = before(in_pieces(pieces)).await;
        let mut quickest = Duration::MAX;
        for asked in 0..2 * FEW {
            let began = now();
            assert_eq!(gateway.get("/").await.text, "ok");
            if asked >= FEW {
                quickest = quickest.min(began.elapsed());
            }
        }
        assert!(quickest < DELAY, "{pieces:?}: {quickest:?}");
    }
}
