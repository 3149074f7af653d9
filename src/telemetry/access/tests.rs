//! What becomes of lines: written whole, in order; counted where they are not.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Read},
    process::Command,
    sync::mpsc,
};

use http::{HeaderValue, Method, StatusCode};
use tokio::time::Instant;

use super::{
    super::{journey::Asked, lines::count},
    *,
};
use crate::model::fields::Fields;

fn journey(format: Format, id: &str) -> Journey {
    let (fields, id) = (Fields::new(), HeaderValue::try_from(id).unwrap());
    let asked = Asked::by("192.0.2.7".parse().unwrap(), &Method::GET, &fields, &id);
    Journey::new(&asked, Instant::now(), Some(format), None)
}

fn ended() -> Ending {
    Ending { status: StatusCode::OK, at: Instant::now(), took: Duration::ZERO, received: 0 }
}

/// What a worker does that has nothing else to do.
fn tell(log: &AccessLog, worker: usize, journey: &Journey) {
    log.add(worker, journey, ended());
    log.pass_on(worker);
}

/// Until the writer sleeps, and will until it is told.
async fn asleep(log: &AccessLog) {
    let begun = Instant::now();
    while log.due.load(Relaxed) != NOTHING && begun.elapsed() < LONG {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(log.due.load(Relaxed), NOTHING);
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
    tell(&log, 0, &journey(Format::Json, "while-off"));
    log.set(&Place::File(path.clone()), Format::Json).unwrap();
    assert!(log.format().is_some());
    for n in 0..100 {
        tell(&log, n % 2, &journey(Format::Json, &n.to_string()));
    }
    log.close(LONG).await;
    let mut written = ids(&path);
    written.sort_by_key(|id| id.parse::<u8>().unwrap());
    assert_eq!(written, (0..100).map(|n| n.to_string()).collect::<Vec<_>>());
    assert!(log.format().is_none());
}

#[tokio::test]
async fn a_file_that_is_away_costs_its_lines_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (metrics, path) = (Metrics::new(1), folder.path().join("away/access.log"));
    let log = AccessLog::new(1, &metrics);
    log.set(&Place::File(path.clone()), Format::Json).unwrap();
    for _ in 0..3 {
        tell(&log, 0, &journey(Format::Json, "lost"));
    }
    let begun = Instant::now();
    while metrics.access_log_dropped().get() < 3 && begun.elapsed() < LONG {
        tokio::task::yield_now().await;
    }
    fs::create_dir(folder.path().join("away")).unwrap();
    log.reopen();
    tell(&log, 0, &journey(Format::Json, "a"));
    // It may have been on its way before the file was there.
    while fs::metadata(&path).is_err() && begun.elapsed() < LONG {
        tokio::task::yield_now().await;
    }
    tell(&log, 0, &journey(Format::Json, "b"));
    log.close(LONG).await;
    assert_eq!(ids(&path).last().map(String::as_str), Some("b"));
    assert!((3..=4).contains(&metrics.access_log_dropped().get()));
}

#[tokio::test]
async fn a_full_disk_is_counted_and_nothing_else() {
    let metrics = Metrics::new(1);
    let log = AccessLog::new(1, &metrics);
    log.set(&Place::File("/dev/full".into()), Format::Combined).unwrap();
    tell(&log, 0, &journey(Format::Json, "lost"));
    log.close(LONG).await;
    assert_eq!(metrics.access_log_dropped().get(), 1);
}

#[test]
fn what_waits_is_bounded() {
    let metrics = Metrics::new(1);
    let log = AccessLog::new(1, &metrics);
    // Without a thread that would take it.
    log.mode.store(JSON, Relaxed);
    let id = "x".repeat(128);
    for _ in 0..40_000 {
        log.add(0, &journey(Format::Json, &id), ended());
    }
    log.pass_on(0);
    let held = log.batch(0).len();
    assert!((MOST..MOST + near::MOST + 1024).contains(&held), "{held}");
    let written = count(&log.batch(0));
    assert_eq!(written + metrics.access_log_dropped().get(), 40_000);
}

#[tokio::test]
async fn what_comes_after_a_while_is_written_too_and_much_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let log = AccessLog::new(2, &Metrics::new(2));
    log.set(&Place::File(path.clone()), Format::Json).unwrap();
    let (id, mut told) = ("x".repeat(128), 0);
    // One alone, much more than is many, and few on both, each once all before has been written.
    for (worker, lines) in [(0, 1), (1, 8 * PART / 256), (0, 1), (0, 3), (1, 3)] {
        for _ in 0..lines {
            tell(&log, worker, &journey(Format::Json, &id));
        }
        told += lines;
        let begun = Instant::now();
        while fs::read_to_string(&path).unwrap_or_default().lines().count() < told && begun.elapsed() < LONG {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(ids(&path).len(), told);
    }
    asleep(&log).await;
    log.close(LONG).await;
}

#[tokio::test]
async fn what_one_worker_adds_while_lines_of_another_are_written_is_not_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    let log = AccessLog::new(2, &Metrics::new(2));
    log.set(&Place::File(path.clone()), Format::Json).unwrap();
    let (id, lines) = ("x".repeat(128), PART / 1024);
    let (to, told) = mpsc::channel();
    let late = log.clone();
    thread::spawn(move || {
        let mut pipe = BufReader::new(File::open(path).unwrap());
        to.send(pipe.by_ref().lines().next().unwrap().unwrap()).unwrap();
        // The writer has been at the first worker's, and waits for who reads.
        pipe.fill_buf().unwrap();
        tell(&late, 0, &journey(Format::Json, "late"));
        pipe.lines().map_while(Result::ok).try_for_each(|line| to.send(line))
    });
    // It sleeps first, and nothing has it wake but lines.
    tell(&log, 1, &journey(Format::Json, "first"));
    assert!(told.recv_timeout(LONG).unwrap().contains("first"));
    asleep(&log).await;
    for _ in 0..lines {
        tell(&log, 1, &journey(Format::Json, &id)); // more than a pipe holds, and not many
    }
    let came: Vec<_> = (0..=lines).map(|_| told.recv_timeout(LONG).unwrap()).collect();
    assert_eq!(came.iter().filter(|line| line.contains("late")).count(), 1);
    log.close(LONG).await;
}

#[test]
fn the_writer_is_told_once_of_the_first_line_and_once_of_many() {
    let log = AccessLog::new(1, &Metrics::new(1));
    log.mode.store(JSON, Relaxed);
    assert_eq!(log.due.load(Relaxed), NOTHING);
    let (id, mut seen) = ("x".repeat(128), vec![NOTHING]);
    while log.batch(0).len() < PART + near::MOST {
        tell(&log, 0, &journey(Format::Json, &id));
        let (held, due) = (log.batch(0).len(), log.due.load(Relaxed));
        assert_eq!(due, if held < PART { SOON } else { NOW }, "{held}");
        seen.push(due);
    }
    seen.dedup();
    assert_eq!(seen, [NOTHING, SOON, NOW]);
}

#[tokio::test]
async fn a_line_has_the_form_that_was_set_when_its_request_came() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let log = AccessLog::new(1, &Metrics::new(1));
    log.set(&Place::File(path.clone()), Format::Json).unwrap();
    let before = journey(log.format().unwrap(), "a");
    log.set(&Place::File(path.clone()), Format::Combined).unwrap();
    let after = journey(log.format().unwrap(), "b");
    tell(&log, 0, &before);
    tell(&log, 0, &after);
    log.close(LONG).await;
    let written = fs::read_to_string(&path).unwrap();
    let lines: Vec<_> = written.lines().collect();
    assert!(matches!(lines[..], [json, combined] if json.starts_with('{') && combined.starts_with("192.0.2.7 - - [")));
}
