//! Real clients call the gateway: curl, Python's http.client and aiohttp, h2load, wrk and Chromium.

use std::{fs, net::SocketAddr};

use serde_json::Value;

use crate::support::{
    Gateway, Origin, PythonOrigin,
    clients::{python, run},
    tls::Authority,
};

fn route(address: SocketAddr) -> String {
    format!("[services.web]\ninstances = [\"{address}\"]\n[[routes]]\nmatch.path = \"/{{*rest}}\"\nservice = \"web\"\n")
}

/// A gateway with both listeners; `a.test` is its name.
async fn before(address: SocketAddr, authority: &Authority) -> Gateway {
    let https = Authority::section(&[authority.write("a", &["a.test"])], "");
    Gateway::fixed(&format!("{https}{}", route(address))).await
}

async fn curl(args: &[&str]) -> (String, String) {
    let printed =
        run("curl", ["--silent", "--show-error", "--noproxy", "*", "--max-time", "20"].iter().chain(args)).await;
    (printed.out, printed.err)
}

#[tokio::test]
async fn curl_is_answered_in_each_version_that_it_asks_for() {
    let (origin, authority) = (Origin::start("salve").await, Authority::new());
    let gateway = before(origin.address, &authority).await;
    let (ca, secure) = (authority.folder().join("ca.pem").display().to_string(), gateway.secure().port());
    let (resolve, https) = (format!("a.test:{secure}:127.0.0.1"), format!("https://a.test:{secure}/"));
    let trust = ["--cacert", &ca, "--resolve", &resolve];
    let http = format!("http://{}/", gateway.address);
    for (version, url, want) in [
        ("--http1.0", &http, "1.1"),
        ("--http1.1", &http, "1.1"),
        ("--http2", &http, "1.1"),
        ("--http2-prior-knowledge", &http, "2"),
        ("--http1.1", &https, "1.1"),
        ("--http2", &https, "2"),
    ] {
        let (out, _) = curl(&[&trust[..], &[version, "-w", " %{http_version} %{response_code}", url]].concat()).await;
        assert_eq!(out, format!("salve {want} 200"), "{version} {url}");
    }
}

#[tokio::test]
async fn curl_uploads_megabytes_and_is_told_to_go_on_over_http1() {
    let (origin, authority) = (PythonOrigin::start("http_origin.py", &[]).await, Authority::new());
    let gateway = before(origin.address, &authority).await;
    let file = authority.folder().join("upload");
    fs::write(&file, vec![b'x'; 5_000_000]).unwrap();
    let (data, url) = (format!("@{}", file.display()), format!("http://{}/digest", gateway.address));
    // In HTTP/1.1 it waits for longer than it may take in all. In HTTP/2 nobody tells it to go on, and it does by itself.
    for (version, patience, told) in [("--http1.1", "60", true), ("--http2-prior-knowledge", "0.1", false)] {
        let expect = ["-H", "Expect: 100-continue", "--expect100-timeout", patience, "--verbose"];
        let (out, err) = curl(&[&expect[..], &[version, "--data-binary", &data, &url]].concat()).await;
        let got: Value = serde_json::from_str(&out).unwrap();
        assert_eq!((&got["length"], &got["announced"]), (&5_000_000.into(), &"5000000".into()), "{version}");
        assert_eq!(err.contains("< HTTP/1.1 100 "), told, "{err}");
    }
}

#[tokio::test]
async fn curl_asks_with_head_twice_on_one_connection() {
    let origin = Origin::answering(|_| b"HTTP/1.1 200 OK\r\ncontent-length: 42\r\n\r\n".to_vec()).await;
    let gateway = before(origin.address, &Authority::new()).await;
    // Not with prior knowledge: curl 7.88 and older cannot use such a connection again.
    let url = format!("https://{}/", gateway.secure());
    for version in ["--http1.1", "--http2"] {
        let told = ["--insecure", "--head", "-w", "connections: %{num_connects}\n"];
        let (out, _) = curl(&[&told[..], &[version, &url, &url]].concat()).await;
        assert_eq!(out.matches("content-length: 42\r\n").count(), 2, "{version}: {out}");
        assert!(out.contains("connections: 1\n") && out.ends_with("connections: 0\n"), "{version}: {out}");
    }
}

#[tokio::test]
async fn the_http_client_of_python_keeps_its_connection_and_uploads_in_chunks() {
    let origin = PythonOrigin::start("http_origin.py", &[]).await;
    let gateway = Gateway::fixed(&route(origin.address)).await;
    for case in ["keep_alive", "chunked"] {
        python("http_client.py", &[&gateway.address.port().to_string(), case]).await;
    }
}

#[tokio::test]
async fn aiohttp_gets_the_right_answer_to_each_of_many_requests_at_once() {
    let origin = PythonOrigin::start("http_origin.py", &[]).await;
    let gateway = Gateway::fixed(&route(origin.address)).await;
    python("aiohttp_client.py", &[&gateway.address.port().to_string(), "parallel"]).await;
}

#[tokio::test]
async fn aiohttp_talks_through_a_web_socket() {
    let origin = PythonOrigin::start("http_origin.py", &[]).await;
    let gateway = Gateway::fixed(&route(origin.address)).await;
    python("aiohttp_client.py", &[&gateway.address.port().to_string(), "web_socket"]).await;
}

#[tokio::test]
async fn none_of_the_requests_of_h2load_fails() {
    let (origin, authority) = (Origin::start("salve").await, Authority::new());
    let gateway = before(origin.address, &authority).await;
    let (plain, secure) = (format!("http://{}/", gateway.address), format!("https://{}/", gateway.secure()));
    for (url, version) in [(&plain, None), (&plain, Some("--h1")), (&secure, None)] {
        let args = ["-n2000", "-c4", "-m10", url].into_iter().chain(version);
        let out = run("h2load", args).await.out;
        let want = "requests: 2000 total, 2000 started, 2000 done, 2000 succeeded, 0 failed, 0 errored, 0 timeout";
        assert!(out.contains(want) && out.contains("status codes: 2000 2xx"), "{out}");
    }
    assert_eq!(origin.count(), 6000);
}

#[tokio::test]
async fn none_of_the_requests_of_wrk_fails() {
    let (origin, authority) = (Origin::start("salve").await, Authority::new());
    let gateway = before(origin.address, &authority).await;
    for url in [format!("http://{}/", gateway.address), format!("https://{}/", gateway.secure())] {
        let out = run("wrk", ["-d1s", "-t1", "-c8", "--timeout", "20s", &url]).await.out;
        assert!(out.contains("requests in") && !out.contains(" 0 requests in"), "{out}");
        assert!(!out.contains("Socket errors") && !out.contains("Non-2xx"), "{out}");
    }
}

#[tokio::test]
async fn chromium_loads_a_page_and_what_it_fetches_over_http2() {
    const PAGE: &str = "<!doctype html><link rel=icon href=data:,><p>waiting</p><script>
        const protocol = kind => performance.getEntriesByType(kind).at(-1).nextHopProtocol;
        fetch('/api', { method: 'POST', body: 'asked' }).then(answer => answer.text()).then(text => {
            document.querySelector('p').textContent =
                [text, protocol('navigation'), protocol('resource')].join(' by ');
        });
    </script>";
    let origin = Origin::answering(|got| {
        let (kind, body) = if got.line().starts_with("POST /api ") {
            ("text/plain", format!("{} and answered", String::from_utf8_lossy(&got.body)))
        } else {
            ("text/html", PAGE.to_owned())
        };
        format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
    })
    .await;
    let authority = Authority::new();
    let gateway = before(origin.address, &authority).await;
    let folder = tempfile::tempdir().unwrap();
    let profile = format!("--user-data-dir={}", folder.path().display());
    let url = format!("https://{}/", gateway.secure());
    let quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"];
    let bare = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-proxy-server"];
    let page = ["--disable-quic", "--ignore-certificate-errors", "--virtual-time-budget=20000", "--dump-dom"];
    let printed = run("chromium", [&quiet[..], &bare, &page, &[&profile, &url]].concat()).await;
    assert!(printed.out.contains("<p>asked and answered by h2 by h2</p>"), "{printed:?}\n{:?}", origin.got());
}

#[tokio::test]
async fn an_expectation_that_nobody_knows_is_refused_in_each_version() {
    let (origin, authority) = (Origin::start("salve").await, Authority::new());
    let gateway = before(origin.address, &authority).await;
    let url = format!("http://{}/", gateway.address);
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let (out, _) = curl(&[version, "-H", "expect: foo", "-o", "/dev/null", "-w", "%{response_code}", &url]).await;
        assert_eq!(out, "417", "{version}");
    }
    assert_eq!(origin.count(), 0);
}
