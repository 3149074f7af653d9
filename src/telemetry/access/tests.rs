//! What becomes of lines: written whole, in order; counted where they are not.

use std::fs;

use http::{HeaderValue, Method};

use super::{super::journey::Asked, *};

fn journey(id: &str) -> Journey {
    let asked = Asked::by("192.0.2.7".parse().unwrap(), Method::GET, &crate::model::fields::Fields::new());
    Journey::new(asked, Instant::now(), HeaderValue::try_from(id).unwrap(), HeaderValue::from_static("00-"), None)
}

fn ids(path: &std::path::Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    let id = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["request_id"].clone();
    text.lines().map(|line| id(line).as_str().unwrap().to_owned()).collect()
}

const LONG: Duration = Duration::from_secs(20);

#[tokio::test]
async fn what_was_added_is_written_before_the_log_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let log = AccessLog::new(2, &Metrics::new(2));
    log.add(0, &journey("while-off"), 200, Instant::now());
    log.set(&Place::File(path.clone()), Format::Json).unwrap();
    assert!(log.is_on());
    for n in 0..100 {
        log.add(n % 2, &journey(&n.to_string()), 200, Instant::now());
    }
    log.close(LONG).await;
    let mut written = ids(&path);
    written.sort_by_key(|id| id.parse::<u8>().unwrap());
    assert_eq!(written, (0..100).map(|n| n.to_string()).collect::<Vec<_>>());
    assert!(!log.is_on());
}

#[tokio::test]
async fn a_file_that_is_away_costs_its_lines_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (metrics, path) = (Metrics::new(1), folder.path().join("away/access.log"));
    let log = AccessLog::new(1, &metrics);
    log.set(&Place::File(path.clone()), Format::Json).unwrap();
    for _ in 0..3 {
        log.add(0, &journey("lost"), 200, Instant::now());
    }
    let begun = Instant::now();
    while metrics.access_log_dropped().get() < 3 && begun.elapsed() < LONG {
        tokio::task::yield_now().await;
    }
    fs::create_dir(folder.path().join("away")).unwrap();
    log.reopen();
    log.add(0, &journey("a"), 200, Instant::now());
    // It may have been on its way before the file was there.
    while fs::metadata(&path).is_err() && begun.elapsed() < LONG {
        tokio::task::yield_now().await;
    }
    log.add(0, &journey("b"), 200, Instant::now());
    log.close(LONG).await;
    assert_eq!(ids(&path).last().map(String::as_str), Some("b"));
    assert!((3..=4).contains(&metrics.access_log_dropped().get()));
}

#[tokio::test]
async fn a_full_disk_is_counted_and_nothing_else() {
    let metrics = Metrics::new(1);
    let log = AccessLog::new(1, &metrics);
    log.set(&Place::File("/dev/full".into()), Format::Combined).unwrap();
    log.add(0, &journey("lost"), 200, Instant::now());
    log.close(LONG).await;
    assert_eq!(metrics.access_log_dropped().get(), 1);
}

#[test]
fn what_waits_is_bounded() {
    let metrics = Metrics::new(1);
    let log = AccessLog::new(1, &metrics);
    // Without a thread that would take it.
    log.mode.store(JSON, Relaxed);
    let line = journey(&"x".repeat(128));
    for _ in 0..40_000 {
        log.add(0, &line, 200, Instant::now());
    }
    let held = log.batch(0).text.len();
    assert!((MOST..MOST + 1024).contains(&held), "{held}");
    let written = String::from_utf8(log.batch(0).text.clone()).unwrap().lines().count() as u64;
    assert_eq!(written + metrics.access_log_dropped().get(), 40_000);
}
