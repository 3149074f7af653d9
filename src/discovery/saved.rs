//! The last known topology as a file: one line that says what it is, and one with the lists. What a start without
//! Consul is told comes from here; when to write is decided by `control`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::SystemTime,
};

use serde::{Deserialize, Serialize};

use super::{Change, Query, Wanted, health, plan::Plan};
use crate::model::{
    instance::{Address, AddressError, Health, Instance},
    name::Datacenter,
    topology::{ListName, Rejected, Update},
};

/// What was known, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// When Consul last answered.
    pub at: SystemTime,
    /// What it had said.
    pub lists: Lists,
}

/// What Consul had said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lists {
    /// The datacenter and namespace that were asked for.
    pub asked: Asked,
    /// Consul's highest index of it.
    pub index: u64,
    /// The tag by which services expose themselves.
    pub tag: Option<String>,
    /// Names in Consul that carry it.
    pub carriers: BTreeSet<String>,
    /// The list of each service that was followed.
    pub services: Vec<List>,
    /// The document of the KV that was in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document: Option<Document>,
}

/// A document of Consul's KV.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// Under which key.
    pub key: String,
    /// What it says.
    pub text: String,
}

/// Without what it says, which may be secret.
impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KV {}, {} bytes", self.key, self.text.len())
    }
}

/// Whose lists they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// `[consul] datacenter`.
    pub datacenter: Option<String>,
    /// `[consul] namespace`.
    pub namespace: Option<String>,
}

/// The instances that one question was answered with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct List {
    /// The question.
    #[serde(flatten)]
    pub query: Query,
    /// The datacenter that was asked; left out: the one of `asked`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datacenter: Option<Datacenter>,
    /// The answer.
    pub instances: Vec<Kept>,
}

/// One instance, as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    id: String,
    /// Left out by older programs.
    #[serde(default)]
    node: String,
    host: String,
    port: u16,
    health: Health,
    weight: u32,
    tags: Vec<String>,
    meta: BTreeMap<String, String>,
    datacenter: String,
    create_index: u64,
}

/// Why a file is of no use.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// It cannot be read.
    #[error("`{}` cannot be read: {error}", .0.display(), error = .1)]
    Unreadable(PathBuf, io::Error),
    /// It was not written by lictor.
    #[error("`{}` is something else than a snapshot, and is left as it is; name another file", .0.display())]
    Foreign(PathBuf),
    /// It has more than lictor would write.
    #[error("`{}` has more than {MAX_BYTES} bytes, and is left as it is; name another file", .0.display())]
    TooLarge(PathBuf),
    /// It was written by another version.
    #[error("`{}` has version {version}, and this program reads {VERSION}", .0.display(), version = .1)]
    Version(PathBuf, u64),
    /// It is not as it was written.
    #[error("`{}` is damaged: {why}", .0.display(), why = .1)]
    Torn(PathBuf, &'static str),
    /// It is about another datacenter or namespace.
    #[error("`{}` is about another `consul.datacenter` or `consul.namespace`", .0.display())]
    Elsewhere(PathBuf),
}

/// The first line of a file.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    lictor_topology: u64,
    at: String,
    bytes: usize,
    /// Of `at` and the second line.
    crc32: u32,
}

/// What is told of what was saved.
#[derive(Debug)]
pub struct Told {
    /// Which services expose themselves; `None`: nothing is known of that.
    pub exposed: Option<Change>,
    /// The lists of services that are wanted.
    pub lists: Vec<Update>,
}

impl Unusable {
    /// Whether what is there was lictor's own, so that a newer one may take its place.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        matches!(self, Self::Version(..) | Self::Torn(..) | Self::Elsewhere(..))
    }
}

impl Saved {
    /// Reads a file; `None`: there is none.
    ///
    /// # Errors
    /// It is of no use.
    pub fn read(path: &Path, asked: &Asked) -> Result<Option<Self>, Unusable> {
        let here = || path.to_owned();
        let unreadable = |error| Unusable::Unreadable(here(), error);
        let metadata = match fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unreadable(error)),
        };
        // A pipe would never end, a device neither.
        if !metadata.is_file() {
            return Err(Unusable::Foreign(here()));
        }
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(unreadable)?;
        file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.len() > MAX_BYTES {
            return Err(Unusable::TooLarge(here()));
        }
        let saved = Self::decode(&bytes, path)?;
        if saved.lists.asked == *asked { Ok(Some(saved)) } else { Err(Unusable::Elsewhere(here())) }
    }

    fn decode(bytes: &[u8], path: &Path) -> Result<Self, Unusable> {
        let torn = |why| Unusable::Torn(path.to_owned(), why);
        if !bytes.starts_with(BEGINNING) {
            // What a crash cut short is still the beginning of one.
            return Err(if BEGINNING.starts_with(bytes) {
                torn("it ends too early")
            } else {
                Unusable::Foreign(path.to_owned())
            });
        }
        let version = bytes[BEGINNING.len()..].iter().take_while(|b| b.is_ascii_digit());
        let version = version.fold(0_u64, |version, b| version.saturating_mul(10).saturating_add(u64::from(b - b'0')));
        if version != VERSION {
            return Err(Unusable::Version(path.to_owned(), version));
        }
        let end = bytes.iter().position(|b| *b == b'\n').ok_or_else(|| torn("it ends too early"))?;
        let head: Head = serde_json::from_slice(&bytes[..end]).map_err(|_| torn("its first line cannot be read"))?;
        let body = bytes[end + 1..].strip_suffix(b"\n").ok_or_else(|| torn("it ends too early"))?;
        if body.len() != head.bytes {
            return Err(torn("its length is not the one that was written"));
        }
        if crc32(&[head.at.as_bytes(), body]) != head.crc32 {
            return Err(torn("its checksum is not the one that was written"));
        }
        let at = humantime::parse_rfc3339(&head.at).map_err(|_| torn("its time cannot be read"))?;
        let lists = serde_json::from_slice(body).map_err(|_| torn("its lists cannot be read"))?;
        Ok(Self { at, lists })
    }

    /// What it says of services that are wanted now, exposed ones among them.
    #[must_use]
    pub fn tell(self, wanted: &Wanted) -> Told {
        let known = self.lists.tag.is_some() && self.lists.tag == wanted.expose_tag;
        let carriers = if known { self.lists.carriers } else { BTreeSet::new() };
        let plan = Plan::new(wanted, &carriers, None);
        let named = wanted.named().into_iter().flat_map(|datacenter| {
            let watched = Plan::new(wanted, &BTreeSet::new(), Some(&datacenter)).watched;
            watched.into_iter().map(move |(service, (query, _))| (service, query, Some(datacenter.clone())))
        });
        let watched = plan.watched.into_iter().map(|(service, (query, _))| (service, query, None)).chain(named);
        let mut lists: BTreeMap<(Query, Option<Datacenter>), Vec<Kept>> =
            self.lists.services.into_iter().map(|list| ((list.query, list.datacenter), list.instances)).collect();
        let lists = watched.filter_map(|(service, query, datacenter)| {
            let kept = lists.remove(&(query, datacenter.clone()))?;
            let mut update = Update { service, datacenter, instances: Vec::new(), rejected: Vec::new() };
            for kept in kept {
                let (id, datacenter) = (kept.id.as_str().into(), kept.datacenter.clone());
                match kept.instance().and_then(|instance| {
                    health::permit(instance.address.clone(), &wanted.deny)?;
                    Ok(instance)
                }) {
                    Ok(instance) => update.instances.push(instance),
                    Err(why) => update.rejected.push(Rejected { id, datacenter, why }),
                }
            }
            Some(update)
        });
        let lists = lists.collect();
        let exposed = Change::Exposed { services: plan.exposed, clashes: plan.clashes, index: self.lists.index };
        Told { exposed: known.then_some(exposed), lists }
    }
}

impl Lists {
    /// As it is written after the first line.
    ///
    /// # Errors
    /// It would be too large to be read again.
    pub fn encode(&self) -> io::Result<Vec<u8>> {
        let body = serde_json::to_vec(self)?;
        let most = MAX_BYTES - MAX_HEAD;
        if body.len() > most {
            return Err(io::Error::other(format!("the topology has {} bytes, more than {most}", body.len())));
        }
        Ok(body)
    }
}

/// Writes what was encoded, so that at any time the file is either the old one or the new one.
///
/// # Errors
/// What the system says.
pub fn write(path: &Path, at: SystemTime, body: &[u8]) -> io::Result<()> {
    let at = humantime::format_rfc3339_millis(at).to_string();
    let crc32 = crc32(&[at.as_bytes(), body]);
    let head = serde_json::to_vec(&Head { lictor_topology: VERSION, at, bytes: body.len(), crc32 })?;
    let beside = beside(path);
    // What an earlier run left, or a link that somebody has laid there.
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        for piece in [&head, b"\n".as_slice(), body, b"\n"] {
            file.write_all(piece)?;
        }
        file.sync_all()?;
        fs::rename(&beside, path)
    })();
    if written.is_err() {
        // The error that came first is the one to tell.
        let _ = fs::remove_file(&beside);
    }
    written?;
    // The name itself has to outlive a crash too.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    path.with_file_name(name)
}

impl Kept {
    /// As it is written.
    #[must_use]
    pub fn new(instance: &Instance) -> Self {
        let (host, port) = match &instance.address {
            Address::Ip(socket) => (socket.ip().to_string(), socket.port()),
            Address::Name(host, port) => (host.to_string(), *port),
        };
        Self {
            id: instance.id.to_string(),
            node: instance.node.clone(),
            host,
            port,
            health: instance.health,
            weight: instance.weight,
            tags: instance.tags.clone(),
            meta: instance.meta.clone(),
            datacenter: instance.datacenter.clone(),
            create_index: instance.create_index,
        }
    }

    fn instance(self) -> Result<Instance, AddressError> {
        Ok(Instance {
            id: self.id.into(),
            node: self.node,
            address: Address::new(&self.host, self.port.into())?,
            health: self.health,
            weight: self.weight,
            tags: self.tags,
            meta: self.meta,
            datacenter: self.datacenter,
            create_index: self.create_index,
        })
    }
}

impl Told {
    /// The lists that it has.
    pub fn names(&self) -> impl Iterator<Item = ListName> {
        self.lists.iter().map(|update| (update.service.clone(), update.datacenter.clone()))
    }
}

/// The checksum of these bytes one after the other, as of zip and Ethernet.
fn crc32(pieces: &[&[u8]]) -> u32 {
    let bytes = pieces.iter().copied().flatten();
    !bytes.fold(!0, |sum, byte| CRC[usize::from(byte ^ sum.to_le_bytes()[0])] ^ (sum >> 8))
}

const CRC: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0_u32;
    while byte < 256 {
        let (mut rest, mut bit) = (byte, 0);
        while bit < 8 {
            rest = if rest & 1 == 1 { (rest >> 1) ^ 0xEDB8_8320 } else { rest >> 1 };
            bit += 1;
        }
        table[byte as usize] = rest;
        byte += 1;
    }
    table
};

const VERSION: u64 = 1;
/// What every version begins with.
const BEGINNING: &[u8] = br#"{"lictor_topology":"#;
const MAX_BYTES: usize = 64 << 20;
const MAX_HEAD: usize = 1 << 10;

#[cfg(test)]
mod tests;
