//! Who asks: what trusted proxies say of a client is believed, and what anybody else says is not.

use crate::support::{Gateway, Origin, origin::Got, until};

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
