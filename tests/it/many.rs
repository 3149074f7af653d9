//! More services than a stock agent of Consul would allow watches: those that have none of their own share two.

use std::{net::SocketAddr, time::Duration};

use crate::support::{Consul, Gateway, Origin, PATIENCE, now, until};

/// Waits until every service has so many usable instances.
async fn until_all(gateway: &Gateway, services: usize, instances: usize) {
    until(&format!("{services} services"), || async {
        let topology = gateway.admin("/api/topology").await.json();
        let told = topology["services"].as_object()?;
        let whole = told.values().filter(|service| {
            service["instances"]
                .as_array()
                .is_some_and(|all| all.iter().filter(|i| i["usable"] == true).count() == instances)
        });
        (whole.count() == services).then_some(())
    })
    .await;
}

/// No request to Consul has failed, so no connection was refused.
async fn expect_no_errors(gateway: &Gateway) {
    assert!(gateway.metric_sum("lictor_consul_request_total", r#"outcome="error""#).await < 1.0);
    assert!(gateway.events("consul_failed").is_empty(), "{:?}", gateway.events("consul_failed"));
    let watches = gateway.metric_sum("lictor_consul_watches", "").await;
    assert!(watches <= 64.0, "{watches} blocking queries");
}

#[tokio::test]
async fn a_thousand_services_are_served_and_followed_by_a_stock_agent() {
    let consul = Consul::start().await;
    let mut origins = Vec::new();
    for name in ["a", "b", "c", "d", "e"] {
        origins.push(Origin::start(name).await);
    }
    let addresses: Vec<_> = origins.iter().map(|origin| origin.address).collect();
    consul.register_services(1000, &addresses, 1).await;
    let started = now();
    let gateway = Gateway::start(&consul, "").await;
    println!("1,000 services: ready after {:?}", started.elapsed());
    until_all(&gateway, 1000, 5).await;
    println!("1,000 services with 5,000 instances: known after {:?}", started.elapsed());
    for n in (0..1000).step_by(37) {
        assert_eq!(gateway.get(&format!("/api/v1/s{n}/")).await.status, 200, "s{n}");
    }

    // Nothing changes: hardly anything is asked.
    let before = gateway.metric_sum("lictor_consul_request_total", "").await;
    let idle = now();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let asked = gateway.metric_sum("lictor_consul_request_total", "").await - before;
    println!("idle: {:.1} requests a second to Consul", asked / idle.elapsed().as_secs_f64());
    assert!(asked <= 20.0 * idle.elapsed().as_secs_f64(), "{asked} requests in {:?}", idle.elapsed());

    // An instance leaves a service and comes again; one gets a check; a service is new, another is gone.
    for service in ["s1", "s999"] {
        consul.deregister_on("n0", &format!("{service}-0")).await;
        gateway.until_usable(service, 4).await;
        consul.register_many("n0", &[(service.to_owned(), format!("{service}-0"), addresses[0])]).await;
        gateway.until_usable(service, 5).await;
        consul.check_on("n0", &format!("{service}-1"), "critical").await;
        gateway.until_usable(service, 4).await;
        consul.check_on("n0", &format!("{service}-1"), "passing").await;
        gateway.until_usable(service, 5).await;
    }
    consul.register("new", "new-1", addresses[0]).await;
    gateway.until_status("/api/v1/new/", 200).await;
    consul.deregister("new-1").await;
    gateway.until_status("/api/v1/new/", 404).await;
    expect_no_errors(&gateway).await;
}

#[tokio::test]
async fn one_service_may_have_a_thousand_instances() {
    let consul = Consul::start().await;
    let origin = Origin::start("a").await;
    let at = |n: u16| SocketAddr::from(([127, 0, (n >> 8) as u8, (n & 255) as u8], origin.address.port()));
    let instances: Vec<_> = (1..=1000).map(|n| ("web".to_owned(), format!("web-{n}"), at(n))).collect();
    consul.register_many("n0", &instances).await;
    let gateway = Gateway::start(&consul, "").await;
    gateway.until_usable("web", 1000).await;
    consul.deregister_on("n0", "web-7").await;
    gateway.until_usable("web", 999).await;
    expect_no_errors(&gateway).await;
}

#[tokio::test]
async fn the_services_of_the_configuration_have_watches_of_their_own_first() {
    let consul = Consul::start().await;
    let origin = Origin::start("a").await;
    consul.register_services(20, &[origin.address], 1).await;
    consul.register_tagged("zebra", "z", origin.address, &[]).await;
    // Two that are shared, one for the document in the KV, and one for the service that is configured.
    let config = format!(
        "[consul]\naddress = \"{}\"\nmax_watches = 4\n[services.zebra]\n[[routes]]\nmatch.path = \"/z\"\nservice = \"zebra\"\n",
        consul.address()
    );
    let gateway = Gateway::start_unready("", &config).await;
    until_all(&gateway, 21, 1).await;
    until("four blocking queries", || async {
        (gateway.metric("lictor_consul_watches").await == Some(4.0)).then_some(())
    })
    .await;
    // A reload may allow more.
    gateway.configure(&config.replace("max_watches = 4", "max_watches = 40"));
    until("a query for each", || async { (gateway.metric("lictor_consul_watches").await == Some(23.0)).then_some(()) })
        .await;
    consul.deregister_on("n0", "s7-0").await;
    gateway.until_status("/api/v1/s7/", 404).await;
    gateway.configure(&config);
    until("four blocking queries", || async {
        (gateway.metric("lictor_consul_watches").await == Some(4.0)).then_some(())
    })
    .await;
    consul.deregister_on("n0", "s8-0").await;
    gateway.until_status("/api/v1/s8/", 404).await;
    expect_no_errors(&gateway).await;
}

#[tokio::test]
async fn a_check_of_a_node_takes_out_all_that_is_on_it() {
    let consul = Consul::start().await;
    let origin = Origin::start("a").await;
    consul.register_services(12, &[origin.address], 2).await;
    let gateway =
        Gateway::start_unready(&format!("[consul]\naddress = \"{}\"\nmax_watches = 4\n", consul.address()), "").await;
    until_all(&gateway, 12, 1).await;
    consul.check_on("n1", "", "critical").await;
    for n in 0..12 {
        gateway.until_usable(&format!("s{n}"), usize::from(n % 2 == 0)).await;
    }
    consul.check_on("n1", "", "passing").await;
    until_all(&gateway, 12, 1).await;
}

/// Of a service that nobody follows, so that each change says only that something is new, until it is dropped.
async fn others_change(consul: &Consul) {
    for turn in 0_u16.. {
        let at = SocketAddr::from(([127, 0, 0, 1], 1 + turn % 1000));
        consul.register_tagged("other", &format!("other{}", turn % 7), at, &[]).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn on_many_nodes_changes_are_found_by_one_question_whatever_others_do() {
    let consul = Consul::start().await;
    let (a, b) = (Origin::start("a").await, Origin::start("b").await);
    consul.register_services(90, &[a.address, b.address], 60).await;
    let gateway = Gateway::start(&consul, "").await;
    until_all(&gateway, 90, 2).await;
    let (before, began) = (gateway.metric_sum("lictor_consul_request_total", "").await, now());
    let changes = async {
        for n in [0, 50, 89] {
            let changed = now();
            consul.deregister_on(&format!("n{}", n % 60), &format!("s{n}-0")).await;
            gateway.until_usable(&format!("s{n}"), 1).await;
            println!("on 60 nodes, while others change: after {:?}", changed.elapsed());
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::select! {
        () = others_change(&consul) => {}
        () = changes => {}
    }
    let asked = gateway.metric_sum("lictor_consul_request_total", "").await - before;
    let rate = asked / began.elapsed().as_secs_f64();
    println!("on 60 nodes, while others change: {rate:.1} requests a second");
    assert!(rate <= 20.0, "{rate} requests a second");
    expect_no_errors(&gateway).await;
}

#[tokio::test]
async fn an_agent_that_does_not_tell_of_all_nodes_at_once_is_asked_for_each_or_for_each_service() {
    // Few nodes, and many.
    for nodes in [3, 60] {
        let consul = Consul::start_with(&[r#"-hcl=http_config { block_endpoints = ["/v1/internal"] }"#]).await;
        let (a, b) = (Origin::start("a").await, Origin::start("b").await);
        consul.register_services(90, &[a.address, b.address], nodes).await;
        let gateway = Gateway::start(&consul, "").await;
        until_all(&gateway, 90, 2).await;
        for n in [0, 50, 89] {
            let changed = now();
            consul.deregister_on(&format!("n{}", n % nodes), &format!("s{n}-0")).await;
            gateway.until_usable(&format!("s{n}"), 1).await;
            println!("on {nodes} nodes, one by one: after {:?}", changed.elapsed());
        }
        assert!(gateway.metric_sum("lictor_consul_request_total", r#"endpoint="catalog_nodes""#).await > 0.0);
        assert!(gateway.events("consul_failed").is_empty(), "{:?}", gateway.events("consul_failed"));
    }
}

#[tokio::test]
async fn the_news_of_a_consul_that_comes_back_empty_is_soon_in_force_for_all() {
    let mut consul = Consul::start().await;
    let (a, b) = (Origin::start("a").await, Origin::start("b").await);
    consul.register_services(400, &[a.address], 1).await;
    let gateway = Gateway::start(&consul, "").await;
    until_all(&gateway, 400, 1).await;
    let mut times = Vec::new();
    for (name, origin) in [("b", &b), ("a", &a), ("b", &b)] {
        let told = gateway.events("consul_failed").len();
        consul.kill().await;
        until("that it is away", || async { (gateway.events("consul_failed").len() > told).then_some(()) }).await;
        consul.restart().await;
        let back = now();
        consul.register_services(40, &[origin.address], 1).await;
        for path in ["/api/v1/s0/", "/api/v1/s39/"] {
            until("the news", || async { (gateway.get(path).await.text == name).then_some(()) }).await;
        }
        gateway.until_status("/api/v1/s40/", 404).await;
        gateway.until_status("/api/v1/s399/", 404).await;
        times.push(back.elapsed());
    }
    println!("after an empty restart: in force after {times:?}");
    assert!(times.iter().all(|time| *time < PATIENCE), "{times:?}");
}
