//! Programs of others beside the gateway: clients that call it, and services written with other libraries.

use std::{
    ffi::OsStr,
    io::ErrorKind,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStdin, Command},
    time::timeout,
};

/// What a client has printed by its end.
#[derive(Debug)]
pub struct Printed {
    pub out: String,
    pub err: String,
}

/// Runs `program` to its end.
///
/// # Panics
/// When it is missing, does not end, or fails; with what it printed.
pub async fn run<A: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = A>) -> Printed {
    let mut command = Command::new(program);
    command.args(args);
    finish(command).await
}

/// Runs a script of `tests/data/clients` with the Python packages that `make setup` fetches.
///
/// # Panics
/// As [`run`].
pub async fn python(script: &str, args: &[&str]) -> Printed {
    finish(script_of(script, args)).await
}

/// A service in Python. Ends with the test, however that ends: its input is a pipe of the test's.
pub struct PythonOrigin {
    pub address: SocketAddr,
    _child: Child,
    _input: ChildStdin,
}

impl PythonOrigin {
    /// Starts a script that prints its port once it listens.
    pub async fn start(script: &str, args: &[&str]) -> Self {
        let mut command = script_of(script, args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = spawn(&mut command);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = timeout(LIMIT, lines.next_line()).await.expect("a service that does not start").unwrap();
        let port = line.expect("a service that ends at once").parse().unwrap();
        let input = child.stdin.take().unwrap();
        Self { address: SocketAddr::from(([127, 0, 0, 1], port)), _child: child, _input: input }
    }
}

/// How long a client may take, starting it on a loaded machine included.
const LIMIT: Duration = Duration::from_mins(1);

async fn finish(mut command: Command) -> Printed {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let ended = timeout(LIMIT, spawn(&mut command).wait_with_output()).await;
    let output = ended.unwrap_or_else(|_| panic!("it does not end: {command:?}")).unwrap();
    let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(output.status.success(), "{}: {command:?}\n{out}\n{err}", output.status);
    Printed { out, err }
}

fn spawn(command: &mut Command) -> Child {
    match command.kill_on_drop(true).spawn() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            panic!(
                "no `{}`: `make setup` installs it, or says what to install",
                command.as_std().get_program().display()
            )
        }
        spawned => spawned.unwrap(),
    }
}

fn script_of(script: &str, args: &[&str]) -> Command {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let packages: PathBuf = root.join(".tools/python");
    assert!(packages.is_dir(), "no Python packages for the clients: `make setup` fetches them");
    let mut command = Command::new("python3");
    command.arg(root.join("tests/data/clients").join(script)).args(args);
    command.env("PYTHONPATH", packages).env("PYTHONDONTWRITEBYTECODE", "1");
    command
}
