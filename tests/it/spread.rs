//! How many connections each worker has: seen from outside, by what its event loop listens to.

use std::{collections::BTreeSet, fs, net::SocketAddr};

use crate::support::{Caller, Gateway, Origin, until};

/// The connections of clients, by event loop.
fn by_worker(pid: u32, gateway: SocketAddr) -> Vec<usize> {
    // The kernel's table has addresses in hexadecimal; 01 is an established connection.
    let local = format!(":{:04X}", gateway.port());
    let table = fs::read_to_string(format!("/proc/{pid}/net/tcp")).unwrap();
    let of_clients: BTreeSet<u64> = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|columns| columns.len() > 9 && columns[1].ends_with(&local) && columns[3] == "01")
        .map(|columns| columns[9].parse().unwrap())
        .collect();
    let mut loops = BTreeSet::new();
    for file in fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap() {
        let Ok(text) = fs::read_to_string(file.unwrap().path()) else { continue };
        let watched = text.lines().filter(|line| line.starts_with("tfd:")).filter_map(|line| {
            let inode = line.split("ino:").nth(1)?.split_whitespace().next()?;
            u64::from_str_radix(inode, 16).ok()
        });
        // An event loop may be open under several numbers.
        let watched: BTreeSet<u64> = watched.filter(|inode| of_clients.contains(inode)).collect();
        if !watched.is_empty() {
            loops.insert(watched);
        }
    }
    loops.iter().map(BTreeSet::len).collect()
}

#[tokio::test]
async fn the_busiest_of_two_workers_has_at_most_half_more_connections_than_the_other() {
    let origin = Origin::start("web").await;
    let route = "[[routes]]\nmatch = { path = \"/{*rest}\" }\nservice = \"web\"\n";
    let web = format!("[http]\nworkers = 2\n[services.web]\ninstances = [\"{}\"]\n{route}", origin.address);
    let gateway = Gateway::fixed(&web).await;
    gateway.until_ready().await;
    let series = format!("lictor_connections{{listener=\"{}\"}}", gateway.address);

    for connections in [8, 64, 8] {
        let mut callers = Vec::new();
        for _ in 0..connections {
            callers.push(Caller::connect(gateway.address).await.unwrap());
        }
        for caller in &mut callers {
            assert_eq!(caller.ask("GET", "/", "").await.unwrap().body, "web");
        }
        let spread = by_worker(gateway.pid(), gateway.address);
        println!("{connections} connections: {spread:?}");
        assert_eq!((spread.len(), spread.iter().sum()), (2, connections), "{spread:?}");
        let (most, least) = (spread.iter().max().unwrap(), spread.iter().min().unwrap());
        assert!(2 * most <= 3 * least, "{spread:?}");

        // What has ended is not in the way of what comes.
        drop(callers);
        until("no connection", || async { (gateway.metric(&series).await == Some(0.0)).then_some(()) }).await;
    }
}
