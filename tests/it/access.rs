//! The access log: a line for each request, wherever it ended.

use std::fs;

use http::{Method, Request};
use rustls::version::{TLS12, TLS13};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{
    Gateway, Origin,
    http2::{DATA, END_HEADERS, Frames, GET, HEADERS, Http2, RST_STREAM, fields, frame},
    reset_at_end,
    tls::Authority,
    until,
};

fn config(origin: &Origin, telemetry: &str) -> String {
    let address = origin.address;
    format!(
        "[telemetry]\nlog = {{ format = \"json\", level = \"info\" }}\n{telemetry}\n\
         [services.web]\ninstances = [\"{address}\"]\n[services.gone]\ninstances = [\"127.0.0.1:1\"]\n\
         [[routes]]\nname = \"all\"\nmatch = {{ path = \"/web/{{*rest}}\" }}\nservice = \"web\"\n\
         [[routes]]\nmatch = {{ path = \"/gone\" }}\nservice = \"gone\"\n"
    )
}

/// Waits for so many lines.
async fn lines(gateway: &Gateway, file: &str, count: usize) -> Vec<Value> {
    until(&format!("{count} lines in {file}"), || async {
        let text = fs::read_to_string(gateway.file(file)).unwrap_or_default();
        let lines: Vec<_> = text.lines().map(|line| serde_json::from_str(line).unwrap_or(Value::Null)).collect();
        (lines.len() >= count).then_some(lines)
    })
    .await
}

#[tokio::test]
async fn a_request_is_told_with_all_that_is_known_of_it() {
    let origin = Origin::start("hello").await;
    let gateway = Gateway::fixed(&config(&origin, "access_log = \"access.log\"")).await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
    let headers = [("x-request-id", "mine-1"), ("user-agent", "te\"st\u{fc}"), ("traceparent", trace)];
    gateway.send(Method::POST, "/web/a%20b?x=%22", &headers, "12345").await;
    let line = &lines(&gateway, "access.log", 1).await[0];
    for (field, want) in [
        ("client", Value::from("127.0.0.1")),
        ("method", "POST".into()),
        ("path", "/web/a%20b?x=%22".into()),
        ("host", gateway.address.to_string().into()),
        ("protocol", "HTTP/1.1".into()),
        ("scheme", "http".into()),
        ("status", 200.into()),
        ("bytes_in", 5.into()),
        ("bytes_out", 5.into()),
        ("route", "all".into()),
        ("service", "web".into()),
        ("upstream", origin.address.to_string().into()),
        ("upstream_status", 200.into()),
        ("tries", 1.into()),
        ("request_id", "mine-1".into()),
        ("trace_id", "0af7651916cd43dd8448eb211c80319c".into()),
        ("user_agent", "te\"st\u{fc}".into()),
    ] {
        assert_eq!(line[field], want, "{field}: {line}");
    }
    assert!(line["duration_seconds"].as_f64().unwrap() >= line["upstream_seconds"].as_f64().unwrap(), "{line}");
    assert!(line["time"].as_str().unwrap().ends_with('Z'), "{line}");
}

#[tokio::test]
async fn a_request_whose_trace_is_recorded_is_told_as_whole_as_any() {
    let origin = Origin::start("hello").await;
    let telemetry = "access_log = \"access.log\"\naccess_format = \"combined\"\notlp = \"http://127.0.0.1:1\"";
    let gateway = Gateway::fixed(&config(&origin, telemetry)).await;
    let path = format!("/web/{}", "a".repeat(3_000));
    gateway.send(Method::GET, &path, &[("referer", "http://from.test/")], "").await;
    lines(&gateway, "access.log", 1).await;
    let line = fs::read_to_string(gateway.file("access.log")).unwrap();
    let (asked, from) = (format!("\"GET {path} HTTP/1.1\""), "\"http://from.test/\"");
    assert!(line.contains(&asked) && line.contains(from), "{line:.200}");
}

#[tokio::test]
async fn requests_that_no_service_answered_are_told_too() {
    let origin = Origin::serving(|mut connection| async move {
        // Takes requests and answers none.
        while connection.request().await.is_some() {}
    })
    .await;
    let telemetry = "access_log = \"access.log\"\n[http]\nheader_timeout = \"200ms\"\nmax_body_size = \"10B\"";
    let gateway = Gateway::fixed(&config(&origin, telemetry)).await;
    gateway.get("/nothing?a").await;
    gateway.get("/gone").await;
    gateway.raw(b"GET /web/ HTTP/1.1\r\nhost: h\r\nbad header\r\n\r\n").await;
    let long = format!("GET /web/ HTTP/1.1\r\nhost: h\r\nx: {}\r\n\r\n", "x".repeat(40_000));
    gateway.raw(long.as_bytes()).await;
    gateway.raw(b"GET /web/ HTTP/1.1\r\nhost: h\r\n").await;
    gateway.raw(b"POST /web/up?y HTTP/1.1\r\nhost: h\r\nuser-agent: me\r\ncontent-length: 11\r\n\r\n").await;
    let mut client = TcpStream::connect(gateway.address).await.unwrap();
    client.write_all(b"GET /web/slow HTTP/1.1\r\nhost: h\r\n\r\n").await.unwrap();
    gateway.until_metric(r#"lictor_in_flight{service="web"}"#, 1.0).await;
    drop(client);

    let mut lines = lines(&gateway, "access.log", 7).await;
    lines.sort_by_key(|line| line["status"].as_u64());
    let told: Vec<_> = lines
        .iter()
        .map(|line| (line["status"].as_u64().unwrap(), line["path"].as_str(), line["tries"].as_u64().unwrap()))
        .collect();
    assert_eq!(
        told,
        [
            (400, None, 0),
            (404, Some("/nothing?a"), 0),
            (408, None, 0),
            (413, Some("/web/up?y"), 0),
            (431, None, 0),
            (499, Some("/web/slow"), 1),
            (502, Some("/gone"), 3)
        ]
    );
    assert_eq!((&lines[3]["user_agent"], &lines[3]["method"]), (&"me".into(), &"POST".into()));
    assert_eq!(lines[6]["upstream"], "127.0.0.1:1");
}

/// However it leaves, unless it says that no more follows and may wait for the answer to that.
#[tokio::test]
async fn a_client_that_leaves_while_it_sends_a_body_is_told_so() {
    let origin = Origin::serving(|mut connection| async move { while connection.more().await.is_some() {} }).await;
    let gateway = Gateway::fixed(&config(&origin, "access_log = \"access.log\"")).await;
    let under_way = r#"lictor_in_flight{service="web"}"#;
    for (path, is_whole) in [("/web/reset", false), ("/web/end", true)] {
        let mut client = TcpStream::connect(gateway.address).await.unwrap();
        let head = format!("POST {path} HTTP/1.1\r\nhost: h\r\ncontent-length: 9\r\n\r\nabc");
        client.write_all(head.as_bytes()).await.unwrap();
        gateway.until_metric(under_way, 1.0).await;
        if is_whole {
            client.shutdown().await.unwrap();
            let _ = client.read_to_end(&mut Vec::new()).await;
        } else {
            reset_at_end(&client);
        }
        drop(client);
        gateway.until_metric(under_way, 0.0).await;
    }
    for path in ["/web/stream", "/web/connection"] {
        let mut client = Frames::connect(gateway.address).await;
        let post = [(":method", "POST"), GET[1], GET[2], (":path", path), ("content-length", "9")];
        client.send(&frame(HEADERS, END_HEADERS, 1, &fields(&post))).await;
        client.send(&frame(DATA, 0, 1, b"abc")).await;
        gateway.until_metric(under_way, 1.0).await;
        if path == "/web/stream" {
            client.send(&frame(RST_STREAM, 0, 1, &[0, 0, 0, 8])).await;
            gateway.until_metric(under_way, 0.0).await;
        }
        drop(client);
        gateway.until_metric(under_way, 0.0).await;
    }
    let lines = lines(&gateway, "access.log", 4).await;
    // Each worker's are in order.
    let mut told: Vec<_> =
        lines.iter().map(|line| (line["path"].as_str().unwrap(), line["status"].as_u64().unwrap())).collect();
    told.sort_unstable();
    let want = [("/web/connection", 499), ("/web/end", 400), ("/web/reset", 499), ("/web/stream", 499)];
    assert_eq!(told, want);
    assert!(lines.iter().all(|line| (line["status"] == 400) == (line["bytes_out"] != 0)), "{lines:?}");
}

#[tokio::test]
async fn http2_and_upgrades_are_told_with_their_bytes() {
    let origin = Origin::serving(|mut connection| async move {
        let Some(got) = connection.request().await else { return };
        if got.field("upgrade").is_empty() {
            let answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n";
            let _ = connection.stream.write_all(answer).await;
        } else {
            let answer = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\nhi";
            let _ = connection.stream.write_all(answer).await;
            let _ = connection.stream.read_exact(&mut [0; 3]).await;
        }
    })
    .await;
    let gateway = Gateway::fixed(&config(&origin, "access_log = \"access.log\"")).await;
    let client = Http2::connect(gateway.address).await;
    let request = Request::post(format!("http://{}/web/two", gateway.address)).body(()).unwrap();
    assert_eq!(client.ask(request, b"123").await.unwrap().body, "abcdefg");
    let mut client = TcpStream::connect(gateway.address).await.unwrap();
    let ask = b"GET /web/up HTTP/1.1\r\nhost: h\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
    client.write_all(ask).await.unwrap();
    let mut read = [0; 1024];
    let mut text = String::new();
    while !text.ends_with("hi") {
        let n = client.read(&mut read).await.unwrap();
        text.push_str(std::str::from_utf8(&read[..n]).unwrap());
    }
    client.write_all(b"abc").await.unwrap();
    drop(client);
    let mut lines = lines(&gateway, "access.log", 2).await;
    lines.sort_by_key(|line| line["status"].as_u64());
    let told = |line: &Value| {
        let of = |name: &str| line[name].as_u64().unwrap();
        (line["protocol"].as_str().unwrap().to_owned(), of("status"), of("bytes_in"), of("bytes_out"))
    };
    assert_eq!(told(&lines[1]), ("HTTP/2.0".into(), 200, 3, 7));
    assert_eq!(told(&lines[0]), ("HTTP/1.1".into(), 101, 3, 2));
}

#[tokio::test]
async fn a_request_over_tls_is_told_with_its_version() {
    let (origin, authority) = (Origin::start("a").await, Authority::new());
    let https = Authority::section(&[authority.write("a", &["a.test"])], "");
    let gateway = Gateway::fixed(&format!("{https}{}", config(&origin, "access_log = \"access.log\""))).await;
    for version in [&TLS12, &TLS13] {
        authority.client_of(&[version], &["http/1.1"], None).get(gateway.secure(), "a.test").await.unwrap();
    }
    gateway.get("/web/plain").await;
    let mut lines = lines(&gateway, "access.log", 3).await;
    lines.sort_by_key(|line| line["tls"].as_str().map(ToOwned::to_owned));
    let told: Vec<_> = lines.iter().map(|line| (&line["scheme"], line.get("tls"), &line["host"])).collect();
    let (plain, secure, name) = ("http".into(), Value::from("https"), Value::from("a.test"));
    assert_eq!(told[0], (&plain, None, &gateway.address.to_string().into()));
    assert_eq!(told[1], (&secure, Some(&"TLSv1.2".into()), &name));
    assert_eq!(told[2], (&secure, Some(&"TLSv1.3".into()), &name));
}

#[tokio::test]
async fn a_file_is_opened_anew_at_sighup_and_a_reload_changes_place_and_form() {
    let origin = Origin::start("a").await;
    let gateway = Gateway::fixed(&config(&origin, "access_log = \"access.log\"")).await;
    gateway.get("/web/1").await;
    lines(&gateway, "access.log", 1).await;
    fs::rename(gateway.file("access.log"), gateway.file("old.log")).unwrap();
    gateway.signal("HUP");
    until("the file", || async { gateway.file("access.log").exists().then_some(()) }).await;
    gateway.get("/web/2").await;
    assert_eq!(lines(&gateway, "access.log", 1).await[0]["path"], "/web/2");
    assert_eq!(lines(&gateway, "old.log", 1).await.len(), 1);

    gateway.configure(&config(&origin, "access_log = \"other.log\"\naccess_format = \"combined\""));
    until("the other file", || async { gateway.file("other.log").exists().then_some(()) }).await;
    gateway.send(Method::GET, "/web/3", &[("user-agent", "a\"b")], "").await;
    lines(&gateway, "other.log", 1).await;
    let text = fs::read_to_string(gateway.file("other.log")).unwrap();
    assert!(text.starts_with("127.0.0.1 - - ["), "{text}");
    assert!(text.ends_with("\"GET /web/3 HTTP/1.1\" 200 1 \"-\" \"a\\x22b\"\n"), "{text}");

    gateway.configure(&config(&origin, "access_log = \"off\""));
    until("the reload", || async {
        let config = gateway.admin("/api/config").await.json();
        (config["telemetry"]["access_log"] == "off").then_some(())
    })
    .await;
    gateway.get("/web/4").await;
    gateway.configure(&config(&origin, "access_log = \"last.log\""));
    until("the last file", || async { gateway.file("last.log").exists().then_some(()) }).await;
    assert_eq!(fs::read_to_string(gateway.file("other.log")).unwrap().lines().count(), 1);
}

#[tokio::test]
async fn a_file_that_takes_nothing_fails_no_request_and_is_told_once() {
    let origin = Origin::start("a").await;
    let gateway = Gateway::fixed(&config(&origin, "access_log = \"away/access.log\"")).await;
    for n in 0..20 {
        assert_eq!(gateway.get(&format!("/web/{n}")).await.text, "a");
    }
    gateway.until_metric("lictor_access_log_dropped_total", 20.0).await;
    let told = || gateway.log().iter().filter(|line| line.to_string().contains("access log")).count();
    assert_eq!(told(), 1, "{:?}", gateway.log());

    fs::create_dir(gateway.file("away")).unwrap();
    until("a line", || async {
        gateway.get("/web/there").await;
        gateway.file("away/access.log").exists().then_some(())
    })
    .await;
    assert_eq!(told(), 1);
}

#[tokio::test]
async fn a_full_disk_fails_no_request_and_is_told_once() {
    let origin = Origin::start("a").await;
    let mut gateway = Gateway::fixed(&config(&origin, "access_log = \"/dev/full\"")).await;
    for n in 1..=5 {
        assert_eq!(gateway.get(&format!("/web/{n}")).await.text, "a");
        gateway.until_metric("lictor_access_log_dropped_total", f64::from(n)).await;
    }
    let told: Vec<_> = gateway.log().into_iter().filter(|line| line.to_string().contains("access log")).collect();
    assert!(told.len() == 1 && told[0]["cause"].as_str().unwrap().contains("No space left"), "{told:?}");
    gateway.signal("TERM");
    assert!(gateway.ended().await.success());
}

#[tokio::test]
async fn a_reader_that_takes_no_lines_slows_no_request_and_holds_up_no_end() {
    let (origin, folder) = (Origin::start("a").await, tempfile::tempdir().unwrap());
    let pipe = folder.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let _reader = fs::File::options().read(true).write(true).open(&pipe).unwrap();
    let telemetry = format!("access_log = '{}'\n[http]\nworkers = 1", pipe.display());
    let mut gateway = Gateway::fixed(&config(&origin, &telemetry)).await;
    // More than the pipe and the queue of a worker hold.
    let path = format!("/web/{}", "a".repeat(7_000));
    let asking = (0..8).map(|_| async {
        while gateway.metric("lictor_access_log_dropped_total").await == Some(0.0) {
            for _ in 0..50 {
                assert_eq!(gateway.get(&path).await.text, "a");
            }
        }
    });
    futures_util::future::join_all(asking).await;
    assert_eq!(gateway.get("/web/").await.text, "a");
    gateway.signal("TERM");
    assert!(gateway.ended().await.success());
    let last = "the access log takes too long";
    assert!(gateway.log().iter().any(|line| line.to_string().contains(last)), "{:?}", gateway.log());
}

#[tokio::test]
async fn what_a_drain_breaks_off_is_told_too() {
    let origin = Origin::serving(|mut connection| async move {
        // Takes requests and answers none.
        while connection.request().await.is_some() {}
    })
    .await;
    let telemetry = "access_log = \"access.log\"\n[http]\ndrain_wait = \"0s\"\ndrain = \"300ms\"";
    let mut gateway = Gateway::fixed(&config(&origin, telemetry)).await;
    let mut clients = Vec::new();
    for n in 0..20 {
        let mut client = TcpStream::connect(gateway.address).await.unwrap();
        client.write_all(format!("GET /web/{n} HTTP/1.1\r\nhost: h\r\n\r\n").as_bytes()).await.unwrap();
        clients.push(client);
    }
    gateway.until_metric(r#"lictor_in_flight{service="web"}"#, 20.0).await;
    gateway.signal("TERM");
    gateway.ended().await;
    let text = fs::read_to_string(gateway.file("access.log")).unwrap();
    assert_eq!(text.lines().filter(|line| line.contains("\"path\":\"/web/")).count(), 20, "{text}");
}

#[tokio::test]
async fn what_was_told_at_the_drain_is_in_the_file() {
    let origin = Origin::start("a").await;
    let mut gateway = Gateway::fixed(&config(&origin, "access_log = \"access.log\"")).await;
    let requests = (0..50).map(|n| {
        let gateway = &gateway;
        async move { gateway.get(&format!("/web/{n}")).await.text }
    });
    for text in futures_util::future::join_all(requests).await {
        assert_eq!(text, "a");
    }
    gateway.signal("TERM");
    assert!(gateway.ended().await.success());
    let text = fs::read_to_string(gateway.file("access.log")).unwrap();
    assert_eq!(text.lines().count(), 50);
}
