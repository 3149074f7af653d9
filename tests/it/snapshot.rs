//! The last known topology on disk: a start without Consul serves from it, and nothing that lies there does harm.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::support::{Consul, Gateway, Origin, now, until};

const USERS: &str = "[services.users]\n[[routes]]\nmatch.path = \"/users\"\nservice = \"users\"\n";

async fn start(consul: &Consul, snapshot: &Path) -> Gateway {
    let section = format!("[consul]\naddress = \"{}\"\nsnapshot = \"{}\"\n", consul.address(), snapshot.display());
    Gateway::start_unready(&section, USERS).await
}

async fn end(mut gateway: Gateway) {
    gateway.signal("TERM");
    assert!(gateway.ended().await.success());
}

async fn until_written(file: &Path, words: &[&str]) {
    until(&format!("{words:?} in the snapshot"), || async {
        let text = fs::read_to_string(file).ok()?;
        words.iter().all(|word| text.contains(word)).then_some(())
    })
    .await;
}

fn place() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("topology.json");
    (folder, file)
}

#[tokio::test]
async fn a_start_without_consul_serves_what_was_known_and_takes_news_when_it_comes() {
    let mut consul = Consul::start().await;
    let (a, b, c) = (Origin::start("a").await, Origin::start("b").await, Origin::start("c").await);
    consul.register("web", "a", a.address).await;
    consul.register("gone", "b", b.address).await;
    consul.register_tagged("users", "u", b.address, &[]).await;
    let (_folder, file) = place();
    let first = start(&consul, &file).await;
    first.until_ready().await;
    assert_eq!(first.admin("/readyz").await.text, "ready\n");
    // It need not end for that.
    until_written(&file, &["\"web\"", "\"gone\"", "\"u\""]).await;
    end(first).await;
    let ended = now();
    consul.kill().await;

    let gateway = start(&consul, &file).await;
    gateway.until_ready().await;
    let ready = gateway.admin("/readyz").await.text;
    assert!(ready.starts_with("ready, by the snapshot of 20"), "{ready}");
    let restored = gateway.until_event("snapshot_restored").await;
    assert!(restored["cause"].as_str().unwrap().contains("3 services with 3 instances"), "{restored}");
    for (path, text) in [("/api/v1/web/", "a"), ("/api/v1/gone/", "b"), ("/users", "b")] {
        assert_eq!(gateway.get(path).await.text, text, "{path}");
    }
    let least = ended.elapsed().as_secs_f64();
    let topology = gateway.admin("/api/topology").await.json();
    assert_eq!(topology["source"], "snapshot");
    assert!(topology["age_seconds"].as_f64().unwrap() + 0.01 >= least, "{least} {topology}");
    let age = gateway.metric("lictor_topology_age_seconds").await.unwrap();
    assert!(age + 0.01 >= least, "{least} {age}");

    consul.restart().await;
    consul.register("web", "c", c.address).await;
    until("news of web", || async { (gateway.get("/api/v1/web/").await.text == "c").then_some(()) }).await;
    gateway.until_status("/api/v1/gone/", 404).await;
    gateway.until_status("/users", 503).await;
    gateway.until_event("snapshot_superseded").await;
    until("Consul as the source", || async {
        (gateway.admin("/api/topology").await.json()["source"] == "consul").then_some(())
    })
    .await;
    assert_eq!(gateway.admin("/readyz").await.text, "ready\n");
    until("the file without what is gone", || async {
        let text = fs::read_to_string(&file).unwrap();
        (!text.contains("\"gone\"")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_file_that_is_damaged_or_of_another_version_is_told_once_and_written_anew() {
    let consul = Consul::start().await;
    let a = Origin::start("a").await;
    consul.register("web", "a", a.address).await;
    let (_folder, file) = place();
    for (text, why) in [
        ("", "ends too early"),
        ("{\"lictor_topology\":1,\"at\":\"2026-01-01T00:00:00.000Z\",\"bytes\":2,\"crc32\":0}\n{}\n", "checksum"),
        ("{\"lictor_topology\":77,\"whatever\":[]}\n", "version 77"),
    ] {
        fs::write(&file, text).unwrap();
        let gateway = start(&consul, &file).await;
        let refused = gateway.until_event("snapshot_refused").await;
        assert!(refused["cause"].as_str().unwrap().contains(why), "{refused}");
        gateway.until_status("/api/v1/web/", 200).await;
        until_written(&file, &["\"web\"", "{\"lictor_topology\":1,"]).await;
        assert_eq!(gateway.events("snapshot_refused").len(), 1);
        end(gateway).await;
    }
}

#[tokio::test]
async fn a_file_that_is_something_else_is_told_once_and_never_touched() {
    let consul = Consul::start().await;
    let a = Origin::start("a").await;
    consul.register("web", "a", a.address).await;
    let (folder, file) = place();
    fs::write(&file, "mine\n").unwrap();
    let gateway = start(&consul, &file).await;
    gateway.until_status("/api/v1/web/", 200).await;
    gateway.until_ready().await;
    assert_eq!(gateway.events("snapshot_refused").len(), 1);
    end(gateway).await;
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine\n");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn a_file_that_cannot_be_written_is_told_once_and_harms_nothing() {
    let consul = Consul::start().await;
    let a = Origin::start("a").await;
    consul.register("web", "a", a.address).await;
    let gateway = start(&consul, Path::new("/nowhere/topology.json")).await;
    gateway.until_status("/api/v1/web/", 200).await;
    gateway.until_event("snapshot_failed").await;
    consul.register("shop", "s", a.address).await;
    gateway.until_status("/api/v1/shop/", 200).await;
    // The end tries once more.
    let log = |gateway: &Gateway| gateway.events("snapshot_failed").len();
    assert_eq!(log(&gateway), 1);
    gateway.signal("TERM");
    gateway.until_event("draining").await;
    let mut gateway = gateway;
    assert!(gateway.ended().await.success());
    assert_eq!(log(&gateway), 1);
}

#[tokio::test]
async fn a_change_that_does_not_reach_the_file_in_time_is_in_it_at_the_end() {
    let consul = Consul::start().await;
    let a = Origin::start("a").await;
    let (_folder, file) = place();
    let gateway = start(&consul, &file).await;
    gateway.until_ready().await;
    consul.register("late", "l", a.address).await;
    gateway.until_status("/api/v1/late/", 200).await;
    end(gateway).await;
    assert!(fs::read_to_string(&file).unwrap().contains("\"late\""));
}
