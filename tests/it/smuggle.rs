//! Nothing smuggled: what two parsers could read in two ways reaches no service, and what follows a body that nobody
//! read is no request.

use crate::support::{Gateway, Origin};

const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";

async fn before(origin: &Origin) -> Gateway {
    let address = origin.address;
    let route = "[[routes]]\nmatch = { path = \"/a/{*rest}\" }\nservice = \"web\"\n\
                 [[routes]]\nmatch = { path = \"/smuggled\" }\nservice = \"web\"\n\
                 [[routes]]\nmatch = { path = \"/get\", methods = [\"GET\"] }\nservice = \"web\"\n";
    Gateway::fixed(&format!("[http]\nmax_body_size = \"1KiB\"\n[services.web]\ninstances = [\"{address}\"]\n{route}"))
        .await
}

#[tokio::test]
async fn what_can_be_read_in_two_ways_is_refused_and_reaches_nobody() {
    let origin = Origin::start("a").await;
    let gateway = before(&origin).await;
    let post = "POST /a/b HTTP/1.1\r\n";
    let chunked = "Transfer-Encoding: chunked\r\n";
    for head in [
        // Two framings, two lengths.
        format!("{post}Host: x\r\nContent-Length: 4\r\n{chunked}\r\n0\r\n\r\n"),
        format!("{post}Host: x\r\n{chunked}Content-Length: 4\r\n\r\n0\r\n\r\n"),
        format!("{post}Host: x\r\nContent-Length: 0\r\nContent-Length: 38\r\n\r\n"),
        format!("{post}Host: x\r\nContent-Length: 0, 38\r\n\r\n"),
        format!("{post}Host: x\r\nContent-Length: +0\r\n\r\n"),
        format!("{post}Host: x\r\nContent-Length: 0x0\r\n\r\n"),
        format!("{post}Host: x\r\nContent-Length:\r\n\r\n"),
        // Codings that somebody might not know.
        format!("{post}Host: x\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
        format!("{post}Host: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
        format!("{post}Host: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
        format!("{post}Host: x\r\n{chunked}{chunked}\r\n0\r\n\r\n"),
        format!("{post}Host: x\r\nTransfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n"),
        format!("{post}Host: x\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n"),
        format!("{post}Host: x\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n"),
        format!("{post}Host: x\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        format!("{post}Host: x\r\nX: y\r\n\tTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        format!("POST /a/b HTTP/1.0\r\nHost: x\r\n{chunked}\r\n0\r\n\r\n"),
        // Ends of lines.
        "POST /a/b HTTP/1.1\nHost: x\n\n".to_owned(),
        format!("{post}Host: x\nX: y\r\n\r\n"),
        format!("{post}Host: x\r\nX: y\rTransfer-Encoding: chunked\r\n\r\n"),
        format!("{post}Host: x\r\nX: a\r\n folded\r\n\r\n"),
        // Names and values.
        format!("{post}Host: x\r\nX : y\r\n\r\n"),
        format!("{post}Host: x\r\nX y: z\r\n\r\n"),
        format!("{post}Host: x\r\n: y\r\n\r\n"),
        format!("{post}Host: x\r\nX: a\0b\r\n\r\n"),
        format!("{post}Host: x\r\nX\0: a\r\n\r\n"),
        format!("{post}Host: x\r\nno colon\r\n\r\n"),
        // Hosts.
        format!("{post}Host: x\r\nHost: x\r\n\r\n"),
        format!("{post}Host: x\r\nhOST: y\r\n\r\n"),
        format!("{post}\r\n"),
        format!("{post}Host: x, y\r\n\r\n"),
        format!("{post}Host: user@x\r\n\r\n"),
        format!("{post}Host: x/a\r\n\r\n"),
        format!("{post}Host: x:port\r\n\r\n"),
        "POST http://user@y/a/b HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
        // Request lines.
        "POST  /a/b HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
        "POST /a/b c HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
        "POST /a/b\tHTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
        "POST /a/b#c HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
        "POST /a/b HTTP/1.1 \r\nHost: x\r\n\r\n".to_owned(),
        "POST /a/b http/1.1\r\nHost: x\r\n\r\n".to_owned(),
        "POST /a/..;/b HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
        "POST /a/%2e%2e%2fb HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
        "PO\0ST /a/b HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
    ] {
        let answer = gateway.raw(format!("{head}{SMUGGLED}").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{head:?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{head:?}: {answer}");
        assert!(answer.contains("\r\nconnection: close\r\n"), "{head:?}: {answer}");
        assert_eq!(origin.count(), 0, "{head:?}: {:#?}", origin.got());
    }
}

#[tokio::test]
async fn a_chunked_body_that_is_none_ends_its_connection() {
    for body in [
        "1\nx\n0\n\n",
        "1\r\nxx\r\n0\r\n\r\n",
        "1\r\nx\n0\r\n\r\n",
        "\r\n0\r\n\r\n",
        "0x1\r\nx\r\n0\r\n\r\n",
        "+1\r\nx\r\n0\r\n\r\n",
        "-1\r\nx\r\n0\r\n\r\n",
        " 1\r\nx\r\n0\r\n\r\n",
        "1;a=\"\r\nx\r\n0\r\n\r\n",
        "1;a\nb\r\nx\r\n0\r\n\r\n",
        "1 \0\r\nx\r\n0\r\n\r\n",
        "fffffffffffffffff\r\nx\r\n0\r\n\r\n",
        "8000000000000000\r\nx\r\n0\r\n\r\n",
        "0\r\nX : y\r\n\r\n",
        "0\r\nX: y\n\r\n",
        "0\r\n folded\r\n\r\n",
    ] {
        let origin = Origin::start("a").await;
        let gateway = before(&origin).await;
        let head = "POST /a/b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
        let answer = gateway.raw(format!("{head}{body}{SMUGGLED}").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{body:?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{body:?}: {answer}");
        assert_eq!(origin.count(), 0, "{body:?}: {:#?}", origin.got());
    }
}

#[tokio::test]
async fn extensions_are_dropped_and_trailers_become_no_fields() {
    let origin = Origin::start("a").await;
    let gateway = before(&origin).await;
    let request = "POST /a/b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n\
                   1;a=b;c=\"d;\"\r\nx\r\n0\r\nHost: y\r\nContent-Length: 5\r\nAuthorization: z\r\nX-Sum: 1\r\n\r\n";
    let answer = gateway.raw(format!("{request}{SMUGGLED}").as_bytes()).await;
    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 2, "{answer}");
    let got = origin.got();
    assert_eq!((got.len(), got[0].body.as_slice(), got[1].line()), (2, &b"x"[..], "GET /smuggled HTTP/1.1"));
    assert_eq!(got[0].fields("host").collect::<Vec<_>>(), ["x"]);
    assert!(!got[0].head.to_ascii_lowercase().contains("authorization"), "{}", got[0].head);
}

#[tokio::test]
async fn an_absolute_target_says_which_host_is_meant() {
    let origin = Origin::start("a").await;
    let gateway = before(&origin).await;
    let answer = gateway.raw(b"GET http://y:81/a/b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let got = origin.only();
    assert_eq!((got.line(), got.fields("host").collect::<Vec<_>>()), ("GET /a/b HTTP/1.1", vec!["y:81"]));
    assert_eq!(got.field("x-forwarded-host"), "y:81");
}

#[tokio::test]
async fn a_body_that_nobody_read_is_no_request() {
    let origin = Origin::start("a").await;
    let gateway = before(&origin).await;
    let length = SMUGGLED.len();
    let many = SMUGGLED.repeat(40);
    for (request, status) in [
        (
            format!(
                "POST /nowhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{SMUGGLED}"
            ),
            404,
        ),
        (format!("POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{SMUGGLED}{SMUGGLED}"), 404),
        (format!("POST /get HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n26\r\n{SMUGGLED}\r\n"), 405),
        (
            format!(
                "POST /a/b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{many}\r\n0\r\n\r\n{SMUGGLED}",
                many.len()
            ),
            413,
        ),
        (format!("POST /a/b HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n\r\n{many}"), 413),
        (format!("POST /a/b HTTP/1.1\r\nHost: x\r\nExpect: more\r\nContent-Length: {length}\r\n\r\n{SMUGGLED}"), 417),
        (
            format!("POST /nowhere HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n{SMUGGLED}"),
            404,
        ),
        (format!("CONNECT x:80 HTTP/1.1\r\nHost: x:80\r\n\r\n{SMUGGLED}"), 501),
        (format!("TRACE / HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{SMUGGLED}"), 501),
    ] {
        let answer = gateway.raw(request.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {answer}");
        let once = answer.matches("HTTP/1.1 ").count() == 1 && answer.contains("\r\nconnection: close\r\n");
        assert!(once, "{request}: {answer}");
    }
    assert_eq!(origin.count(), 0, "{:#?}", origin.got());
}

#[tokio::test]
async fn a_refused_body_that_came_whole_is_no_request_and_what_follows_is_one() {
    let origin = Origin::start("a").await;
    let gateway = before(&origin).await;
    let refused = format!("POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{SMUGGLED}", SMUGGLED.len());
    let next = "GET /a/next HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let answers = gateway.raw(format!("{refused}{refused}{next}").as_bytes()).await;
    let statuses: Vec<_> = answers.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
    assert_eq!(statuses, ["404", "404", "200"], "{answers}");
    assert_eq!(origin.only().line(), "GET /a/next HTTP/1.1");
}
