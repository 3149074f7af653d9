//! The client and its watches over real sockets.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::time::{Instant, sleep, timeout};

use super::{
    Client, Consistency, Error, Observe, Settings, Wakes, Watch,
    fake::{Fake, Fault},
    real::{Real, client, install, settings},
    wire::{Catalog, Health, Instances},
};

fn watch(settings: Settings) -> Watch<Health> {
    Watch::new(client(settings), Health::question("web", None), Health)
}

async fn next(watch: &mut Watch<Health>) -> Result<Instances, Error> {
    let fresh = timeout(Duration::from_secs(15), watch.next()).await.expect("a watch answers in time");
    fresh.map(|fresh| fresh.answer)
}

fn questions(fake: &Fake) -> Vec<String> {
    fake.asked().into_iter().map(|(_, head)| head).filter(|head| head.contains("/v1/health/service")).collect()
}

#[tokio::test]
async fn a_question_carries_what_is_set() {
    let fake = Fake::start().await;
    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token.path(), "from-file\n").unwrap();
    let mut watch = watch(Settings {
        token: Some("given".into()),
        token_file: Some(token.path().to_owned()),
        datacenter: Some("dc 2".into()),
        namespace: Some("team".into()),
        consistency: Consistency::Consistent,
        wait: Duration::from_millis(300),
        ..settings(format!("http://{}/", fake.address))
    });
    next(&mut watch).await.unwrap();
    assert!(timeout(Duration::from_millis(500), watch.next()).await.is_err(), "nothing new");
    let asked = questions(&fake);
    assert!(
        asked[0].starts_with("GET /v1/health/service/web?dc=dc+2&ns=team&consistent= HTTP/1.1\r\n"),
        "{}",
        asked[0]
    );
    assert!(asked[0].contains("x-consul-token: from-file\r\n"), "{}", asked[0]);
    let blocking = "GET /v1/health/service/web?dc=dc+2&ns=team&consistent=&index=1&wait=300ms HTTP/1.1\r\n";
    assert!(asked[1].starts_with(blocking), "{}", asked[1]);
}

#[tokio::test]
async fn an_answer_that_is_too_stale_is_asked_of_the_leader() {
    let fake = Fake::start().await;
    fake.stale(5000);
    let mut watch = watch(Settings { max_stale: Duration::from_secs(4), ..settings(fake.address.to_string()) });
    next(&mut watch).await.unwrap();
    let asked = questions(&fake);
    assert_eq!(asked.iter().map(|head| head.contains("stale")).collect::<Vec<_>>(), [true, false]);
}

#[tokio::test]
async fn what_is_done_is_observed() {
    #[derive(Default)]
    struct Seen([AtomicUsize; 3], AtomicI64);
    impl Observe for Seen {
        fn request(&self, endpoint: &'static str, ok: bool) {
            assert!(["health_service", "status_leader"].contains(&endpoint), "{endpoint}");
            self.0[usize::from(ok)].fetch_add(1, SeqCst);
        }
        fn watches(&self, delta: i64) {
            self.1.fetch_add(delta, SeqCst);
        }
        fn follows(&self, _: bool) {}
        fn answered(&self) {
            self.0[2].fetch_add(1, SeqCst);
        }
        fn beside(&self) -> Arc<dyn Observe> {
            Arc::new(Self::default())
        }
    }
    install();
    let fake = Fake::start().await;
    let seen = Arc::new(Seen::default());
    let client = Arc::new(Client::new(settings(fake.address.to_string()), seen.clone()).unwrap());
    let mut watch = Watch::new(client, Health::question("web", None), Health);
    let counts = || (seen.0[1].load(SeqCst), seen.0[0].load(SeqCst), seen.0[2].load(SeqCst), seen.1.load(SeqCst));
    next(&mut watch).await.unwrap();
    assert_eq!(counts(), (2, 0, 1, 0));
    {
        let held = watch.next();
        assert!(timeout(Duration::from_millis(200), held).await.is_err());
    }
    assert_eq!(counts(), (2, 0, 1, 0), "a query that is taken back is not held any more");
    fake.fail(Fault::Status(403, "no"), true);
    next(&mut watch).await.unwrap_err();
    assert_eq!((seen.0[0].load(SeqCst), seen.0[2].load(SeqCst)), (1, 1));
}

#[tokio::test]
async fn a_broken_connection_is_not_told_and_one_that_stays_broken_is_once() {
    let fake = Fake::start().await;
    let mut watch = watch(settings(fake.address.to_string()));
    next(&mut watch).await.unwrap();
    fake.fail(Fault::Reset, true);
    let error = next(&mut watch).await.unwrap_err();
    assert!(matches!(error, Error::Broken(_)), "{error:?}");
    assert!(timeout(Duration::from_secs(2), watch.next()).await.is_err(), "told once");
    fake.mend();
    assert_eq!(next(&mut watch).await.unwrap().entries.len(), 2);
}

#[tokio::test]
async fn news_come_within_two_seconds_of_a_return() {
    let fake = Fake::start().await;
    let mut watch = watch(settings(fake.address.to_string()));
    next(&mut watch).await.unwrap();
    fake.fail(Fault::Status(500, "No cluster leader"), false);
    assert!(timeout(Duration::from_secs(3), watch.next()).await.is_err(), "the agent's fault is not the watch's");
    fake.mend();
    let mended = Instant::now();
    assert_eq!(next(&mut watch).await.unwrap().entries.len(), 2);
    // A loaded machine may need longer than the two seconds that it is to be.
    assert!(mended.elapsed() < Duration::from_secs(4), "{:?}", mended.elapsed());
}

#[tokio::test]
async fn an_index_alone_is_asked_about_at_once_or_where_it_is_doubted_in_its_turn_or_with_news_of_it() {
    for doubted in [false, true] {
        let fake = Fake::start().await;
        let client = client(settings(fake.address.to_string()));
        let wakes = Arc::new(Wakes::default());
        wakes.matter(true);
        let mut watch = Watch::new(client.clone(), Catalog::question(), Catalog).waking(wakes.clone());
        let first = watch.next().await.unwrap();
        fake.mend();
        let moved = watch.next().await.unwrap();
        assert_eq!(moved.answer, first.answer);
        wakes.are_doubted(doubted);
        let asked = fake.asked().len();
        let mut next = std::pin::pin!(watch.next());
        // No turn ever comes.
        let mut spend = std::pin::pin!(async {
            loop {
                client.charge();
                sleep(Duration::from_millis(10)).await;
            }
        });
        if doubted {
            tokio::select! {
                () = &mut spend => {}
                _ = &mut next => panic!("nothing is new"),
                () = sleep(Duration::from_millis(800)) => {}
            }
            assert_eq!(fake.asked().len(), asked);
            client.hears(moved.index);
        }
        tokio::select! {
            () = &mut spend => {}
            _ = &mut next => panic!("nothing is new"),
            () = until(|| fake.asked().len() > asked) => {}
        }
    }
}

#[tokio::test]
async fn what_was_heard_before_consul_lost_its_state_is_no_reason_to_ask_often() {
    for leader in [true, false] {
        let fake = Fake::start().await;
        let client = client(settings(fake.address.to_string()));
        let watch = |service: &str| Watch::new(client.clone(), Health::question(service, None), Health);
        let (mut old, mut new) = (watch("a"), watch("b"));
        next(&mut old).await.unwrap();
        fake.mend();
        next(&mut old).await.unwrap();
        if !leader {
            fake.fail(Fault::Status(500, "No cluster leader"), false);
            tokio::select! {
                _ = old.next() => panic!("the agent's fault is not the watch's"),
                agent = client.agent_changes(&super::Agent::Well) => assert!(agent.trouble().is_some()),
            }
        }
        fake.lose();
        if leader {
            // Sees that the index has fallen. The other one has never known it higher.
            assert!(timeout(Duration::from_secs(1), old.next()).await.is_err(), "nothing is new");
        }
        next(&mut new).await.unwrap();
        let asked = questions(&fake).len();
        assert!(timeout(Duration::from_secs(3), new.next()).await.is_err(), "nothing is new");
        let asked = questions(&fake).len() - asked;
        assert!(asked <= 15, "leader {leader}: {asked} in three seconds");
    }
}

async fn until(is: impl Fn() -> bool) {
    let waits = async {
        while !is() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(15), waits).await.expect("it comes to be");
}

#[tokio::test]
async fn an_endless_body_is_refused_before_it_fills_memory() {
    let fake = Fake::start().await;
    fake.fail(Fault::Endless, true);
    let error = next(&mut watch(settings(fake.address.to_string()))).await.unwrap_err();
    assert!(matches!(error, Error::TooLarge(_)), "{error:?}");
}

#[tokio::test]
async fn nobody_there_is_no_failure_of_the_watch() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let client = client(settings(format!("127.0.0.1:{port}")));
    let mut watch = Watch::new(client.clone(), Health::question("web", None), Health);
    let known = super::Agent::Unknown;
    let (waited, agent) = tokio::join!(timeout(Duration::from_secs(1), watch.next()), client.agent_changes(&known));
    assert!(waited.is_err());
    let super::Agent::Away(error) = agent else { panic!("{agent:?}") };
    assert!(!error.reachable());
    let said = error.causes();
    assert!(said.starts_with("the agent cannot be reached: ") && said.contains("refused"), "{said}");
}

#[tokio::test]
async fn a_real_agent_is_reached_over_tls_and_a_unix_socket() {
    let place = tempfile::tempdir().unwrap();
    let file = |name: &str| place.path().join(name);
    authority(place.path());
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let socket = file("consul.sock");
    let text = |name: &str| file(name).display().to_string();
    let consul = Real::with(vec![
        format!("-https-port={port}"),
        format!(
            "-hcl=ca_file = {:?}, cert_file = {:?}, key_file = {:?}, verify_incoming_https = true, \
             addresses {{ http = \"127.0.0.1 unix://{}\" }}",
            text("ca.pem"),
            text("cert.pem"),
            text("key.pem"),
            socket.display()
        )
        .replace(", ", "\n"),
    ])
    .await;
    consul.register("web", 8001, &[]).await;

    let full = Settings {
        ca: Some(file("ca.pem")),
        cert: Some(file("cert.pem")),
        key: Some(file("key.pem")),
        ..settings(format!("https://localhost:{port}"))
    };
    assert_eq!(next(&mut watch(full.clone())).await.unwrap().entries.len(), 1);
    assert_eq!(next(&mut watch(settings(format!("unix://{}", socket.display())))).await.unwrap().entries.len(), 1);

    for (name, bad) in [
        ("no certificate of ours", Settings { cert: None, key: None, ..full.clone() }),
        ("another authority", Settings { ca: Some(file("other.pem")), ..full.clone() }),
        ("the system's authorities", Settings { ca: None, ..full.clone() }),
    ] {
        let client = client(bad);
        let mut watch = Watch::new(client.clone(), Catalog::question(), Catalog);
        tokio::select! {
            _ = watch.next() => panic!("{name}"),
            agent = client.agent_changes(&super::Agent::Unknown) => assert!(agent.trouble().is_some(), "{name}"),
            () = sleep(Duration::from_secs(15)) => panic!("{name}: nothing"),
        }
    }
    let half = Settings { key: None, ..full.clone() };
    let none = Settings { ca: Some(file("none.pem")), ..full };
    for (bad, said) in [(half, "a client certificate and its key go together"), (none, "cannot read `")] {
        let error = Client::new(bad, Arc::new(Nobody)).err().unwrap();
        assert!(error.causes().starts_with(said), "{}", error.causes());
    }
}

struct Nobody;

impl Observe for Nobody {
    fn request(&self, _: &'static str, _: bool) {}
    fn watches(&self, _: i64) {}
    fn follows(&self, _: bool) {}
    fn answered(&self) {}
    fn beside(&self) -> Arc<dyn Observe> {
        Arc::new(Self)
    }
}

/// An authority with one certificate, and another authority.
fn authority(place: &Path) {
    let write = |name: &str, text: String| std::fs::write(place.join(name), text).unwrap();
    for name in ["other.pem", "ca.pem"] {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        write(name, params.self_signed(&key).unwrap().pem());
        let issuer = Issuer::new(params, key);
        let key = KeyPair::generate().unwrap();
        let names = ["localhost", "127.0.0.1", "server.dc1.consul"].map(str::to_owned);
        let cert = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
        write("cert.pem", cert.pem());
        write("key.pem", key.serialize_pem());
    }
}
