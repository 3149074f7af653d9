//! Instances behind TLS.

use std::net::SocketAddr;

use crate::support::{Gateway, TlsOrigin, tls_origin::Authority};

/// A gateway in front of one service with these further lines.
async fn before(address: SocketAddr, lines: &str) -> Gateway {
    let route = "[[routes]]\nmatch = { path = \"/{*rest}\" }\nservice = \"web\"\n";
    let web = format!("[services.web]\ninstances = [\"{address}\"]\n{lines}\n");
    let gateway = Gateway::fixed(&format!("[http]\nworkers = 1\n{web}{route}")).await;
    gateway.until_ready().await;
    gateway
}

#[tokio::test]
async fn an_instance_behind_tls_is_reached_when_its_authority_is_trusted_and_it_has_the_name() {
    let authority = Authority::new();
    let origin = TlsOrigin::start(authority.server(&["users.internal"], &["http/1.1"]), false).await;
    let gateway = before(origin.address, &authority.trusted("https", "users.internal")).await;

    for _ in 0..3 {
        let answer = gateway.get("/a").await;
        assert_eq!((answer.status.as_u16(), answer.text.as_str()), (200, "secure"));
    }
    assert_eq!((origin.connections(), origin.requests()), (1, 3));
}

#[tokio::test]
async fn an_instance_without_a_name_has_to_be_who_its_address_says_or_its_host() {
    let authority = Authority::new();
    for (name, host) in [("127.0.0.1", ""), ("users.internal", "host = \"users.internal:8443\"\n")] {
        let origin = TlsOrigin::start(authority.server(&[name], &[]), false).await;
        let lines = format!("{host}{}", authority.trusted("https", ""));
        assert_eq!(before(origin.address, &lines).await.get("/").await.status, 200, "{name}");
    }
}

#[tokio::test]
async fn nothing_is_sent_to_an_instance_that_nobody_vouches_for() {
    let (authority, other) = (Authority::new(), Authority::new());
    let origin = TlsOrigin::start(authority.server(&["users.internal"], &[]), false).await;
    for lines in [
        "protocol = \"https\"\ntls = { server_name = \"users.internal\" }".to_owned(),
        other.trusted("https", "users.internal"),
        authority.trusted("https", "other.internal"),
        authority.trusted("grpcs", "users.internal"),
    ] {
        let gateway = before(origin.address, &lines).await;
        let answer = gateway.get("/").await;
        assert_eq!(answer.status, 502, "{lines}");
        let series = format!(
            "lictor_upstream_request_total{{service=\"web\",instance=\"{}\",outcome=\"connect_error\"}}",
            origin.address
        );
        gateway.until_metric(&series, 3.0).await;
    }
    assert_eq!(origin.requests(), 0);
    assert!(origin.connections() >= 3);
}

#[tokio::test]
async fn a_new_connection_takes_up_the_session_of_an_earlier_one() {
    let authority = Authority::new();
    let origin = TlsOrigin::start(authority.server(&["users.internal"], &["http/1.1"]), true).await;
    let gateway = before(origin.address, &authority.trusted("https", "users.internal")).await;

    for _ in 0..4 {
        assert_eq!(gateway.get("/").await.status, 200);
    }
    assert_eq!((origin.connections(), origin.resumed()), (4, 3));
}
