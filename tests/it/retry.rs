//! Requests that are tried again, from outside: no client sees what one instance does wrong.

use http::Method;

use crate::support::{Consul, Gateway, Origin, now};

#[tokio::test]
async fn a_client_sees_nothing_of_an_instance_that_fails_resets_or_refuses() {
    let consul = Consul::start().await;
    let good = Origin::answering(|got| {
        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{}", got.body.len(), String::from_utf8_lossy(&got.body))
            .into_bytes()
    })
    .await;
    let busy = Origin::answering(|_| b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n".to_vec()).await;
    let resets = Origin::serving(|mut connection| async move {
        connection.request().await;
    })
    .await;
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    consul.register("web", "good", good.address).await;
    // No circuit may hide them.
    let config = "[defaults]\nbalance = 'round_robin'\nbreaker = { max_ejected = 0.0 }\n\
                  retry = { attempts = 4, budget = 1.0, backoff = '1ms' }\n";
    let gateway = Gateway::start(&consul, config).await;
    // The budget is of the requests before.
    for _ in 0..40 {
        assert_eq!(gateway.until_status("/api/v1/web/", 200).await.text, "");
    }
    for (id, address) in [("busy", busy.address), ("resets", resets.address), ("none", nobody)] {
        consul.register("web", id, address).await;
    }
    gateway.until_usable("web", 4).await;
    for n in 0..20 {
        let body = if n % 2 == 0 { String::new() } else { format!("body {n}") };
        let method = if n % 2 == 0 { Method::GET } else { Method::PUT };
        let answer = gateway.send(method, "/api/v1/web/", &[], &body).await;
        assert_eq!((answer.status.as_u16(), &answer.text), (200, &body), "{n}");
    }
    for reason in ["connect", "reset", "status"] {
        let series = format!(r#"lictor_retry_total{{reason="{reason}",service="web"}}"#);
        assert!(gateway.metric(&series).await >= Some(1.0), "{reason}");
    }
    // What may not be sent twice meets them all, but for the one that takes no connection.
    let mut statuses = Vec::new();
    for _ in 0..8 {
        statuses.push(gateway.send(Method::POST, "/api/v1/web/", &[], "x").await.status.as_u16());
    }
    assert!(statuses.contains(&503) && statuses.contains(&200) && statuses.contains(&502), "{statuses:?}");
    let sent = good.count() + busy.count() + resets.count();
    assert!(sent >= 68, "{sent}");
}

#[tokio::test]
async fn a_route_has_timeouts_and_tries_of_its_own() {
    let busy = Origin::answering(|_| b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n".to_vec()).await;
    let hangs = Origin::serving(|mut connection| async move {
        connection.request().await;
        std::future::pending::<()>().await;
    })
    .await;
    let route = |name: &str, more: &str| {
        format!("[[routes]]\nmatch = {{ path = '/{name}' }}\nservice = '{}'\n{more}\n", name.split('-').next().unwrap())
    };
    let config = [
        format!("[services.busy]\ninstances = ['{}']\nretry = {{ backoff = '1ms', budget = 1.0 }}\n", busy.address),
        format!("[services.hangs]\ninstances = ['{}']\nretry.attempts = 1\n", hangs.address),
        "[defaults]\nbreaker = { max_ejected = 0.0 }\n".into(),
        route("busy", ""),
        route("busy-once", "retry.attempts = 1"),
        route("hangs-read", "timeout.read = '50ms'"),
        route("hangs-total", "timeout.total = '50ms'"),
    ];
    let gateway = Gateway::fixed(&config.concat()).await;
    gateway.until_ready().await;
    for (path, requests) in [("/busy", 3), ("/busy-once", 1)] {
        let before = busy.count();
        assert_eq!(gateway.get(path).await.status, 503);
        assert_eq!(busy.count() - before, requests, "{path}");
    }
    for (path, named) in [("/hangs-read", "`timeout.read`"), ("/hangs-total", "`timeout.total`")] {
        let begun = now();
        let answer = gateway.get(path).await;
        assert_eq!(answer.status, 504);
        assert!(answer.text.contains(named), "{}", answer.text);
        // The service's own would be ten seconds and thirty.
        assert!(begun.elapsed().as_secs() < 8, "{path}");
    }
}
