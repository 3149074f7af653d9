//! Answers that end well or badly, and what becomes of their connections.

use std::future::poll_fn;

use super::*;

/// What a body came to: its bytes, and the error that ended it.
async fn read(mut body: Body) -> (Vec<u8>, Option<BodyError>) {
    let mut read = Vec::new();
    loop {
        match poll_fn(|cx| body.poll_piece(cx)).await {
            None => return (read, None),
            Some(Err(e)) => return (read, Some(e)),
            Some(Ok(frame)) => read.extend(frame.into_data().unwrap_or_default()),
        }
    }
}

/// Plays one instance that answers with `parts`, a moment between them, and ends there if `close`.
/// Tells what the client got, and whether the connection is used for the next request.
async fn played(
    method: Method,
    parts: &[&str],
    close: bool,
) -> (Result<(u16, Vec<u8>, Option<BodyError>), CallError>, bool) {
    let stage = Stage::new(1, timeouts(30, 10)).await;
    let play = async {
        let mut stream = stage.accept(0).await;
        request(&mut stream).await;
        for part in parts {
            stream.write_all(part.as_bytes()).await.unwrap();
            sleep(Duration::from_millis(1)).await;
        }
        (!close).then_some(stream)
    };
    let ask = async {
        let answer = stage.ask(method, Body::empty()).await?;
        let (data, error) = read(answer.body).await;
        Ok((answer.status.as_u16(), data, error))
    };
    let (answer, first) = tokio::join!(ask, play);
    sleep(Duration::from_millis(1)).await;
    let again = async {
        if let Some(mut first) = first
            && matches!(first.peek(&mut [0]).await, Ok(1..))
        {
            request(&mut first).await;
            super::answer(&mut first).await;
            return true;
        }
        let mut stream = stage.accept(0).await;
        request(&mut stream).await;
        super::answer(&mut stream).await;
        false
    };
    let (called, kept) = tokio::join!(stage.call(Method::GET, Body::empty()), again);
    assert_eq!(called.unwrap(), 200);
    (answer, kept)
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_used_again_only_where_its_answer_ended_in_order() {
    let get = Method::GET;
    for (method, parts, close, data, kept) in [
        (&get, &["HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"][..], false, "ok", true),
        (&get, &["HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", "o", "k"], false, "ok", true),
        (&get, &["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"], false, "ok", true),
        (
            &get,
            &["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", "0\r\n", "\r\n"],
            false,
            "ok",
            true,
        ),
        (&get, &["HTTP/1.1 204 No Content\r\n\r\n"], false, "", true),
        (&Method::HEAD, &["HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"], false, "", true),
        (&get, &["HTTP/1.1 103 x\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"], false, "ok", true),
        // More than the answer: whose is it?
        (&get, &["HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok!"], false, "ok", false),
        (&get, &["HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "!"], false, "ok", false),
        (&get, &["HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok"], false, "", false),
        (&get, &["HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\nok"], false, "", false),
        (&Method::HEAD, &["HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"], false, "", false),
        (&get, &["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n0\r\n\r\n"], false, "", false),
        // It said that it is the last.
        (&get, &["HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"], false, "ok", false),
        (&get, &["HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"], false, "ok", false),
        (&get, &["HTTP/1.1 200 OK\r\n\r\no", "k"], true, "ok", false),
    ] {
        let (answer, used_again) = played(method.clone(), parts, close).await;
        let (_, read, error) = answer.unwrap();
        assert!(error.is_none(), "{parts:?}: {error:?}");
        assert_eq!((String::from_utf8(read).unwrap().as_str(), used_again), (data, kept), "{method} {parts:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_breaks_off_is_known_to_be_broken() {
    for (parts, close, data) in [
        (&["HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok"][..], true, "ok"),
        (&["HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"], true, ""),
        (&["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "2\r\nok\r\n"], true, "ok"),
        (&["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n"], true, "ok"),
        (&["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok", "!!"], false, "ok"),
        (&["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "two\r\nok"], false, ""),
        // Nothing more comes: the read timeout ends it.
        (&["HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok"], false, "ok"),
    ] {
        let (answer, used_again) = played(Method::GET, parts, close).await;
        let (status, read, error) = answer.unwrap();
        assert!(error.is_some(), "{parts:?}");
        assert_eq!((status, String::from_utf8(read).unwrap().as_str(), used_again), (200, data, false), "{parts:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_no_answer_is_an_error_and_ends_the_connection() {
    let interim = "HTTP/1.1 103 x\r\n\r\n".repeat(9);
    for bytes in [
        "SSH-2.0-OpenSSH_9.6\r\n",
        "HTTP/1.1 700 x\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        // There is still time to say that this is none.
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\ntwo\r\nok",
        &interim,
        &format!("HTTP/1.1 200 OK\r\nX: {}", "y".repeat(33 * 1024)),
    ] {
        let (answer, used_again) = played(Method::GET, &[bytes], false).await;
        let failed = answer.unwrap_err();
        let malformed = matches!(
            failed,
            CallError::Exchange(
                ExchangeError::Malformed(_)
                    | ExchangeError::MalformedBody(_)
                    | ExchangeError::Switched
                    | ExchangeError::Interim
            )
        );
        assert!(malformed && !used_again, "{bytes:.60?}: {failed:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_was_not_finished_ends_its_connection() {
    let stage = Stage::new(1, timeouts(30, 60)).await;
    let play = async {
        let mut stream = stage.accept(0).await;
        request(&mut stream).await;
        stream.write_all(b"HTTP/1.1 413 x\r\nContent-Length: 2\r\n\r\nno").await.unwrap();
        let mut rest = Vec::new();
        let end = tokio::time::timeout(Duration::from_hours(1), stream.read_to_end(&mut rest)).await;
        end.expect("an end of the connection").unwrap();
        rest
    };
    let ask = async {
        let slow = Body::stream(Dripping(10, Box::pin(sleep(Duration::from_secs(9)))));
        read(stage.ask(Method::POST, slow).await.unwrap().body).await
    };
    let ((data, error), rest) = tokio::join!(ask, play);
    assert_eq!((data.as_slice(), error.is_none()), (b"no".as_slice(), true));
    assert!(!rest.ends_with(b"0\r\n\r\n"), "an end that the body did not have: {}", rest.escape_ascii());
}

#[tokio::test(start_paused = true)]
async fn an_answer_may_come_while_its_request_is_still_on_the_way() {
    let stage = Stage::new(1, timeouts(30, 60)).await;
    let play = async {
        let mut stream = stage.accept(0).await;
        request(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await.unwrap();
        let mut echoed = 0;
        // Each byte that comes is a chunk of six bytes.
        let mut chunk = [0; 6];
        while echoed < 3 {
            stream.read_exact(&mut chunk).await.unwrap();
            stream.write_all(&chunk).await.unwrap();
            echoed += 1;
        }
        stream.read_exact(&mut chunk[..5]).await.unwrap();
        stream.write_all(&chunk[..5]).await.unwrap();
        stream
    };
    let ask = async {
        let slow = Body::stream(Dripping(3, Box::pin(sleep(Duration::from_secs(9)))));
        read(stage.ask(Method::POST, slow).await.unwrap().body).await
    };
    let ((data, error), mut stream) = tokio::join!(ask, play);
    assert!(data == b"xxx" && error.is_none(), "{}: {error:?}", data.escape_ascii());
    // Both ended in order: the connection goes on.
    let again = async {
        request(&mut stream).await;
        super::answer(&mut stream).await;
    };
    let (called, ()) = tokio::join!(stage.call(Method::GET, Body::empty()), again);
    assert_eq!(called.unwrap(), 200);
}

#[tokio::test(start_paused = true)]
async fn the_connection_to_an_instance_that_left_meanwhile_is_not_kept() {
    let stage = Stage::new(1, Policy::default()).await;
    let endpoint = stage.cluster.members[0].endpoint.clone();
    let play = async {
        let mut stream = stage.accept(0).await;
        request(&mut stream).await;
        endpoint.set_listed(false);
        super::answer(&mut stream).await;
        let end = tokio::time::timeout(Duration::from_hours(1), stream.read(&mut [0])).await;
        assert_eq!(end.expect("an end of the connection").unwrap(), 0);
    };
    let (called, ()) = tokio::join!(stage.call(Method::GET, Body::empty()), play);
    assert_eq!(called.unwrap(), 200);
}
