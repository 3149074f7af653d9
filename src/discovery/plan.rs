//! What is to be watched, out of what is configured and which services carry the tag. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::{Query, Wanted};
use crate::model::name::{Datacenter, ServiceName};

/// What is to be watched in one datacenter, and what is to be told of exposed services.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Each service's query, and why it is asked.
    pub watched: Watched,
    /// Exposed services: names in Consul and ours.
    pub exposed: BTreeMap<String, ServiceName>,
    /// Names in Consul that carry the tag in vain, for a table of that name means another service.
    pub clashes: BTreeSet<String>,
}

/// Why a service is watched. When this changes, its list is wanted anew even if the query stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// A table names it.
    Table,
    /// It carries the tag.
    Tag,
}

impl Plan {
    /// Decides for `carriers`, the names in Consul that carry the tag. `here` is the datacenter; `None`: the one that is
    /// asked by default.
    pub fn new(wanted: &Wanted, carriers: &BTreeSet<String>, here: Option<&Datacenter>) -> Self {
        let tables = wanted.services.iter().filter(|(name, _)| wanted.is_in(name, here));
        let tables = tables.map(|(name, query)| (name.clone(), (query.clone(), Cause::Table)));
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

    /// Takes out those that have no blocking query of their own, where not more than `most` may be held. All others
    /// share two. Tables come first; of equals, those that have a query already.
    pub fn share(&mut self, most: usize, exposes: bool, has: impl Fn(&ServiceName) -> bool) -> Watched {
        if self.watched.len() + usize::from(exposes) <= most {
            return Watched::new();
        }
        let mut all: Vec<_> =
            self.watched.iter().map(|(name, (_, cause))| (*cause, !has(name), name.clone())).collect();
        all.sort_unstable();
        let shared = all.split_off(most.saturating_sub(SHARED_QUERIES).min(all.len()));
        shared.into_iter().filter_map(|(.., name)| self.watched.remove_entry(&name)).collect()
    }
}

/// How many of `most` blocking queries may be held for this datacenter. Those that services name get what they need as
/// far as it is no more than an equal part; the one that is asked by default gets the rest.
pub fn places(wanted: &Wanted, most: usize, here: Option<&Datacenter>) -> usize {
    let named = wanted.named();
    let part = (most / (named.len() + 1)).max(SHARED_QUERIES);
    let needs = |datacenter: &Datacenter| {
        let services = wanted.datacenters.iter().filter(|(_, all)| all.contains(datacenter));
        services.count().min(part)
    };
    match here {
        Some(here) => needs(here),
        None => most.saturating_sub(named.iter().map(needs).sum()).max(SHARED_QUERIES),
    }
}

/// Services, what is asked about each, and why.
pub type Watched = BTreeMap<ServiceName, (Query, Cause)>;

/// The catalog's, and that of all checks.
const SHARED_QUERIES: usize = 2;

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
            max_watches: 64,
            ..Wanted::default()
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
            let plan = Plan::new(&wanted(tables, fixed), &["web".to_owned()].into(), None);
            assert_eq!(plan.exposed.get("web").map(ServiceName::as_str), want, "{tables:?} {fixed:?}");
            assert_eq!(plan.clashes.contains("web"), want.is_none(), "{tables:?} {fixed:?}");
        }
    }

    #[test]
    fn a_table_is_watched_by_its_own_query_and_the_rest_by_the_tag() {
        let wanted = wanted(&[("front", "web", None), ("web-v1", "web", Some("v1"))], &[]);
        let plan = Plan::new(&wanted, &["web".to_owned(), "shop".to_owned()].into(), None);
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
        let plan = Plan::new(&wanted, &["web".to_owned()].into(), None);
        assert_eq!((plan.watched.len(), plan.exposed.len(), plan.clashes.len()), (1, 0, 0));
    }

    #[test]
    fn beyond_so_many_services_share_and_tables_do_so_last() {
        let wanted = wanted(&[("t1", "t1", None), ("t2", "t2", None)], &[]);
        // How many may be held, who has a query already, and who gets one.
        let cases: [(usize, &[&str], &[&str]); 6] = [
            (6, &[], &["a", "b", "c", "t1", "t2"]),
            (5, &[], &["a", "t1", "t2"]),
            (5, &["b"], &["b", "t1", "t2"]),
            (4, &["a", "b", "c"], &["t1", "t2"]),
            (3, &["t2"], &["t2"]),
            (2, &["a"], &[]),
        ];
        for (most, has, want) in cases {
            let mut plan = Plan::new(&wanted, &["a", "b", "c"].map(str::to_owned).into(), None);
            let shared = plan.share(most, true, |name| has.contains(&name.as_str()));
            let own: Vec<_> = plan.watched.keys().map(ServiceName::as_str).collect();
            assert_eq!(own, want, "{most} {has:?}");
            assert_eq!(own.len() + shared.len(), 5, "{most} {has:?}");
        }
    }

    #[test]
    fn a_service_is_looked_for_in_the_datacenters_that_it_names_and_keeps_its_tables_name() {
        let mut wanted = wanted(&[("users", "user-service", None), ("web", "web", None)], &[]);
        wanted.datacenters.insert("users".into(), vec!["dc2".into(), "dc3".into()]);
        let watched = |plan: &Plan| plan.watched.keys().map(ToString::to_string).collect::<Vec<_>>();
        let carriers = ["user-service".to_owned()].into();
        let default = Plan::new(&wanted, &carriers, None);
        assert_eq!(watched(&default), ["web"]);
        assert_eq!(default.exposed["user-service"].as_str(), "users");
        for (here, want) in [("dc2", vec!["users"]), ("dc3", vec!["users"]), ("dc1", vec![])] {
            assert_eq!(watched(&Plan::new(&wanted, &BTreeSet::new(), Some(&here.into()))), want, "{here}");
        }
    }

    #[test]
    fn datacenters_share_the_queries_that_may_be_held() {
        let mut wanted = wanted(&[], &[]);
        let in_both = |n: usize| (format!("s{n}").into(), vec!["dc2".into(), "dc3".into()]);
        // Services in both, queries that may be held, and those for the default one and each of the two.
        for (services, most, want) in [
            (0, 64, [64, 0, 0]),
            (5, 64, [54, 5, 5]),
            (30, 64, [22, 21, 21]),
            (1, 4, [2, 1, 1]),
            (30, 6, [2, 2, 2]),
            (30, 2, [2, 2, 2]),
        ] {
            wanted.datacenters = (0..services).map(in_both).collect();
            let here = [None, Some("dc2".into()), Some("dc3".into())];
            assert_eq!(here.map(|here| places(&wanted, most, here.as_ref())), want, "{services} {most}");
        }
    }
}
