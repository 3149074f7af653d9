//! A standard error that takes nothing any more, as a pipe whose reader hangs: nothing waits for it.

use http::StatusCode;

use super::drain::{before, busy};
use crate::support::{Gateway, Origin, client, until};

/// Has more told than a pipe holds, and leaves it unread.
async fn fill(gateway: &Gateway, origin: &Origin) {
    gateway.read_log(false);
    let client = client();
    for n in 0..600 {
        let turn = if n % 2 == 0 { "drain" } else { "restore" };
        let url = format!("http://{}/api/services/web/instances/{}/{turn}", gateway.admin, origin.address);
        assert_eq!(client.post(url).send().await.unwrap().status(), StatusCode::OK, "{n}");
    }
}

#[tokio::test]
async fn with_a_standard_error_that_takes_nothing_all_is_served_and_the_first_signal_drains() {
    let origin = Origin::start("a").await;
    let mut gateway = before(&origin, "").await;
    fill(&gateway, &origin).await;
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(gateway.admin(path).await.status, StatusCode::OK, "{path}");
    }
    assert_eq!(gateway.get("/").await.text, "a");
    assert_eq!(gateway.metric("lictor_log_dropped_total").await, Some(0.0), "it waits in memory");

    gateway.signal("TERM");
    assert_eq!(gateway.ended().await.code(), Some(0));
}

#[tokio::test]
async fn with_a_standard_error_that_takes_nothing_a_second_signal_still_ends_it_at_once() {
    let (mut gateway, origin, _busy) = busy().await;
    fill(&gateway, &origin).await;

    gateway.signal("TERM");
    until("not ready", || async { (gateway.admin("/readyz").await.status == 503).then_some(()) }).await;
    gateway.signal("TERM");
    gateway.ended().await;
}

#[tokio::test]
async fn the_log_is_written_to_its_last_line() {
    let origin = Origin::start("a").await;
    let mut gateway = before(&origin, "").await;
    fill(&gateway, &origin).await;
    gateway.read_log(true);
    gateway.signal("TERM");
    assert_eq!(gateway.ended().await.code(), Some(0));
    until("the last line", || async { (gateway.log().last()?["message"] == "drained").then_some(()) }).await;
    assert_eq!(gateway.events("instance_restored").len(), 300);
}
