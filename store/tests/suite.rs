//! What every store has to do. Each test runs against each of them.
#![allow(missing_docs)]

mod common;

use std::sync::{Arc, Mutex};

use common::*;
use roving_store::*;

const NOON: i64 = 1_800_000_000_000;

struct Case {
    store: Arc<dyn Store>,
    clock: Arc<ManualClock>,
    _folder: Option<Folder>,
}

fn sqlite() -> Case {
    let (folder, clock) = (Folder::new("suite"), Arc::new(ManualClock::new(NOON)));
    let store = SqliteOptions::new(folder.join("jobs.db")).clock(clock.clone()).open().unwrap();
    Case { store: Arc::new(store), clock, _folder: Some(folder) }
}

fn memory() -> Case {
    let clock = Arc::new(ManualClock::new(NOON));
    let store = MemoryStore::new(MemoryOptions { clock: clock.clone(), ..MemoryOptions::default() });
    Case { store: Arc::new(store), clock, _folder: None }
}

macro_rules! suite {
    ($($name:ident)*) => {
        mod in_sqlite { $( #[test] fn $name() { super::$name(&super::sqlite()); } )* }
        mod in_memory { $( #[test] fn $name() { super::$name(&super::memory()); } )* }
    };
}

suite! {
    a_job_lives keeps_what_it_was_given priorities_go_first_then_age queues_are_apart claims_are_for_registered_workers
    an_eta_is_waited_for a_clock_set_back_keeps_a_due_job expired_jobs_do_not_run retries_end a_hand_back_does_not_count
    an_attempt_is_acknowledged_once what_follows_is_enqueued_with_the_acknowledgement an_evicted_worker_cannot_acknowledge
    poison_is_quarantined_and_retried cancels unique_keys unique_until_started repeated_enqueues_are_one
    bad_rows_do_not_fail_their_batch once_keys one_job_a_tick rate_limits a_limit_does_not_hold_up_others concurrency
    pausing groups_are_waited_for groups_that_fail pruning_leaves_the_log purging lists_have_pages stats_count
    listeners_are_told retired_workers_hand_back closed_stores_say_so
}

fn tasks(claimed: &[Claimed]) -> Vec<&str> {
    claimed.iter().map(|job| &*job.job.task).collect()
}

fn a_job_lives(case: &Case) {
    let store = &*case.store;
    let worker = register(store);
    let id = enqueue(store, job("one"));
    assert_eq!(status(store, id), Status::Queued);
    case.clock.advance(5);
    let claimed = claim(store, worker, 10).remove(0);
    assert_eq!((claimed.job.id, claimed.job.attempts, claimed.job.worker), (id, 1, Some(worker)));
    assert_eq!(get(store, id).unwrap(), claimed.job);
    assert!(claim(store, worker, 10).is_empty());
    case.clock.advance(5);
    let outcome = Outcome::Succeeded { result: Some(b"42".to_vec()) };
    assert_eq!(acknowledge(store, claimed.attempt, outcome), Ok(Status::Succeeded));
    let done = get(store, id).unwrap();
    assert_eq!(done.result.as_deref(), Some(&b"42"[..]));
    assert_eq!((done.enqueued_at, done.started_at, done.finished_at), (NOON, Some(NOON + 5), Some(NOON + 10)));
    assert_eq!(done.worker, None);
}

fn keeps_what_it_was_given(case: &Case) {
    let store = &*case.store;
    let payload: Vec<u8> = (0..100_000).map(|n| (n % 251) as u8).collect();
    let new = NewJob {
        priority: -7,
        payload: payload.clone(),
        codec: "own".into(),
        format: 9,
        expires: Some(NOON + 1000),
        max_attempts: 4,
        unique: Some(Unique { key: "k".into(), until_started: true }),
        limit: Some("slow".into()),
        parent: Some(JobId::new()),
        group: Some(JobId::new()),
        keep: 77,
        ..job("all")
    };
    let id = enqueue(store, new.clone());
    let claimed = claim(store, register(store), 1).remove(0).job;
    assert_eq!(get(store, id).unwrap(), claimed);
    assert_eq!((claimed.payload, claimed.codec, claimed.format), (payload, new.codec, 9));
    assert_eq!((claimed.priority, claimed.expires, claimed.max_attempts, claimed.keep), (-7, new.expires, 4, 77));
    assert_eq!((claimed.unique, claimed.limit), (new.unique, new.limit));
    assert_eq!((claimed.parent, claimed.group, claimed.queue), (new.parent, new.group, new.queue));
    assert_eq!(get(store, JobId::new()), None);
    assert_eq!(id.to_string().parse::<JobId>().unwrap(), id);
}

fn priorities_go_first_then_age(case: &Case) {
    let store = &*case.store;
    for (task, priority) in [("a", 0), ("b", 5), ("c", 0), ("d", 5), ("e", -1)] {
        enqueue(store, NewJob { priority, ..job(task) });
    }
    let worker = register(store);
    assert_eq!(tasks(&claim(store, worker, 3)), ["b", "d", "a"]);
    assert_eq!(tasks(&claim(store, worker, 9)), ["c", "e"]);
}

fn queues_are_apart(case: &Case) {
    let store = &*case.store;
    for (queue, task) in [("mail", "a"), ("web", "b"), ("mail", "c"), ("slow", "d")] {
        enqueue(store, NewJob { queue: queue.into(), ..job(task) });
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

fn claims_are_for_registered_workers(case: &Case) {
    let store = &*case.store;
    enqueue(store, job("a"));
    let claim = |worker| wait(|done| store.claim(Claim { worker, queues: Vec::new(), max: 1 }, done));
    assert_eq!(claim(WorkerId(99)), Err(Error::UnknownWorker));
    let worker = register(store);
    wait(|done| store.retire(worker, done)).unwrap();
    assert_eq!(claim(worker), Err(Error::UnknownWorker));
    assert_ne!(register(store), worker);
}

fn an_eta_is_waited_for(case: &Case) {
    let store = &*case.store;
    let worker = register(store);
    let id = enqueue(store, NewJob { eta: Some(NOON + 1000), ..job("later") });
    assert_eq!(status(store, id), Status::Scheduled);
    case.clock.advance(999);
    assert!(claim(store, worker, 1).is_empty());
    case.clock.advance(1);
    assert_eq!(claim(store, worker, 2).len(), 1);
}

fn a_clock_set_back_keeps_a_due_job(case: &Case) {
    let store = &*case.store;
    let worker = register(store);
    enqueue(store, NewJob { eta: Some(NOON + 1000), ..job("later") });
    enqueue(store, job("now"));
    case.clock.set_wall(NOON - 3_600_000);
    assert_eq!(tasks(&claim(store, worker, 9)), ["now"]);
    case.clock.set_wall(NOON + 3_600_000);
    assert_eq!(tasks(&claim(store, worker, 9)), ["later"]);
}

fn expired_jobs_do_not_run(case: &Case) {
    let store = &*case.store;
    let worker = register(store);
    let old = enqueue(store, NewJob { expires: Some(NOON + 10), ..job("old") });
    enqueue(store, job("new"));
    case.clock.advance(10);
    assert_eq!(tasks(&claim(store, worker, 1)), ["new"]);
    assert_eq!(status(store, old), Status::Expired);
}

fn retries_end(case: &Case) {
    let store = &*case.store;
    let worker = register(store);
    let id = enqueue(store, NewJob { max_attempts: 2, ..job("shaky") });
    let first = claim(store, worker, 1).remove(0);
    assert_eq!(acknowledge(store, first.attempt, retry_at(NOON + 50)), Ok(Status::Scheduled));
    assert_eq!(get(store, id).unwrap().error.as_deref(), Some("again"));
    assert!(claim(store, worker, 1).is_empty());
    case.clock.advance(50);
    let second = claim(store, worker, 1).remove(0);
    assert_eq!((second.job.attempts, second.attempt.number), (2, 2));
    assert_eq!(acknowledge(store, second.attempt, retry_at(NOON)), Ok(Status::Failed));
    let failed = get(store, id).unwrap();
    assert_eq!((failed.status, failed.traceback.as_deref()), (Status::Failed, Some("there")));
    // Kept until somebody does something.
    case.clock.advance(1 << 40);
    wait(|done| store.prune(done)).unwrap();
    wait(|done| store.retry(id, done)).unwrap();
    let third = claim(store, worker, 1).remove(0);
    assert_eq!((third.job.attempts, third.attempt.number), (1, 3));
    assert_eq!(wait(|done| store.retry(id, done)), Err(Error::WrongStatus(Status::Running)));
    assert_eq!(wait(|done| store.retry(JobId::new(), done)), Err(Error::UnknownJob));
}

fn a_hand_back_does_not_count(case: &Case) {
    let store = &*case.store;
    let worker = register(store);
    enqueue(store, job("first"));
    enqueue(store, job("second"));
    let first = claim(store, worker, 1).remove(0);
    assert_eq!(acknowledge(store, first.attempt, Outcome::HandBack), Ok(Status::Queued));
    let again = claim(store, worker, 1).remove(0);
    assert_eq!((&*again.job.task, again.job.attempts, again.attempt.number), ("first", 1, 2));
}

fn an_attempt_is_acknowledged_once(case: &Case) {
    let store = &*case.store;
    let worker = register(store);
    enqueue(store, job("a"));
    let old = claim(store, worker, 1).remove(0).attempt;
    acknowledge(store, old, Outcome::HandBack).unwrap();
    assert_eq!(succeed(store, old), Err(Error::Stale));
    let new = claim(store, worker, 1).remove(0).attempt;
    assert_eq!(wait(|done| store.extend(vec![old, new], done)).unwrap(), [false, true]);
    assert_eq!(succeed(store, old), Err(Error::Stale));
    succeed(store, new).unwrap();
    assert_eq!(acknowledge(store, new, fail("late")), Err(Error::Stale));
    assert_eq!(status(store, new.job), Status::Succeeded);
}

fn what_follows_is_enqueued_with_the_acknowledgement(case: &Case) {
    let store = &*case.store;
    let worker = register(store);
    enqueue(store, job("a"));
    let attempt = claim(store, worker, 1).remove(0).attempt;
    let outcome = || Outcome::Succeeded { result: None };
    let ack = |then| Ack { attempt, outcome: outcome(), then };
    let bad = wait(|done| store.acknowledge(vec![ack(vec![job("b"), NewJob { max_attempts: 0, ..job("c") }])], done));
    assert!(matches!(bad.unwrap().remove(0), Err(Error::Invalid(_))));
    assert_eq!(status(store, attempt.job), Status::Running);
    let both = wait(|done| store.acknowledge(vec![ack(vec![job("b")]), ack(vec![job("c")])], done)).unwrap();
    assert_eq!(both, [Ok(Status::Succeeded), Err(Error::Stale)]);
    assert_eq!(tasks(&claim(store, worker, 9)), ["b"]);
}

fn an_evicted_worker_cannot_acknowledge(case: &Case) {
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

fn poison_is_quarantined_and_retried(case: &Case) {
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

fn cancels(case: &Case) {
    let store = &*case.store;
    let worker = register(store);
    let cancel = |id| wait(|done| store.cancel(id, done));
    let queued = enqueue(store, job("queued"));
    let scheduled = enqueue(store, NewJob { eta: Some(NOON + 5), ..job("scheduled") });
    assert_eq!((cancel(queued), cancel(scheduled)), (Ok(Cancelled::Now), Ok(Cancelled::Now)));
    case.clock.advance(10);
    assert!(claim(store, worker, 9).is_empty());
    for (outcome, ends) in [
        (Outcome::Cancelled, Status::Cancelled),
        (Outcome::HandBack, Status::Cancelled),
        (retry_at(0), Status::Cancelled),
        (Outcome::Succeeded { result: None }, Status::Succeeded),
    ] {
        let id = enqueue(store, NewJob { max_attempts: 5, ..job("running") });
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

fn unique_job(key: &str, until_started: bool) -> NewJob {
    NewJob { unique: Some(Unique { key: key.into(), until_started }), ..job("unique") }
}

fn try_enqueue(store: &dyn Store, job: NewJob) -> Enqueued {
    wait(|done| store.enqueue(vec![job], done)).unwrap().remove(0).unwrap()
}

fn unique_keys(case: &Case) {
    let store = &*case.store;
    let worker = register(store);
    let first = enqueue(store, unique_job("k", false));
    let again = |key| try_enqueue(store, unique_job(key, false));
    assert_eq!(again("k"), Enqueued::Duplicate(first));
    assert!(matches!(again("other"), Enqueued::New(_)));
    let claimed = claim(store, worker, 1).remove(0);
    assert_eq!((claimed.job.id, again("k")), (first, Enqueued::Duplicate(first)));
    acknowledge(store, claimed.attempt, fail("no")).unwrap();
    let Enqueued::New(second) = again("k") else { panic!("the key was not free") };
    assert!(matches!(wait(|done| store.retry(first, done)), Err(Error::Invalid(_))));
    wait(|done| store.cancel(second, done)).unwrap();
    wait(|done| store.retry(first, done)).unwrap();
    assert_eq!(again("k"), Enqueued::Duplicate(first));
}

fn unique_until_started(case: &Case) {
    let store = &*case.store;
    let worker = register(store);
    let first = enqueue(store, unique_job("k", true));
    assert_eq!(try_enqueue(store, unique_job("k", true)), Enqueued::Duplicate(first));
    let claimed = claim(store, worker, 1).remove(0);
    let second = enqueue(store, unique_job("k", true));
    acknowledge(store, claimed.attempt, Outcome::HandBack).unwrap();
    assert_eq!(try_enqueue(store, unique_job("k", true)), Enqueued::Duplicate(second));
}

fn repeated_enqueues_are_one(case: &Case) {
    let store = &*case.store;
    for new in [job("plain"), unique_job("k", false)] {
        let id = enqueue(store, new.clone());
        assert_eq!(try_enqueue(store, new), Enqueued::Known(id));
    }
    assert_eq!(claim(store, register(store), 9).len(), 2);
}

fn bad_rows_do_not_fail_their_batch(case: &Case) {
    let store = &*case.store;
    let bad = [
        NewJob { task: String::new(), ..job("") },
        NewJob { queue: "a\0b".into(), ..job("b") },
        NewJob { payload: vec![0; (16 << 20) + 1], ..job("long") },
        NewJob { max_attempts: 0, ..job("never") },
        NewJob { eta: Some(-1), ..job("before") },
        NewJob { eta: Some(i64::MAX), ..job("after") },
        NewJob { keep: -1, ..job("keep") },
    ];
    let mut jobs = vec![job("good")];
    jobs.extend(bad);
    jobs.push(job("good too"));
    let outcomes = wait(|done| store.enqueue(jobs, done)).unwrap();
    assert!(matches!(outcomes[0], Ok(Enqueued::New(_))) && matches!(outcomes[8], Ok(Enqueued::New(_))));
    assert!(outcomes[1..8].iter().all(|outcome| matches!(outcome, Err(Error::Invalid(_)))), "{outcomes:?}");
    assert_eq!(tasks(&claim(store, register(store), 99)), ["good", "good too"]);
}

fn once_keys(case: &Case) {
    let store = &*case.store;
    let once = |value: &[u8]| wait(|done| store.once("charge", value.to_vec(), 1000, done)).unwrap();
    assert_eq!((once(b"1"), once(b"2")), (Once::First, Once::Before(b"1".to_vec())));
    assert_eq!(wait(|done| store.once_value("charge", done)).unwrap(), Some(b"1".to_vec()));
    case.clock.advance(1000);
    assert_eq!(wait(|done| store.once_value("charge", done)).unwrap(), None);
    assert_eq!((once(b"3"), once(b"4")), (Once::First, Once::Before(b"3".to_vec())));
}

fn one_job_a_tick(case: &Case) {
    let store = &*case.store;
    let tick = |at| wait(|done| store.tick("tidy", at, job("tidy"), done)).unwrap();
    assert!(matches!(tick(NOON), TickOutcome::Enqueued(Enqueued::New(_))));
    assert_eq!(tick(NOON), TickOutcome::Past(NOON));
    assert_eq!(tick(NOON - 60_000), TickOutcome::Past(NOON));
    assert!(matches!(tick(NOON + 60_000), TickOutcome::Enqueued(_)));
    assert_eq!(wait(|done| store.ticks(done)).unwrap(), [Tick { name: "tidy".into(), at: NOON + 60_000 }]);
    assert_eq!(claim(store, register(store), 9).len(), 2);
}

fn rate_limits(case: &Case) {
    let store = &*case.store;
    let (one, two) = (register(store), register(store));
    let rate = Rate { count: 10, period: 1000, burst: 2 };
    wait(|done| store.set_rate("api", Some(rate), done)).unwrap();
    for queue in ["a", "b", "a", "b", "a", "b"] {
        enqueue(store, NewJob { queue: queue.into(), limit: Some("api".into()), ..job("call") });
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
    let other = |task: &str, expires| NewJob { limit: Some("other".into()), expires, ..job(task) };
    enqueue(store, other("over", Some(NOON)));
    enqueue(store, other("runs", None));
    assert_eq!(tasks(&claim(store, one, 9)), ["runs"]);
    let bad = Rate { count: 0, ..rate };
    assert!(matches!(wait(|done| store.set_rate("api", Some(bad), done)), Err(Error::Invalid(_))));
}

fn a_limit_does_not_hold_up_others(case: &Case) {
    let store = &*case.store;
    let rate = Rate { count: 1, period: 3_600_000, burst: 1 };
    wait(|done| store.set_rate("slow", Some(rate), done)).unwrap();
    let slow = |n: i32| NewJob { limit: Some("slow".into()), priority: n, ..job("slow") };
    wait(|done| store.enqueue((0..3000).map(slow).collect(), done)).unwrap();
    enqueue(store, job("quick"));
    assert_eq!(tasks(&claim(store, register(store), 5)), ["slow", "quick"]);
}

fn concurrency(case: &Case) {
    let store = &*case.store;
    let settings = QueueSettings { concurrency: Some(2), paused: false };
    wait(|done| store.set_queue("q", settings, done)).unwrap();
    for limit in [None, Some("l".to_owned()), None, Some("l".to_owned()), None] {
        enqueue(store, NewJob { limit, ..job("a") });
    }
    enqueue(store, NewJob { queue: "other".into(), ..job("other") });
    let (one, two) = (register(store), register(store));
    let first = claim(store, one, 9);
    assert_eq!(tasks(&first), ["a", "a", "other"]);
    assert!(claim(store, two, 9).is_empty());
    succeed(store, first[0].attempt).unwrap();
    assert_eq!(claim(store, two, 9).len(), 1);
}

fn pausing(case: &Case) {
    let store = &*case.store;
    let worker = register(store);
    enqueue(store, job("a"));
    let set = |paused| wait(|done| store.set_queue("q", QueueSettings { concurrency: None, paused }, done)).unwrap();
    set(true);
    assert!(claim(store, worker, 1).is_empty());
    set(false);
    assert_eq!(claim(store, worker, 1).len(), 1);
}

fn groups_are_waited_for(case: &Case) {
    let store = &*case.store;
    let worker = register(store);
    let group = Some(JobId::new());
    let member = || NewJob { group, keep: 0, ..job("member") };
    let body = NewJob { waits_for: group, ..job("body") };
    let waiting = body.id;
    wait(|done| store.enqueue(vec![body, member(), member()], done)).unwrap();
    let members = claim(store, worker, 9);
    assert_eq!((members.len(), status(store, waiting)), (2, Status::Waiting));
    succeed(store, members[0].attempt).unwrap();
    assert!(claim(store, worker, 9).is_empty());
    succeed(store, members[1].attempt).unwrap();
    assert_eq!(tasks(&claim(store, worker, 9)), ["body"]);
}

fn groups_that_fail(case: &Case) {
    let store = &*case.store;
    let worker = register(store);
    let (inner, outer) = (Some(JobId::new()), Some(JobId::new()));
    let middle = NewJob { waits_for: inner, group: outer, ..job("middle") };
    let last = NewJob { waits_for: outer, ..job("last") };
    let ids = [middle.id, last.id];
    let member = NewJob { group: inner, ..job("member") };
    wait(|done| store.enqueue(vec![member, middle, last], done)).unwrap();
    let attempt = claim(store, worker, 9).remove(0).attempt;
    acknowledge(store, attempt, fail("no")).unwrap();
    assert_eq!(ids.map(|id| status(store, id)), [Status::Failed, Status::Failed]);
    assert!(get(store, ids[1]).unwrap().error.unwrap().contains("group"));
    let members = Filter { group: inner, ..Filter::default() };
    let page = Page { after: None, limit: 9, newest_first: false };
    assert_eq!(wait(|done| store.list(members, page, done)).unwrap()[0].id, attempt.job);
}

fn pruning_leaves_the_log(case: &Case) {
    let store = &*case.store;
    let worker = register(store);
    let at_once = enqueue(store, NewJob { keep: 0, ..job("at once") });
    let later = enqueue(store, NewJob { keep: 100, payload: vec![1; 9000], ..job("later") });
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
    assert_eq!(log.iter().map(|entry| (entry.id, entry.status)).collect::<Vec<_>>(), [
        (later, Status::Succeeded),
        (at_once, Status::Succeeded)
    ]);
    assert_eq!((&*log[0].task, &*log[0].queue, log[0].attempts, log[0].finished_at), ("later", "q", 1, NOON));
}

fn purging(case: &Case) {
    let store = &*case.store;
    let worker = register(store);
    wait(|done| store.enqueue((0..1200).map(|_| job("many")).collect(), done)).unwrap();
    enqueue(store, NewJob { queue: "other".into(), ..job("other") });
    let running = claim(store, worker, 3);
    let filter = Filter { queue: Some("q".into()), ..Filter::default() };
    assert_eq!(wait(|done| store.purge(filter, done)).unwrap(), Purged { jobs: 1197 });
    assert_eq!(tasks(&claim(store, worker, 9)), ["other"]);
    for job in running {
        succeed(store, job.attempt).unwrap();
    }
    let filter = Filter { statuses: vec![Status::Succeeded], ..Filter::default() };
    assert_eq!(wait(|done| store.purge(filter, done)).unwrap(), Purged { jobs: 3 });
}

fn lists_have_pages(case: &Case) {
    let store = &*case.store;
    let ids: Vec<JobId> = (0..10).map(|n| enqueue(store, job(["even", "odd"][n % 2]))).collect();
    let list = |filter: Filter, page| -> Vec<JobId> {
        wait(|done| store.list(filter, page, done)).unwrap().iter().map(|job| job.id).collect()
    };
    let page = Page { after: None, limit: 4, newest_first: false };
    assert_eq!(list(Filter::default(), page), ids[..4]);
    assert_eq!(list(Filter::default(), Page { after: Some(ids[3]), ..page }), ids[4..8]);
    assert_eq!(list(Filter::default(), Page { after: Some(ids[7]), ..page }), ids[8..]);
    let newest = Page { newest_first: true, ..page };
    assert_eq!(list(Filter::default(), newest), [ids[9], ids[8], ids[7], ids[6]]);
    let odd = Filter { task: Some("odd".into()), queue: Some("q".into()), ..Filter::default() };
    assert_eq!(list(odd.clone(), Page { after: Some(ids[6]), ..newest }), [ids[5], ids[3], ids[1]]);
    let none = Filter { queue: Some("none".into()), ..odd };
    assert!(list(none, page).is_empty());
    wait(|done| store.cancel(ids[0], done)).unwrap();
    let filter = Filter { statuses: vec![Status::Cancelled, Status::Failed], ..Filter::default() };
    assert_eq!(list(filter, page), [ids[0]]);
}

fn stats_count(case: &Case) {
    let store = &*case.store;
    let worker = register(store);
    enqueue(store, NewJob { eta: Some(NOON + 9), ..job("scheduled") });
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

fn listeners_are_told(case: &Case) {
    let store = &*case.store;
    let told = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&told);
    let watch = store.watch(Arc::new(move |change: &Change| heard.lock().unwrap().push(change.clone())));
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

fn retired_workers_hand_back(case: &Case) {
    let store = &*case.store;
    let (one, two) = (register(store), register(store));
    enqueue(store, job("a"));
    claim(store, one, 1);
    wait(|done| store.retire(one, done)).unwrap();
    let again = claim(store, two, 1).remove(0).job;
    assert_eq!((again.attempts, again.deaths, again.error), (1, 0, None));
}

fn closed_stores_say_so(case: &Case) {
    let store = &*case.store;
    enqueue(store, job("a"));
    store.close();
    assert_eq!(wait(|done| store.enqueue(vec![job("b")], done)), Err(Error::Closed));
    assert_eq!(wait(|done| store.stats(done)), Err(Error::Closed));
}
