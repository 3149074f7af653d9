//! What becomes of the gateway when a part of it fails.

use std::fs;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::*;
use crate::{
    config,
    telemetry::log::{self, Format},
};

const LONG: Duration = Duration::from_secs(20);

async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(timeout(LONG, stream.read_u8()).await.expect("a head").unwrap());
    }
    String::from_utf8(head).unwrap()
}

#[tokio::test]
async fn a_panic_in_the_control_plane_lets_requests_under_way_end_and_then_ends_the_gateway_with_an_error() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let service = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("lictor.toml");
    let instance = service.local_addr().unwrap();
    let text = format!(
        "[consul]\naddress = ''\n[admin]\nlisten = '127.0.0.1:0'\n[http]\nlisten = '127.0.0.1:0'\nworkers = 1\n\
         [services.web]\ninstances = ['{instance}']\n[[routes]]\nmatch.path = '/'\nservice = 'web'\n"
    );
    fs::write(&file, text).unwrap();
    let sources = Sources { files: vec![file], sets: Vec::new() };
    let config = config::load(&sources).unwrap();
    let log = log::start(Format::Text, "off").unwrap();
    let mut gateway = Gateway::start(config, sources, log).await.unwrap();
    let (fail, failing) = oneshot::channel::<()>();
    gateway.tasks.spawn(async move {
        failing.await.unwrap();
        panic!("this part fails");
    });
    let (_, mut events) = gateway.events.subscribe();
    let address = gateway.addresses[0];

    let served = async {
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let (mut instance, _) = timeout(LONG, service.accept()).await.expect("a request").unwrap();
        read_head(&mut instance).await;
        fail.send(()).unwrap();
        let told = timeout(LONG, events.recv()).await.expect("an event").unwrap();
        assert_eq!(told.event.kind, "draining");
        instance.write_all(b"HTTP/1.1 204 x\r\n\r\n").await.unwrap();
        assert!(read_head(&mut client).await.starts_with("HTTP/1.1 204 "));
    };
    let (ended, ()) = tokio::join!(timeout(LONG, gateway.run()), served);
    let error = ended.expect("the end").unwrap_err().to_string();
    assert!(
        error.starts_with("a part of the control plane has failed") && error.contains("this part fails"),
        "{error}"
    );
    assert!(TcpStream::connect(address).await.is_err());
}
