//! Collectors of traces that want more than a connection: TLS with authorities of their own, certificates, compression.

use std::path::Path;

use crate::support::{
    Collector, Gateway, Origin,
    collector::{gunzipped, read},
    tls::{Authority, Front},
    until,
};

/// A gateway without a service, whose requests are a span each.
async fn gateway(otlp: &str, variables: &[(&str, &str)]) -> Gateway {
    let config = format!("[telemetry]\nlog = {{ format = \"json\", level = \"info\" }}\notlp = \"{otlp}\"\n");
    Gateway::with(variables, "[consul]\naddress = \"\"\n", &config).await
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A collector of OTLP over HTTP.
async fn over_http() -> Origin {
    Origin::answering(|_| b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec()).await
}

/// Waits for the first message and gives the names of its spans.
async fn names(collector: &Origin) -> Vec<String> {
    let got = until("a message", || async { collector.got().into_iter().next() }).await;
    read(&got.body).into_iter().map(|span| span.name).collect()
}

#[tokio::test]
async fn a_collector_behind_tls_is_verified_by_authorities_of_our_own() {
    let authority = Authority::new();
    let ca = authority.folder().join("ca.pem");
    let (grpc, http) = (Collector::start().await, over_http().await);
    let secure = Front::start(authority.server(&["localhost"], &["h2"]), grpc.address).await;
    let over_grpc = gateway(
        &format!("https://localhost:{}", secure.address.port()),
        &[("OTEL_EXPORTER_OTLP_CERTIFICATE", text(&ca))],
    )
    .await;
    over_grpc.get("/nothing").await;
    assert_eq!(grpc.until(1).await[0].name, "GET");

    let secure = Front::start(authority.server(&["localhost"], &["http/1.1"]), http.address).await;
    let over_http = gateway(
        &format!("https://localhost:{}", secure.address.port()),
        &[
            ("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", text(&ca)),
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", "elsewhere.pem"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
        ],
    )
    .await;
    over_http.get("/nothing").await;
    assert_eq!(names(&http).await, ["GET"]);
}

#[tokio::test]
async fn a_collector_that_nobody_vouches_for_gets_nothing_and_no_request_waits() {
    let (authority, other) = (Authority::new(), Authority::new());
    let (grpc, http) = (Collector::start().await, over_http().await);
    for (alpn, address, protocol) in [("h2", grpc.address, "grpc"), ("http/1.1", http.address, "http/protobuf")] {
        let secure = Front::start(authority.server(&["localhost"], &[alpn]), address).await;
        let url = format!("https://localhost:{}", secure.address.port());
        let foreign = other.folder().join("ca.pem");
        // The system's authorities do not know it, nor does another one of our own.
        for more in [&[][..], &[("OTEL_EXPORTER_OTLP_CERTIFICATE", text(&foreign))]] {
            let variables = [&[("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)][..], more].concat();
            let gateway = gateway(&url, &variables).await;
            assert_eq!(gateway.get("/nothing").await.status, 404);
            gateway.until_metric("lictor_trace_dropped_total", 1.0).await;
            // The log says so once it is counted.
            until("the log to tell of it", || async {
                gateway.log().iter().any(|line| line.to_string().contains("takes no traces")).then_some(())
            })
            .await;
        }
    }
    assert!(grpc.spans().is_empty() && http.got().is_empty());
}

#[tokio::test]
async fn a_collector_that_wants_to_know_who_sends_is_shown_a_certificate() {
    let authority = Authority::new();
    authority.write("gateway", &["gateway.test"]);
    let file = |name: &str| authority.folder().join(name);
    let (ca, cert, key) = (file("ca.pem"), file("gateway.pem"), file("gateway.key"));
    let (grpc, http) = (Collector::start().await, over_http().await);
    for (alpn, address, protocol) in [("h2", grpc.address, "grpc"), ("http/1.1", http.address, "http/protobuf")] {
        let secure = Front::start(authority.strict_server(&["localhost"], &[alpn]), address).await;
        let url = format!("https://localhost:{}", secure.address.port());
        let variables = [
            ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", text(&ca)),
            ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", text(&cert)),
            ("OTEL_EXPORTER_OTLP_CLIENT_KEY", text(&key)),
        ];
        let stranger = gateway(&url, &variables[..2]).await;
        stranger.get("/nothing").await;
        stranger.until_metric("lictor_trace_dropped_total", 1.0).await;
        let known = gateway(&url, &variables).await;
        known.get("/nothing").await;
        if protocol == "grpc" {
            assert_eq!(grpc.until(1).await.len(), 1);
        } else {
            assert_eq!(names(&http).await, ["GET"]);
        }
    }
}

#[tokio::test]
async fn files_that_are_no_certificates_leave_a_gateway_that_serves_without_traces_and_says_so() {
    let authority = Authority::new();
    let empty = authority.folder().join("empty.pem");
    std::fs::write(&empty, "nothing\n").unwrap();
    for protocol in ["grpc", "http/protobuf"] {
        for (file, why) in [("missing.pem", "cannot read `missing.pem`"), (text(&empty), "holds no certificate")] {
            let variables = [("OTEL_EXPORTER_OTLP_PROTOCOL", protocol), ("OTEL_EXPORTER_OTLP_CERTIFICATE", file)];
            let gateway = gateway("https://localhost:1", &variables).await;
            assert_eq!(gateway.get("/nothing").await.status, 404);
            let log = gateway.log();
            let line = log.iter().find(|line| line["message"] == "no traces are sent");
            assert!(line.is_some_and(|line| line.to_string().contains(why)), "{why}: {log:?}");
        }
    }
}

#[tokio::test]
async fn messages_are_compressed_where_the_variables_want_it() {
    let (grpc, http) = (Collector::start().await, over_http().await);
    let compressed = ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip");
    let over_grpc = gateway(&format!("http://{}", grpc.address), &[compressed]).await;
    over_grpc.get("/nothing").await;
    assert_eq!(grpc.until(1).await[0].name, "GET");
    assert_eq!(grpc.fields()[0]["grpc-encoding"], "gzip");

    let variables = [compressed, ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")];
    let over_http = gateway(&format!("http://{}", http.address), &variables).await;
    over_http.get("/nothing").await;
    let got = until("a message", || async { http.got().into_iter().next() }).await;
    assert_eq!(got.field("content-encoding"), "gzip");
    assert_eq!(read(&gunzipped(&got.body))[0].name, "GET");

    let variables = [("OTEL_EXPORTER_OTLP_COMPRESSION", "brotli")];
    let odd = gateway(&format!("http://{}", grpc.address), &variables).await;
    odd.get("/nothing").await;
    grpc.until(2).await;
    assert!(!grpc.fields()[1].contains_key("grpc-encoding"));
    let told = odd.log().iter().any(|line| line.to_string().contains("OTEL_EXPORTER_OTLP_COMPRESSION is ignored"));
    assert!(told, "{:?}", odd.log());
}

#[tokio::test]
async fn a_collector_that_never_answers_loses_its_spans_after_the_time_that_it_has() {
    let silent = Origin::serving(|mut connection| async move { while connection.request().await.is_some() {} }).await;
    let variables = [("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"), ("OTEL_EXPORTER_OTLP_TIMEOUT", "200")];
    let gateway = gateway(&format!("http://{}", silent.address), &variables).await;
    gateway.get("/nothing").await;
    gateway.until_metric("lictor_trace_dropped_total", 1.0).await;
    assert_eq!(gateway.get("/nothing").await.status, 404);
}
