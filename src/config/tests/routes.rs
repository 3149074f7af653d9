//! Routes beside each other and beside what the gateway answers itself.

use super::*;

fn route(path: &str) -> String {
    format!("[[routes]]\nservice = 's'\nmatch.path = '{path}'\n")
}

const SERVICE: &str = "[services.s]\ninstances = ['10.0.0.1:1']\n";

#[test]
fn a_route_that_takes_the_same_requests_as_another_is_named_with_that_wherever_it_was_written() {
    let same =
        |first: &str| format!("takes the same requests as the route {first}; give one of them another condition");
    let one = |path: &str| format!("{{service = 's', match = {{path = '{path}'}}}}");
    let set =
        |paths: &[&str]| format!("routes=[{}]", paths.iter().map(|path| one(path)).collect::<Vec<_>>().join(", "));
    let both = World::files(&[("a.toml", &format!("{SERVICE}{}", route("/a/{x}"))), ("b.toml", &route("/b"))]);
    let both = both.sets(&[&set(&["/c", "/a/{y}", "/c", "/b"])]);
    let want = [
        format!("--set routes[3].match: {}", same("in a.toml:3")),
        format!("--set routes[4].match: {}", same("`routes[2]`")),
        format!("--set routes[5].match: {}", same("in b.toml:1")),
    ];
    assert_eq!(both.problems(), want);
    let named =
        "{name = 'n', service = 's', match = {path = '/1'}}, {name = 'n', service = 's', match = {path = '/2'}}";
    assert_eq!(
        World::file(SERVICE).sets(&[&format!("routes=[{named}]")]).problems(),
        ["--set routes[1].name: `n` is the name of the route `routes[0]` already; give this one another"]
    );
}

#[test]
fn a_route_at_the_path_of_the_health_report_is_doubted() {
    let doubts = |health: &str, path: &str| {
        let world = World::file(&format!("http.health = '{health}'\n{SERVICE}{}", route(path)));
        assert_eq!(world.problems(), [""; 0]);
        doubts_of(&world.sources, None, &world.variables).iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    for (health, path, doubted) in [
        ("/health", "/health", true),
        ("/heal%74h", "/he%61lth", true),
        ("/health", "/health/", false),
        ("/health", "/{x}", false),
        ("/health", "/health/{*rest}", false),
        ("/other", "/health", false),
        ("", "/health", false),
    ] {
        let said = doubts(health, path);
        assert_eq!(said.len(), usize::from(doubted), "{health} {path}: {said:?}");
        let why = "lictor.toml:6 routes[0].match.path: the gateway answers this path itself, so the route never does; give it \
                   another one, or set `http.health`";
        assert!(said.iter().all(|said| said.ends_with(why)), "{said:?}");
    }
}
