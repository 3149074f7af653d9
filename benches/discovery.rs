//! Prints what it takes to follow 1,010 services with 5,010 instances of a stock agent: time, requests, memory, and how late
//! news is. Not a benchmark in the sense of criterion: it runs once, for some minutes.

#![expect(dead_code, unused_imports, reason = "what else the tests stand on")]
#![expect(clippy::expect_used, clippy::unwrap_used, reason = "a bench that cannot go on ends")]
#![expect(clippy::print_stdout, reason = "figures are for people to read")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::{net::SocketAddr, time::Duration};

use support::{Consul, FakeConsul, Fault, Gateway, Origin, now};

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

    // Not while it settles, nor while anybody asks it for figures.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (used, began) = (cpu_ticks(gateway.pid()), now());
    tokio::time::sleep(Duration::from_secs(30)).await;
    let (used, took) = (cpu_ticks(gateway.pid()) - used, began.elapsed());
    let share = f64::from(u32::try_from(used).unwrap()) / TICKS / took.as_secs_f64();
    println!("idle: {:.2} % of a core ({used} ticks of 10 ms in {took:.1?}); at most 3 %", 100.0 * share);
    println!("idle: {:.1} requests a second to Consul; at most 20", rate(&gateway, 20).await);
    let memory = gateway.metric("process_resident_memory_bytes").await.unwrap();
    println!("memory: {:.1} MiB resident", memory / f64::from(1 << 20));

    news(&consul, &gateway, &single).await;
    churn(&consul, &gateway).await;

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
    drop(gateway);
    faults(at).await;
}

/// How late news of instances and of checks is.
async fn news(consul: &Consul, gateway: &Gateway, single: &[(String, String, SocketAddr)]) {
    let (mut instances, mut checks) = (Vec::new(), Vec::new());
    for (_, id, at) in single.iter().cycle().take(30) {
        let path = format!("/api/v1/{id}/");
        let until_status = async |status: u16, times: &mut Vec<Duration>| {
            let acknowledged = now();
            gateway.until_status(&path, status).await;
            times.push(acknowledged.elapsed());
            tokio::time::sleep(Duration::from_millis(400)).await;
        };
        consul.deregister_on("n0", id).await;
        until_status(404, &mut instances).await;
        consul.register_many("n0", &[(id.clone(), id.clone(), *at)]).await;
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
}

/// What is asked while others change.
async fn churn(consul: &Consul, gateway: &Gateway) {
    for nodes in [1, 60] {
        // Of services that nobody follows, so each change says only that something is new.
        for node in 0..nodes {
            consul.register_many(&format!("other{node}"), &[]).await;
        }
        let churn = async {
            for turn in 0_u16.. {
                let elsewhere = SocketAddr::from(([127, 0, 0, 1], 1 + turn % 1000));
                consul.register_tagged("churn", &format!("churn{}", turn % 7), elsewhere, &[]).await;
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        let asked = tokio::select! {
            () = churn => unreachable!("it goes on and on"),
            asked = rate(gateway, 30) => asked,
        };
        println!("others change, with {nodes} nodes more: {asked:.1} requests a second to Consul; at most 20");
    }
}

/// What is asked under each fault that a real agent cannot be made to have.
async fn faults(at: SocketAddr) {
    for fault in [
        Fault::Status(403, "Permission denied"),
        Fault::Status(429, "slow down"),
        Fault::Status(500, "No cluster leader"),
        Fault::NoIndex,
        Fault::BadIndex,
        Fault::Html,
        Fault::Null,
        Fault::HalfBody,
        Fault::Rising,
        Fault::Silence,
    ] {
        let consul = FakeConsul::start(7, &[("a", at)]).await;
        // With a query for each, and with shared ones.
        for more in ["", "max_watches = 2\n"] {
            let section = format!("[consul]\naddress = \"{}\"\n{more}", consul.address());
            let gateway = Gateway::start_unready(&section, "").await;
            gateway.until_ready().await;
            gateway.until_status("/api/v1/web/", 200).await;
            consul.fault(fault);
            let (before, began) = (consul.count(), now());
            tokio::time::sleep(Duration::from_secs(5)).await;
            let asked = f64::from(u32::try_from(consul.count() - before).unwrap());
            let shares = if more.is_empty() { "" } else { ", shared queries" };
            println!(
                "{fault:?}{shares}: {:.1} requests a second to Consul; at most 5",
                asked / began.elapsed().as_secs_f64()
            );
            consul.fault(Fault::None);
        }
    }
}

/// What a process has used of the processor, as the system counts it.
fn cpu_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The name of the program may have blanks in it, and ends with the last bracket.
    let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let [user, system] = [11, 12].map(|field: usize| fields[field].parse::<u64>().unwrap());
    user + system
}

/// In a second, as Linux has it for programs whatever its own clock does.
const TICKS: f64 = 100.0;

/// How many requests a second Consul gets.
async fn rate(gateway: &Gateway, seconds: u64) -> f64 {
    let before = gateway.metric_sum("lictor_consul_request_total", "").await;
    let began = now();
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let asked = gateway.metric_sum("lictor_consul_request_total", "").await - before;
    asked / began.elapsed().as_secs_f64()
}
