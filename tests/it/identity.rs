//! Who asks: what trusted proxies say of a client is believed, and what anybody else says is not.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::support::{Gateway, Origin, PATIENCE, origin::Got, until};

fn rules(origin: &Origin, http: &str) -> String {
    let address = origin.address;
    format!(
        "[http]\n{http}\n[services.web]\ninstances = [\"{address}\"]\n[[routes]]\nmatch = {{ path = \"/{{*rest}}\" }}\n\
         service = \"web\"\n"
    )
}

async fn gateway(http: &str) -> (Origin, Gateway) {
    let origin = Origin::start("a").await;
    let gateway = Gateway::fixed(&rules(&origin, http)).await;
    (origin, gateway)
}

/// What upstream was told of the client: for, proto, host, forwarded.
fn told(got: &Got) -> [&str; 4] {
    ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "forwarded"].map(|name| {
        assert_eq!(got.fields(name).count(), 1, "{name}: {}", got.head);
        got.field(name)
    })
}

const CLAIMS: &str = "GET / HTTP/1.1\r\nHost: inside:80\r\nX-Forwarded-For: 6.6.6.6, 192.0.2.1\r\nX-Forwarded-For: 10.0.0.2\r\n\
                      X-Forwarded-Proto: https\r\nX-Forwarded-Host: api.example.com\r\nForwarded: for=6.6.6.6;host=evil\r\n\
                      X-Forwarded-Port: 666\r\nX-Forwarded-Prefix: /evil\r\nX-Real-IP: 6.6.6.6\r\nX_Forwarded_For: 6.6.6.6\r\n";
const PLAIN: &[u8] = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
const BY_SOCKET: [&str; 4] = ["127.0.0.1", "http", "h", "for=127.0.0.1;host=\"h\";proto=http"];

#[tokio::test]
async fn a_trusted_proxy_tells_the_client_and_a_client_before_it_nothing() {
    let (origin, gateway) = gateway("trusted_proxies = [\"127.0.0.1\", \"10.0.0.0/8\"]").await;
    // Nor can a client have removed what the proxy says.
    let answer = gateway
        .raw(
            format!("{CLAIMS}Connection: close, x-forwarded-for, x-forwarded-proto, x-forwarded-host\r\n\r\n")
                .as_bytes(),
        )
        .await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let got = origin.only();
    assert_eq!(
        told(&got),
        [
            "192.0.2.1, 10.0.0.2, 127.0.0.1",
            "https",
            "api.example.com",
            "for=192.0.2.1;host=\"api.example.com\";proto=https, for=10.0.0.2, \
             for=127.0.0.1;host=\"inside:80\";proto=http"
        ]
    );
    assert_eq!(got.field("host"), "inside:80");
    assert!(!got.head.contains("6.6.6.6") && !got.head.contains("evil"), "{}", got.head);
    for gone in ["x-forwarded-port", "x-forwarded-prefix", "x-real-ip", "x_forwarded_for"] {
        assert_eq!(got.fields(gone).count(), 0, "{gone}: {}", got.head);
    }
}

#[tokio::test]
async fn nobody_else_is_believed_until_a_reload_says_so() {
    let (origin, gateway) = gateway("trusted_proxies = [\"10.0.0.0/8\"]").await;
    let request = format!("{CLAIMS}Connection: close\r\n\r\n");
    gateway.raw(request.as_bytes()).await;
    assert_eq!(told(&origin.only()), ["127.0.0.1", "http", "inside:80", "for=127.0.0.1;host=\"inside:80\";proto=http"]);
    gateway.configure(&rules(&origin, "trusted_proxies = [\"127.0.0.0/8\"]"));
    until("the reload", || async {
        gateway.raw(request.as_bytes()).await;
        (origin.got().last()?.field("x-forwarded-for") == "10.0.0.2, 127.0.0.1").then_some(())
    })
    .await;
}

/// Sends pieces, each on its way before the next, and reads to the end.
async fn in_pieces(gateway: &Gateway, pieces: impl Iterator<Item = &[u8]>) -> String {
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    for piece in pieces {
        stream.write_all(piece).await.unwrap();
        tokio::task::yield_now().await;
    }
    let mut answer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("it was not closed").unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

#[tokio::test]
async fn a_balancer_says_first_for_whom_it_connects() {
    let (origin, gateway) = gateway("trusted_proxies = [\"127.0.0.1\"]\nproxy_protocol = true").await;
    let v2 = [
        V2_SIGNATURE,
        b"\x21\x21\x00\x27",
        &[0x20, 1, 0xd, 0xb8],
        &[0; 11],
        &[7],
        &[0; 16],
        &[0, 9, 0, 80],
        b"\x04\0\0",
    ];
    let local = [V2_SIGNATURE, b"\x20\x00\x00\x00"].concat();
    for (header, want) in [
        (b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 80\r\n".to_vec(), "192.0.2.7"),
        (b"PROXY TCP6 2001:db8::7 ::1 4711 80\r\n".to_vec(), "2001:db8::7"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
        (v2.concat(), "2001:db8::7"),
        (local, "127.0.0.1"),
    ] {
        let bytes = [&header, PLAIN].concat();
        for size in [1, 7, bytes.len()] {
            let answer = in_pieces(&gateway, bytes.chunks(size)).await;
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
            assert_eq!(told(origin.got().last().unwrap())[0], want);
        }
    }
}

#[tokio::test]
async fn whom_a_balancer_connects_for_is_the_peer_of_each_request() {
    let (origin, gateway) = gateway("trusted_proxies = [\"127.0.0.1\", \"10.0.0.0/8\"]\nproxy_protocol = true").await;
    let requests = format!("{CLAIMS}\r\n{CLAIMS}Connection: close\r\n\r\n");
    for (source, want) in [("192.0.2.7", "192.0.2.7"), ("10.0.0.9", "192.0.2.1, 10.0.0.2, 10.0.0.9")] {
        let bytes = format!("PROXY TCP4 {source} 10.0.0.1 4711 80\r\n{requests}");
        let answer = gateway.raw(bytes.as_bytes()).await;
        assert_eq!(answer.matches("HTTP/1.1 200 ").count(), 2, "{answer}");
        let got = origin.got();
        assert!(got.iter().rev().take(2).all(|got| told(got)[0] == want), "{got:#?}");
    }
}

#[tokio::test]
async fn a_trusted_peer_that_says_nothing_valid_is_not_served() {
    let (origin, gateway) =
        gateway("trusted_proxies = [\"127.0.0.1\"]\nproxy_protocol = true\nheader_timeout = \"300ms\"").await;
    for bytes in [PLAIN, b"PROXY TCP4 192.0.2.7\r\n", b"PROXY TCP5 a b 1 2\r\n", V2_SIGNATURE, b"PROXY TCP4 192.0", b""]
    {
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let read = timeout(PATIENCE, stream.read(&mut [0])).await.expect("it was not closed");
        assert!(matches!(read, Ok(0) | Err(_)), "{bytes:?}");
    }
    assert_eq!(origin.count(), 0);
}

#[tokio::test]
async fn from_any_other_peer_no_header_is_accepted() {
    let (origin, gateway) = gateway("trusted_proxies = [\"10.0.0.0/8\"]\nproxy_protocol = true").await;
    let answer = gateway.raw(&[b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 80\r\n", PLAIN].concat()).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert_eq!(origin.count(), 0);
    let answer = gateway.raw(PLAIN).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(told(&origin.only()), BY_SOCKET);
}

#[tokio::test]
async fn a_balancer_that_has_not_spoken_yet_does_not_hold_up_the_end() {
    let more = "trusted_proxies = [\"127.0.0.1\"]\nproxy_protocol = true\nheader_timeout = \"5m\"\ndrain = \"10m\"";
    let (_origin, mut gateway) = gateway(more).await;
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    stream.write_all(b"PROXY TCP4").await.unwrap();
    let series = format!("lictor_connections{{listener=\"{}\"}}", gateway.address);
    until("the connection", || async { (gateway.metric(&series).await == Some(1.0)).then_some(()) }).await;
    gateway.signal("TERM");
    assert!(gateway.ended().await.success());
}
