//! TLS toward clients: which certificate, which version, who is let in.

use std::{fs, time::Duration};

use rustls::{
    HandshakeKind, ProtocolVersion,
    pki_types::{CertificateDer, pem::PemObject},
    version::{TLS12, TLS13},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::support::{Gateway, Origin, PATIENCE, http2, tls::Authority, until};

fn route(origin: &Origin) -> String {
    let address = origin.address;
    format!("[services.web]\ninstances = [\"{address}\"]\n[[routes]]\nmatch.path = \"/{{*rest}}\"\nservice = \"web\"\n")
}

async fn before(origin: &Origin, https: &str) -> Gateway {
    Gateway::fixed(&format!("{https}{}", route(origin))).await
}

fn certificate(authority: &Authority, name: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(authority.folder().join(format!("{name}.pem"))).unwrap()
}

#[tokio::test]
async fn the_name_that_is_asked_for_decides_the_certificate() {
    let (origin, authority) = (Origin::start("a").await, Authority::new());
    let entries = [
        authority.write("first", &["first.test", "unknown.test", "deep.any.wild.test"]),
        authority.write("wild", &["*.wild.test"]),
        authority.write("exact", &["one.wild.test"]),
    ];
    let gateway = before(&origin, &Authority::section(&entries, "")).await;
    let client = authority.client(&[]);
    for (name, want) in [
        ("first.test", "first"),
        ("ONE.wild.test", "exact"),
        ("two.wild.test", "wild"),
        ("deep.any.wild.test", "first"),
        ("unknown.test", "first"),
    ] {
        let stream = client.connect(gateway.secure(), name).await.unwrap();
        let shown = &stream.get_ref().1.peer_certificates().unwrap()[0];
        assert_eq!(*shown, certificate(&authority, want), "{name}");
    }
}

#[tokio::test]
async fn a_request_over_tls_is_forwarded_as_one() {
    let (origin, authority) = (Origin::start("a").await, Authority::new());
    let gateway = before(&origin, &Authority::section(&[authority.write("a", &["a.test"])], "")).await;
    for (version, name) in [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)] {
        let client = authority.client_of(&[version], &["http/1.1"], None);
        let (answer, stream) = client.get(gateway.secure(), "a.test").await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with('a'), "{answer}");
        assert_eq!(stream.get_ref().1.protocol_version(), Some(name));
    }
    let got = &origin.got()[0];
    assert_eq!((got.field("x-forwarded-proto"), got.field("host")), ("https", "a.test"));
    assert!(got.field("forwarded").ends_with("proto=https"), "{got:?}");
    let series = format!("lictor_connections{{listener=\"{}\"}}", gateway.secure());
    assert!(gateway.metric(&series).await.is_some());
}

#[tokio::test]
async fn a_session_is_resumed_whichever_worker_takes_it() {
    let (origin, authority) = (Origin::start("a").await, Authority::new());
    let section = Authority::section(&[authority.write("a", &["a.test"])], "[http]\nworkers = 4");
    let gateway = before(&origin, &section).await;
    for version in [&TLS12, &TLS13] {
        let client = authority.client_of(&[version], &[], None);
        let mut kinds = Vec::new();
        for _ in 0..8 {
            let (_, stream) = client.get(gateway.secure(), "a.test").await.unwrap();
            kinds.push(stream.get_ref().1.handshake_kind().unwrap());
        }
        assert_eq!(kinds[0], HandshakeKind::Full);
        assert!(kinds[1..].iter().all(|kind| *kind == HandshakeKind::Resumed), "{kinds:?}");
    }
}

#[tokio::test]
async fn the_client_chooses_the_version_of_http() {
    let (origin, authority) = (Origin::start("a").await, Authority::new());
    let gateway = before(&origin, &Authority::section(&[authority.write("a", &["a.test"])], "")).await;
    for (offered, chosen) in [
        (&["h2", "http/1.1"][..], Some(&b"h2"[..])),
        (&["http/1.1"], Some(b"http/1.1")),
        (&["http/1.1", "h2"], Some(b"h2")),
        (&[], None),
    ] {
        let stream = authority.client(offered).connect(gateway.secure(), "a.test").await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), chosen, "{offered:?}");
    }
    assert!(authority.client(&["spdy/3"]).connect(gateway.secure(), "a.test").await.is_err());

    let stream = authority.client(&["h2"]).connect(gateway.secure(), "a.test").await.unwrap();
    let came = http2::Http2::over(stream).await.ask(http2::get("/x"), b"").await.unwrap();
    assert_eq!((came.head.status.as_u16(), &came.body[..]), (200, &b"a"[..]));
    assert_eq!(origin.only().field("x-forwarded-proto"), "https");

    let mut stream = authority.client(&["http/1.1"]).connect(gateway.secure(), "a.test").await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    let mut came = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut came)).await.unwrap().unwrap();
    assert!(came.starts_with(b"HTTP/1.1 "), "who chose one version does not get the other: {}", came.escape_ascii());
}

#[tokio::test]
async fn a_changed_certificate_is_shown_without_a_restart_and_a_bad_one_is_not() {
    let (origin, authority) = (Origin::start("a").await, Authority::new());
    let section = Authority::section(&[authority.write("a", &["a.test"])], "");
    let gateway = before(&origin, &section).await;
    let shown = async || {
        let stream = authority.client(&[]).connect(gateway.secure(), "a.test").await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
    };
    let first = shown().await;

    fs::write(authority.folder().join("a.pem"), "nonsense").unwrap();
    let refused = gateway.until_event("certificate_refused").await;
    assert!(refused["cause"].as_str().unwrap().contains("a.pem"), "{refused}");
    assert_eq!(shown().await, first);

    authority.write("a", &["a.test"]);
    gateway.until_event("certificate_reloaded").await;
    until("the new certificate", || async { (shown().await == certificate(&authority, "a")).then_some(()) }).await;
    assert_ne!(shown().await, first);
}

#[tokio::test]
async fn other_files_in_the_configuration_are_in_force_without_a_restart() {
    let (origin, authority) = (Origin::start("a").await, Authority::new());
    let first = Authority::section(&[authority.write("a", &["a.test"])], "");
    let gateway = before(&origin, &first).await;
    let client = authority.client(&[]);
    client.get(gateway.secure(), "a.test").await.unwrap();

    let ca = authority.client_ca();
    let second = Authority::section(&[authority.write("b", &["a.test"])], &ca);
    gateway.configure(&format!("{second}{}", route(&origin)));
    gateway.until_event("certificate_reloaded").await;

    assert!(client.get(gateway.secure(), "a.test").await.is_err(), "a ticket from before lets nobody in");
    let known = authority.client_of(&[&TLS13], &[], Some(authority.issue(&["me"])));
    let (_, stream) = known.get(gateway.secure(), "a.test").await.unwrap();
    assert_eq!(stream.get_ref().1.peer_certificates().unwrap()[0], certificate(&authority, "b"));
    let cause = gateway.until_event("reloaded").await["cause"].to_string();
    assert!(!cause.contains("restart"), "{cause}");
}

#[tokio::test]
async fn with_client_ca_only_its_clients_are_let_in() {
    let (origin, authority) = (Origin::start("a").await, Authority::new());
    let ca = authority.client_ca();
    let gateway = before(&origin, &Authority::section(&[authority.write("a", &["a.test"])], &ca)).await;
    for version in [&TLS12, &TLS13] {
        let with = |identity| authority.client_of(&[version], &[], identity);
        assert!(with(None).get(gateway.secure(), "a.test").await.is_err());
        assert!(with(Some(Authority::new().issue(&["me"]))).get(gateway.secure(), "a.test").await.is_err());
        let known = with(Some(authority.issue(&["me"])));
        let (answer, _) = known.get(gateway.secure(), "a.test").await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    assert_eq!(origin.count(), 2);
}

#[tokio::test]
async fn who_begins_no_handshake_is_sent_away_and_holds_nobody_up() {
    let (origin, authority) = (Origin::start("a").await, Authority::new());
    let section =
        Authority::section(&[authority.write("a", &["a.test"])], "[http]\nheader_timeout = \"1s\"\nworkers = 1");
    let gateway = before(&origin, &section).await;
    let mut silent = TcpStream::connect(gateway.secure()).await.unwrap();
    let mut noisy = TcpStream::connect(gateway.secure()).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut noisy, b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n").await.unwrap();

    authority.client(&[]).get(gateway.secure(), "a.test").await.unwrap();
    let mut rest = Vec::new();
    let ended = timeout(PATIENCE, silent.read_to_end(&mut rest)).await;
    assert!(ended.is_ok() && rest.is_empty());
    let _ = timeout(PATIENCE, noisy.read_to_end(&mut rest)).await.unwrap();
    assert_eq!(origin.count(), 1);
}

#[tokio::test]
async fn idle_connections_with_tls_do_not_hold_up_the_drain() {
    let (origin, authority) = (Origin::start("a").await, Authority::new());
    let section = Authority::section(&[authority.write("a", &["a.test"])], "[http]\ndrain = \"10m\"");
    let mut gateway = before(&origin, &section).await;
    let mut idle = authority.client(&["http/1.1"]).connect(gateway.secure(), "a.test").await.unwrap();
    let mut silent = TcpStream::connect(gateway.secure()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;

    gateway.signal("TERM");

    let mut rest = Vec::new();
    let _ = timeout(PATIENCE, idle.read_to_end(&mut rest)).await.unwrap();
    let _ = timeout(PATIENCE, silent.read_to_end(&mut rest)).await.unwrap();
    assert_eq!(gateway.ended().await.code(), Some(0));
}
