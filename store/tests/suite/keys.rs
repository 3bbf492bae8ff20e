//! Keys: unique ones, those for once, ids; ticks.

use roving_store::*;

use crate::common::*;
use crate::{Case, NOON, tasks};

pub(crate) fn unique_job(key: &str, until_started: bool) -> NewJob {
    NewJob {
        unique: Some(Unique {
            key: key.into(),
            until_started,
        }),
        ..job("unique")
    }
}

pub(crate) fn try_enqueue(store: &dyn Store, job: NewJob) -> Enqueued {
    wait(|done| store.enqueue(vec![job], done))
        .unwrap()
        .remove(0)
        .unwrap()
}

pub(crate) fn unique_keys(case: &Case) {
    let store = &*case.store;
    let worker = register(store);
    let first = enqueue(store, unique_job("k", false));
    let again = |key| try_enqueue(store, unique_job(key, false));
    assert_eq!(again("k"), Enqueued::Duplicate(first));
    assert!(matches!(again("other"), Enqueued::New(_)));
    let claimed = claim(store, worker, 1).remove(0);
    assert_eq!((claimed.job.id, again("k")), (first, Enqueued::Duplicate(first)));
    acknowledge(store, claimed.attempt, fail("no")).unwrap();
    let Enqueued::New(second) = again("k") else {
        panic!("the key was not free")
    };
    assert!(matches!(
        wait(|done| store.retry(first, done)),
        Err(Error::Invalid(_))
    ));
    wait(|done| store.cancel(second, done)).unwrap();
    wait(|done| store.retry(first, done)).unwrap();
    assert_eq!(again("k"), Enqueued::Duplicate(first));
}

pub(crate) fn unique_until_started(case: &Case) {
    let store = &*case.store;
    let worker = register(store);
    let first = enqueue(store, unique_job("k", true));
    assert_eq!(
        try_enqueue(store, unique_job("k", true)),
        Enqueued::Duplicate(first)
    );
    let claimed = claim(store, worker, 1).remove(0);
    let second = enqueue(store, unique_job("k", true));
    acknowledge(store, claimed.attempt, Outcome::HandBack).unwrap();
    assert_eq!(
        try_enqueue(store, unique_job("k", true)),
        Enqueued::Duplicate(second)
    );
}

pub(crate) fn repeated_enqueues_are_one(case: &Case) {
    let store = &*case.store;
    for new in [job("plain"), unique_job("k", false)] {
        let id = enqueue(store, new.clone());
        assert_eq!(try_enqueue(store, new), Enqueued::Known(id));
    }
    assert_eq!(claim(store, register(store), 9).len(), 2);
}

pub(crate) fn bad_rows_do_not_fail_their_batch(case: &Case) {
    let store = &*case.store;
    let bad = [
        NewJob {
            task: String::new(),
            ..job("")
        },
        NewJob {
            queue: "a\0b".into(),
            ..job("b")
        },
        NewJob {
            payload: vec![0; (16 << 20) + 1],
            ..job("long")
        },
        NewJob {
            max_attempts: 0,
            ..job("never")
        },
        NewJob {
            eta: Some(-1),
            ..job("before")
        },
        NewJob {
            eta: Some(i64::MAX),
            ..job("after")
        },
        NewJob {
            keep: -1,
            ..job("keep")
        },
    ];
    let mut jobs = vec![job("good")];
    jobs.extend(bad);
    jobs.push(job("good too"));
    let outcomes = wait(|done| store.enqueue(jobs, done)).unwrap();
    assert!(matches!(outcomes[0], Ok(Enqueued::New(_))) && matches!(outcomes[8], Ok(Enqueued::New(_))));
    assert!(
        outcomes[1..8]
            .iter()
            .all(|outcome| matches!(outcome, Err(Error::Invalid(_)))),
        "{outcomes:?}"
    );
    assert_eq!(tasks(&claim(store, register(store), 99)), ["good", "good too"]);
}

pub(crate) fn once_keys(case: &Case) {
    let store = &*case.store;
    let once = |value: &[u8]| wait(|done| store.once("charge", value.to_vec(), 1000, done)).unwrap();
    assert_eq!(
        (once(b"1"), once(b"2")),
        (Once::First, Once::Before(b"1".to_vec()))
    );
    assert_eq!(
        wait(|done| store.once_value("charge", done)).unwrap(),
        Some(b"1".to_vec())
    );
    case.clock.advance(1000);
    assert_eq!(wait(|done| store.once_value("charge", done)).unwrap(), None);
    assert_eq!(
        (once(b"3"), once(b"4")),
        (Once::First, Once::Before(b"3".to_vec()))
    );
}

pub(crate) fn one_job_a_tick(case: &Case) {
    let store = &*case.store;
    let tick = |at| wait(|done| store.tick("tidy", at, job("tidy"), done)).unwrap();
    assert!(matches!(tick(NOON), TickOutcome::Enqueued(Enqueued::New(_))));
    assert_eq!(tick(NOON), TickOutcome::Past(NOON));
    assert_eq!(tick(NOON - 60_000), TickOutcome::Past(NOON));
    assert!(matches!(tick(NOON + 60_000), TickOutcome::Enqueued(_)));
    assert_eq!(
        wait(|done| store.ticks(done)).unwrap(),
        [Tick {
            name: "tidy".into(),
            at: NOON + 60_000
        }]
    );
    assert_eq!(claim(store, register(store), 9).len(), 2);
}

pub(crate) fn a_clock_that_was_wrong_does_not_stop_ticks(case: &Case) {
    const HOUR: i64 = 3_600_000;
    let store = &*case.store;
    let tick = |at| wait(|done| store.tick("tidy", at, job("tidy"), done)).unwrap();
    // As somebody would whose clock went an hour wrong, and who made up for it.
    assert!(matches!(tick(NOON + HOUR), TickOutcome::Enqueued(_)));
    assert_eq!(tick(NOON), TickOutcome::Past(NOON + HOUR));
    // Who waited for such a tick would wait for years.
    assert!(matches!(tick(NOON + 25 * HOUR), TickOutcome::Enqueued(_)));
    assert!(matches!(tick(NOON), TickOutcome::Enqueued(_)));
    assert_eq!(tick(NOON), TickOutcome::Past(NOON));
}
