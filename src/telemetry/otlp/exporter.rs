//! What speaks to the collector: OpenTelemetry's own exporter, by gRPC or HTTP, with the TLS that the settings want.

use std::path::{Path, PathBuf};

use base64::{Engine, prelude::BASE64_STANDARD};
use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use opentelemetry_otlp::{
    ExporterBuildError, Protocol, SpanExporter, WithExportConfig, WithHttpConfig, WithTonicConfig,
    tonic_types::{
        metadata::MetadataMap,
        transport::{Certificate, ClientTlsConfig, Identity},
    },
};
use rustls::pki_types::{CertificateDer, pem::PemObject};

use super::Settings;

/// Why no traces can be sent.
#[derive(Debug, thiserror::Error)]
pub enum OtlpError {
    /// A file of TLS cannot be read.
    #[error("cannot read `{0}`")]
    Read(PathBuf, #[source] std::io::Error),
    /// It holds no certificate.
    #[error("`{0}` holds no certificate in PEM form")]
    Certificate(PathBuf),
    /// No client for HTTP can be made of them.
    #[error("no client can be made with the certificates of the settings")]
    Client(#[source] reqwest::Error),
    /// The exporter does not take the settings.
    #[error("no exporter can be made")]
    Exporter(#[source] ExporterBuildError),
}

/// What sends spans as the settings say.
pub fn exporter(settings: &Settings) -> Result<SpanExporter, OtlpError> {
    let login = settings.login.as_ref().map(|login| format!("Basic {}", BASE64_STANDARD.encode(login.reveal())));
    if settings.is_grpc {
        let mut builder = SpanExporter::builder().with_tonic().with_endpoint(&settings.endpoint);
        builder = builder.with_timeout(settings.timeout);
        if settings.endpoint.starts_with("https:") {
            builder = builder.with_tls_config(tls(settings)?);
        }
        if let Some(value) = login.and_then(|login| HeaderValue::try_from(login).ok()) {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, sensitive(value));
            builder = builder.with_metadata(MetadataMap::from_headers(headers));
        }
        builder.build().map_err(OtlpError::Exporter)
    } else {
        let mut builder = SpanExporter::builder().with_http().with_protocol(Protocol::HttpBinary);
        builder = builder.with_endpoint(&settings.endpoint).with_timeout(settings.timeout);
        if settings.endpoint.starts_with("https:") {
            builder = builder.with_http_client(client(settings)?);
        }
        if let Some(login) = login {
            builder = builder.with_headers([("authorization".to_owned(), login)].into());
        }
        builder.build().map_err(OtlpError::Exporter)
    }
}

fn tls(settings: &Settings) -> Result<ClientTlsConfig, OtlpError> {
    let mut tls = match &settings.ca {
        Some(file) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(certificates(file)?)),
        None => ClientTlsConfig::new().with_enabled_roots(),
    };
    if let Some((cert, key)) = &settings.identity {
        tls = tls.identity(Identity::from_pem(certificates(cert)?, read(key)?));
    }
    Ok(tls)
}

fn client(settings: &Settings) -> Result<reqwest::Client, OtlpError> {
    let mut builder = reqwest::Client::builder().timeout(settings.timeout);
    if let Some(file) = &settings.ca {
        let authorities = reqwest::Certificate::from_pem_bundle(&certificates(file)?).map_err(OtlpError::Client)?;
        builder = builder.tls_certs_only(authorities);
    }
    if let Some((cert, key)) = &settings.identity {
        let both = [read(key)?, b"\n".to_vec(), certificates(cert)?].concat();
        builder = builder.identity(reqwest::Identity::from_pem(&both).map_err(OtlpError::Client)?);
    }
    builder.build().map_err(OtlpError::Client)
}

/// A file with one certificate at least: who trusts none would send nothing, and hardly say why.
fn certificates(file: &Path) -> Result<Vec<u8>, OtlpError> {
    let pem = read(file)?;
    match CertificateDer::pem_slice_iter(&pem).next() {
        Some(Ok(_)) => Ok(pem),
        _ => Err(OtlpError::Certificate(file.to_owned())),
    }
}

fn read(file: &Path) -> Result<Vec<u8>, OtlpError> {
    std::fs::read(file).map_err(|error| OtlpError::Read(file.to_owned(), error))
}

/// Not to be shown by whoever logs fields.
fn sensitive(mut value: HeaderValue) -> HeaderValue {
    value.set_sensitive(true);
    value
}
