//! TLS towards instances: whom a service's instances have to prove to be, and to whose satisfaction.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, IpAddr, ServerName, pem::PemObject},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::model::{instance::Address, protocol::Protocol};

/// What instances of a service have to prove.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Trust {
    /// Whose word counts; `None`: that of the system's authorities.
    pub authorities: Option<Authorities>,
    /// Who they have to be; `None`: each who its address says.
    pub name: Option<ServerName<'static>>,
}

/// Certificates of authorities, as they were read from a file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Authorities {
    /// The file.
    pub file: PathBuf,
    certificates: Vec<CertificateDer<'static>>,
}

impl Authorities {
    /// Reads a PEM file.
    ///
    /// # Errors
    /// It cannot be read, or holds anything but certificates that can sign others, in words.
    pub fn read(file: &Path) -> Result<Self, String> {
        let shown = file.display();
        let pem = std::fs::read(file).map_err(|e| format!("`{shown}` cannot be read: {e}"))?;
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(&pem)
            .collect::<Result<_, _>>()
            .map_err(|e| format!("`{shown}` is no PEM file: {e}"))?;
        if certificates.is_empty() {
            return Err(format!("`{shown}` has no certificate in it; expected at least one in PEM"));
        }
        let read = Self { file: file.into(), certificates };
        read.roots().map_err(|e| format!("`{shown}` has a certificate that is of no use: {e}"))?;
        Ok(read)
    }

    fn roots(&self) -> Result<RootCertStore, rustls::Error> {
        let mut roots = RootCertStore::empty();
        for certificate in &self.certificates {
            roots.add(certificate.clone())?;
        }
        Ok(roots)
    }
}

/// A service's side of TLS, built once for all its connections: they resume each other's sessions.
#[derive(Debug)]
pub struct Tls {
    protocol: Protocol,
    trust: Trust,
    config: Result<Arc<ClientConfig>, rustls::Error>,
}

impl Tls {
    /// For a service that speaks `protocol`. Where there is nobody to trust, every handshake fails and says so.
    #[must_use]
    pub fn new(protocol: Protocol, trust: Trust) -> Self {
        let config = config(protocol, &trust).map(Arc::new);
        if let Err(error) = &config {
            tracing::error!(%error, "no instance can be trusted: TLS to upstream is of no use");
        }
        Self { protocol, trust, config }
    }

    /// Whether it is just what these rules make.
    #[must_use]
    pub fn is_for(&self, protocol: Protocol, trust: &Trust) -> bool {
        self.protocol == protocol && self.trust == *trust && self.config.is_ok()
    }

    /// Makes sure who is at the other end, and agrees on keys and protocol.
    ///
    /// # Errors
    /// The other end is not who it should be, or does not speak what it should.
    pub async fn shake(&self, stream: TcpStream, address: &Address) -> io::Result<TlsStream<TcpStream>> {
        let config = self.config.as_ref().map_err(|e| io::Error::other(e.clone()))?;
        let name = match &self.trust.name {
            Some(name) => name.clone(),
            None => name_of(address)?,
        };
        let stream = TlsConnector::from(config.clone()).connect(name, stream).await?;
        // Who does not say h2 would read our HTTP/2 as something else (RFC 9113 §3.2).
        if self.protocol.is_http2() && stream.get_ref().1.alpn_protocol() != Some(H2) {
            return Err(io::Error::other("the instance does not offer HTTP/2 (by ALPN)"));
        }
        Ok(stream)
    }
}

const H2: &[u8] = b"h2";

fn config(protocol: Protocol, trust: &Trust) -> Result<ClientConfig, rustls::Error> {
    let provider: Arc<CryptoProvider> = aws_lc_rs::default_provider().into();
    let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let mut config = if let Some(authorities) = &trust.authorities {
        builder.with_root_certificates(authorities.roots()?).with_no_client_auth()
    } else {
        let system = rustls_platform_verifier::Verifier::new(provider)?;
        builder.dangerous().with_custom_certificate_verifier(Arc::new(system)).with_no_client_auth()
    };
    config.alpn_protocols = vec![if protocol.is_http2() { H2.to_vec() } else { b"http/1.1".to_vec() }];
    Ok(config)
}

/// Who an instance has to be where nothing else is said: the name that it is registered with, else its address.
fn name_of(address: &Address) -> io::Result<ServerName<'static>> {
    match address {
        Address::Ip(ip) => Ok(ServerName::IpAddress(IpAddr::from(ip.ip()))),
        Address::Name(name, _) => ServerName::try_from(name.to_string()).map_err(io::Error::other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_who_its_address_says() {
        for (host, name) in [("10.0.0.7", "10.0.0.7"), ("::1", "::1"), ("web.internal", "web.internal")] {
            assert_eq!(name_of(&Address::new(host, 443).unwrap()).unwrap().to_str(), name);
        }
    }

    #[test]
    fn a_file_of_authorities_has_to_hold_certificates() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        let said = || Authorities::read(&file).unwrap_err();
        assert!(said().contains("cannot be read"), "{}", said());
        std::fs::write(&file, "hello").unwrap();
        assert!(said().contains("no certificate"), "{}", said());
        std::fs::write(&file, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
        assert!(said().contains("of no use"), "{}", said());
        let good = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap();
        std::fs::write(&file, good.cert.pem()).unwrap();
        assert_eq!(Authorities::read(&file).unwrap().file, file);
    }
}
