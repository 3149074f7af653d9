//! What is to be watched, out of what is configured and which services carry the tag. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::{Query, Wanted};
use crate::model::name::ServiceName;

/// What is to be watched, and what is to be told of exposed services.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Each service's query, and why it is asked.
    pub watched: BTreeMap<ServiceName, (Query, Cause)>,
    /// Exposed services: names in Consul and ours.
    pub exposed: BTreeMap<String, ServiceName>,
    /// Names in Consul that carry the tag in vain, for a table of that name means another service.
    pub clashes: BTreeSet<String>,
}

/// Why a service is watched. When this changes, its list is wanted anew even if the query stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A table names it.
    Table,
    /// It carries the tag.
    Tag,
}

impl Plan {
    /// Decides for `carriers`, the names in Consul that carry the tag.
    pub fn new(wanted: &Wanted, carriers: &BTreeSet<String>) -> Self {
        let tables = wanted.services.iter().map(|(name, query)| (name.clone(), (query.clone(), Cause::Table)));
        let mut plan = Self { watched: tables.collect(), ..Self::default() };
        let Some(tag) = &wanted.expose_tag else { return plan };
        for consul in carriers {
            match table(wanted, consul, tag) {
                Some(name) => drop(plan.exposed.insert(consul.clone(), name.clone())),
                None if wanted.taken.contains(consul.as_str()) => drop(plan.clashes.insert(consul.clone())),
                None => {
                    let name = ServiceName::from(consul.as_str());
                    let query = Query { consul: consul.clone(), tag: Some(tag.clone()) };
                    plan.watched.insert(name.clone(), (query, Cause::Tag));
                    plan.exposed.insert(consul.clone(), name);
                }
            }
        }
        plan
    }
}

/// The table whose name a service in Consul goes by.
fn table<'w>(wanted: &'w Wanted, consul: &str, tag: &str) -> Option<&'w ServiceName> {
    let named = || wanted.services.iter().filter(|(_, query)| query.consul == consul);
    let with = |tag: Option<&str>| named().find(|(_, query)| query.tag.as_deref() == tag);
    // One of the service's own name is meant, even where it wants another tag: there is no other name to give.
    let own = || named().find(|(name, _)| name.as_str() == consul);
    with(None).or_else(|| with(Some(tag))).or_else(own).map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(tables: &[(&str, &str, Option<&str>)], fixed: &[&str]) -> Wanted {
        let query = |consul: &str, tag: Option<&str>| Query { consul: consul.into(), tag: tag.map(Into::into) };
        let names = tables.iter().map(|(name, ..)| *name);
        Wanted {
            services: tables.iter().map(|&(name, consul, tag)| (name.into(), query(consul, tag))).collect(),
            taken: names.chain(fixed.iter().copied()).map(Into::into).collect(),
            expose_tag: Some("lictor".into()),
            deny: Vec::new(),
        }
    }

    type Case<'c> = (&'c [(&'c str, &'c str, Option<&'c str>)], &'c [&'c str], Option<&'c str>);

    #[test]
    fn an_exposed_service_goes_by_its_tables_name() {
        // Tables, fixed tables, and as what the service `web` of Consul is exposed.
        let cases: [Case<'_>; 9] = [
            (&[], &[], Some("web")),
            (&[("users", "user-service", None)], &["files"], Some("web")),
            (&[("web", "web", None)], &[], Some("web")),
            (&[("front", "web", None)], &[], Some("front")),
            (&[("a", "web", Some("lictor")), ("b", "web", None)], &[], Some("b")),
            (&[("a", "web", Some("v1")), ("b", "web", Some("lictor"))], &[], Some("b")),
            (&[("a", "web", Some("v1"))], &[], Some("web")),
            (&[("web", "other", None)], &[], None),
            (&[], &["web"], None),
        ];
        for (tables, fixed, want) in cases {
            let plan = Plan::new(&wanted(tables, fixed), &["web".to_owned()].into());
            assert_eq!(plan.exposed.get("web").map(ServiceName::as_str), want, "{tables:?} {fixed:?}");
            assert_eq!(plan.clashes.contains("web"), want.is_none(), "{tables:?} {fixed:?}");
        }
    }

    #[test]
    fn a_table_is_watched_by_its_own_query_and_the_rest_by_the_tag() {
        let wanted = wanted(&[("front", "web", None), ("web-v1", "web", Some("v1"))], &[]);
        let plan = Plan::new(&wanted, &["web".to_owned(), "shop".to_owned()].into());
        let query = |consul: &str, tag: Option<&str>| Query { consul: consul.into(), tag: tag.map(Into::into) };
        let want = [
            ("front", query("web", None), Cause::Table),
            ("shop", query("shop", Some("lictor")), Cause::Tag),
            ("web-v1", query("web", Some("v1")), Cause::Table),
        ];
        assert_eq!(plan.watched, want.into_iter().map(|(name, query, cause)| (name.into(), (query, cause))).collect());
    }

    #[test]
    fn without_a_tag_nothing_is_exposed() {
        let wanted = Wanted { expose_tag: None, ..wanted(&[("a", "a", None)], &[]) };
        let plan = Plan::new(&wanted, &["web".to_owned()].into());
        assert_eq!((plan.watched.len(), plan.exposed.len(), plan.clashes.len()), (1, 0, 0));
    }
}
