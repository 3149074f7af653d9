//! Gateways are restarted one after the other before clients that try another one where a connection is refused, and
//! repeat nothing else.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{net::TcpStream, task::JoinSet, time::sleep};

use crate::support::{
    Caller, Gateway, Replica,
    http2::{Http2, get, whole},
};

/// Between two requests of a client.
const PAUSE: Duration = Duration::from_millis(3);

/// What the clients know of each other and of the test.
#[derive(Default)]
struct Run {
    over: AtomicBool,
    answered: [AtomicUsize; 2],
    refused: AtomicUsize,
}

/// Addresses that nobody else's connection begins at, so that they are free again for who starts anew.
fn addresses() -> [SocketAddr; 2] {
    let held = [1, 2].map(|last| std::net::TcpListener::bind(SocketAddr::from(([127, 0, 77, last], 0))).unwrap());
    held.map(|listener| listener.local_addr().unwrap())
}

async fn start(address: SocketAddr, origin: SocketAddr, drain_wait: &str) -> Gateway {
    let http = format!("[http]\nlisten = \"{address}\"\nworkers = 2\ndrain_wait = \"{drain_wait}\"\n");
    let route = "[[routes]]\nmatch = { path = \"/{*rest}\" }\nservice = \"web\"\n";
    let gateway = Gateway::fixed(&format!("{http}[services.web]\ninstances = [\"{origin}\"]\n{route}")).await;
    gateway.until_ready().await;
    gateway
}

/// A connection to the gateway that is next, or to another where it refuses.
async fn connect<C>(
    to: [SocketAddr; 2],
    first: usize,
    run: &Run,
    make: impl AsyncFn(SocketAddr) -> io::Result<C>,
) -> C {
    for at in [first, 1 - first, first, 1 - first] {
        match make(to[at]).await {
            Ok(connection) => return connection,
            Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => run.refused.fetch_add(1, Relaxed),
            Err(e) => panic!("a connection was not refused, but lost: {e}"),
        };
    }
    panic!("both refuse");
}

/// Calls both gateways in turn over kept connections, until they are told to close.
async fn http1(to: [SocketAddr; 2], run: Arc<Run>) {
    let mut kept: [Option<Caller>; 2] = [None, None];
    for turn in 0.. {
        if run.over.load(Relaxed) {
            return;
        }
        let at = turn % 2;
        let mut caller = match kept[at].take() {
            Some(caller) => caller,
            None => connect(to, at, &run, Caller::connect).await,
        };
        let (method, body) = if turn % 3 == 0 { ("POST", "x") } else { ("GET", "") };
        let heard = caller.ask(method, "/", body).await;
        let heard = heard.unwrap_or_else(|e| panic!("{method} of turn {turn} was lost: {e}"));
        assert_eq!((heard.status, heard.body.as_str()), (200, "web"));
        run.answered[0].fetch_add(1, Relaxed);
        kept[at] = (!heard.closes).then_some(caller);
        sleep(PAUSE).await;
    }
}

/// The same over HTTP/2, until a connection takes no new request.
async fn http2(to: [SocketAddr; 2], run: Arc<Run>) {
    let mut kept: [Option<Http2>; 2] = [None, None];
    let new = async |to| Ok(Http2::over(TcpStream::connect(to).await?).await);
    for turn in 0.. {
        if run.over.load(Relaxed) {
            return;
        }
        let at = turn % 2;
        let asking = loop {
            let client = match kept[at].take() {
                Some(client) => client,
                None => connect(to, at, &run, new).await,
            };
            // One that cannot be begun any more was not sent.
            if let Ok(asking) = client.begin(get("/"), b"").await {
                kept[at] = Some(client);
                break asking;
            }
        };
        let answer = asking.await.unwrap_or_else(|e| panic!("the request of turn {turn} was lost: {e}"));
        let came = whole(answer).await.unwrap();
        assert_eq!((came.head.status.as_u16(), &came.body[..]), (200, &b"web"[..]));
        run.answered[1].fetch_add(1, Relaxed);
        sleep(PAUSE).await;
    }
}

#[tokio::test]
async fn a_rolling_restart_of_two_gateways_loses_no_request() {
    let origin = Replica::start("web".into(), Duration::from_millis(1), usize::MAX).await;
    let addresses = addresses();
    let mut gateways = Vec::new();
    for address in addresses {
        gateways.push(start(address, origin.address, "300ms").await);
    }
    let run = Arc::<Run>::default();
    let mut clients = JoinSet::new();
    for _ in 0..6 {
        clients.spawn(http1(addresses, run.clone()));
        clients.spawn(http2(addresses, run.clone()));
    }
    // Also those that do not wait until balancers have noticed.
    for drain_wait in ["0s", "300ms"] {
        for (gateway, address) in gateways.iter_mut().zip(addresses) {
            sleep(Duration::from_millis(300)).await;
            gateway.signal("TERM");
            assert_eq!(gateway.ended().await.code(), Some(0));
            *gateway = start(address, origin.address, drain_wait).await;
        }
    }
    sleep(Duration::from_millis(300)).await;
    run.over.store(true, Relaxed);
    clients.join_all().await;
    let [one, two] = run.answered.each_ref().map(|count| count.load(Relaxed));
    let refused = run.refused.load(Relaxed);
    println!("rolling restart: {one} answers over HTTP/1, {two} over HTTP/2, {refused} connections refused");
    assert!(one > 100 && two > 100 && refused > 0, "{one} {two} {refused}");
}
