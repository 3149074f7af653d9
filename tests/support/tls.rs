//! An authority that issues certificates, and clients that trust it.

use std::{fs, net::SocketAddr, path::Path, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    server::{NoClientAuth, WebPkiClientVerifier, danger::ClientCertVerifier},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, client::TlsStream};

/// Issues certificates into a folder of its own. Ends with the test.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    folder: TempDir,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // OpenSSL takes a certificate for one that signed itself where subject and issuer have one name.
        params.distinguished_name.push(DnType::CommonName, "authority");
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ca.pem"), &pem).unwrap();
        Self { issuer: Issuer::new(params, key), pem, folder }
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A certificate for these names and its key, as PEM.
    pub fn issue(&self, names: &[&str]) -> (String, String) {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let key = KeyPair::generate().unwrap();
        let cert = CertificateParams::new(names).unwrap().signed_by(&key, &self.issuer).unwrap();
        (cert.pem(), key.serialize_pem())
    }

    /// The same, written to `NAME.pem` and `NAME.key`; gives the entry of the configuration.
    pub fn write(&self, name: &str, names: &[&str]) -> String {
        let (cert, key) = self.issue(names);
        let [cert_file, key_file] = [".pem", ".key"].map(|end| self.folder().join(name.to_owned() + end));
        fs::write(&cert_file, cert).unwrap();
        fs::write(&key_file, key).unwrap();
        format!("{{ cert = '{}', key = '{}' }}", cert_file.display(), key_file.display())
    }

    /// `client_ca` with this authority.
    pub fn client_ca(&self) -> String {
        format!("client_ca = '{}'", self.folder().join("ca.pem").display())
    }

    /// `[https]` with these entries and keys.
    pub fn section(entries: &[String], more: &str) -> String {
        format!("[https]\nlisten = \"127.0.0.1:0\"\ncertificates = [{}]\n{more}\n", entries.join(", "))
    }

    /// What a server of these names is configured with; `alpn` is what it offers.
    pub fn server(&self, names: &[&str], alpn: &[&str]) -> Arc<ServerConfig> {
        self.served(names, alpn, Arc::new(NoClientAuth))
    }

    /// The same, of one that serves those alone who show a certificate of this authority.
    pub fn strict_server(&self, names: &[&str], alpn: &[&str]) -> Arc<ServerConfig> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(self.roots()), provider);
        self.served(names, alpn, verifier.build().unwrap())
    }

    fn served(&self, names: &[&str], alpn: &[&str], clients: Arc<dyn ClientCertVerifier>) -> Arc<ServerConfig> {
        let (cert, key) = self.issue(names);
        let chain = vec![CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()];
        let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap().with_client_cert_verifier(clients);
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let mut config = builder.with_single_cert(chain, key).unwrap();
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Arc::new(config)
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()).unwrap();
        roots
    }

    /// A client that trusts this authority and offers these protocols.
    pub fn client(&self, protocols: &[&str]) -> Secure {
        self.client_of(rustls::ALL_VERSIONS, protocols, None)
    }

    /// The same, with only these versions, and with a certificate of its own.
    pub fn client_of(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        protocols: &[&str],
        identity: Option<(String, String)>,
    ) -> Secure {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
        let builder = builder.with_root_certificates(self.roots());
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => {
                let chain = vec![CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()];
                builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap()).unwrap()
            }
        };
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Secure(TlsConnector::from(Arc::new(config)))
    }
}

/// Ends TLS before somebody who does not speak it. Ends with the test.
pub struct Front {
    pub address: SocketAddr,
    _serving: JoinSet<()>,
}

impl Front {
    /// Hands on to `behind` what comes.
    pub async fn start(config: Arc<ServerConfig>, behind: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = TlsAcceptor::from(config.clone());
                connections.spawn(async move {
                    // Who is not trusted, or does not trust, is gone.
                    let Ok(mut client) = acceptor.accept(stream).await else { return };
                    let mut server = TcpStream::connect(behind).await.unwrap();
                    let _ = copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        Self { address, _serving: serving }
    }
}

/// A client with TLS. Its sessions are resumed.
pub struct Secure(TlsConnector);

impl Secure {
    /// A connection to who goes by `name`.
    pub async fn connect(&self, to: SocketAddr, name: &str) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(to).await?;
        self.0.connect(ServerName::try_from(name.to_owned()).unwrap(), stream).await
    }

    /// One request on a new connection, and all that comes back; an error when there is no connection.
    pub async fn get(&self, to: SocketAddr, name: &str) -> std::io::Result<(String, TlsStream<TcpStream>)> {
        let mut stream = self.connect(to, name).await?;
        let request = format!("GET / HTTP/1.1\r\nhost: {name}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok((String::from_utf8(answer).unwrap(), stream))
    }
}
