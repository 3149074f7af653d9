//! An instance leaves: nothing new reaches it, what is under way ends in peace, and then nothing is left of it.

use std::time::Duration;

use http::Response;
use tokio::{io::AsyncWriteExt, sync::watch};

use crate::support::{Caller, Consul, Gateway, Origin, PATIENCE, Replica, Streams, now, until};

#[tokio::test]
async fn idle_connections_to_an_instance_that_left_close_on_workers_without_traffic_too() {
    let consul = Consul::start().await;
    let stays = Replica::start("stays".into(), Duration::ZERO, usize::MAX).await;
    let leaves = Replica::start("leaves".into(), Duration::ZERO, usize::MAX).await;
    for replica in [&stays, &leaves] {
        consul.register("web", &replica.name, replica.address).await;
    }
    let gateway = Gateway::start(&consul, "[http]\nworkers = 2\n[defaults]\nbalance = \"round_robin\"\n").await;
    gateway.until_usable("web", 2).await;

    // Two connections are one at each worker; both have then used both instances.
    let mut busy = Caller::connect(gateway.address).await.unwrap();
    let mut quiet = Caller::connect(gateway.address).await.unwrap();
    for caller in [&mut busy, &mut quiet] {
        let mut heard = [caller.ask("GET", "/api/v1/web/", "").await.unwrap().body, String::new()];
        heard[1] = caller.ask("GET", "/api/v1/web/", "").await.unwrap().body;
        heard.sort();
        assert_eq!(heard, ["leaves", "stays"]);
    }
    assert_eq!((leaves.connections(), stays.connections()), (2, 2));

    consul.deregister("leaves").await;
    let acknowledged = now();
    while leaves.connections() > 0 {
        assert_eq!(busy.ask("GET", "/api/v1/web/", "").await.unwrap().status, 200);
        assert!(acknowledged.elapsed() < PATIENCE, "{} connections are still open", leaves.connections());
    }
    println!("idle connections of what left: closed after {:?}", acknowledged.elapsed());
    let got = leaves.got().len();
    let address = leaves.address.to_string();
    until("the end of its series", || async {
        (!gateway.admin("/metrics").await.text.contains(&address)).then_some(())
    })
    .await;
    println!("series of what left: gone after {:?}", acknowledged.elapsed());

    for caller in [&mut busy, &mut quiet] {
        for _ in 0..4 {
            assert_eq!(caller.ask("POST", "/api/v1/web/", "x").await.unwrap().body, "stays");
        }
    }
    assert_eq!((leaves.got().len(), stays.connections()), (got, 2));
}

#[tokio::test]
async fn a_request_under_way_to_an_instance_that_left_ends_in_peace() {
    let (go, wait) = watch::channel(0);
    let origin = Origin::serving(move |mut connection| {
        let mut wait = wait.clone();
        async move {
            while connection.request().await.is_some() {
                for (step, part) in [(1, "HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nhalf"), (2, "half")] {
                    let _ = wait.wait_for(|gone| *gone >= step).await;
                    connection.stream.write_all(part.as_bytes()).await.unwrap();
                }
            }
        }
    })
    .await;
    let config = "[services.web]\n[[routes]]\nmatch = { path = \"/{*rest}\" }\nservice = \"web\"\n";
    let consul = Consul::start().await;
    consul.register("web", "a", origin.address).await;
    let gateway = Gateway::start(&consul, config).await;
    gateway.until_usable("web", 1).await;

    let mut caller = Caller::connect(gateway.address).await.unwrap();
    let asking = caller.ask("GET", "/", "");
    let leaving = async {
        until("the request", || async { (origin.count() == 1).then_some(()) }).await;
        consul.deregister("a").await;
        gateway.until_usable("web", 0).await;
        go.send_replace(1);
        // Nothing new while the rest of the old one is awaited.
        let refused = gateway.until_status("/", 503).await;
        assert_eq!(refused.header("retry-after"), "1");
        go.send_replace(2);
    };
    let (heard, ()) = tokio::join!(asking, leaving);
    let heard = heard.unwrap();
    assert_eq!((heard.status, heard.body.as_str()), (200, "halfhalf"));
    assert_eq!(origin.count(), 1);
    let address = origin.address.to_string();
    until("the end of its series", || async {
        (!gateway.admin("/metrics").await.text.contains(&address)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn http2_connections_to_an_instance_that_left_close_when_nothing_is_under_way_on_them() {
    let (go, wait) = watch::channel(false);
    let origin = Streams::serving(move |mut stream| {
        let mut wait = wait.clone();
        async move {
            if stream.request.uri().path() == "/slow" {
                let _ = wait.wait_for(|go| *go).await;
            }
            let head = Response::builder().header("content-length", "3").body(()).unwrap();
            stream.respond.send_response(head, false).unwrap().send_data("h2c".into(), true).unwrap();
        }
    })
    .await;
    let config = "[http]\nworkers = 2\n[services.web]\nprotocol = \"h2c\"\n\
                  [[routes]]\nmatch = { path = \"/{*rest}\" }\nservice = \"web\"\n";
    let consul = Consul::start().await;
    consul.register("web", "a", origin.address).await;
    let gateway = Gateway::start(&consul, config).await;
    gateway.until_usable("web", 1).await;
    let (mut slow, mut quiet) =
        (Caller::connect(gateway.address).await.unwrap(), Caller::connect(gateway.address).await.unwrap());
    assert_eq!(quiet.ask("GET", "/", "").await.unwrap().body, "h2c");

    let leaving = async {
        until("both requests", || async { (origin.seen().2 == 2).then_some(()) }).await;
        consul.deregister("a").await;
        until("the end of the idle connection", || async { (origin.seen().1 == 1).then_some(()) }).await;
        go.send_replace(true);
    };
    let (heard, ()) = tokio::join!(slow.ask("GET", "/slow", ""), leaving);
    assert_eq!(heard.unwrap().body, "h2c");
    until("the end of the other one", || async { (origin.seen() == (2, 2, 2)).then_some(()) }).await;
}
