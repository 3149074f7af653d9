//! How long after Consul's acknowledgement a change is in force. The figures are printed; the test fails only where they
//! are ten times worse than they should be: a machine under load is no fault of the gateway's.

use std::time::Duration;

use crate::support::{Consul, Gateway, Origin, PATIENCE, now};

#[tokio::test]
async fn news_is_in_force_within_milliseconds() {
    let consul = Consul::start().await;
    let (a, b) = (Origin::start("a").await, Origin::start("b").await);
    let gateway = Gateway::start(&consul, "[defaults]\nbalance = \"round_robin\"\n").await;
    let (mut coming, mut leaving) = (Vec::new(), Vec::new());
    // In turns: a service that is there for the first time, and an instance of one that is known.
    for round in 0..40 {
        let path = format!("/api/v1/s{}/", round % 20);
        let name = format!("s{}", round % 20);
        consul.register(&name, "a", a.address).await;
        let acknowledged = now();
        at_once(async || gateway.get(&path).await.status == 200).await;
        coming.push(acknowledged.elapsed());

        consul.register(&name, "b", b.address).await;
        gateway.until_usable(&name, 2).await;
        consul.deregister("b").await;
        let acknowledged = now();
        // Both had their turns before, so two answers in a row from one say that the other is gone.
        at_once(async || [gateway.get(&path).await.text, gateway.get(&path).await.text] == ["a", "a"]).await;
        leaving.push(acknowledged.elapsed());
        consul.deregister("a").await;
        at_once(async || gateway.get(&path).await.status == 404).await;
        // Changes without end would measure how often Consul may be asked, not how soon it is heard.
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    for (what, mut times) in [("coming", coming), ("leaving", leaving)] {
        times.sort();
        let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
        println!("news {what}: median {median:?}, worst of {} {worst:?}", times.len());
        assert!(median <= Duration::from_millis(40), "{what}: median {median:?}");
        assert!(worst <= Duration::from_millis(250), "{what}: worst {worst:?}");
    }
}

/// Asks again and again without a pause, which would be in the figures.
async fn at_once(mut check: impl AsyncFnMut() -> bool) {
    let started = now();
    while !check().await {
        assert!(started.elapsed() < PATIENCE, "waited in vain");
    }
}
