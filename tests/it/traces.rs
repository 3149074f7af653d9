//! Traces: which spans come to a collector, what they say, and what services get of them.

use http::Method;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;

use crate::support::{
    Collector, Gateway, GrpcOrigin, Origin,
    collector::{Came, read},
    grpc::{Reply, call},
    http2::Http2,
    until,
};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

fn config(origins: &[&Origin], telemetry: &str) -> String {
    let instances: Vec<_> = origins.iter().map(|origin| format!("\"{}\"", origin.address)).collect();
    let instances = instances.join(", ");
    format!(
        "[telemetry]\nlog = {{ format = \"json\", level = \"info\" }}\n{telemetry}\n[defaults]\nbalance = \"round_robin\"\n\
         [services.web]\ninstances = [{instances}]\n[services.gone]\ninstances = [\"127.0.0.1:1\"]\n\
         [[routes]]\nname = \"users\"\nmatch = {{ path = \"/users/{{id}}\" }}\nservice = \"web\"\nrewrite = \"/u/{{id}}\"\n\
         [[routes]]\nmatch = {{ path = \"/gone\" }}\nservice = \"gone\"\n"
    )
}

fn to(collector: &Collector) -> String {
    format!("otlp = \"http://{}\"", collector.address)
}

fn context(flags: &str) -> String {
    format!("00-{TRACE}-{PARENT}-{flags}")
}

fn assert_says(span: &Came, attributes: &[(&str, &str)]) {
    for (name, want) in attributes {
        assert_eq!(span.get(name), *want, "{name}: {span:?}");
    }
}

#[tokio::test]
async fn a_request_is_a_span_of_the_server_and_one_for_its_try() {
    let (collector, origin) = (Collector::start().await, Origin::start("a").await);
    let gateway = Gateway::fixed(&config(&[&origin], &to(&collector))).await;
    let parent = context("01");
    let headers =
        [("traceparent", &*parent), ("tracestate", "a=b,c=d"), ("baggage", "k=v;p"), ("user-agent", "test/1")];
    gateway.send(Method::POST, "/users/7?x=1", &headers, "body").await;
    let spans = collector.until(2).await;
    let [server, client] = &spans[..] else { panic!("{spans:?}") };

    assert_eq!(
        (&*server.name, server.kind, &*server.trace, &*server.parent),
        ("POST /users/{id}", SpanKind::Server, TRACE, PARENT)
    );
    assert_eq!(
        (&*client.name, client.kind, &*client.trace, &*client.parent),
        ("POST", SpanKind::Client, TRACE, &*server.id)
    );
    assert_eq!((server.failed, client.failed, &*server.state), (false, false, "a=b,c=d"));
    assert!(server.times.0 <= client.times.0 && client.times.0 < client.times.1 && client.times.1 <= server.times.1);
    let (host, port) = ("127.0.0.1", gateway.address.port().to_string());
    assert_says(
        server,
        &[
            ("http.request.method", "POST"),
            ("http.response.status_code", "200"),
            ("http.route", "/users/{id}"),
            ("url.path", "/users/7"),
            ("url.query", "x=1"),
            ("url.scheme", "http"),
            ("server.address", host),
            ("server.port", &port),
            ("client.address", host),
            ("network.protocol.version", "1.1"),
            ("user_agent.original", "test/1"),
            ("http.request.body.size", "4"),
            ("http.response.body.size", "1"),
            ("lictor.service", "web"),
            ("error.type", ""),
        ],
    );
    let port = origin.address.port().to_string();
    assert_says(
        client,
        &[
            ("http.request.method", "POST"),
            ("http.response.status_code", "200"),
            ("url.full", &format!("http://{}/u/7?x=1", origin.address)),
            ("server.address", host),
            ("server.port", &port),
            ("network.protocol.version", "1.1"),
            ("http.request.resend_count", ""),
            ("error.type", ""),
        ],
    );
    assert_eq!(server.resource["service.name"], "lictor");
    assert_eq!(server.resource["telemetry.sdk.language"], "rust");

    let got = &origin.got()[0];
    assert_eq!(got.field("traceparent"), format!("00-{TRACE}-{}-01", client.id));
    assert_eq!((got.field("tracestate"), got.field("baggage")), ("a=b,c=d", "k=v;p"));
}

#[tokio::test]
async fn the_address_of_the_server_is_what_believed_proxies_say_was_asked_for() {
    let (collector, origin) = (Collector::start().await, Origin::start("a").await);
    let telemetry = format!("{}\naccess_log = \"access.log\"", to(&collector));
    let config = config(&[&origin], &telemetry);
    let trusting = Gateway::fixed(&format!("{config}[http]\ntrusted_proxies = [\"127.0.0.1\"]\n")).await;
    let other = Gateway::fixed(&config).await;
    let own = (&*trusting.address.ip().to_string(), &*trusting.address.port().to_string());
    let of_other = (own.0, &*other.address.port().to_string());
    let usual = [("x-forwarded-for", "192.0.2.7"), ("x-forwarded-host", "shop.example:8443")];
    let forwarded = [("forwarded", "for=192.0.2.7;host=\"shop.example\"")];
    let mut known = 0;
    for (gateway, headers, (host, port)) in [
        (&trusting, &usual[..], ("shop.example", "8443")),
        (&trusting, &forwarded[..], ("shop.example", "")),
        (&trusting, &[("x-forwarded-host", "not a host")][..], own),
        (&trusting, &[][..], own),
        (&other, &usual[..], of_other),
    ] {
        gateway.send(Method::GET, &format!("/users/{known}"), headers, "").await;
        let spans = collector.until(known + 2).await;
        let server = spans.iter().find(|span| span.get("url.path") == format!("/users/{known}")).unwrap();
        assert_says(server, &[("server.address", host), ("server.port", port)]);
        known = spans.len();
    }
    // The access log has the host as it came.
    let log = until("the log", || async {
        let log = std::fs::read_to_string(trusting.file("access.log")).unwrap_or_default();
        (log.lines().count() == 4).then_some(log)
    });
    assert_eq!(log.await.matches(&format!("\"host\":\"{}\"", trusting.address)).count(), 4);
}

#[tokio::test]
async fn a_trace_state_of_several_fields_is_one_in_spans_and_passes_as_it_came() {
    let (collector, origin) = (Collector::start().await, Origin::start("a").await);
    let gateway = Gateway::fixed(&config(&[&origin], &to(&collector))).await;
    let parent = context("01");
    let headers = [("traceparent", &*parent), ("tracestate", "a=b, c=d"), ("tracestate", ""), ("tracestate", "e=f")];
    gateway.send(Method::GET, "/users/7", &headers, "").await;
    let spans = collector.until(2).await;
    assert!(spans.iter().all(|span| span.state == "a=b,c=d,e=f"), "{spans:?}");
    assert_eq!(origin.got()[0].fields("tracestate").collect::<Vec<_>>(), ["a=b, c=d", "", "e=f"]);
}

#[tokio::test]
async fn a_method_of_no_standard_is_told_as_it_came_and_one_that_was_not_read_is_not() {
    let (collector, origin) = (Collector::start().await, Origin::start("a").await);
    let gateway = Gateway::fixed(&config(&[&origin], &to(&collector))).await;
    gateway.send(Method::from_bytes(b"BREW").unwrap(), "/users/7", &[], "").await;
    let spans = collector.until(2).await;
    for span in &spans {
        assert_says(span, &[("http.request.method", "_OTHER"), ("http.request.method_original", "BREW")]);
    }
    assert!(gateway.raw(b"no request at all\r\n\r\n").await.starts_with("HTTP/1.1 400"));
    let spans = collector.until(3).await;
    let refused = spans.iter().find(|span| span.get("http.response.status_code") == "400").unwrap();
    assert_says(refused, &[("http.request.method", "_OTHER"), ("http.request.method_original", "")]);
}

#[tokio::test]
async fn signatures_in_a_query_are_in_no_span() {
    let (collector, origin) = (Collector::start().await, Origin::start("a").await);
    let gateway = Gateway::fixed(&config(&[&origin], &to(&collector))).await;
    let query = "x=1&AWSAccessKeyId=s3cr3t&Signature=s3cr3t%3D&s%69g=s3cr3t&X-Goog-Signature=s3cr3t&signature=kept&sig\
                 &X-Amz-Credential=s3cr3t/a&X-Amz-Security-Token=s3cr3t&X-Amz-Signature=s3cr3t=&y";
    let shown = "x=1&AWSAccessKeyId=REDACTED&Signature=REDACTED&s%69g=REDACTED&X-Goog-Signature=REDACTED&signature=kept&sig\
                 &X-Amz-Credential=REDACTED&X-Amz-Security-Token=REDACTED&X-Amz-Signature=REDACTED&y";
    gateway.get(&format!("/users/7?{query}")).await;
    let spans = collector.until(2).await;
    assert_says(&spans[0], &[("url.query", shown), ("url.path", "/users/7")]);
    assert_says(&spans[1], &[("url.full", &format!("http://{}/u/7?{shown}", origin.address))]);
    assert!(!format!("{spans:?}").contains("s3cr3t"), "{spans:?}");
    // The instance gets it as it came.
    assert_eq!(origin.got()[0].line(), format!("GET /u/7?{query} HTTP/1.1"));
}

#[tokio::test]
async fn each_try_is_a_span_that_its_instance_is_told_of() {
    let collector = Collector::start().await;
    let bad = Origin::answering(|_| b"HTTP/1.1 503 Unavailable\r\ncontent-length: 0\r\n\r\n".to_vec()).await;
    let good = Origin::start("good").await;
    let gateway = Gateway::fixed(&config(&[&bad, &good], &to(&collector))).await;
    // A request and its only try are two spans; the one that meets the bad instance first has one more.
    let mut sent = 1;
    while bad.count() == 0 {
        assert_eq!(gateway.get("/users/7").await.text, "good");
        sent += 2;
    }
    let spans = collector.until(sent).await;
    assert_eq!(spans.len(), sent);
    let first = spans.iter().find(|span| span.get("http.response.status_code") == "503").unwrap();
    let of_trace = |kind| spans.iter().filter(move |span| span.kind == kind && span.trace == first.trace);
    let server = of_trace(SpanKind::Server).next().unwrap();
    let tries: Vec<_> = of_trace(SpanKind::Client).collect();
    let [one, two] = tries[..] else { panic!("{tries:?}") };

    assert_eq!((&*server.parent, server.failed), ("", false));
    assert_eq!((&*one.parent, &*two.parent), (&*server.id, &*server.id));
    assert_says(one, &[("http.response.status_code", "503"), ("error.type", "503"), ("http.request.resend_count", "")]);
    assert_says(two, &[("http.response.status_code", "200"), ("error.type", ""), ("http.request.resend_count", "1")]);
    assert!(one.failed && !two.failed && one.id != two.id);
    let told = |origin: &Origin, span: &Came| {
        let context = format!("00-{}-{}-01", span.trace, span.id);
        origin.got().iter().any(|got| got.field("traceparent") == context)
    };
    assert!(told(&bad, one) && told(&good, two));
}

#[tokio::test]
async fn errors_of_the_server_are_told_as_such_and_those_of_the_client_are_not() {
    let (collector, origin) = (Collector::start().await, Origin::start("a").await);
    let gateway = Gateway::fixed(&config(&[&origin], &to(&collector))).await;
    assert_eq!(gateway.get("/gone").await.status, 502);
    let spans = collector.until(4).await;
    assert_eq!(spans.len(), 4, "{spans:?}");
    assert_says(&spans[0], &[("http.response.status_code", "502"), ("error.type", "502"), ("http.route", "/gone")]);
    assert!(spans[0].failed);
    for (resent, span) in spans[1..].iter().enumerate() {
        let count = if resent == 0 { String::new() } else { resent.to_string() };
        assert_says(span, &[("error.type", "connect_error"), ("http.request.resend_count", &count)]);
        assert!(span.failed && span.get("http.response.status_code").is_empty());
    }

    assert_eq!(gateway.send(Method::from_bytes(b"BREW").unwrap(), "/nothing", &[], "").await.status, 404);
    let spans = collector.until(5).await;
    let unrouted = spans.iter().find(|span| span.get("http.response.status_code") == "404").unwrap();
    assert_eq!((&*unrouted.name, unrouted.failed), ("HTTP", false));
    assert_says(
        unrouted,
        &[
            ("http.request.method", "_OTHER"),
            ("http.request.method_original", "BREW"),
            ("error.type", ""),
            ("http.route", ""),
        ],
    );
}

#[tokio::test]
async fn a_call_of_grpc_says_which_and_how_it_went() {
    let collector = Collector::start().await;
    // OK, NOT_FOUND, INTERNAL, then no end and not even a head before the client's time is over.
    let replies = [Reply::Status(0), Reply::Status(5), Reply::Status(13), Reply::Half, Reply::Silence];
    let origin = GrpcOrigin::start(move |before| replies[before]).await;
    let gateway = Gateway::fixed(&format!(
        "[telemetry]\n{}\n[services.calls]\nprotocol = 'grpc'\ninstances = ['{}']\n\
         [services.gone]\nprotocol = 'grpc'\ninstances = ['127.0.0.1:1']\nretry.attempts = 1\n\
         [[routes]]\nmatch.path = '/test.Calls/{{*rest}}'\nservice = 'calls'\n\
         [[routes]]\nmatch.path = '/test.Gone/{{*rest}}'\nservice = 'gone'\n",
        to(&collector),
        origin.address
    ))
    .await;
    let client = Http2::connect(gateway.address).await;
    let mut known = 0;
    for (path, tries, code, status, error_of_server, error_of_client) in [
        ("/test.Calls/Get", 1, "0", "200", "", ""),
        // What is wrong with the call is no fault of the server's.
        ("/test.Calls/Get", 1, "5", "200", "", "5"),
        ("/test.Calls/Get", 1, "13", "200", "13", "13"),
        ("/test.Calls/Get", 1, "4", "200", "4", "4"),
        ("/test.Calls/Get", 1, "4", "504", "504", "cancelled"),
        ("/test.Gone/Get", 1, "14", "502", "502", "connect_error"),
        ("/test.Nowhere/Get", 0, "12", "404", "", ""),
    ] {
        client.ask(call(path, &[("grpc-timeout", "2S")]), b"").await.unwrap();
        let mut spans = collector.until(known + 1 + tries).await;
        known = spans.len();
        spans.retain(|span| span.get("url.path") == path || span.kind == SpanKind::Client);
        let server = spans.iter().rfind(|span| span.kind == SpanKind::Server).unwrap();
        let (service, method) = path.trim_start_matches('/').split_once('/').unwrap();
        let is_call = [("rpc.system", "grpc"), ("rpc.service", service), ("rpc.method", method)];
        assert_says(server, &is_call);
        let said = [("rpc.grpc.status_code", code), ("error.type", error_of_server)];
        assert_says(server, &[&said[..], &[("http.response.status_code", status)]].concat());
        assert_eq!(server.failed, !error_of_server.is_empty(), "{server:?}");
        for client in spans.iter().filter(|span| span.parent == server.id) {
            assert_says(client, &is_call);
            let code = if ["cancelled", "connect_error"].contains(&error_of_client) { "" } else { code };
            assert_says(client, &[("rpc.grpc.status_code", code), ("error.type", error_of_client)]);
            assert_eq!(client.failed, !error_of_client.is_empty(), "{client:?}");
        }
        assert_eq!(spans.iter().filter(|span| span.parent == server.id).count(), tries);
    }
}

#[tokio::test]
async fn a_trace_that_is_not_recorded_passes_as_it_came() {
    let (collector, origin) = (Collector::start().await, Origin::start("a").await);
    let mut gateway = Gateway::fixed(&config(&[&origin], &to(&collector))).await;
    let (off, on) = (context("00"), context("01"));
    gateway.send(Method::GET, "/users/1", &[("traceparent", &*off), ("tracestate", "a=b")], "").await;
    gateway.send(Method::GET, "/users/2", &[("traceparent", &*on)], "").await;
    let got = &origin.got()[0];
    assert_eq!((got.field("traceparent"), got.field("tracestate")), (&*off, "a=b"));
    // What is told is sent before the end.
    gateway.signal("TERM");
    assert!(gateway.ended().await.success());
    let spans = collector.spans();
    assert_eq!(spans.len(), 2, "{spans:?}");
    assert!(spans.iter().all(|span| span.get("url.path") == "/users/2" || span.kind == SpanKind::Client));
}

#[tokio::test]
async fn the_standard_variables_are_honoured_over_http_too() {
    let collector = Origin::answering(|_| b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec()).await;
    let origin = Origin::start("a").await;
    let endpoint = format!("http://me:s3cret@{}/base", collector.address);
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-key=v4lue"),
        ("OTEL_SERVICE_NAME", "edge"),
        ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test"),
        ("OTEL_TRACES_SAMPLER", "parentbased_always_off"),
    ];
    let gateway = Gateway::with(&variables, "[consul]\naddress = \"\"\n", &config(&[&origin], "")).await;
    gateway.get("/users/unsampled").await;
    let parent = context("01");
    gateway.send(Method::GET, "/users/sampled", &[("traceparent", &*parent)], "").await;
    let got = until("a message", || async { collector.got().into_iter().next() }).await;
    assert_eq!(got.line(), "POST /base/v1/traces HTTP/1.1");
    assert_eq!((got.field("authorization"), got.field("x-key")), ("Basic bWU6czNjcmV0", "v4lue"));
    assert_eq!(got.field("content-type"), "application/x-protobuf");
    let spans = read(&got.body);
    assert_eq!(spans.len(), 2, "{spans:?}");
    assert_eq!(spans[0].resource["service.name"], "edge");
    assert_eq!(spans[0].resource["deployment.environment.name"], "test");
    let config = gateway.admin("/api/config").await.json();
    assert_eq!(config["telemetry"]["otlp"], format!("http://***@{}/base/v1/traces", collector.address));
}

#[tokio::test]
async fn a_collector_that_is_away_costs_no_request_and_one_line_of_the_log() {
    let origin = Origin::start("a").await;
    let gateway = Gateway::fixed(&config(&[&origin], "otlp = \"http://127.0.0.1:1\"")).await;
    for n in 0..3 {
        assert_eq!(gateway.get(&format!("/users/{n}")).await.text, "a");
        gateway.until_metric("lictor_trace_dropped_total", f64::from(2 * (n + 1))).await;
    }
    let told = gateway.log().iter().filter(|line| line.to_string().contains("takes no traces")).count();
    assert_eq!(told, 1, "{:?}", gateway.log());
}

#[tokio::test]
async fn another_collector_waits_for_a_restart() {
    let (collector, origin) = (Collector::start().await, Origin::start("a").await);
    let gateway = Gateway::fixed(&config(&[&origin], &to(&collector))).await;
    gateway.configure(&config(&[&origin], "otlp = \"http://127.0.0.1:1\""));
    let event = gateway.until_event("reloaded").await;
    assert!(event["cause"].as_str().unwrap().contains("telemetry.otlp waits for a restart"), "{event}");
    gateway.get("/users/1").await;
    collector.until(2).await;
}

#[tokio::test]
async fn the_collector_is_told_who_sends() {
    let (collector, origin) = (Collector::start().await, Origin::start("a").await);
    let config = config(&[&origin], &format!("otlp = \"http://me:s3cret@{}\"", collector.address));
    let variables =
        [("OTEL_EXPORTER_OTLP_HEADERS", "x-key=v4lue"), ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")];
    let gateway = Gateway::with(&variables, "[consul]\naddress = \"\"\n", &config).await;
    gateway.get("/users/1").await;
    collector.until(2).await;
    let fields = &collector.fields()[0];
    assert_eq!(
        (&fields["authorization"], &fields["x-key"]),
        (&"Basic bWU6czNjcmV0".parse().unwrap(), &"v4lue".parse().unwrap())
    );
}
