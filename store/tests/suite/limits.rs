//! Rate limits, concurrency, pauses.

use roving_store::*;

use crate::common::*;
use crate::{Case, NOON, tasks};

pub(crate) fn rate_limits(case: &Case) {
    let store = &*case.store;
    let (one, two) = (register(store), register(store));
    let rate = Rate {
        count: 10,
        period: 1000,
        burst: 2,
    };
    wait(|done| store.set_rate("api", Some(rate), done)).unwrap();
    for queue in ["a", "b", "a", "b", "a", "b"] {
        enqueue(
            store,
            NewJob {
                queue: queue.into(),
                limit: Some("api".into()),
                ..job("call")
            },
        );
    }
    assert_eq!((claim(store, one, 9).len(), claim(store, two, 9).len()), (2, 0));
    case.clock.advance(99);
    assert_eq!(claim(store, one, 9).len(), 0);
    case.clock.advance(1);
    assert_eq!(claim(store, two, 9).len(), 1);
    // The time of day has no say in it.
    case.clock.set_wall(NOON * 2);
    assert_eq!(claim(store, two, 9).len(), 0);
    wait(|done| store.set_rate("api", None, done)).unwrap();
    assert_eq!(claim(store, two, 9).len(), 3);
    // What expired takes no token.
    wait(|done| store.set_rate("other", Some(Rate { burst: 1, ..rate }), done)).unwrap();
    let other = |task: &str, expires| NewJob {
        limit: Some("other".into()),
        expires,
        ..job(task)
    };
    enqueue(store, other("over", Some(NOON)));
    enqueue(store, other("runs", None));
    assert_eq!(tasks(&claim(store, one, 9)), ["runs"]);
    let bad = Rate { count: 0, ..rate };
    assert!(matches!(
        wait(|done| store.set_rate("api", Some(bad), done)),
        Err(Error::Invalid(_))
    ));
}

pub(crate) fn a_limit_does_not_hold_up_others(case: &Case) {
    let store = &*case.store;
    let rate = Rate {
        count: 1,
        period: 3_600_000,
        burst: 1,
    };
    wait(|done| store.set_rate("slow", Some(rate), done)).unwrap();
    let slow = |n: i32| NewJob {
        limit: Some("slow".into()),
        priority: n,
        ..job("slow")
    };
    wait(|done| store.enqueue((0..3000).map(slow).collect(), done)).unwrap();
    enqueue(store, job("quick"));
    assert_eq!(tasks(&claim(store, register(store), 5)), ["slow", "quick"]);
}

pub(crate) fn concurrency(case: &Case) {
    let store = &*case.store;
    let settings = QueueSettings {
        concurrency: Some(2),
        paused: false,
    };
    wait(|done| store.set_queue("q", settings, done)).unwrap();
    for limit in [None, Some("l".to_owned()), None, Some("l".to_owned()), None] {
        enqueue(store, NewJob { limit, ..job("a") });
    }
    enqueue(
        store,
        NewJob {
            queue: "other".into(),
            ..job("other")
        },
    );
    let (one, two) = (register(store), register(store));
    let first = claim(store, one, 9);
    assert_eq!(tasks(&first), ["a", "a", "other"]);
    assert!(claim(store, two, 9).is_empty());
    succeed(store, first[0].attempt).unwrap();
    assert_eq!(claim(store, two, 9).len(), 1);
}

pub(crate) fn pausing(case: &Case) {
    let store = &*case.store;
    let worker = register(store);
    enqueue(store, job("a"));
    let set = |paused| {
        wait(|done| {
            store.set_queue(
                "q",
                QueueSettings {
                    concurrency: None,
                    paused,
                },
                done,
            );
        })
        .unwrap();
    };
    set(true);
    assert!(claim(store, worker, 1).is_empty());
    set(false);
    assert_eq!(claim(store, worker, 1).len(), 1);
}
