//! Pruning, purging, lists, counts, listeners.

use std::sync::{Arc, Mutex};

use roving_store::*;

use crate::common::*;
use crate::{Case, NOON, tasks};

pub(crate) fn pruning_leaves_the_log(case: &Case) {
    let store = &*case.store;
    let worker = register(store);
    let at_once = enqueue(
        store,
        NewJob {
            keep: 0,
            ..job("at once")
        },
    );
    let later = enqueue(
        store,
        NewJob {
            keep: 100,
            payload: vec![1; 9000],
            ..job("later")
        },
    );
    for claimed in claim(store, worker, 9) {
        succeed(store, claimed.attempt).unwrap();
    }
    assert_eq!(get(store, at_once), None);
    case.clock.advance(99);
    wait(|done| store.prune(done)).unwrap();
    assert_eq!(status(store, later), Status::Succeeded);
    case.clock.advance(1);
    assert_eq!(wait(|done| store.prune(done)).unwrap(), Purged { jobs: 1 });
    assert_eq!(get(store, later), None);
    let log = wait(|done| store.log(9, done)).unwrap();
    assert_eq!(
        log.iter()
            .map(|entry| (entry.id, entry.status))
            .collect::<Vec<_>>(),
        [(later, Status::Succeeded), (at_once, Status::Succeeded)]
    );
    assert_eq!(
        (&*log[0].task, &*log[0].queue, log[0].attempts, log[0].finished_at),
        ("later", "q", 1, NOON)
    );
}

pub(crate) fn purging(case: &Case) {
    let store = &*case.store;
    let worker = register(store);
    wait(|done| store.enqueue((0..1200).map(|_| job("many")).collect(), done)).unwrap();
    enqueue(
        store,
        NewJob {
            queue: "other".into(),
            ..job("other")
        },
    );
    let running = claim(store, worker, 3);
    let filter = Filter {
        queue: Some("q".into()),
        ..Filter::default()
    };
    assert_eq!(
        wait(|done| store.purge(filter, done)).unwrap(),
        Purged { jobs: 1197 }
    );
    assert_eq!(tasks(&claim(store, worker, 9)), ["other"]);
    for job in running {
        succeed(store, job.attempt).unwrap();
    }
    let filter = Filter {
        statuses: vec![Status::Succeeded],
        ..Filter::default()
    };
    assert_eq!(
        wait(|done| store.purge(filter, done)).unwrap(),
        Purged { jobs: 3 }
    );
}

pub(crate) fn lists_have_pages(case: &Case) {
    let store = &*case.store;
    let ids: Vec<JobId> = (0..10)
        .map(|n| enqueue(store, job(["even", "odd"][n % 2])))
        .collect();
    let list = |filter: Filter, page| -> Vec<JobId> {
        wait(|done| store.list(filter, page, done))
            .unwrap()
            .iter()
            .map(|job| job.id)
            .collect()
    };
    let page = Page {
        after: None,
        limit: 4,
        newest_first: false,
    };
    assert_eq!(list(Filter::default(), page), ids[..4]);
    assert_eq!(
        list(
            Filter::default(),
            Page {
                after: Some(ids[3]),
                ..page
            }
        ),
        ids[4..8]
    );
    assert_eq!(
        list(
            Filter::default(),
            Page {
                after: Some(ids[7]),
                ..page
            }
        ),
        ids[8..]
    );
    let newest = Page {
        newest_first: true,
        ..page
    };
    assert_eq!(list(Filter::default(), newest), [ids[9], ids[8], ids[7], ids[6]]);
    let odd = Filter {
        task: Some("odd".into()),
        queue: Some("q".into()),
        ..Filter::default()
    };
    assert_eq!(
        list(
            odd.clone(),
            Page {
                after: Some(ids[6]),
                ..newest
            }
        ),
        [ids[5], ids[3], ids[1]]
    );
    let none = Filter {
        queue: Some("none".into()),
        ..odd
    };
    assert!(list(none, page).is_empty());
    wait(|done| store.cancel(ids[0], done)).unwrap();
    let filter = Filter {
        statuses: vec![Status::Cancelled, Status::Failed],
        ..Filter::default()
    };
    assert_eq!(list(filter, page), [ids[0]]);
}

pub(crate) fn stats_count(case: &Case) {
    let store = &*case.store;
    let worker = register(store);
    enqueue(
        store,
        NewJob {
            eta: Some(NOON + 9),
            ..job("scheduled")
        },
    );
    case.clock.advance(1);
    for _ in 0..5 {
        enqueue(store, job("a"));
    }
    let claimed = claim(store, worker, 3);
    succeed(store, claimed[0].attempt).unwrap();
    acknowledge(store, claimed[1].attempt, fail("no")).unwrap();
    let stats = wait(|done| store.stats(done)).unwrap().queues;
    let expected = QueueStats {
        queue: "q".into(),
        jobs: [2, 1, 1, 1, 1, 0, 0, 0, 0],
        oldest: Some(NOON + 1),
        succeeded: 1,
        failed: 1,
        settings: QueueSettings::default(),
    };
    assert_eq!(stats, [expected]);
    assert_eq!(wait(|done| store.workers(done)).unwrap()[0].running, 1);
}

pub(crate) fn listeners_are_told(case: &Case) {
    let store = &*case.store;
    let told = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&told);
    let watch = store.watch(Arc::new(move |change: &Change| {
        heard.lock().unwrap().push(change.clone());
    }));
    // What is told of a call is told before the call is done.
    let take = || std::mem::take(&mut *told.lock().unwrap());
    let worker = register(store);
    take();
    let id = enqueue(store, job("a"));
    assert_eq!(take(), [Change::Ready]);
    let attempt = claim(store, worker, 1).remove(0).attempt;
    take();
    wait(|done| store.cancel(id, done)).unwrap();
    assert_eq!(take(), [Change::CancelRequested(vec![id])]);
    acknowledge(store, attempt, Outcome::Cancelled).unwrap();
    assert!(take().contains(&Change::Finished(vec![id])));
    drop(watch);
    enqueue(store, job("b"));
    assert_eq!(take(), []);
}

pub(crate) fn retired_workers_hand_back(case: &Case) {
    let store = &*case.store;
    let (one, two) = (register(store), register(store));
    enqueue(store, job("a"));
    claim(store, one, 1);
    wait(|done| store.retire(one, done)).unwrap();
    let again = claim(store, two, 1).remove(0).job;
    assert_eq!((again.attempts, again.deaths, again.error), (1, 0, None));
}

pub(crate) fn closed_stores_say_so(case: &Case) {
    let store = &*case.store;
    enqueue(store, job("a"));
    store.close();
    assert_eq!(
        wait(|done| store.enqueue(vec![job("b")], done)),
        Err(Error::Closed)
    );
    assert_eq!(wait(|done| store.stats(done)), Err(Error::Closed));
}
