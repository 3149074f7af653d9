//! What is written is read again, and nothing else is.

use std::time::Duration;

use super::*;

fn instance(id: &str, host: &str, port: u32) -> Instance {
    Instance {
        id: id.into(),
        node: "n1".into(),
        address: Address::new(host, port).unwrap(),
        health: Health::Warning,
        weight: 3,
        tags: vec!["lictor".into(), "v2".into()],
        meta: [("zone".to_owned(), "a".to_owned())].into(),
        datacenter: "dc1".into(),
        create_index: 7,
    }
}

fn saved() -> Saved {
    let list = |consul: &str, tag: Option<&str>, instances: &[Instance]| List {
        query: Query { consul: consul.into(), tag: tag.map(Into::into) },
        datacenter: None,
        instances: instances.iter().map(Kept::new).collect(),
    };
    let services = vec![
        list("web", Some("lictor"), &[instance("a", "10.0.0.1", 80), instance("b", "::1", 81)]),
        list("users", None, &[instance("c", "users.internal", 82)]),
        List { datacenter: Some("dc2".into()), ..list("users", None, &[instance("d", "10.2.0.1", 82)]) },
    ];
    Saved {
        at: SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123),
        lists: Lists {
            asked: Asked::default(),
            index: 41,
            tag: Some("lictor".into()),
            carriers: ["web".to_owned()].into(),
            services,
            document: Some(Document { key: "lictor/config".into(), text: "[http]\n".into() }),
        },
    }
}

fn written(saved: &Saved) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("topology.json");
    write(&path, saved.at, &saved.lists.encode().unwrap()).unwrap();
    (folder, path)
}

#[test]
fn what_is_written_is_read_again() {
    let saved = saved();
    let (folder, path) = written(&saved);
    assert_eq!(Saved::read(&path, &Asked::default()).unwrap(), Some(saved));
    let names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["topology.json"]);
    assert_eq!(Saved::read(&folder.path().join("none"), &Asked::default()).unwrap(), None);
}

#[test]
fn what_an_older_program_wrote_has_no_nodes_and_is_read() {
    let mut saved = saved();
    let (_folder, path) = written(&saved);
    let older = String::from_utf8(saved.lists.encode().unwrap()).unwrap().replace(r#""node":"n1","#, "");
    write(&path, saved.at, older.as_bytes()).unwrap();
    saved.lists.services.iter_mut().flat_map(|list| &mut list.instances).for_each(|kept| kept.node.clear());
    assert_eq!(Saved::read(&path, &Asked::default()).unwrap(), Some(saved));
}

#[test]
fn a_file_that_is_cut_or_changed_anywhere_is_not_believed() {
    let (_folder, path) = written(&saved());
    let whole = fs::read(&path).unwrap();
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        let error = Saved::read(&path, &Asked::default()).unwrap_err();
        assert!(error.is_ours() && matches!(error, Unusable::Torn(..) | Unusable::Version(..)), "{length}: {error}");
    }
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        fs::write(&path, bytes).unwrap();
        Saved::read(&path, &Asked::default()).expect_err(&format!("byte {at}"));
    }
}

#[test]
fn what_is_not_a_snapshot_is_told_by_what_it_is() {
    let (folder, path) = written(&saved());
    let other = Asked { datacenter: Some("dc2".into()), namespace: None };
    assert!(matches!(Saved::read(&path, &other), Err(Unusable::Elsewhere(_))));
    for (text, ours) in [("{\"lictor_topology\":2,\"new\":1}\n", true), ("[http]\n", false), ("{}", false)] {
        fs::write(&path, text).unwrap();
        let error = Saved::read(&path, &Asked::default()).unwrap_err();
        assert_eq!(error.is_ours(), ours, "{text}: {error}");
    }
    let foreign = Saved::read(folder.path(), &Asked::default()).unwrap_err();
    assert!(matches!(foreign, Unusable::Foreign(_)), "{foreign}");
    File::create(&path).unwrap().set_len(MAX_BYTES as u64 + 1).unwrap();
    assert!(matches!(Saved::read(&path, &Asked::default()), Err(Unusable::TooLarge(_))));
}

#[test]
fn only_what_is_wanted_now_is_told() {
    let query = |consul: &str, tag: Option<&str>| Query { consul: consul.into(), tag: tag.map(Into::into) };
    let wanted = Wanted {
        services: [("people".into(), query("users", None)), ("v2".into(), query("users", Some("v2")))].into(),
        taken: ["people".into(), "v2".into()].into(),
        expose_tag: Some("lictor".into()),
        deny: vec!["10.0.0.0/8".parse().unwrap()],
        max_watches: 64,
        ..Wanted::default()
    };
    let told = saved().tell(&wanted);
    let lists: Vec<_> = told
        .lists
        .iter()
        .map(|u| (u.service.as_str(), u.instances.iter().map(|i| i.id.as_str()).collect::<Vec<_>>(), u.rejected.len()))
        .collect();
    assert_eq!(lists, [("people", vec!["c"], 0), ("web", vec!["b"], 1)]);
    assert_eq!(told.lists[0].instances, [instance("c", "users.internal", 82)]);
    let Some(Change::Exposed { services, .. }) = told.exposed else { panic!("nothing is exposed") };
    assert_eq!(services, [("web".to_owned(), "web".into())].into());

    // What each datacenter had said is told as that datacenter's.
    let datacenters = [("people".into(), vec!["dc1".into(), "dc2".into()])].into();
    let told = saved().tell(&Wanted { datacenters, ..wanted.clone() });
    assert_eq!(told.names().collect::<Vec<_>>(), [("web".into(), None), ("people".into(), Some("dc2".into()))]);

    let told = saved().tell(&Wanted { expose_tag: Some("other".into()), ..wanted });
    assert!(told.exposed.is_none());
    assert_eq!(told.names().collect::<Vec<_>>(), [("people".into(), None)]);
}

#[test]
fn the_checksum_is_that_of_other_programs() {
    assert_eq!(crc32(&[b"1234", b"56789"]), 0xCBF4_3926);
}
