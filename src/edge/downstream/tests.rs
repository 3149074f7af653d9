//! How the bodies of requests are read.

use std::{future::poll_fn, time::Duration};

use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    time::{Instant, sleep},
};

use super::*;

async fn connected() -> (Downstream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
    (Downstream::new(Io::new(accepted.unwrap().0)), client.unwrap())
}

/// Reads pieces until `enough` bytes have come.
async fn read(connection: &Downstream, enough: usize) -> Result<(), BodyError> {
    let mut came = 0;
    while came < enough {
        if let Piece::Data(data) = poll_fn(|cx| connection.poll_body(cx)).await? {
            came += data.len();
        }
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_client_that_sends_a_byte_now_and_then_is_too_slow() {
    let (connection, mut client) = connected().await;
    connection.begin(Decoder::new(Length::Exact(1_000_000)), false);
    let start = Instant::now();
    let drip = async {
        for _ in 0..20 {
            client.write_all(b"a").await.unwrap();
            sleep(Duration::from_secs(3)).await;
        }
    };
    let failed = tokio::select! {
        read = read(&connection, 1_000_000) => read.unwrap_err(),
        () = drip => panic!("still waiting after a minute"),
    };
    assert!(matches!(failed, BodyError::TooSlow), "{failed:?}");
    assert_eq!(start.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_sends_fast_enough_may_take_its_time() {
    let (connection, mut client) = connected().await;
    connection.begin(Decoder::new(Length::Exact(200 * 1024)), false);
    let send = async {
        for _ in 0..100 {
            sleep(Duration::from_millis(1_500)).await;
            client.write_all(&[b'a'; 2048]).await.unwrap();
        }
    };
    let (read, ()) = tokio::join!(read(&connection, 200 * 1024), send);
    read.unwrap();
    assert!(connection.is_body_done());
}

#[tokio::test(start_paused = true)]
async fn a_client_is_not_too_slow_while_upstream_is() {
    let (connection, mut client) = connected().await;
    connection.begin(Decoder::new(Length::Exact(20)), false);
    for _ in 0..10 {
        client.write_all(b"ab").await.unwrap();
        read(&connection, 2).await.unwrap();
        sleep(Duration::from_secs(9)).await;
    }
    assert!(connection.is_body_done());
}

#[tokio::test]
async fn who_waits_for_100_continue_gets_it_with_the_first_read_of_the_body() {
    let (connection, mut client) = connected().await;
    connection.begin(Decoder::new(Length::Exact(2)), true);
    let play = async {
        let mut told = [0; 25];
        tokio::io::AsyncReadExt::read_exact(&mut client, &mut told).await.unwrap();
        assert_eq!(&told, b"HTTP/1.1 100 Continue\r\n\r\n");
        client.write_all(b"ab").await.unwrap();
    };
    let (read, ()) = tokio::join!(read(&connection, 2), play);
    read.unwrap();
}

#[tokio::test]
async fn what_came_of_a_body_is_acknowledged_once_more_of_it_is_awaited() {
    let (connection, mut client) = connected().await;
    connection.begin(Decoder::new(Length::Exact(4)), false);
    client.write_all(b"ab").await.unwrap();
    read(&connection, 2).await.unwrap();
    assert!(!connection.io.is_prompt());
    let (rest, ()) = tokio::join!(read(&connection, 2), async {
        assert!(connection.io.is_prompt());
        client.write_all(b"cd").await.unwrap();
    });
    rest.unwrap();
}

#[tokio::test]
async fn a_body_that_came_with_its_head_is_counted_and_left_where_leave_was_asked_for() {
    let (connection, mut client) = connected().await;
    connection.begin(Decoder::new(Length::Exact(4)), false);
    assert!(connection.whole_body().is_none());
    client.write_all(b"abcde").await.unwrap();
    poll_fn(|cx| connection.io.poll_read(cx, &mut connection.input.borrow_mut(), ROOM)).await.unwrap();
    connection.owed.set(true);
    assert!(connection.whole_body().is_none());
    connection.owed.set(false);
    assert_eq!(connection.whole_body().as_deref(), Some(&b"abcd"[..]));
    assert!(connection.is_body_done());
    assert_eq!((connection.received(), &connection.input.borrow()[..]), (4, &b"e"[..]));
}

#[tokio::test]
async fn a_body_is_cut_where_its_limit_is() {
    let (connection, mut client) = connected().await;
    connection.begin(Decoder::new(Length::Chunked), false);
    connection.aside.allow(5);
    client.write_all(b"3\r\nabc\r\n3\r\nabc\r\n0\r\n\r\n").await.unwrap();
    let failed = read(&connection, 6).await.unwrap_err();
    assert!(matches!(failed, BodyError::TooLarge { limit: 5 }), "{failed:?}");
    assert!(!connection.is_body_done());
}

#[tokio::test]
async fn a_chunk_over_the_limit_is_refused_by_its_size() {
    let (connection, mut client) = connected().await;
    connection.begin(Decoder::new(Length::Chunked), false);
    connection.aside.allow(5);
    client.write_all(b"3\r\nabc\r\n3\r\n").await.unwrap();
    let failed = read(&connection, 6).await.unwrap_err();
    assert!(matches!(failed, BodyError::TooLarge { limit: 5 }), "{failed:?}");
}

#[tokio::test]
async fn a_request_that_came_whole_leaves_what_it_was_read_into_to_others() {
    let (connection, _client) = connected().await;
    let holds = || connection.input.borrow().capacity() > 0;
    for (came, announced, rest) in [("", 0, false), ("body", 4, false), ("bo", 4, true), ("bodyGET", 4, true)] {
        let mut input = BytesMut::with_capacity(64);
        input.extend_from_slice(came.as_bytes());
        *connection.input.borrow_mut() = input;
        connection.begin(Decoder::new(Length::Exact(announced)), false);
        let whole = connection.whole_body();
        assert_eq!(whole.is_some(), announced > 0 && came.len() >= 4, "{came}");
        assert_eq!(holds(), rest, "{came}");
    }
}
