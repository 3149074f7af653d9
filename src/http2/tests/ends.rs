//! What is left of streams that end early, or of which nobody takes all that came: no room, no memory, and no work.

use super::*;

#[test]
fn what_was_taken_and_never_given_back_is_given_back_with_the_stream() {
    let mut pair = Pair::new(RULES, RULES, usize::MAX);
    // Together more than the connection has room for.
    for taken in [0, 1, 100].into_iter().cycle().take(60) {
        let (asked, told) = pair.open(true);
        pair.server.0.head(told, true, false, |out| write_status(out, http::StatusCode::OK));
        let mut body = bytes(60_000);
        send(&mut pair.server.0, told, &mut body);
        assert!(body.is_empty(), "there is no room");
        pair.settle();
        for _ in 0..taken {
            let _ = pair.client.0.stream(asked).poll_data(&mut cx());
        }
        pair.client.0.let_go(asked);
        pair.server.0.let_go(told);
        pair.settle();
    }
}
