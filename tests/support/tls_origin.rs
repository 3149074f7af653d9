//! A service behind TLS, with a certificate of an authority that nobody knows but who is given it.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    HandshakeKind, ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// Signs certificates; its own lies in a file, for `tls.ca`.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, folder }
    }

    /// The lines of a service that trusts it; `name`: whom it has to vouch for, where that is not the instance itself.
    pub fn trusted(&self, protocol: &str, name: &str) -> String {
        let file = self.folder.path().join("ca.pem");
        format!("protocol = \"{protocol}\"\ntls = {{ ca = \"{}\", server_name = \"{name}\" }}", file.display())
    }

    /// What a server of these names is configured with; `alpn` is what it offers.
    pub fn server(&self, names: &[&str], alpn: &[&str]) -> Arc<ServerConfig> {
        // Another test may have been first.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let names: Vec<_> = names.iter().map(ToString::to_string).collect();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let builder = ServerConfig::builder().with_no_client_auth();
        let mut config = builder.with_single_cert(vec![certificate.der().clone()], key).unwrap();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}

/// Answers requests over TLS with 200, then closes the connection where `once`. Ends with the test.
pub struct TlsOrigin {
    pub address: SocketAddr,
    seen: Arc<Seen>,
    _serving: JoinSet<()>,
}

#[derive(Default)]
struct Seen {
    connections: AtomicUsize,
    resumed: AtomicUsize,
    requests: AtomicUsize,
}

impl TlsOrigin {
    pub async fn start(config: Arc<ServerConfig>, once: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::<Seen>::default();
        let mut serving = JoinSet::new();
        serving.spawn({
            let seen = seen.clone();
            async move {
                let mut connections = JoinSet::new();
                while let Ok((stream, _)) = listener.accept().await {
                    seen.connections.fetch_add(1, SeqCst);
                    let (acceptor, seen) = (TlsAcceptor::from(config.clone()), seen.clone());
                    connections.spawn(async move {
                        let Ok(stream) = acceptor.accept(stream).await else { return };
                        if stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed) {
                            seen.resumed.fetch_add(1, SeqCst);
                        }
                        serve(stream, &seen, once).await;
                    });
                }
            }
        });
        Self { address, seen, _serving: serving }
    }

    /// Connections that were accepted.
    pub fn connections(&self) -> usize {
        self.seen.connections.load(SeqCst)
    }

    /// Those that took up an earlier session.
    pub fn resumed(&self) -> usize {
        self.seen.resumed.load(SeqCst)
    }

    /// Requests that came.
    pub fn requests(&self) -> usize {
        self.seen.requests.load(SeqCst)
    }
}

async fn serve(mut stream: TlsStream<TcpStream>, seen: &Seen, once: bool) {
    let mut input = Vec::new();
    while let Ok(1..) = stream.read_buf(&mut input).await {
        while let Some(end) = input.windows(4).position(|at| at == b"\r\n\r\n") {
            input.drain(..end + 4);
            seen.requests.fetch_add(1, SeqCst);
            let connection = if once { "connection: close\r\n" } else { "" };
            let answer = format!("HTTP/1.1 200 OK\r\n{connection}content-length: 6\r\n\r\nsecure");
            stream.write_all(answer.as_bytes()).await.unwrap();
            if once {
                let _ = stream.shutdown().await;
                return;
            }
        }
    }
}
