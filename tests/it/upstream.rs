//! Instances behind TLS and HTTP/2.

use std::net::SocketAddr;

use crate::support::{Gateway, Streams, TlsOrigin, tls::Authority, until};

/// A gateway in front of one service with these further lines.
async fn before(address: SocketAddr, lines: &str) -> Gateway {
    let route = "[[routes]]\nmatch = { path = \"/{*rest}\" }\nservice = \"web\"\n";
    Gateway::fixed(&format!("[services.web]\ninstances = [\"{address}\"]\n{lines}\n{route}")).await
}

/// The lines of a service that trusts `authority`, whose certificate lies in `folder`.
fn trusting(folder: &tempfile::TempDir, authority: &Authority, protocol: &str, name: &str) -> String {
    let file = folder.path().join("ca.pem");
    authority.write(&file);
    format!("protocol = \"{protocol}\"\ntls = {{ ca = \"{}\", server_name = \"{name}\" }}", file.display())
}

#[tokio::test]
async fn an_instance_behind_tls_is_reached_when_its_authority_is_trusted_and_it_has_the_name() {
    let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let origin = TlsOrigin::start(authority.server(&["users.internal"], &["http/1.1"]), false).await;
    let gateway = before(origin.address, &trusting(&folder, &authority, "https", "users.internal")).await;

    for _ in 0..3 {
        let answer = gateway.get("/a").await;
        assert_eq!((answer.status.as_u16(), answer.text.as_str()), (200, "secure"));
    }
    assert_eq!((origin.connections(), origin.requests()), (1, 3));
}

#[tokio::test]
async fn an_instance_without_a_name_has_to_be_who_its_address_says_or_its_host() {
    let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    for (name, host) in [("127.0.0.1", ""), ("users.internal", "host = \"users.internal:8443\"\n")] {
        let origin = TlsOrigin::start(authority.server(&[name], &[]), false).await;
        let file = folder.path().join("ca.pem");
        authority.write(&file);
        let lines = format!("{host}protocol = \"https\"\ntls = {{ ca = \"{}\" }}", file.display());
        assert_eq!(before(origin.address, &lines).await.get("/").await.status, 200, "{name}");
    }
}

#[tokio::test]
async fn nothing_is_sent_to_an_instance_that_nobody_vouches_for() {
    let (folder, authority, other) = (tempfile::tempdir().unwrap(), Authority::new(), Authority::new());
    let origin = TlsOrigin::start(authority.server(&["users.internal"], &[]), false).await;
    for lines in [
        "protocol = \"https\"\ntls = { server_name = \"users.internal\" }".to_owned(),
        trusting(&folder, &other, "https", "users.internal"),
        trusting(&folder, &authority, "https", "other.internal"),
        trusting(&folder, &authority, "grpcs", "users.internal"),
    ] {
        let gateway = before(origin.address, &lines).await;
        let answer = gateway.get("/").await;
        assert_eq!(answer.status, 502, "{lines}");
        let series = format!(
            "lictor_upstream_request_total{{instance=\"{}\",outcome=\"connect_error\",service=\"web\"}}",
            origin.address
        );
        assert_eq!(gateway.metric(&series).await, Some(1.0), "{}", gateway.admin("/metrics").await.text);
    }
    assert_eq!(origin.requests(), 0);
    assert!(origin.connections() >= 3);
}

#[tokio::test]
async fn a_new_connection_takes_up_the_session_of_an_earlier_one() {
    let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let origin = TlsOrigin::start(authority.server(&["users.internal"], &["http/1.1"]), true).await;
    let gateway = before(origin.address, &trusting(&folder, &authority, "https", "users.internal")).await;

    for _ in 0..4 {
        assert_eq!(gateway.get("/").await.status, 200);
    }
    assert_eq!((origin.connections(), origin.resumed()), (4, 3));
}
