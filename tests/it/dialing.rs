//! A new connection that several requests wait for: each for as long as it may itself, and none ends it for the others.

use std::net::SocketAddr;

use h2::server;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

use crate::support::{Caller, Gateway, Streams, streams::Stream, tls_origin::Authority, until};

/// Takes connections at once, and lets through what comes on them once it is told to. Ends with the test.
struct Gate {
    address: SocketAddr,
    go: watch::Sender<bool>,
    came: watch::Receiver<usize>,
    _serving: JoinSet<()>,
}

impl Gate {
    async fn before(behind: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (go, going) = watch::channel(false);
        let (coming, came) = watch::channel(0);
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut client, _)) = listener.accept().await {
                coming.send_modify(|came| *came += 1);
                let mut going = going.clone();
                connections.spawn(async move {
                    going.wait_for(|go| *go).await.unwrap();
                    let mut server = TcpStream::connect(behind).await.unwrap();
                    let _ = copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        Self { address, go, came, _serving: serving }
    }

    fn came(&self) -> usize {
        *self.came.borrow()
    }
}

fn config(lines: &str, gate: &Gate) -> String {
    format!(
        "[http]\nworkers = 1\n[services.web]\ninstances = ['{}']\ntimeout.connect = '60s'\nretry.attempts = 1\n{lines}\n\
         [[routes]]\nmatch.path = '/hasty'\nservice = 'web'\ntimeout.connect = '2s'\n\
         [[routes]]\nmatch.path = '/patient'\nservice = 'web'\n",
        gate.address
    )
}

#[tokio::test]
async fn who_has_no_time_for_a_new_connection_gives_up_alone_and_the_others_get_it() {
    let authority = Authority::new();
    let tls = authority.server(&["127.0.0.1"], &["h2"]);
    for (lines, tls) in [("protocol = 'h2c'".to_owned(), None), (authority.trusted("grpcs", "127.0.0.1"), Some(tls))] {
        let origin =
            Streams::start(server::Builder::new(), tls, |stream: Stream| async move { stream.answer("a") }).await;
        let gate = Gate::before(origin.address).await;
        let gateway = Gateway::fixed(&config(&lines, &gate)).await;
        gateway.until_ready().await;

        // The first one makes it, and has the least time for it; more wait for the same one.
        let asking = async |path: &'static str, count: usize| {
            let mut asking = JoinSet::new();
            for _ in 0..count {
                let mut caller = Caller::connect(gateway.address).await.unwrap();
                asking.spawn(async move { caller.ask("GET", path, "").await.unwrap().status });
            }
            asking
        };
        let first = asking("/hasty", 1).await;
        until("a connection", || async { (gate.came() == 1).then_some(()) }).await;
        let mut patient = asking("/patient", 5).await;
        let second = asking("/hasty", 1).await;
        assert_eq!((first.join_all().await, second.join_all().await), (vec![504], vec![504]), "{lines}");
        assert_eq!((gate.came(), patient.try_join_next().is_none()), (1, true), "{lines}");

        gate.go.send_replace(true);
        assert_eq!(patient.join_all().await, [200; 5], "{lines}");
        assert_eq!((gate.came(), origin.seen()), (1, (1, 0, 5)), "{lines}");
    }
}

#[tokio::test]
async fn a_new_connection_that_nobody_waits_for_any_more_is_given_up() {
    let origin = Streams::serving(|stream: Stream| async move { stream.answer("a") }).await;
    let gate = Gate::before(origin.address).await;
    let gateway = Gateway::fixed(&config("protocol = 'h2c'", &gate)).await;
    gateway.until_ready().await;
    assert_eq!(gateway.get("/hasty").await.status, 504);
    assert_eq!(gate.came(), 1);
    // Who comes later begins anew, with a time of his own.
    gate.go.send_replace(true);
    assert_eq!(gateway.get("/hasty").await.status, 200);
    assert_eq!(gate.came(), 2);
}
