//! What a service's own tags ask for, and whether it may have that. Pure.

use std::fmt;

use crate::model::{
    host::{HostError, Scope},
    instance::Instance,
    path::encode_segment,
    pattern::{HostPattern, PathPattern, PatternError, Segment},
    protocol::{Protocol, UnknownProtocol},
};

/// The rules of `[expose]`.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The tag that exposes.
    pub tag: String,
    /// The path of a service whose tags claim none; `{service}` is its name.
    pub path: String,
    /// The rewrite that goes with it; `None`: the path as it came.
    pub rewrite: Option<String>,
    /// Path prefixes that tags may claim.
    pub allow: Vec<String>,
    /// Hosts that tags may claim.
    pub hosts: Vec<String>,
}

/// What a service claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exposure {
    /// A path pattern.
    pub path: String,
    /// A template for the path that upstream sees; `None`: the path as it came.
    pub rewrite: Option<String>,
    /// A host pattern; `None`: all hosts.
    pub host: Option<String>,
    /// What it speaks; `None`: the tags do not say.
    pub protocol: Option<Protocol>,
}

/// Why a claim cannot be honoured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nothing is known of its tags yet. This will pass.
    #[error("no instance with the tag has been seen yet")]
    Unseen,
    /// A tag that means nothing.
    #[error("tag `{tag}`: there is no `{key}`{}", near(key))]
    Key {
        /// The whole tag.
        tag: String,
        /// What it wants to set.
        key: String,
    },
    /// Two tags that set the same.
    #[error("tags `{0}` and `{1}` contradict each other")]
    Twice(String, String),
    /// A protocol that is not spoken to upstream.
    #[error("tag `lictor.protocol={0}`: {1}")]
    Protocol(String, UnknownProtocol),
    /// A path that is none.
    #[error("tag `lictor.path={0}`: {1}")]
    Path(String, PatternError),
    /// A path that tags may not claim.
    #[error("tag `lictor.path={0}`: not below any of `expose.allow`")]
    PathNotAllowed(String),
    /// A host that is none.
    #[error("tag `lictor.host={0}`: {1}")]
    Host(String, HostError),
    /// A host that tags may not claim.
    #[error("tag `lictor.host={0}`: not one of `expose.hosts`")]
    HostNotAllowed(String),
}

/// Reads the tags of a service's instances that carry the tag. `before` is what is in force, if anything is.
///
/// Where they disagree, what is in force stays until none of them asks for it; then, as at first, the oldest one decides.
///
/// # Errors
/// What the oldest one asks for cannot be honoured.
pub fn derive(
    service: &str,
    before: Option<&Exposure>,
    tagged: &[Instance],
    settings: &Settings,
) -> Result<Exposure, Refusal> {
    let claim = |instance: &Instance| Overrides::read(&instance.tags, settings)?.claim(service, settings);
    if let Some(before) = before
        && (tagged.is_empty() || tagged.iter().any(|instance| claim(instance).as_ref() == Ok(before)))
    {
        return Ok(before.clone());
    }
    let oldest = tagged.iter().min_by_key(|i| (i.create_index, &i.id, &i.address));
    oldest.map_or(Err(Refusal::Unseen), claim)
}

/// What a member asks for that is not in force, the oldest such one first; `None`: they are of one mind.
#[must_use]
pub fn dissent(service: &str, in_force: &Exposure, tagged: &[Instance], settings: &Settings) -> Option<String> {
    let mut oldest_first: Vec<_> = tagged.iter().collect();
    oldest_first.sort_by_key(|i| (i.create_index, &i.id, &i.address));
    oldest_first.into_iter().find_map(|instance| {
        let asks = match Overrides::read(&instance.tags, settings).and_then(|own| own.claim(service, settings)) {
            Ok(claim) if claim == *in_force => return None,
            Ok(claim) => format!("would have it serve {claim}"),
            Err(refusal) => format!("cannot be honoured: {refusal}"),
        };
        let id = &instance.id;
        Some(format!("instance `{id}` {asks}; what is in force stays until no instance asks for it: {in_force}"))
    })
}

impl fmt::Display for Exposure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.path)?;
        let parts = [("rewrite", &self.rewrite), ("host", &self.host)];
        for (name, value) in parts.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?))) {
            write!(f, " with {name} `{value}`")?;
        }
        self.protocol.map_or(Ok(()), |protocol| write!(f, " by `{protocol}`"))
    }
}

/// What one instance's tags override.
#[derive(Clone, Copy, Debug, Default)]
struct Overrides<'t> {
    path: Option<&'t str>,
    rewrite: Option<&'t str>,
    host: Option<&'t str>,
    protocol: Option<&'t str>,
}

impl<'t> Overrides<'t> {
    fn read(tags: &'t [String], settings: &Settings) -> Result<Self, Refusal> {
        let mut found = Self::default();
        for tag in tags.iter().filter(|tag| **tag != settings.tag) {
            let Some(text) = tag.strip_prefix(PREFIX) else { continue };
            let (key, value) = text.split_once('=').unwrap_or((text, ""));
            let place = match key {
                "path" => &mut found.path,
                "rewrite" => &mut found.rewrite,
                "host" => &mut found.host,
                "protocol" => &mut found.protocol,
                _ => return Err(Refusal::Key { tag: tag.clone(), key: format!("{PREFIX}{key}") }),
            };
            match place.replace(value) {
                Some(other) if other != value => {
                    return Err(Refusal::Twice(format!("{PREFIX}{key}={other}"), tag.clone()));
                }
                _ => {}
            }
        }
        Ok(found)
    }

    fn claim(self, service: &str, settings: &Settings) -> Result<Exposure, Refusal> {
        let spoken = |word: &str| word.parse().map_err(|why| Refusal::Protocol(word.to_owned(), why));
        let protocol = self.protocol.map(spoken).transpose()?;
        let named = |text: &str| text.replace("{service}", &encode_segment(service));
        let path = self.path.map_or_else(|| Ok(named(&settings.path)), |path| allowed_path(path, &settings.allow))?;
        // The rule's own rewrite belongs to the rule's own path.
        let usual = settings.rewrite.as_deref().filter(|_| self.path.is_none()).map(named);
        Ok(Exposure {
            path,
            // An empty one is the path as it came, as in the configuration.
            rewrite: self.rewrite.map_or(usual, |rewrite| (!rewrite.is_empty()).then(|| rewrite.to_owned())),
            host: self.host.map(|host| allowed_host(host, &settings.hosts)).transpose()?,
            protocol,
        })
    }
}

/// The pattern in its one form, if it lies below one of the prefixes.
fn allowed_path(path: &str, allow: &[String]) -> Result<String, Refusal> {
    let pattern: PathPattern = path.parse().map_err(|why| Refusal::Path(path.to_owned(), why))?;
    let below = |prefix: &String| prefix.parse().is_ok_and(|prefix| is_below(&pattern, &prefix));
    if allow.iter().any(below) { Ok(pattern.to_string()) } else { Err(Refusal::PathNotAllowed(path.to_owned())) }
}

/// Segment by segment, so that `/api/` is not about `/apix`. A parameter takes any text, so it satisfies none.
fn is_below(pattern: &PathPattern, prefix: &PathPattern) -> bool {
    let literal = |segment: &Segment| matches!(segment, Segment::Literal(_));
    let (claimed, wanted) = (pattern.segments(), prefix.segments());
    match wanted.split_last() {
        // `/api/` is about what follows that slash.
        Some((Segment::Literal(last), rest)) if last.is_empty() => {
            claimed.len() > rest.len() && claimed.starts_with(rest) && rest.iter().all(literal)
        }
        _ => claimed.starts_with(wanted) && wanted.iter().all(literal),
    }
}

/// The host in its one form, if it is one of those allowed.
fn allowed_host(host: &str, hosts: &[String]) -> Result<String, Refusal> {
    let claimed: HostPattern = host.parse().map_err(|why| Refusal::Host(host.to_owned(), why))?;
    let covers = |allowed: &String| {
        allowed.parse().is_ok_and(|allowed: HostPattern| {
            let under = claimed.name().strip_suffix(allowed.name()).is_some_and(|labels| labels.ends_with('.'));
            claimed == allowed || (allowed.scope() == Scope::Under && under)
        })
    };
    if hosts.iter().any(covers) { Ok(claimed.to_string()) } else { Err(Refusal::HostNotAllowed(host.to_owned())) }
}

/// The nearest key that there is, in words.
fn near(key: &str) -> String {
    let bare = key.strip_prefix(PREFIX).unwrap_or(key);
    let nearest = KEYS.iter().min_by_key(|known| strsim::osa_distance(bare, known));
    match nearest.filter(|known| strsim::osa_distance(bare, known) <= known.len() / 2) {
        Some(known) => format!("; is `{PREFIX}{known}` meant?"),
        None => format!("; known are {}", KEYS.map(|known| format!("`{PREFIX}{known}`")).join(", ")),
    }
}

const PREFIX: &str = "lictor.";
const KEYS: [&str; 4] = ["host", "path", "protocol", "rewrite"];

#[cfg(test)]
mod tests;
