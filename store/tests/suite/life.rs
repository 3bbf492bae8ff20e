//! A job is enqueued, claimed, run, acknowledged, tried again, cancelled.

use roving_store::*;

use crate::common::*;
use crate::{Case, NOON, tasks};

pub(crate) fn a_job_lives(case: &Case) {
    let store = &*case.store;
    let worker = register(store);
    let id = enqueue(store, job("one"));
    assert_eq!(status(store, id), Status::Queued);
    case.clock.advance(5);
    let claimed = claim(store, worker, 10).remove(0);
    assert_eq!(
        (claimed.job.id, claimed.job.attempts, claimed.job.worker),
        (id, 1, Some(worker))
    );
    assert_eq!(get(store, id).unwrap(), claimed.job);
    assert!(claim(store, worker, 10).is_empty());
    case.clock.advance(5);
    let outcome = Outcome::Succeeded {
        result: Some(b"42".to_vec()),
    };
    assert_eq!(
        acknowledge(store, claimed.attempt, outcome),
        Ok(Status::Succeeded)
    );
    let done = get(store, id).unwrap();
    assert_eq!(done.result.as_deref(), Some(&b"42"[..]));
    assert_eq!(
        (done.enqueued_at, done.started_at, done.finished_at),
        (NOON, Some(NOON + 5), Some(NOON + 10))
    );
    assert_eq!(done.worker, None);
}

pub(crate) fn keeps_what_it_was_given(case: &Case) {
    let store = &*case.store;
    let payload: Vec<u8> = (0..100_000).map(|n| (n % 251) as u8).collect();
    let new = NewJob {
        priority: -7,
        payload: payload.clone(),
        codec: "own".into(),
        format: 9,
        expires: Some(NOON + 1000),
        max_attempts: 4,
        unique: Some(Unique {
            key: "k".into(),
            until_started: true,
        }),
        limit: Some("slow".into()),
        parent: Some(JobId::new()),
        group: Some(JobId::new()),
        keep: 77,
        ..job("all")
    };
    let id = enqueue(store, new.clone());
    let claimed = claim(store, register(store), 1).remove(0).job;
    assert_eq!(get(store, id).unwrap(), claimed);
    assert_eq!(
        (claimed.payload, claimed.codec, claimed.format),
        (payload, new.codec, 9)
    );
    assert_eq!(
        (
            claimed.priority,
            claimed.expires,
            claimed.max_attempts,
            claimed.keep
        ),
        (-7, new.expires, 4, 77)
    );
    assert_eq!((claimed.unique, claimed.limit), (new.unique, new.limit));
    assert_eq!(
        (claimed.parent, claimed.group, claimed.queue),
        (new.parent, new.group, new.queue)
    );
    assert_eq!(get(store, JobId::new()), None);
    assert_eq!(id.to_string().parse::<JobId>().unwrap(), id);
}

pub(crate) fn priorities_go_first_then_age(case: &Case) {
    let store = &*case.store;
    for (task, priority) in [("a", 0), ("b", 5), ("c", 0), ("d", 5), ("e", -1)] {
        enqueue(
            store,
            NewJob {
                priority,
                ..job(task)
            },
        );
    }
    let worker = register(store);
    assert_eq!(tasks(&claim(store, worker, 3)), ["b", "d", "a"]);
    assert_eq!(tasks(&claim(store, worker, 9)), ["c", "e"]);
}

pub(crate) fn queues_are_apart(case: &Case) {
    let store = &*case.store;
    for (queue, task) in [("mail", "a"), ("web", "b"), ("mail", "c"), ("slow", "d")] {
        enqueue(
            store,
            NewJob {
                queue: queue.into(),
                ..job(task)
            },
        );
    }
    let worker = register(store);
    let from = |queues: &[&str], max| {
        let queues = queues.iter().map(ToString::to_string).collect();
        wait(|done| store.claim(Claim { worker, queues, max }, done)).unwrap()
    };
    assert!(from(&["none"], 9).is_empty());
    assert_eq!(tasks(&from(&["mail"], 1)), ["a"]);
    assert_eq!(tasks(&from(&["slow", "mail"], 9)), ["c", "d"]);
    assert_eq!(tasks(&from(&[], 9)), ["b"]);
}

pub(crate) fn claims_are_for_registered_workers(case: &Case) {
    let store = &*case.store;
    enqueue(store, job("a"));
    let claim = |worker| {
        wait(|done| {
            store.claim(
                Claim {
                    worker,
                    queues: Vec::new(),
                    max: 1,
                },
                done,
            );
        })
    };
    assert_eq!(claim(WorkerId(99)), Err(Error::UnknownWorker));
    let worker = register(store);
    wait(|done| store.retire(worker, done)).unwrap();
    assert_eq!(claim(worker), Err(Error::UnknownWorker));
    assert_ne!(register(store), worker);
}

pub(crate) fn an_eta_is_waited_for(case: &Case) {
    let store = &*case.store;
    let worker = register(store);
    let id = enqueue(
        store,
        NewJob {
            eta: Some(NOON + 1000),
            ..job("later")
        },
    );
    assert_eq!(status(store, id), Status::Scheduled);
    case.clock.advance(999);
    assert!(claim(store, worker, 1).is_empty());
    case.clock.advance(1);
    assert_eq!(claim(store, worker, 2).len(), 1);
}

pub(crate) fn a_clock_set_back_keeps_a_due_job(case: &Case) {
    let store = &*case.store;
    let worker = register(store);
    enqueue(
        store,
        NewJob {
            eta: Some(NOON + 1000),
            ..job("later")
        },
    );
    enqueue(store, job("now"));
    case.clock.set_wall(NOON - 3_600_000);
    assert_eq!(tasks(&claim(store, worker, 9)), ["now"]);
    case.clock.set_wall(NOON + 3_600_000);
    assert_eq!(tasks(&claim(store, worker, 9)), ["later"]);
}

pub(crate) fn expired_jobs_do_not_run(case: &Case) {
    let store = &*case.store;
    let worker = register(store);
    let old = enqueue(
        store,
        NewJob {
            expires: Some(NOON + 10),
            ..job("old")
        },
    );
    enqueue(store, job("new"));
    case.clock.advance(10);
    assert_eq!(tasks(&claim(store, worker, 1)), ["new"]);
    assert_eq!(status(store, old), Status::Expired);
}

/// Those after the last that was claimed are left alone, whatever expired before it.
pub(crate) fn expired_jobs_end_in_their_turn(case: &Case) {
    let store = &*case.store;
    let worker = register(store);
    let enqueue = |queue: &str, priority, expires| {
        enqueue(
            store,
            NewJob {
                queue: queue.into(),
                priority,
                expires,
                ..job("a")
            },
        )
    };
    let (past, first) = (Some(NOON - 1), enqueue("one", 2, Some(NOON - 1)));
    let (second, third) = (enqueue("one", 1, None), enqueue("two", 0, past));
    assert_eq!(claim(store, worker, 1)[0].job.id, second);
    assert_eq!(
        [first, third].map(|id| status(store, id)),
        [Status::Expired, Status::Queued]
    );
    assert!(claim(store, worker, 1).is_empty());
    assert_eq!(status(store, third), Status::Expired);
}

pub(crate) fn retries_end(case: &Case) {
    let store = &*case.store;
    let worker = register(store);
    let id = enqueue(
        store,
        NewJob {
            max_attempts: 2,
            ..job("shaky")
        },
    );
    let first = claim(store, worker, 1).remove(0);
    assert_eq!(
        acknowledge(store, first.attempt, retry_at(NOON + 50)),
        Ok(Status::Scheduled)
    );
    assert_eq!(get(store, id).unwrap().error.as_deref(), Some("again"));
    assert!(claim(store, worker, 1).is_empty());
    case.clock.advance(50);
    let second = claim(store, worker, 1).remove(0);
    assert_eq!((second.job.attempts, second.attempt.number), (2, 2));
    assert_eq!(
        acknowledge(store, second.attempt, retry_at(NOON)),
        Ok(Status::Failed)
    );
    let failed = get(store, id).unwrap();
    assert_eq!(
        (failed.status, failed.traceback.as_deref()),
        (Status::Failed, Some("there"))
    );
    // Kept until somebody does something.
    case.clock.advance(1 << 40);
    wait(|done| store.prune(done)).unwrap();
    wait(|done| store.retry(id, done)).unwrap();
    let third = claim(store, worker, 1).remove(0);
    assert_eq!((third.job.attempts, third.attempt.number), (1, 3));
    assert_eq!(
        wait(|done| store.retry(id, done)),
        Err(Error::WrongStatus(Status::Running))
    );
    assert_eq!(
        wait(|done| store.retry(JobId::new(), done)),
        Err(Error::UnknownJob)
    );
}

pub(crate) fn a_hand_back_does_not_count(case: &Case) {
    let store = &*case.store;
    let worker = register(store);
    enqueue(store, job("first"));
    enqueue(store, job("second"));
    let first = claim(store, worker, 1).remove(0);
    assert_eq!(
        acknowledge(store, first.attempt, Outcome::HandBack),
        Ok(Status::Queued)
    );
    let again = claim(store, worker, 1).remove(0);
    assert_eq!(
        (&*again.job.task, again.job.attempts, again.attempt.number),
        ("first", 1, 2)
    );
}

pub(crate) fn an_attempt_is_acknowledged_once(case: &Case) {
    let store = &*case.store;
    let worker = register(store);
    enqueue(store, job("a"));
    let old = claim(store, worker, 1).remove(0).attempt;
    acknowledge(store, old, Outcome::HandBack).unwrap();
    assert_eq!(succeed(store, old), Err(Error::Stale));
    let new = claim(store, worker, 1).remove(0).attempt;
    assert_eq!(
        wait(|done| store.extend(vec![old, new], done)).unwrap(),
        [false, true]
    );
    assert_eq!(succeed(store, old), Err(Error::Stale));
    succeed(store, new).unwrap();
    assert_eq!(acknowledge(store, new, fail("late")), Err(Error::Stale));
    assert_eq!(status(store, new.job), Status::Succeeded);
}

pub(crate) fn what_follows_is_enqueued_with_the_acknowledgement(case: &Case) {
    let store = &*case.store;
    let worker = register(store);
    enqueue(store, job("a"));
    let attempt = claim(store, worker, 1).remove(0).attempt;
    let outcome = || Outcome::Succeeded { result: None };
    let ack = |then| Ack {
        attempt,
        outcome: outcome(),
        then,
    };
    let bad = wait(|done| {
        store.acknowledge(
            vec![ack(vec![
                job("b"),
                NewJob {
                    max_attempts: 0,
                    ..job("c")
                },
            ])],
            done,
        );
    });
    assert!(matches!(bad.unwrap().remove(0), Err(Error::Invalid(_))));
    assert_eq!(status(store, attempt.job), Status::Running);
    let both = wait(|done| store.acknowledge(vec![ack(vec![job("b")]), ack(vec![job("c")])], done)).unwrap();
    assert_eq!(both, [Ok(Status::Succeeded), Err(Error::Stale)]);
    assert_eq!(tasks(&claim(store, worker, 9)), ["b"]);
}

pub(crate) fn an_evicted_worker_cannot_acknowledge(case: &Case) {
    let store = &*case.store;
    let (slow, other) = (register(store), register(store));
    let id = enqueue(store, job("a"));
    let lost = claim(store, slow, 1).remove(0).attempt;
    let taken = wait(|done| store.evict(slow, done)).unwrap();
    assert_eq!((taken.jobs, taken.quarantined), (1, 0));
    let again = claim(store, other, 1).remove(0);
    assert_eq!((again.job.id, again.job.attempts, again.job.deaths), (id, 1, 1));
    assert_eq!(succeed(store, lost), Err(Error::Stale));
    assert_eq!(status(store, id), Status::Running);
    succeed(store, again.attempt).unwrap();
    let known = wait(|done| store.workers(done)).unwrap();
    assert_eq!(known.iter().map(|worker| worker.id).collect::<Vec<_>>(), [other]);
}

pub(crate) fn poison_is_quarantined_and_retried(case: &Case) {
    let store = &*case.store;
    let id = enqueue(store, job("poison"));
    for death in 1..=3 {
        let worker = register(store);
        assert_eq!(claim(store, worker, 1).len(), 1);
        wait(|done| store.evict(worker, done)).unwrap();
        assert_eq!(get(store, id).unwrap().deaths, death);
    }
    assert_eq!(status(store, id), Status::Quarantined);
    wait(|done| store.retry(id, done)).unwrap();
    assert_eq!(claim(store, register(store), 1)[0].job.deaths, 0);
}

pub(crate) fn cancels(case: &Case) {
    let store = &*case.store;
    let worker = register(store);
    let cancel = |id| wait(|done| store.cancel(id, done));
    let queued = enqueue(store, job("queued"));
    let scheduled = enqueue(
        store,
        NewJob {
            eta: Some(NOON + 5),
            ..job("scheduled")
        },
    );
    assert_eq!(
        (cancel(queued), cancel(scheduled)),
        (Ok(Cancelled::Now), Ok(Cancelled::Now))
    );
    case.clock.advance(10);
    assert!(claim(store, worker, 9).is_empty());
    for (outcome, ends) in [
        (Outcome::Cancelled, Status::Cancelled),
        (Outcome::HandBack, Status::Cancelled),
        (retry_at(0), Status::Cancelled),
        (Outcome::Succeeded { result: None }, Status::Succeeded),
    ] {
        let id = enqueue(
            store,
            NewJob {
                max_attempts: 5,
                ..job("running")
            },
        );
        let attempt = claim(store, worker, 1).remove(0).attempt;
        assert_eq!(cancel(id), Ok(Cancelled::Requested));
        assert!(get(store, id).unwrap().cancel_requested);
        assert_eq!(acknowledge(store, attempt, outcome), Ok(ends));
        assert_eq!(cancel(id), Ok(Cancelled::Finished(ends)));
    }
    let id = enqueue(store, job("with its worker"));
    claim(store, worker, 1);
    cancel(id).unwrap();
    wait(|done| store.evict(worker, done)).unwrap();
    assert_eq!(status(store, id), Status::Cancelled);
    assert_eq!(cancel(JobId::new()), Err(Error::UnknownJob));
}
