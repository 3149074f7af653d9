//! What a service's own tags ask for, and whether it may have that. Pure.

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
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::instance::{Address, Health};

    fn settings() -> Settings {
        Settings {
            tag: "lictor".into(),
            path: "/api/v1/{service}/{*rest}".into(),
            rewrite: Some("/{rest}".into()),
            allow: vec!["/api/".into(), "/shop".into()],
            hosts: vec!["shop.example.com".into(), "*.apps.example.com".into()],
        }
    }

    fn instance(create_index: u64, tags: &[&str]) -> Instance {
        Instance {
            id: format!("i{create_index}").as_str().into(),
            address: Address::new("10.0.0.1", 80).unwrap(),
            health: Health::Passing,
            weight: 1,
            tags: ["lictor"].iter().chain(tags).map(|&tag| tag.to_owned()).collect(),
            meta: BTreeMap::new(),
            datacenter: "dc1".into(),
            create_index,
        }
    }

    fn exposure(path: &str, rewrite: Option<&str>, host: Option<&str>) -> Exposure {
        Exposure { path: path.into(), rewrite: rewrite.map(Into::into), host: host.map(Into::into), protocol: None }
    }

    fn one(tags: &[&str]) -> Result<Exposure, Refusal> {
        derive("web", None, &[instance(1, tags)], &settings())
    }

    type Case<'c> = (&'c [&'c str], &'c str, Option<&'c str>, Option<&'c str>);

    #[test]
    fn tags_override_the_rule_for_all() {
        let usual = "/api/v1/web/{*rest}";
        let cases: [Case<'_>; 8] = [
            (&[], usual, Some("/{rest}"), None),
            (&["v1", "lictors", "other=x"], usual, Some("/{rest}"), None),
            (&["lictor.path=/api/shop/{*rest}"], "/api/shop/{*rest}", None, None),
            (
                &["lictor.path=/api/shop/{*rest}", "lictor.rewrite=/s/{rest}?a=b"],
                "/api/shop/{*rest}",
                Some("/s/{rest}?a=b"),
                None,
            ),
            (&["lictor.rewrite=/v2/{rest}"], usual, Some("/v2/{rest}"), None),
            (&["lictor.host=Shop.Example.com"], usual, Some("/{rest}"), Some("shop.example.com")),
            (&["lictor.path=/shop", "lictor.path=/shop"], "/shop", None, None),
            (&["lictor.path=/api/%7euser"], "/api/~user", None, None),
        ];
        for (tags, path, rewrite, host) in cases {
            assert_eq!(one(tags), Ok(exposure(path, rewrite, host)), "{tags:?}");
        }
    }

    #[test]
    fn a_protocol_is_what_its_tag_says_or_nothing() {
        assert_eq!(one(&[]).unwrap().protocol, None);
        for protocol in Protocol::ALL {
            assert_eq!(one(&[&format!("lictor.protocol={protocol}")]).unwrap().protocol, Some(protocol));
        }
    }

    #[test]
    fn a_service_name_is_one_segment_of_the_path() {
        let exposure = derive("a/b c", None, &[instance(1, &[])], &settings()).unwrap();
        assert_eq!(exposure.path, "/api/v1/a%2Fb%20c/{*rest}");
    }

    #[test]
    fn a_claimed_path_lies_below_an_allowed_prefix() {
        let cases = [
            ("/api/x", true),
            ("/api/{id}", true),
            ("/api/{*rest}", true),
            ("/api/", true),
            ("/shop", true),
            ("/shop/{*rest}", true),
            ("/%61pi/x", true),
            ("/api", false),
            ("/apix", false),
            ("/apix/y", false),
            ("/API/x", false),
            ("/shopping", false),
            ("/{x}/y", false),
            ("/{*rest}", false),
            ("/", false),
            ("//api/x", false),
            ("/x/api/y", false),
            ("/api%2Fx", false),
        ];
        for (path, allowed) in cases {
            let told = one(&[&format!("lictor.path={path}")]);
            let refused = matches!(told, Err(Refusal::PathNotAllowed(_)));
            assert_eq!((told.is_ok(), refused), (allowed, !allowed), "{path}");
        }
        assert!(matches!(one(&["lictor.path=/api/../x"]), Err(Refusal::Path(..))));
        assert!(matches!(one(&["lictor.path="]), Err(Refusal::Path(..))));
        let open = Settings { allow: vec!["/".into()], ..settings() };
        assert!(derive("web", None, &[instance(1, &["lictor.path=/{*all}"])], &open).is_ok());
        let odd = Settings { allow: vec!["/{any}/".into(), "nonsense".into()], ..settings() };
        assert!(derive("web", None, &[instance(1, &["lictor.path=/{any}/x"])], &odd).is_err());
    }

    #[test]
    fn a_claimed_host_is_one_of_those_allowed() {
        let cases = [
            ("shop.example.com", true),
            ("a.apps.example.com", true),
            ("a.b.apps.example.com", true),
            ("*.apps.example.com", true),
            ("*.a.apps.example.com", true),
            ("apps.example.com", false),
            ("badapps.example.com", false),
            ("*.shop.example.com", false),
            ("*.example.com", false),
            ("a.shop.example.com", false),
        ];
        for (host, allowed) in cases {
            let told = one(&[&format!("lictor.host={host}")]);
            let refused = matches!(told, Err(Refusal::HostNotAllowed(_)));
            assert_eq!((told.is_ok(), refused), (allowed, !allowed), "{host}");
        }
        assert!(matches!(one(&["lictor.host=a b"]), Err(Refusal::Host(..))));
    }

    #[test]
    fn a_tag_that_cannot_be_honoured_is_named() {
        let cases: [(&[&str], &str); 5] = [
            (&["lictor.pth=/x"], "tag `lictor.pth=/x`: there is no `lictor.pth`; is `lictor.path` meant?"),
            (
                &["lictor.weight=3"],
                "tag `lictor.weight=3`: there is no `lictor.weight`; \
                 known are `lictor.host`, `lictor.path`, `lictor.protocol`, `lictor.rewrite`",
            ),
            (
                &["lictor.protocol=smtp"],
                "tag `lictor.protocol=smtp`: expected `http`, `h2c`, `https`, `grpc` or `grpcs`",
            ),
            (
                &["lictor.path=/shop", "lictor.path=/api/x"],
                "tags `lictor.path=/shop` and `lictor.path=/api/x` contradict each other",
            ),
            (&["lictor.path=/admin"], "tag `lictor.path=/admin`: not below any of `expose.allow`"),
        ];
        for (tags, want) in cases {
            assert_eq!(one(tags).unwrap_err().to_string(), want, "{tags:?}");
        }
    }

    #[test]
    fn what_is_in_force_stays_until_no_member_asks_for_it() {
        let (old, new) = (instance(1, &["lictor.path=/shop/old"]), instance(2, &["lictor.path=/shop/new"]));
        let claims = |path| exposure(path, None, None);
        let both = [new.clone(), old.clone()];
        assert_eq!(derive("web", None, &both, &settings()), Ok(claims("/shop/old")));
        assert_eq!(derive("web", Some(&claims("/shop/new")), &both, &settings()), Ok(claims("/shop/new")));
        assert_eq!(derive("web", Some(&claims("/shop/old")), &[new], &settings()), Ok(claims("/shop/new")));
        assert_eq!(derive("web", Some(&claims("/shop/gone")), &both, &settings()), Ok(claims("/shop/old")));
        assert_eq!(derive("web", Some(&claims("/shop/old")), &[], &settings()), Ok(claims("/shop/old")));
        assert_eq!(derive("web", None, &[], &settings()), Err(Refusal::Unseen));
        // A newcomer with a bad tag takes nothing away; the oldest one does.
        let bad = instance(0, &["lictor.nonsense"]);
        assert_eq!(
            derive("web", Some(&claims("/shop/old")), &[bad.clone(), old.clone()], &settings()),
            Ok(claims("/shop/old"))
        );
        assert!(derive("web", None, &[bad, old], &settings()).is_err());
    }

    #[test]
    fn a_tag_of_the_same_beginning_may_expose() {
        let own = Settings { tag: "lictor.on".into(), ..settings() };
        assert!(derive("web", None, &[instance(1, &["lictor.on"])], &own).is_ok());
    }
}
