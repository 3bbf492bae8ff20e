//! Groups, who waits for them, and what is kept for those.

use roving_store::*;

use crate::common::*;
use crate::{Case, tasks};

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

/// A job of a group, of which nothing is kept; and one that waits for the group.
fn pair(first: &str, then: &str) -> (NewJob, NewJob) {
    let group = Some(JobId::new());
    let member = NewJob {
        group,
        keep: 0,
        ..job(first)
    };
    let waits = NewJob {
        waits_for: group,
        keep: 0,
        ..job(then)
    };
    (member, waits)
}

fn with_result(store: &dyn Store, attempt: Attempt, result: &[u8]) {
    let result = Some(result.to_vec());
    acknowledge(store, attempt, Outcome::Succeeded { result }).unwrap();
}

fn prune(store: &dyn Store) {
    wait(|done| store.prune(done)).unwrap();
}

pub(crate) fn results_are_held_for_who_waits(case: &Case) {
    let store = &*case.store;
    let worker = register(store);
    let (member, waits) = pair("member", "waits");
    let twice = NewJob {
        waits_for: member.group,
        ..job("twice")
    };
    let other = NewJob {
        group: Some(JobId::new()),
        keep: 0,
        ..job("other")
    };
    let (id, free) = (member.id, other.id);
    wait(|done| store.enqueue(vec![member, waits, twice, other], done)).unwrap();
    for claimed in claim(store, worker, 9) {
        with_result(store, claimed.attempt, b"7");
    }
    case.clock.advance(400 * 24 * 3600 * 1000);
    prune(store);
    assert!(get(store, free).is_none());
    assert_eq!(get(store, id).unwrap().result.unwrap(), b"7");
    // Whether it runs or not.
    let waiting = claim(store, worker, 9);
    assert_eq!(tasks(&waiting), ["waits", "twice"]);
    succeed(store, waiting[0].attempt).unwrap();
    prune(store);
    assert_eq!(get(store, id).unwrap().result.unwrap(), b"7");
    succeed(store, waiting[1].attempt).unwrap();
    prune(store);
    assert!(get(store, id).is_none());
}

pub(crate) fn a_failed_waiter_holds_on(case: &Case) {
    let store = &*case.store;
    let worker = register(store);
    let (member, waits) = pair("member", "waits");
    let ids = [member.id, waits.id];
    wait(|done| store.enqueue(vec![member, waits], done)).unwrap();
    with_result(store, claim(store, worker, 9)[0].attempt, b"7");
    acknowledge(store, claim(store, worker, 9)[0].attempt, fail("no")).unwrap();
    prune(store);
    assert_eq!(get(store, ids[0]).unwrap().result.unwrap(), b"7");
    wait(|done| store.retry(ids[1], done)).unwrap();
    assert_eq!(tasks(&claim(store, worker, 9)), ["waits"]);
    // Nobody will retry it once it is not there.
    wait(|done| store.evict(worker, done)).unwrap();
    let failed = Filter {
        task: Some("waits".into()),
        ..Filter::default()
    };
    assert_eq!(wait(|done| store.purge(failed, done)).unwrap().jobs, 1);
    prune(store);
    assert!(get(store, ids[0]).is_none());
}

pub(crate) fn chains_go_on_when_retried(case: &Case) {
    let store = &*case.store;
    let worker = register(store);
    let (first, second) = pair("first", "second");
    let (also, third) = pair("also", "third");
    let second = NewJob {
        group: also.group,
        unique: Some(Unique {
            key: "one".into(),
            until_started: false,
        }),
        ..second
    };
    let ids = [first.id, second.id, third.id];
    let outcomes = wait(|done| store.enqueue(vec![first, second, third, also], done)).unwrap();
    assert!(
        outcomes
            .iter()
            .all(|outcome| matches!(outcome, Ok(Enqueued::New(_))))
    );
    let claimed = claim(store, worker, 9);
    assert_eq!(tasks(&claimed), ["first", "also"]);
    acknowledge(store, claimed[0].attempt, fail("no")).unwrap();
    succeed(store, claimed[1].attempt).unwrap();
    assert_eq!(ids.map(|id| status(store, id)), [Status::Failed; 3]);

    wait(|done| store.retry(ids[0], done)).unwrap();
    let waiting = [Status::Queued, Status::Waiting, Status::Waiting];
    assert_eq!(ids.map(|id| status(store, id)), waiting);
    assert!(get(store, ids[2]).unwrap().error.is_none());
    // Its key as well.
    let again = NewJob {
        unique: Some(Unique {
            key: "one".into(),
            until_started: false,
        }),
        ..job("again")
    };
    let outcome = wait(|done| store.enqueue(vec![again], done)).unwrap().remove(0);
    assert_eq!(outcome.unwrap(), Enqueued::Duplicate(ids[1]));
    for expected in ["first", "second", "third"] {
        let claimed = claim(store, worker, 9);
        assert_eq!(tasks(&claimed), [expected]);
        succeed(store, claimed[0].attempt).unwrap();
    }
    assert!(claim(store, worker, 9).is_empty());
}

pub(crate) fn a_waiter_is_retried_with_its_group(case: &Case) {
    let store = &*case.store;
    let worker = register(store);
    let (first, waits) = pair("first", "waits");
    let waits = NewJob { keep: 1, ..waits };
    let second = NewJob {
        group: first.group,
        ..job("second")
    };
    let ids = [first.id, waits.id];
    wait(|done| store.enqueue(vec![first, second, waits], done)).unwrap();
    let claimed = claim(store, worker, 9);
    acknowledge(store, claimed[0].attempt, fail("no")).unwrap();
    wait(|done| store.cancel(ids[1], done)).unwrap();
    // Not by itself past the one that runs, and not past the one that failed.
    wait(|done| store.retry(ids[1], done)).unwrap();
    assert_eq!(status(store, ids[1]), Status::Waiting);
    succeed(store, claimed[1].attempt).unwrap();
    assert_eq!(status(store, ids[1]), Status::Failed);
    let refused = wait(|done| store.retry(ids[1], done)).unwrap_err();
    assert!(refused.to_string().contains("retry those"), "{refused}");
    wait(|done| store.retry(ids[0], done)).unwrap();
    succeed(store, claim(store, worker, 9)[0].attempt).unwrap();
    assert_eq!(tasks(&claim(store, worker, 9)), ["waits"]);
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
