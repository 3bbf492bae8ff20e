//! Rate limits, concurrency, pauses, groups.

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

pub(crate) fn groups_are_waited_for(case: &Case) {
    let store = &*case.store;
    let worker = register(store);
    let group = Some(JobId::new());
    let member = || NewJob {
        group,
        keep: 0,
        ..job("member")
    };
    let body = NewJob {
        waits_for: group,
        ..job("body")
    };
    let waiting = body.id;
    wait(|done| store.enqueue(vec![body, member(), member()], done)).unwrap();
    let members = claim(store, worker, 9);
    assert_eq!((members.len(), status(store, waiting)), (2, Status::Waiting));
    succeed(store, members[0].attempt).unwrap();
    assert!(claim(store, worker, 9).is_empty());
    succeed(store, members[1].attempt).unwrap();
    assert_eq!(tasks(&claim(store, worker, 9)), ["body"]);
}

pub(crate) fn groups_that_fail(case: &Case) {
    let store = &*case.store;
    let worker = register(store);
    let (inner, outer) = (Some(JobId::new()), Some(JobId::new()));
    let middle = NewJob {
        waits_for: inner,
        group: outer,
        ..job("middle")
    };
    let last = NewJob {
        waits_for: outer,
        ..job("last")
    };
    let ids = [middle.id, last.id];
    let member = NewJob {
        group: inner,
        ..job("member")
    };
    wait(|done| store.enqueue(vec![member, middle, last], done)).unwrap();
    let attempt = claim(store, worker, 9).remove(0).attempt;
    acknowledge(store, attempt, fail("no")).unwrap();
    assert_eq!(ids.map(|id| status(store, id)), [Status::Failed, Status::Failed]);
    assert!(get(store, ids[1]).unwrap().error.unwrap().contains("group"));
    let members = Filter {
        group: inner,
        ..Filter::default()
    };
    let page = Page {
        after: None,
        limit: 9,
        newest_first: false,
    };
    assert_eq!(
        wait(|done| store.list(members, page, done)).unwrap()[0].id,
        attempt.job
    );
}

/// What waits for a group that is gone waits for one of that id to come, however the group went.
pub(crate) fn groups_go_with_their_last_job(case: &Case) {
    let store = &*case.store;
    let worker = register(store);
    let group = Some(JobId::new());
    let late = || {
        enqueue(
            store,
            NewJob {
                waits_for: group,
                ..job("late")
            },
        )
    };
    let member = || NewJob {
        group,
        keep: 0,
        ..job("member")
    };
    let all = Filter::default;
    for purged in [false, true] {
        enqueue(store, member());
        if purged {
            assert_eq!(wait(|done| store.purge(all(), done)), Ok(Purged { jobs: 1 }));
        } else {
            succeed(store, claim(store, worker, 1)[0].attempt).unwrap();
        }
        let late = late();
        assert_eq!(status(store, late), Status::Waiting, "purged: {purged}");
        wait(|done| store.purge(all(), done)).unwrap();
    }
}

/// They would wait for ever: a purge is the way out.
pub(crate) fn groups_that_wait_for_one_another_are_purged(case: &Case) {
    let store = &*case.store;
    let (one, two) = (Some(JobId::new()), Some(JobId::new()));
    let jobs = [(one, two), (two, one)].map(|(group, waits_for)| NewJob {
        group,
        waits_for,
        ..job("circle")
    });
    wait(|done| store.enqueue(jobs.to_vec(), done)).unwrap();
    wait(|done| store.purge(Filter::default(), done)).unwrap();
    let stats = wait(|done| store.stats(done)).unwrap();
    assert_eq!((stats.queues[0].failed, stats.queues[0].jobs), (2, [0; 9]));
    // Nothing is left of the groups, and they can be used again.
    enqueue(
        store,
        NewJob {
            group: one,
            ..job("member")
        },
    );
    let late = enqueue(
        store,
        NewJob {
            waits_for: one,
            ..job("late")
        },
    );
    assert_eq!(status(store, late), Status::Waiting);
    succeed(store, claim(store, register(store), 1)[0].attempt).unwrap();
    assert_eq!(status(store, late), Status::Queued);
}
