//! When each of those that share is asked for.

use super::*;

fn shared(names: &[&str], now: Instant) -> Shared {
    let query = |name: &&str| Query { consul: (*name).to_owned(), tag: None };
    let mut shared = Shared::default();
    shared.set(names.iter().map(|name| ((*name).into(), (query(name), Cause::Table))).collect(), now);
    shared
}

/// Asks all that is due by then and answers it with nobody; how many that were.
fn answer(shared: &mut Shared, now: Instant) -> usize {
    let mut count = 0;
    while let Ok(job) = shared.next(now) {
        shared.answered(&job.service, job.number, &Instances::default(), now);
        count += 1;
    }
    count
}

#[tokio::test(start_paused = true)]
async fn a_sweep_that_finds_nothing_is_told_and_one_that_is_not_likely_to_takes_its_time() {
    let mut now = Instant::now();
    let names: Vec<_> = (0..40).map(|n| format!("s{n}")).collect();
    let mut shared = shared(&names.iter().map(String::as_str).collect::<Vec<_>>(), now);
    assert_eq!((answer(&mut shared, now), shared.swept()), (40, None));
    for (is_likely, in_a_second) in [(true, 40), (false, 13)] {
        now += Duration::from_secs(10);
        shared.sweep(now, is_likely);
        let swept: usize = (0..100).map(|step| answer(&mut shared, now + 10 * step * MS)).sum();
        assert_eq!(swept, in_a_second, "{is_likely}");
        answer(&mut shared, now + Duration::from_secs(4));
        assert_eq!((shared.swept(), shared.swept()), (Some(false), None), "{is_likely}");
    }
    now += Duration::from_secs(10);
    shared.sweep(now, true);
    let Ok(job) = shared.next(now) else { panic!("nothing is due") };
    shared.failed(&job.service, job.number, now);
    answer(&mut shared, now + Duration::from_secs(1));
    assert_eq!(shared.swept(), Some(true), "what failed may have had news");
}

#[tokio::test(start_paused = true)]
async fn news_of_one_that_waits_its_turn_does_not_wait() {
    let mut now = Instant::now();
    let mut shared = shared(&["a", "b"], now);
    assert_eq!(answer(&mut shared, now), 2);
    now += 2 * MIN_LAP;
    let Ok(waits) = shared.next(now) else { panic!("nothing is due") };
    assert_eq!(waits.turn, Turn::Waits);
    shared.touch(&waits.query.consul, now);
    let Ok(asked) = shared.next(now) else { panic!("news waits") };
    assert_eq!((&asked.service, asked.turn), (&waits.service, Turn::Free));
    assert_eq!(shared.answered(&waits.service, waits.number, &Instances::default(), now), None, "nobody waits for it");
    assert_eq!(shared.answered(&asked.service, asked.number, &Instances::default(), now), Some(false));
    assert_eq!(answer(&mut shared, now), 1, "the other one's turn");
    assert_eq!((shared.under_way, shared.waiting), (0, 0));
}

const MS: Duration = Duration::from_millis(1);
