//! What TLS is served with: certificates chosen by the name that a client asks for, read again when their files change.
//! A handshake takes what is in force; what cannot be used replaces nothing.

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::MetadataExt,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    server::{
        ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert, VerifierBuilderError,
        WebPkiClientVerifier,
    },
    sign::CertifiedKey,
};
use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{MissedTickBehavior, interval},
};
use webpki::EndEntityCert;

use crate::{
    config::{
        TlsFiles,
        pem::{self, PemError},
    },
    telemetry::events::{Event, Events},
};

/// How often the files are looked at: a mounted volume does not always tell of a change.
const LOOK: Duration = Duration::from_secs(2);

/// What is in force. Shared by all workers.
pub struct Certificates {
    current: ArcSwap<ServerConfig>,
    known: Mutex<Known>,
}

/// What was read last, whether or not it could be used.
struct Known {
    files: TlsFiles,
    stamps: Vec<Stamp>,
    tickets: Tickets,
}

/// Who may resume a session: tickets of other authorities would let in clients that these do not.
struct Tickets {
    authorities: Option<Vec<u8>>,
    producer: Arc<dyn ProducesTickets>,
}

/// What tells one state of a file from another; `None`: it is not there.
type Stamp = Option<(i64, i64, u64, u64)>;

/// Why TLS cannot be served with these files.
#[derive(Debug, thiserror::Error)]
pub enum CertsError {
    /// A file is not what it should be.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// The authorities cannot be used.
    #[error("the authorities of client certificates cannot be used")]
    Authorities(#[from] VerifierBuilderError),
    /// The library refuses.
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
}

impl Certificates {
    /// Reads the files for the first time.
    ///
    /// # Errors
    /// They are not as they were when the configuration was checked.
    pub fn read(files: &TlsFiles) -> Result<Arc<Self>, CertsError> {
        let stamps = stamps(files);
        let tickets = Tickets::new(authorities(files))?;
        let config = build(files, &tickets)?;
        let known = Mutex::new(Known { files: files.clone(), stamps, tickets });
        Ok(Arc::new(Self { current: ArcSwap::from_pointee(config), known }))
    }

    /// What the next handshake is made with.
    #[must_use]
    pub fn current(&self) -> Arc<ServerConfig> {
        self.current.load_full()
    }

    /// Follows changes of the files, and of which files they are, until nobody tells of those any more.
    pub async fn follow(self: Arc<Self>, mut wanted: watch::Receiver<Option<TlsFiles>>, events: Arc<Events>) {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = look.tick() => {}
                told = wanted.changed() => if told.is_err() { return },
            }
            // Without the table TLS ends with the next start; until then it goes on.
            let files = wanted.borrow_and_update().clone();
            let (here, events) = (self.clone(), events.clone());
            // Files may lie on a slow disk, or on another machine's.
            let looked = spawn_blocking(move || here.look(files, &events)).await;
            if looked.is_err() {
                tracing::error!("looking at the certificates ended in a panic");
            }
        }
    }

    fn look(&self, files: Option<TlsFiles>, events: &Events) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let files = files.unwrap_or_else(|| known.files.clone());
        let stamps = stamps(&files);
        if files == known.files && stamps == known.stamps {
            return;
        }
        // Noted first: what cannot be used is said once, and not again before it changes.
        known.files = files;
        known.stamps = stamps;
        match self.replace(&mut known) {
            Ok(()) => events.publish(Event::new("certificate_reloaded", "certificates or their files changed")),
            Err(error) => {
                let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
                events.publish(Event::new("certificate_refused", format!("{error}{cause}; the former ones stay")));
            }
        }
    }

    fn replace(&self, known: &mut Known) -> Result<(), CertsError> {
        let authorities = authorities(&known.files);
        if authorities == known.tickets.authorities {
            self.current.store(Arc::new(build(&known.files, &known.tickets)?));
            return Ok(());
        }
        let tickets = Tickets::new(authorities)?;
        self.current.store(Arc::new(build(&known.files, &tickets)?));
        known.tickets = tickets;
        Ok(())
    }
}

impl Tickets {
    fn new(authorities: Option<Vec<u8>>) -> Result<Self, rustls::Error> {
        Ok(Self { authorities, producer: aws_lc_rs::Ticketer::new()? })
    }
}

/// The bytes of the authorities; none where there are none, or none that can be read.
fn authorities(files: &TlsFiles) -> Option<Vec<u8>> {
    files.client_ca.as_ref().map(|file| fs::read(file).unwrap_or_default())
}

fn stamps(files: &TlsFiles) -> Vec<Stamp> {
    let pairs = files.certificates.iter().flat_map(|pair| [&pair.cert, &pair.key]);
    pairs.chain(&files.client_ca).map(|file| stamp(file)).collect()
}

fn stamp(file: &Path) -> Stamp {
    let found = fs::metadata(file).ok()?;
    Some((found.mtime(), found.mtime_nsec(), found.len(), found.ino()))
}

fn build(files: &TlsFiles, tickets: &Tickets) -> Result<ServerConfig, CertsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(file) => builder.with_client_cert_verifier(verifier(file, provider)?),
    };
    let mut config = builder.with_cert_resolver(Arc::new(ByName::read(files)?));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.ticketer = tickets.producer.clone();
    // Sessions live in tickets alone: any worker takes them, and none holds memory for them.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}

fn verifier(
    file: &Path,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, CertsError> {
    let authorities = Arc::new(pem::authorities(file)?);
    Ok(WebPkiClientVerifier::builder_with_provider(authorities, provider).build()?)
}

/// Certificates by the names in them. Of several with one name, the first whose key the client can check.
#[derive(Debug)]
struct ByName {
    names: HashMap<String, Vec<Arc<CertifiedKey>>>,
    /// In the order of the configuration.
    all: Vec<Arc<CertifiedKey>>,
}

impl ByName {
    fn read(files: &TlsFiles) -> Result<Self, CertsError> {
        let mut here = Self { names: HashMap::new(), all: Vec::new() };
        for pair in &files.certificates {
            let certified = Arc::new(pem::certified(pair)?);
            let parsed = certified.end_entity_cert().ok().and_then(|cert| EndEntityCert::try_from(cert).ok());
            for name in parsed.iter().flat_map(|cert| cert.valid_dns_names()) {
                here.names.entry(name.to_ascii_lowercase()).or_default().push(certified.clone());
            }
            here.all.push(certified);
        }
        Ok(here)
    }

    /// Those with this very name, else those with a wildcard in place of its first label, else all.
    fn candidates(&self, name: Option<&str>) -> &[Arc<CertifiedKey>] {
        let Some(name) = name else { return &self.all };
        let name = name.to_ascii_lowercase();
        let wildcard = || self.names.get(&format!("*.{}", name.split_once('.')?.1));
        self.names.get(&name).or_else(wildcard).unwrap_or(&self.all)
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let candidates = self.candidates(hello.server_name());
        let usable = |one: &&Arc<CertifiedKey>| one.key.choose_scheme(hello.signature_schemes()).is_some();
        candidates.iter().find(usable).or(candidates.first()).cloned()
    }
}
