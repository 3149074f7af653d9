//! The unit, and what systemd is told by a gateway that it has started.

use std::{path::Path, process::Stdio};

use tokio::{net::UnixDatagram, process::Command, time::timeout};

use crate::support::{PATIENCE, program, signal};

/// The next message to systemd that says this.
async fn until_told(socket: &UnixDatagram, what: &str) -> String {
    let mut buffer = [0; 4096];
    loop {
        let read = timeout(PATIENCE, socket.recv(&mut buffer)).await.unwrap_or_else(|_| panic!("waited for {what}"));
        let text = String::from_utf8(buffer[..read.unwrap()].to_vec()).unwrap();
        if text.lines().any(|line| line == what) {
            return text;
        }
    }
}

#[tokio::test]
async fn systemd_is_told_of_the_start_reloads_and_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
    let file = folder.path().join("lictor.toml");
    let config = "[consul]\naddress = \"\"\n[http]\nlisten = \"127.0.0.1:0\"\ndrain = \"5s\"\n[admin]\nlisten = \"\"\n";
    std::fs::write(&file, config).unwrap();
    let mut gateway = Command::new(program())
        .current_dir(folder.path())
        .env_clear()
        .env("NOTIFY_SOCKET", folder.path().join("notify"))
        .env("WATCHDOG_USEC", "200000")
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let pid = gateway.id().unwrap();
    until_told(&socket, "READY=1").await;
    until_told(&socket, "WATCHDOG=1").await;
    until_told(&socket, "WATCHDOG=1").await;

    signal(pid, "HUP");
    let told = until_told(&socket, "RELOADING=1").await;
    let clock = told.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC=")).expect(&told);
    assert!(clock.parse::<u64>().unwrap() > 0, "{told}");
    until_told(&socket, "READY=1").await;

    // One that does not hold leaves it ready too, and is told.
    std::fs::write(&file, format!("{config}[nonsense]\n")).unwrap();
    let told = until_told(&socket, "READY=1").await;
    assert!(told.contains("does not hold"), "{told}");

    signal(pid, "TERM");
    let told = until_told(&socket, "STOPPING=1").await;
    assert!(told.contains("EXTEND_TIMEOUT_USEC=20000000"), "{told}");
    assert_eq!(timeout(PATIENCE, gateway.wait()).await.unwrap().unwrap().code(), Some(0));
}

#[tokio::test]
async fn it_is_not_started_for_systemd_before_it_is_ready() {
    let folder = tempfile::tempdir().unwrap();
    let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
    // Nobody is there, so the first topology is not known.
    let config =
        "[consul]\naddress = \"http://127.0.0.1:1\"\n[http]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"\"\n";
    std::fs::write(folder.path().join("lictor.toml"), config).unwrap();
    let _gateway = Command::new(program())
        .current_dir(folder.path())
        .env_clear()
        .env("NOTIFY_SOCKET", folder.path().join("notify"))
        .env("WATCHDOG_USEC", "100000")
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut buffer = [0; 4096];
    for _ in 0..5 {
        let read = timeout(PATIENCE, socket.recv(&mut buffer)).await.unwrap().unwrap();
        assert_eq!(&buffer[..read], b"WATCHDOG=1\n");
    }
}

#[test]
fn systemd_takes_the_unit_as_it_is_and_finds_it_hardened() {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/lictor.service");
    let folder = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(unit).unwrap();
    // Where the state and a file of the access log have their place, `ProtectSystem=strict` taking all others.
    for line in ["ExecStart=/usr/bin/lictor run", "StateDirectory=lictor", "LogsDirectory=lictor"] {
        assert!(text.lines().any(|one| one == line), "{line}: {text}");
    }
    // It is judged as if it were installed.
    let placed = folder.path().join("lictor.service");
    std::fs::write(&placed, text.replace("/usr/bin/lictor", &program().display().to_string())).unwrap();
    let analyze = |args: &[&str]| {
        let output = std::process::Command::new("systemd-analyze").args(args).arg(&placed).output();
        let output = output.expect("systemd-analyze, of Debian's systemd: `make setup` sees to it");
        let told = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&told).into_owned())
    };
    assert_eq!(analyze(&["verify"]), (true, String::new()));
    let (well, told) = analyze(&["security", "--offline=true", "--threshold=20"]);
    assert!(well, "{told}");
}
