//! Prints what it takes to follow 1,010 services with 5,010 instances of a stock agent: time, requests, memory, and how late
//! news is. Not a benchmark in the sense of criterion: it runs once, for a minute or two.

#![expect(dead_code, unused_imports, reason = "what else the tests stand on")]
#![expect(clippy::expect_used, clippy::unwrap_used, reason = "a bench that cannot go on ends")]
#![expect(clippy::print_stdout, reason = "figures are for people to read")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::Duration;

use support::{Consul, Gateway, Origin, now};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut consul = Consul::start().await;
    let mut origins = Vec::new();
    for name in ["a", "b", "c", "d", "e"] {
        origins.push(Origin::start(name).await);
    }
    let addresses: Vec<_> = origins.iter().map(|origin| origin.address).collect();
    let at = addresses[0];
    consul.register_services(1000, &addresses, 1).await;
    let single: Vec<_> = (0..10).map(|n| (format!("z{n}"), format!("z{n}"), at)).collect();
    consul.register_many("n0", &single).await;
    let started = now();
    let gateway = Gateway::start(&consul, "").await;
    println!("topology: 1,010 services with 5,010 instances are known after {:?}", started.elapsed());

    let (used, idle) = (gateway.metric("process_cpu_seconds_total").await.unwrap(), now());
    println!("idle: {:.1} requests a second to Consul", rate(&gateway, 20).await);
    let used = gateway.metric("process_cpu_seconds_total").await.unwrap() - used;
    println!("idle: {:.2} % of a core", 100.0 * used / idle.elapsed().as_secs_f64());
    let memory = gateway.metric("process_resident_memory_bytes").await.unwrap();
    println!("memory: {:.1} MiB resident", memory / f64::from(1 << 20));

    let (mut instances, mut checks) = (Vec::new(), Vec::new());
    for (_, id, _) in single.iter().cycle().take(30) {
        let path = format!("/api/v1/{id}/");
        let until_status = async |status: u16, times: &mut Vec<Duration>| {
            let acknowledged = now();
            gateway.until_status(&path, status).await;
            times.push(acknowledged.elapsed());
            tokio::time::sleep(Duration::from_millis(400)).await;
        };
        consul.deregister_on("n0", id).await;
        until_status(404, &mut instances).await;
        consul.register_many("n0", &[(id.clone(), id.clone(), at)]).await;
        until_status(200, &mut instances).await;
        consul.check_on("n0", id, "critical").await;
        until_status(503, &mut checks).await;
        consul.check_on("n0", id, "passing").await;
        until_status(200, &mut checks).await;
    }
    for (what, mut times) in [("instances", instances), ("checks", checks)] {
        times.sort();
        println!(
            "news of {what}: p50 {:?}, worst of {} {:?}",
            times[times.len() / 2],
            times.len(),
            times[times.len() - 1]
        );
    }

    consul.stop();
    println!("hung: {:.1} requests a second to Consul", rate(&gateway, 10).await);
    consul.resume();
    consul.kill().await;
    gateway.until_event("consul_failed").await;
    println!("gone: {:.1} requests a second to Consul", rate(&gateway, 10).await);
    consul.restart().await;
    consul.register_many("n0", &single).await;
    let back = now();
    gateway.until_status("/api/v1/z9/", 200).await;
    gateway.until_status("/api/v1/s9/", 404).await;
    println!("return: in force after {:?}", back.elapsed());
    let memory = gateway.metric("process_resident_memory_bytes").await.unwrap();
    println!("memory: {:.1} MiB resident at the end", memory / f64::from(1 << 20));
}

/// How many requests a second Consul gets.
async fn rate(gateway: &Gateway, seconds: u64) -> f64 {
    let before = gateway.metric_sum("lictor_consul_request_total", "").await;
    let began = now();
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let asked = gateway.metric_sum("lictor_consul_request_total", "").await - before;
    asked / began.elapsed().as_secs_f64()
}
