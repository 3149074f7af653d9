//! The configuration is read again: what holds is in force, what does not changes nothing.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use tokio::task::JoinSet;

use crate::support::{Gateway, Origin, until};

fn serving(origin: &Origin, path: &str) -> String {
    let address = origin.address;
    format!(
        "[services.web]\ninstances = [\"{address}\"]\n[[routes]]\nmatch = {{ path = \"{path}\" }}\nservice = \"web\"\n"
    )
}

#[tokio::test]
async fn a_changed_file_is_in_force_by_itself_and_a_bad_one_changes_nothing() {
    let (a, b) = (Origin::start("a").await, Origin::start("b").await);
    let gateway = Gateway::fixed(&serving(&a, "/one")).await;
    assert_eq!(gateway.get("/one").await.text, "a");

    gateway.configure(&serving(&b, "/two"));
    assert_eq!(gateway.until_status("/two", 200).await.text, "b");
    assert_eq!(gateway.get("/one").await.status, 404);
    assert_eq!(gateway.metric(r#"lictor_config_reload_total{outcome="success"}"#).await, Some(1.0));

    gateway.configure("[http]\nlisten_on = 1\n[services.web]\ninstances = [\"nowhere\"]\n");
    let refused = gateway.until_event("reload_refused").await;
    let cause = refused["cause"].as_str().unwrap();
    assert!(cause.contains("lictor.toml:2") && cause.contains("listen_on") && cause.contains("nowhere"), "{cause}");
    assert_eq!(gateway.get("/two").await.text, "b");
    assert_eq!(gateway.metric("lictor_config_reload_success").await, Some(0.0));

    gateway.configure(&serving(&a, "/three"));
    assert_eq!(gateway.until_status("/three", 200).await.text, "a");
    assert_eq!(gateway.metric("lictor_config_reload_success").await, Some(1.0));
}

#[tokio::test]
async fn one_that_holds_again_is_a_success_though_it_changes_nothing() {
    let origin = Origin::start("a").await;
    let gateway = Gateway::fixed(&serving(&origin, "/one")).await;
    gateway.configure("nonsense");
    gateway.until_event("reload_refused").await;
    gateway.configure(&serving(&origin, "/one"));
    gateway.until_event("reloaded").await;
    assert_eq!(gateway.metric("lictor_config_reload_success").await, Some(1.0));
}

#[tokio::test]
async fn another_file_in_the_same_folder_is_no_reason_to_read_again() {
    let origin = Origin::start("a").await;
    let gateway = Gateway::fixed(&serving(&origin, "/one")).await;
    gateway.configure("[http]\nlisten_on = 1\n");
    gateway.until_event("reload_refused").await;

    for n in 0..20 {
        std::fs::write(gateway.file("lictor.log"), n.to_string()).unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    gateway.configure(&serving(&origin, "/two"));
    gateway.until_status("/two", 200).await;

    assert_eq!(gateway.events("reload_refused").len(), 1);
}

/// Makes a link, or has it lead elsewhere at once.
fn link(to: impl AsRef<Path>, at: PathBuf) {
    let next = at.with_file_name("next");
    symlink(to, &next).unwrap();
    fs::rename(next, at).unwrap();
}

#[tokio::test]
async fn a_file_behind_a_link_to_another_folder_is_seen_to_change() {
    let (origin, elsewhere) = (Origin::start("a").await, tempfile::tempdir().unwrap());
    let gateway = Gateway::fixed(&serving(&origin, "/1")).await;
    let real = elsewhere.path().join("l.toml");
    fs::write(&real, serving(&origin, "/2")).unwrap();
    link(&real, gateway.file("lictor.toml"));
    gateway.until_status("/2", 200).await;
    // Written in place, and replaced.
    fs::write(&real, serving(&origin, "/3")).unwrap();
    gateway.until_status("/3", 200).await;
    let next = elsewhere.path().join("next");
    fs::write(&next, serving(&origin, "/4")).unwrap();
    fs::rename(next, &real).unwrap();
    gateway.until_status("/4", 200).await;
    // The whole folder goes, and another one comes in its place.
    fs::rename(elsewhere.path(), elsewhere.path().with_extension("old")).unwrap();
    fs::create_dir(elsewhere.path()).unwrap();
    fs::write(&real, serving(&origin, "/5")).unwrap();
    gateway.until_status("/5", 200).await;
    fs::write(&real, serving(&origin, "/6")).unwrap();
    gateway.until_status("/6", 200).await;
    fs::remove_dir_all(elsewhere.path().with_extension("old")).unwrap();
}

#[tokio::test]
async fn links_that_are_swapped_on_the_way_to_a_file_are_followed_again_and_again() {
    let origin = Origin::start("a").await;
    let gateway = Gateway::fixed(&serving(&origin, "/0")).await;
    let write = |file: &str, path: &str| fs::write(gateway.file(file), serving(&origin, path)).unwrap();
    let release = |folder: &str, path: &str| {
        fs::create_dir(gateway.file(folder)).unwrap();
        write(&format!("{folder}/l.toml"), path);
    };
    // As Kubernetes mounts a ConfigMap, and as a deployment by releases has it.
    for current in ["..data", "current"] {
        let path = |n: u32| format!("/{current}/{n}");
        for folder in [format!("{current}.v1"), format!("{current}.v2")] {
            release(&folder, &path(1));
        }
        link(format!("{current}.v1"), gateway.file(current));
        link(format!("{current}/l.toml"), gateway.file("lictor.toml"));
        gateway.until_status(&path(1), 200).await;
        write(&format!("{current}.v1/l.toml"), &path(2));
        gateway.until_status(&path(2), 200).await;
        // The other one holds what is in force, until it is written.
        write(&format!("{current}.v2/l.toml"), &path(2));
        link(format!("{current}.v2"), gateway.file(current));
        write(&format!("{current}.v2/l.toml"), &path(3));
        gateway.until_status(&path(3), 200).await;
        link(format!("{current}.v1"), gateway.file(current));
        gateway.until_status(&path(2), 200).await;
        write(&format!("{current}.v1/l.toml"), &path(4));
        gateway.until_status(&path(4), 200).await;
    }
    assert!(gateway.events("watch_failed").is_empty() && gateway.events("reload_refused").is_empty());
}

#[tokio::test]
async fn what_waits_for_a_restart_is_not_shown_as_in_force() {
    let origin = Origin::start("a").await;
    let gateway = Gateway::fixed(&format!("[http]\nworkers = 2\n{}", serving(&origin, "/one"))).await;
    gateway.configure(&format!("[http]\nworkers = 7\n{}", serving(&origin, "/two")));
    gateway.until_status("/two", 200).await;
    assert_eq!(gateway.admin("/api/config").await.json()["http"]["workers"], 2);
}

#[tokio::test]
async fn sighup_reloads_and_says_what_waits_for_a_restart() {
    let origin = Origin::start("a").await;
    let gateway = Gateway::fixed(&serving(&origin, "/one")).await;
    gateway.signal("HUP");
    let event = gateway.until_event("reloaded").await;
    assert!(event["cause"].as_str().unwrap().contains("SIGHUP"), "{event}");

    gateway.configure(&format!("[http]\nworkers = 7\n{}", serving(&origin, "/two")));
    gateway.until_status("/two", 200).await;
    let event = until("the event", || async { gateway.events("reloaded").get(1).cloned() }).await;
    assert!(event["cause"].as_str().unwrap().contains("http.workers"), "{event}");
}

#[tokio::test]
async fn no_sighup_is_lost_among_changes_of_files() {
    let origin = Origin::start("a").await;
    let gateway = Gateway::fixed(&serving(&origin, "/one")).await;
    let asked = || {
        let cause = |event: &&serde_json::Value| event["cause"].as_str().unwrap().starts_with("asked for by SIGHUP");
        gateway.events("reloaded").iter().filter(cause).count()
    };
    // One that changes all the time and means nothing, beside the files that do.
    let (mut noise, file) = (JoinSet::new(), gateway.file("noise"));
    noise.spawn(async move {
        for n in 0_u64.. {
            std::fs::write(&file, n.to_string()).unwrap();
            tokio::task::yield_now().await;
        }
    });
    for times in 1..=8 {
        gateway.signal("HUP");
        until(&format!("reload {times}"), || async { (asked() == times).then_some(()) }).await;
    }
    assert!(noise.try_join_next().is_none());
}

#[tokio::test]
async fn an_instance_that_stays_keeps_what_was_observed_of_it() {
    let origin = Origin::start("a").await;
    let gateway = Gateway::fixed(&serving(&origin, "/one")).await;
    gateway.get("/one").await;
    let seen = async || gateway.admin("/api/topology").await.json()["services"]["web"]["instances"][0].clone();
    let before = seen().await;

    gateway.configure(&serving(&origin, "/two"));
    gateway.until_status("/two", 200).await;

    assert_eq!(seen().await["since"], before["since"]);
    assert!(before["latency_seconds"].is_number());
}
