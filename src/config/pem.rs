//! Reads certificates and keys from PEM files, and makes sure that they go together. When to read them is for others to say.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use rustls::{
    InconsistentKeys, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{Error, PemObject},
    },
    sign::CertifiedKey,
};

use super::https::Pair;
use crate::model::units::Size;

/// Why files cannot serve for TLS.
#[derive(Debug, thiserror::Error)]
pub enum PemError {
    /// The file is not there, or not ours to read.
    #[error("cannot read `{}`: {cause}", file.display())]
    Read {
        /// Which one.
        file: PathBuf,
        /// What the system says.
        #[source]
        cause: io::Error,
    },
    /// It holds no section of the kind that is wanted, or a broken one.
    #[error("`{}` holds no {wanted} in PEM form: {cause}", file.display())]
    Form {
        /// Which one.
        file: PathBuf,
        /// What should be in it.
        wanted: &'static str,
        /// What is wrong.
        cause: String,
    },
    /// What it holds cannot be used.
    #[error("the {what} in `{}` cannot be used: {cause}", file.display())]
    Unusable {
        /// Which one.
        file: PathBuf,
        /// What it is.
        what: &'static str,
        /// What is wrong.
        #[source]
        cause: rustls::Error,
    },
    /// Each is well, but they are not of each other.
    #[error("the private key in `{}` is not the one of the certificate in `{}`", key.display(), cert.display())]
    Strangers {
        /// The file of the certificate.
        cert: PathBuf,
        /// The file of the key.
        key: PathBuf,
    },
}

/// Reads a certificate with its chain, and its key.
///
/// # Errors
/// A file that cannot be read or used, or two that do not go together.
pub fn certified(pair: &Pair) -> Result<CertifiedKey, PemError> {
    let chain = chain(&pair.cert)?;
    let wrong = |e: Error| form(&pair.key, "private key", &e);
    let key = PrivateKeyDer::from_pem_slice(&read(&pair.key)?).map_err(wrong)?;
    let provider = aws_lc_rs::default_provider();
    let key = provider.key_provider.load_private_key(key).map_err(|e| unusable(&pair.key, "private key", e))?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(certified),
        Err(rustls::Error::InconsistentKeys(_)) => {
            Err(PemError::Strangers { cert: pair.cert.clone(), key: pair.key.clone() })
        }
        Err(e) => Err(unusable(&pair.cert, "certificate", e)),
    }
}

/// Reads a certificate, and behind it those between it and its authority.
///
/// # Errors
/// A file that cannot be read, or holds something else.
pub fn chain(file: &Path) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let chain = certificates(file)?;
    if let Some(first) = chain.first() {
        rustls::server::ParsedCertificate::try_from(first).map_err(|e| unusable(file, "certificate", e))?;
    }
    Ok(chain)
}

/// Reads the authorities whose certificates are let in.
///
/// # Errors
/// A file that cannot be read, or holds something else.
pub fn authorities(file: &Path) -> Result<RootCertStore, PemError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(file)? {
        store.add(certificate).map_err(|e| unusable(file, "certificate", e))?;
    }
    Ok(store)
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let text = read(file)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match chain {
        Ok(chain) if chain.is_empty() => Err(form(file, "certificate", &Error::NoItemsFound)),
        Ok(chain) => Ok(chain),
        Err(e) => Err(form(file, "certificate", &e)),
    }
}

fn unusable(file: &Path, what: &'static str, cause: rustls::Error) -> PemError {
    PemError::Unusable { file: file.to_owned(), what, cause }
}

fn form(file: &Path, wanted: &'static str, cause: &Error) -> PemError {
    PemError::Form { file: file.to_owned(), wanted, cause: cause.to_string() }
}

fn read(file: &Path) -> Result<Vec<u8>, PemError> {
    bounded(file).map_err(|cause| PemError::Read { file: file.to_owned(), cause })
}

fn bounded(file: &Path) -> io::Result<Vec<u8>> {
    // A pipe would never end, a device neither.
    if !fs::metadata(file)?.is_file() {
        return Err(io::Error::other("expected a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(file)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    let fits = u64::try_from(bytes.len()).is_ok_and(|length| length <= MAX_BYTES);
    if fits { Ok(bytes) } else { Err(io::Error::other(format!("it has more than {}", Size(MAX_BYTES)))) }
}

/// Of a file: the authorities of all the world have a quarter of it.
const MAX_BYTES: u64 = 1 << 20;
