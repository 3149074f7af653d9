//! Headers by table, in one piece and in any other, and what is left of the connection behind them.

use proptest::prelude::*;
use tokio::{io::AsyncWriteExt, net::TcpListener, task::yield_now};

use super::*;

/// A header of version 2.
fn block(version: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let length = u16::try_from(block.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[version, family], &length, block].concat()
}

const V4: &[u8] = &[192, 0, 2, 1, 10, 0, 0, 1, 0xdd, 0xd5, 0, 80];

fn v6() -> Vec<u8> {
    let ends = ["2001:db8::1", "2001:db8::2"].map(|text| text.parse::<Ipv6Addr>().unwrap().octets());
    [&ends[0][..], &ends[1][..], &[0xdd, 0xd5, 0, 80]].concat()
}

fn headers() -> Vec<(Vec<u8>, Option<&'static str>)> {
    let with = |addresses: &[u8], more: usize| [addresses, &vec![4; more]].concat();
    let longest =
        "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";
    let told = "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535";
    vec![
        (b"PROXY TCP4 192.0.2.1 10.0.0.1 56789 80\r\n".to_vec(), Some("192.0.2.1:56789")),
        (b"PROXY TCP4 255.255.255.255 255.255.255.255 0 65535\r\n".to_vec(), Some("255.255.255.255:0")),
        (b"PROXY TCP6 2001:db8::1 ::1 56789 80\r\n".to_vec(), Some("[2001:db8::1]:56789")),
        (longest.into(), Some(told)),
        (b"PROXY UNKNOWN\r\n".to_vec(), None),
        (longest.replace("TCP6", "UNKNOWN").replacen("ffff:", "", 1).into(), None),
        (block(0x21, TCP4, V4), Some("192.0.2.1:56789")),
        (block(0x21, TCP4, &with(V4, 7)), Some("192.0.2.1:56789")),
        (block(0x21, TCP4, &with(V4, MAX_BLOCK - V4.len())), Some("192.0.2.1:56789")),
        (block(0x21, TCP6, &v6()), Some("[2001:db8::1]:56789")),
        (block(0x21, TCP6, &with(&v6(), 300)), Some("[2001:db8::1]:56789")),
        (block(0x20, TCP4, V4), None),
        (block(0x20, 0x00, b""), None),
        (block(0x20, 0xff, b"x"), None),
        (block(0x21, UNSPECIFIED, b""), None),
        (block(0x21, UNSPECIFIED, V4), None),
        (block(0x21, UNIX_STREAM, &[0; 216]), None),
        (block(0x21, UNIX_DATAGRAM, &[0; 216]), None),
    ]
}

#[test]
fn a_header_is_read_and_nothing_behind_it() {
    for (bytes, source) in headers() {
        let want = Header { length: bytes.len(), source: source.map(|text| text.parse().unwrap()) };
        let shown = String::from_utf8_lossy(&bytes).into_owned();
        for behind in [&b""[..], b"GET / HTTP/1.1\r\n\r\n", b"PROXY TCP4 6.6.6.6 6.6.6.6 1 1\r\n", SIGNATURE] {
            assert_eq!(parse(&[&bytes, behind].concat()), Ok(Some(want)), "{shown:?}");
        }
        for end in 0..bytes.len() {
            assert_eq!(parse(&bytes[..end]), Ok(None), "{shown:?} cut after {end}");
        }
    }
}

#[test]
fn what_is_no_header_is_refused() {
    let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(MAX_LINE - 15));
    for text in [
        "GET / HTTP/1.1\r\n",
        "\x16\x03\x01",
        "proxy TCP4 192.0.2.1 10.0.0.1 1 2\r\n",
        "PROXY\tTCP4 192.0.2.1 10.0.0.1 1 2\r\n",
        "PROXY \r\n",
        "PROXY UDP4 192.0.2.1 10.0.0.1 1 2\r\n",
        "PROXY UNKNOWNS\r\n",
        "PROXY TCP4\r\n",
        "PROXY TCP4 192.0.2.1 10.0.0.1 1 2\n",
        "PROXY TCP4 192.0.2.1 10.0.0.1 1 2 \r\n",
        "PROXY TCP4  192.0.2.1 10.0.0.1 1 2\r\n",
        "PROXY TCP4 192.0.2.1 10.0.0.1 1 2 3\r\n",
        "PROXY TCP4 192.0.2.1 10.0.0.1 1\r\n",
        "PROXY TCP4 192.0.2.01 10.0.0.1 1 2\r\n",
        "PROXY TCP4 192.0.2.256 10.0.0.1 1 2\r\n",
        "PROXY TCP4 2001:db8::1 ::1 1 2\r\n",
        "PROXY TCP4 192.0.2.1 ::1 1 2\r\n",
        "PROXY TCP6 192.0.2.1 10.0.0.1 1 2\r\n",
        "PROXY TCP6 [::1] ::1 1 2\r\n",
        "PROXY TCP4 192.0.2.1 10.0.0.1 65536 2\r\n",
        "PROXY TCP4 192.0.2.1 10.0.0.1 +1 2\r\n",
        "PROXY TCP4 192.0.2.1 10.0.0.1 01 2\r\n",
        "PROXY TCP4 192.0.2.1 10.0.0.1 1 x\r\n",
        "PROXY TCP4 192.0.2.1 10.0.0.1 1 \r\n",
        "\r\n\r\n\0\r\nQUIT\r\n",
        &long,
    ] {
        assert_eq!(parse(text.as_bytes()), Err(NoHeader), "{text:?}");
    }
    for bytes in [
        block(0x11, TCP4, V4),
        block(0x22, TCP4, V4),
        block(0x31, TCP4, V4),
        block(0x01, TCP4, V4),
        block(0x21, 0x12, V4),
        block(0x21, 0x10, V4),
        block(0x21, 0x22, &v6()),
        block(0x21, 0x41, V4),
        block(0x21, TCP4, &V4[..11]),
        block(0x21, TCP6, &v6()[..35]),
        block(0x21, TCP4, &[0; MAX_BLOCK + 1])[..FIXED].to_vec(),
        block(0x20, 0x00, &[0; MAX_BLOCK + 1])[..FIXED].to_vec(),
    ] {
        assert_eq!(parse(&bytes), Err(NoHeader), "{bytes:x?}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_more_of_a_header_than_there_are(bytes: Vec<u8>, version in 0x1f_u8..0x23, family in 0_u8..0x34) {
        for bytes in [&bytes, &block(version, family, &bytes), &[b"PROXY TCP4 ", bytes.as_slice(), b"\r\n"].concat()] {
            if let Ok(Some(header)) = parse(bytes) {
                prop_assert!(header.length <= bytes.len());
            }
        }
    }
}

async fn pair() -> (TcpStream, TcpStream, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let far = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (near, peer) = listener.accept().await.unwrap();
    (near, far, peer)
}

const LIMIT: Duration = Duration::from_secs(10);

fn loopback() -> [IpNet; 1] {
    ["127.0.0.0/8".parse().unwrap()]
}

#[tokio::test]
async fn what_follows_is_found_as_if_the_connection_were_fresh() {
    for (bytes, source) in headers() {
        for step in [1, 2, 15, 100, 5000] {
            if bytes.len() / step > 500 {
                continue;
            }
            let (mut near, mut far, peer) = pair().await;
            let all = [&bytes, &b"GET /"[..]].concat();
            let send = async {
                for piece in all.chunks(step) {
                    far.write_all(piece).await.unwrap();
                    yield_now().await;
                }
            };
            let trusted = loopback();
            let (told, ()) = tokio::join!(arrive(&mut near, peer, &trusted, LIMIT), send);
            assert_eq!(told.unwrap(), source.map_or(peer, |text| text.parse().unwrap()));
            let mut rest = [0; 5];
            near.read_exact(&mut rest).await.unwrap();
            assert_eq!(&rest, b"GET /");
        }
    }
}

#[tokio::test]
async fn from_a_peer_that_is_not_trusted_nothing_is_read() {
    let (mut near, mut far, peer) = pair().await;
    far.write_all(b"PROXY UNKNOWN\r\n").await.unwrap();
    assert_eq!(arrive(&mut near, peer, &[], LIMIT).await.unwrap(), peer);
    let mut line = [0; 15];
    near.read_exact(&mut line).await.unwrap();
    assert_eq!(&line, b"PROXY UNKNOWN\r\n");
}

#[tokio::test]
async fn garbage_and_an_end_are_no_arrival() {
    let (mut near, mut far, peer) = pair().await;
    far.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let refused = arrive(&mut near, peer, &loopback(), LIMIT).await;
    assert!(matches!(refused, Err(ArrivalError::NoHeader)), "{refused:?}");

    let (mut near, mut far, peer) = pair().await;
    far.write_all(b"PROXY TCP4").await.unwrap();
    drop(far);
    let refused = arrive(&mut near, peer, &loopback(), LIMIT).await;
    assert!(matches!(refused, Err(ArrivalError::Broken(_))), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn a_header_that_does_not_end_is_waited_for_no_longer_than_the_limit() {
    let (mut near, mut far, peer) = pair().await;
    far.write_all(b"PROXY TCP4").await.unwrap();
    let refused = arrive(&mut near, peer, &loopback(), LIMIT).await;
    assert!(matches!(refused, Err(ArrivalError::TimedOut(_))), "{refused:?}");
}
