//! What is asked to find what changed, and what its answers mean.

use super::*;

fn marks(services: &[(&str, u64)]) -> BTreeMap<String, Mark> {
    services.iter().map(|&(name, sum)| (name.to_owned(), Mark { sum, newest: 0 })).collect()
}

fn names<const N: usize>(nodes: [&str; N]) -> BTreeSet<String> {
    nodes.map(str::to_owned).into()
}

fn later(now: Instant) -> Instant {
    now + INTERVAL
}

fn node(name: &str) -> Ask {
    Ask::Node(name.into())
}

/// One that may not read all nodes at once.
fn refused(now: Instant) -> Hunt {
    Hunt { refused: Some(now), ..Hunt::new() }
}

fn whole(nodes: &[(&str, &[(&str, u64)])]) -> BTreeMap<String, BTreeMap<String, Mark>> {
    nodes.iter().map(|&(node, services)| (node.to_owned(), marks(services))).collect()
}

#[tokio::test(start_paused = true)]
async fn what_differs_on_any_node_is_found_by_one_question() {
    let (mut hunt, mut now) = (Hunt::new(), Instant::now());
    assert_eq!(hunt.next(now), Err(None));
    let mut round = |nodes: &[(&str, &[(&str, u64)])]| {
        now += INTERVAL;
        hunt.begin();
        assert_eq!(hunt.next(now), Ok((Ask::Whole, Turn::Free)));
        assert_eq!(hunt.next(now), Err(None), "the answer is awaited");
        let names = hunt.take_whole(whole(nodes), now);
        assert!(hunt.has_ended());
        names
    };
    assert_eq!(round(&[("a", &[("web", 1)]), ("b", &[("web", 1), ("shop", 1)])]), names(["shop", "web"]));
    assert_eq!(round(&[("a", &[("web", 1)]), ("b", &[("web", 1), ("shop", 2)])]), names(["shop"]));
    assert_eq!(round(&[("a", &[("web", 1)]), ("b", &[("shop", 2)])]), names(["web"]));
    assert_eq!(round(&[("a", &[("web", 1)])]), names(["shop"]), "a node is gone");
    assert_eq!(round(&[("a", &[("web", 1)]), ("c", &[("new", 3)])]), names(["new"]));
    assert_eq!(round(&[("a", &[("web", 1)]), ("c", &[("new", 3)])]), names([]));
}

#[tokio::test(start_paused = true)]
async fn what_was_asked_for_nothing_is_paid_for_once_and_what_found_something_is_not() {
    let (mut hunt, mut now) = (Hunt::new(), Instant::now());
    let bills: Vec<_> = [1, 1, 2, 2]
        .map(|sum| {
            now += EVEN_INTERVAL;
            hunt.begin();
            let (_, turn) = hunt.next(now).unwrap();
            hunt.take_whole(whole(&[("a", &[("web", sum)])]), now);
            (turn, hunt.bill(), hunt.bill())
        })
        .into();
    let free = Turn::Free;
    // What gave the sign is paid for as well.
    assert_eq!(bills, [(free, 0, 0), (free, 2, 0), (Turn::First, 0, 0), (Turn::First, 0, 0)]);

    let (mut hunt, now) = (refused(now), now);
    hunt.begin();
    hunt.next(now).unwrap();
    hunt.take_nodes(names(["a", "b"]), now);
    for name in ["a", "b"] {
        hunt.next(now).unwrap();
        hunt.take_node(name.into(), marks(&[]), now);
    }
    assert_eq!(hunt.bill(), 4, "the sign, the list of nodes, and each of the two");
}

#[tokio::test(start_paused = true)]
async fn after_a_sign_for_nothing_all_is_asked_for_at_even_times_for_a_while() {
    let (mut hunt, mut now) = (Hunt::new(), Instant::now());
    let web = |sum| whole(&[("a", &[("web", sum)])]);
    for sum in [1, 1] {
        now += INTERVAL;
        hunt.begin();
        hunt.next(now).unwrap();
        hunt.take_whole(web(sum), now);
    }
    assert!(!hunt.is_trusted(now));
    let vain = now;
    // No sign is needed for it, nor makes it come sooner.
    while now + EVEN_INTERVAL < vain + DISTRUST {
        let due = now + EVEN_INTERVAL;
        assert_eq!(hunt.next(now + INTERVAL), Err(Some(due)));
        now = due;
        assert_eq!(hunt.next(now), Ok((Ask::Whole, Turn::First)));
        assert_eq!(hunt.take_whole(web(1), now), names([]));
    }
    assert_eq!(hunt.next(vain + DISTRUST), Err(None), "without another sign that is all");
    assert!(hunt.is_trusted(vain + DISTRUST));

    hunt.begin();
    now = vain + DISTRUST + EVEN_INTERVAL;
    hunt.next(now).unwrap();
    hunt.take_whole(web(1), now);
    let vain = now;
    now += EVEN_INTERVAL;
    hunt.begin();
    hunt.next(now).unwrap();
    assert_eq!(hunt.take_whole(web(2), now), names(["web"]));
    assert!(!hunt.is_trusted(now), "the next may be for nothing again");
    assert!(hunt.is_trusted(vain + DISTRUST));
}

#[tokio::test(start_paused = true)]
async fn what_takes_long_to_tell_is_asked_for_less_often() {
    for (took, pause) in [(10, 250), (100, 500), (1000, 5000), (4000, 8000), (9000, 9000)] {
        let (mut hunt, now) = (Hunt::new(), Instant::now());
        hunt.begin();
        hunt.next(now).unwrap();
        hunt.begin();
        let later = now + Duration::from_millis(took);
        hunt.take_whole(whole(&[("a", &[("web", took)])]), later);
        let due = now + Duration::from_millis(pause);
        let next = hunt.next(later);
        if due > later {
            assert_eq!(next, Err(Some(due)), "{took}");
        } else {
            assert_eq!(next, Ok((Ask::Whole, Turn::Free)), "{took}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn where_it_is_refused_to_tell_of_all_nodes_each_is_asked_and_after_a_minute_all_again() {
    let (mut hunt, now) = (Hunt::new(), Instant::now());
    hunt.begin();
    assert_eq!(hunt.next(now), Ok((Ask::Whole, Turn::Free)));
    hunt.refuse_whole(now);
    assert_eq!(hunt.next(now), Ok((Ask::Nodes, Turn::Free)));
    hunt.take_nodes(names([]), now);
    hunt.begin();
    assert_eq!(hunt.next(now + INTERVAL).unwrap().0, Ask::Nodes);
    hunt.take_nodes(names([]), now);
    hunt.begin();
    assert_eq!(hunt.next(now + REFUSAL_LASTS).unwrap().0, Ask::Whole);
    hunt.refuse_whole(now);
    hunt.next(now + REFUSAL_LASTS).unwrap();
    hunt.take_nodes(names([]), now);
    hunt.begin_anew();
    assert_eq!(hunt.next(now + REFUSAL_LASTS + INTERVAL).unwrap().0, Ask::Whole, "it is another Consul");
}

#[tokio::test(start_paused = true)]
async fn what_differs_on_a_node_is_found() {
    let now = Instant::now();
    let mut hunt = refused(now);
    assert_eq!(hunt.next(now), Err(None));
    hunt.begin();
    assert_eq!(hunt.next(now), Ok((Ask::Nodes, Turn::Free)));
    assert_eq!(hunt.next(now), Err(None), "the answer is awaited");
    assert!(!hunt.take_nodes(names(["a", "b"]), now));
    assert_eq!(hunt.next(now), Ok((node("a"), Turn::Free)));
    assert_eq!(hunt.next(now), Ok((node("b"), Turn::Free)));
    assert_eq!(hunt.take_node("b".into(), marks(&[("web", 1)]), now), ["web"]);
    assert!(!hunt.has_ended());
    hunt.take_node("a".into(), marks(&[("web", 2), ("shop", 3)]), now);
    assert!(hunt.has_ended());
    assert_eq!(hunt.next(later(now)), Err(None));

    hunt.begin();
    let later = later(now);
    assert_eq!(hunt.next(now), Err(Some(later)), "four times a second at most");
    assert!(hunt.next(later).is_ok());
    // `b` is gone, and so is what was on it: a check of its services or their own lists say so.
    hunt.take_nodes(names(["a"]), later);
    hunt.next(later).unwrap();
    hunt.begin();
    assert_eq!(hunt.take_node("a".into(), marks(&[("web", 9)]), later), ["web", "shop"]);
    let after = later + INTERVAL;
    assert_eq!(hunt.next(after), Ok((Ask::Nodes, Turn::Free)), "what changed meanwhile is looked for again");
}

#[tokio::test(start_paused = true)]
async fn after_two_in_vain_the_next_ones_wait_their_turn() {
    const F: Turn = Turn::Free;
    const C: Turn = Turn::Charged;
    let mut now = Instant::now();
    let mut hunt = refused(now);
    let round = |hunt: &mut Hunt, now: Instant, sum| {
        hunt.begin();
        let (_, turn) = hunt.next(now).unwrap();
        hunt.take_nodes(names(["a"]), now);
        hunt.next(now).unwrap();
        hunt.take_node("a".into(), marks(&[("web", sum)]), now);
        turn
    };
    for (sum, want) in [(1, F), (1, F), (1, C), (1, Turn::Waits), (2, Turn::Waits), (2, F), (2, C), (2, Turn::Waits)] {
        assert_eq!(round(&mut hunt, now, sum), want);
        now += INTERVAL;
    }
    assert!(!hunt.is_trusted(now));
    assert!(hunt.is_trusted(now + DISTRUST));
}

#[tokio::test(start_paused = true)]
async fn many_nodes_are_not_read_one_by_one() {
    let now = Instant::now();
    let mut hunt = refused(now);
    hunt.begin();
    hunt.next(now).unwrap();
    assert!(hunt.take_nodes((0..=MAX_NODES).map(|n| n.to_string()).collect(), now));
    assert_eq!(hunt.next(later(now)), Err(None));
    (0..IN_VAIN).for_each(|_| hunt.swept(false, now));
    assert!(!hunt.is_trusted(now) && hunt.is_trusted(now + DISTRUST));
    hunt.swept(true, now);
    assert!(hunt.is_trusted(now));
    hunt.begin();
    hunt.next(later(now)).unwrap();
    hunt.give_up();
    assert_eq!(hunt.next(later(later(now))), Err(None));
}

#[tokio::test(start_paused = true)]
async fn what_could_not_be_read_is_looked_for_again_but_not_at_once() {
    let now = Instant::now();
    let mut hunt = refused(now);
    hunt.begin();
    hunt.next(now).unwrap();
    hunt.retry(now);
    assert_eq!(hunt.next(now), Err(Some(now + RETRY)));
    assert_eq!(hunt.next(now + RETRY), Ok((Ask::Nodes, Turn::Waits)));
}
