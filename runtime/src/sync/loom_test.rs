//! Models of the primitives. Waiters are plain threads here; the fiber's own side is in `loom_waiter.rs`. A wait
//! with a deadline is over as soon as it has begun, so "`.._timeout`" stands for all that gives up.

use crate::sync::{Barrier, BarrierError, Condvar, Event, Mutex, OnceCell, RawMutex, RwLock, Semaphore};
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;
use std::sync::Arc;
use std::time::Duration;

/// Long enough that the deadline is not past when the wait begins, which would be no wait.
pub(super) const SOON: Duration = Duration::from_secs(3600);

/// Explores every interleaving there is, whatever `LOOM_MAX_PREEMPTIONS` says.
pub(super) fn exhaustive(check: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = None;
    explore(builder, check);
}

/// Explores with at most so many preemptions, or as many as `LOOM_MAX_PREEMPTIONS` says.
pub(super) fn bounded(preemptions: usize, check: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(preemptions));
    explore(builder, check);
}

fn explore(mut builder: loom::model::Builder, check: impl Fn() + Send + Sync + 'static) {
    builder.max_branches = 10_000;
    let executions = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = executions.clone();
    builder.check(move || {
        counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        check();
    });
    println!(
        "{executions:?} executions, preemptions: {:?}",
        builder.preemption_bound
    );
}

fn spawn<T: 'static>(f: impl FnOnce() -> T + 'static) -> thread::JoinHandle<T> {
    thread::spawn(f)
}

#[test]
fn loom_mutex_one_at_a_time() {
    bounded(4, || {
        let mutex = Arc::new(Mutex::new(0));
        let others: Vec<_> = (0..2)
            .map(|_| {
                let mutex = mutex.clone();
                spawn(move || *mutex.lock().unwrap() += 1)
            })
            .collect();
        *mutex.lock().unwrap() += 1;
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(*mutex.try_lock().unwrap(), 3);
    });
}

/// One barges in again and again: the waiter fails once and is handed the lock (under loom the limit is one).
#[test]
fn loom_mutex_is_handed_over() {
    exhaustive(|| {
        let mutex = Arc::new(Mutex::new(0));
        let other = spawn({
            let mutex = mutex.clone();
            move || *mutex.lock().unwrap() += 1
        });
        for _ in 0..3 {
            *mutex.lock().unwrap() += 1;
        }
        other.join().unwrap();
        assert_eq!(*mutex.try_lock().unwrap(), 4);
    });
}

#[test]
fn loom_mutex_one_gives_up() {
    bounded(4, || {
        let mutex = Arc::new(Mutex::new(0));
        let patient = spawn({
            let mutex = mutex.clone();
            move || *mutex.lock().unwrap() += 1
        });
        let hasty = spawn({
            let mutex = mutex.clone();
            move || mutex.lock_timeout(SOON).map(|mut guard| *guard += 1).is_ok()
        });
        *mutex.lock().unwrap() += 1;
        patient.join().unwrap();
        let locked = hasty.join().unwrap();
        assert_eq!(*mutex.try_lock().unwrap(), 2 + usize::from(locked));
    });
}

/// Two unlock, one had locked: one of them is told so, and no lock of the waiter's is undone.
#[test]
fn loom_raw_mutex_unlocked_twice() {
    exhaustive(|| {
        let lock = Arc::new(RawMutex::new());
        assert!(lock.try_lock());
        let waiter = spawn({
            let lock = lock.clone();
            move || lock.lock().unwrap()
        });
        let other = spawn({
            let lock = lock.clone();
            move || lock.unlock()
        });
        let unlocked = usize::from(lock.unlock()) + usize::from(other.join().unwrap());
        // The second may have unlocked what the waiter locked.
        waiter.join().unwrap();
        assert_eq!(unlocked, if lock.is_locked() { 1 } else { 2 });
    });
}

#[test]
fn loom_rwlock_writers_alone() {
    bounded(3, || {
        let lock = Arc::new(RwLock::new((0, 0)));
        let writer = spawn({
            let lock = lock.clone();
            move || {
                let mut guard = lock.write().unwrap();
                guard.0 += 1;
                guard.1 += 1;
            }
        });
        let reader = spawn({
            let lock = lock.clone();
            move || {
                let guard = lock.read().unwrap();
                assert_eq!(guard.0, guard.1);
            }
        });
        let guard = lock.read().unwrap();
        assert_eq!(guard.0, guard.1);
        drop(guard);
        writer.join().unwrap();
        reader.join().unwrap();
        assert_eq!(*lock.try_write().unwrap(), (1, 1));
    });
}

/// A writer that gives up lets the reader behind it in, whose lock nobody would free otherwise.
#[test]
fn loom_rwlock_a_writer_gives_up() {
    exhaustive(|| {
        let lock = Arc::new(RwLock::new(0));
        let first = lock.read().unwrap();
        let writer = spawn({
            let lock = lock.clone();
            move || lock.write_timeout(SOON).is_ok()
        });
        let behind = spawn({
            let lock = lock.clone();
            move || *lock.read().unwrap()
        });
        behind.join().unwrap();
        assert!(!writer.join().unwrap());
        drop(first);
        drop(lock.try_write().unwrap());
    });
}

#[test]
fn loom_condvar_notify_between_check_and_wait() {
    exhaustive(|| {
        let shared = Arc::new((Mutex::new(false), Condvar::new()));
        let waiter = spawn({
            let shared = shared.clone();
            move || {
                let guard = shared.0.lock().unwrap();
                assert!(*shared.1.wait_while(guard, |ready| !*ready).unwrap());
            }
        });
        *shared.0.lock().unwrap() = true;
        shared.1.notify_one();
        waiter.join().unwrap();
    });
}

/// A notification goes to one that waits, not to one that gave up.
#[test]
fn loom_condvar_one_gives_up() {
    bounded(4, || {
        let shared = Arc::new((Mutex::new(0), Condvar::new()));
        let patient = spawn({
            let shared = shared.clone();
            move || {
                let guard = shared.0.lock().unwrap();
                let mut items = shared.1.wait_while(guard, |items| *items == 0).unwrap();
                *items -= 1;
            }
        });
        let hasty = spawn({
            let shared = shared.clone();
            move || {
                let guard = shared.0.lock().unwrap();
                let (mut items, notified) = shared.1.wait_timeout(guard, SOON).unwrap();
                if notified && *items > 0 {
                    // It took the patient one's notification: it takes an item and must say so.
                    *items -= 1;
                    *items += 1;
                    shared.1.notify_one();
                }
            }
        });
        *shared.0.lock().unwrap() += 1;
        shared.1.notify_one();
        patient.join().unwrap();
        hasty.join().unwrap();
        assert_eq!(*shared.0.try_lock().unwrap(), 0);
    });
}

/// The one that wants more than there will be gives up, and lets the one behind it have its permit.
#[test]
fn loom_semaphore_one_gives_up() {
    bounded(4, || {
        let semaphore = Arc::new(Semaphore::new(0));
        let patient = spawn({
            let semaphore = semaphore.clone();
            move || semaphore.acquire().unwrap().forget()
        });
        let greedy = spawn({
            let semaphore = semaphore.clone();
            move || semaphore.acquire_many_timeout(2, SOON).is_ok()
        });
        semaphore.add_permits(1);
        patient.join().unwrap();
        assert!(!greedy.join().unwrap());
        assert_eq!(semaphore.available_permits(), 0);
    });
}

#[test]
fn loom_semaphore_permits_are_neither_lost_nor_made() {
    bounded(3, || {
        let semaphore = Arc::new(Semaphore::new(0));
        let patient = spawn({
            let semaphore = semaphore.clone();
            move || semaphore.acquire().unwrap().forget()
        });
        let hasty = spawn({
            let semaphore = semaphore.clone();
            move || {
                semaphore
                    .acquire_many_timeout(2, SOON)
                    .map(crate::sync::Permit::forget)
                    .is_ok()
            }
        });
        semaphore.add_permits(1);
        semaphore.add_permits(2);
        patient.join().unwrap();
        let taken = if hasty.join().unwrap() { 3 } else { 1 };
        assert_eq!(semaphore.available_permits(), 3 - taken);
    });
}

#[test]
fn loom_semaphore_closed_while_waiting() {
    bounded(4, || {
        let semaphore = Arc::new(Semaphore::new(0));
        let waiter = spawn({
            let semaphore = semaphore.clone();
            move || semaphore.acquire().map(crate::sync::Permit::forget).is_ok()
        });
        let giver = spawn({
            let semaphore = semaphore.clone();
            move || semaphore.add_permits(1)
        });
        semaphore.close();
        giver.join().unwrap();
        let taken = usize::from(waiter.join().unwrap());
        assert_eq!(semaphore.available_permits(), 1 - taken);
    });
}

/// Two waiters, so that waking them takes two batches (of one, under loom).
#[test]
fn loom_event_set_and_cleared() {
    bounded(4, || {
        let event = Arc::new(Event::new());
        let first = spawn({
            let event = event.clone();
            move || event.wait().unwrap()
        });
        let second = spawn({
            let event = event.clone();
            move || event.wait_timeout(SOON).unwrap()
        });
        event.set();
        first.join().unwrap();
        event.clear();
        assert!(!event.is_set());
        second.join().unwrap();
        assert_eq!(event.wait_timeout(SOON), Ok(false));
    });
}

/// Either all pass, or the one that gives up breaks it for the other.
#[test]
fn loom_barrier_passes_or_breaks_for_all() {
    bounded(4, || {
        let barrier = Arc::new(Barrier::new(3));
        let patient = spawn({
            let barrier = barrier.clone();
            move || barrier.wait().map(crate::sync::BarrierPassed::is_leader)
        });
        let hasty = spawn({
            let barrier = barrier.clone();
            move || {
                barrier
                    .wait_timeout(SOON)
                    .map(crate::sync::BarrierPassed::is_leader)
            }
        });
        let here = barrier.wait().map(crate::sync::BarrierPassed::is_leader);
        let outcomes = [here, patient.join().unwrap(), hasty.join().unwrap()];
        if outcomes.iter().all(Result::is_ok) {
            assert_eq!(outcomes.iter().filter(|outcome| **outcome == Ok(true)).count(), 1);
        } else {
            assert_eq!(
                outcomes,
                [
                    Err(BarrierError::Broken),
                    Err(BarrierError::Broken),
                    Err(BarrierError::TimedOut)
                ]
            );
        }
    });
}

#[test]
fn loom_once_is_done_once() {
    exhaustive(|| {
        let cell = Arc::new(OnceCell::new());
        let runs = Arc::new(AtomicUsize::new(0));
        let others: Vec<_> = (0..2)
            .map(|_| {
                let (cell, runs) = (cell.clone(), runs.clone());
                spawn(move || {
                    let made = cell.get_or_init(|| {
                        runs.fetch_add(1, Ordering::Relaxed);
                        9
                    });
                    assert_eq!(made, Ok(&9));
                })
            })
            .collect();
        assert!(matches!(cell.get(), None | Some(9)));
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!((cell.get(), runs.load(Ordering::Relaxed)), (Some(&9), 1));
    });
}

/// The first try fails: whoever waits for it must try, and none may wait for ever.
#[test]
fn loom_once_is_tried_again() {
    bounded(3, || {
        let cell = Arc::new(OnceCell::new());
        let runs = Arc::new(AtomicUsize::new(0));
        let attempt = |cell: Arc<OnceCell<u32>>, runs: Arc<AtomicUsize>| {
            cell.get_or_try_init(|| {
                if runs.fetch_add(1, Ordering::Relaxed) == 0 {
                    Err(())
                } else {
                    Ok(9)
                }
            })
            .is_ok()
        };
        let others: Vec<_> = (0..2)
            .map(|_| {
                let (cell, runs) = (cell.clone(), runs.clone());
                spawn(move || attempt(cell, runs))
            })
            .collect();
        let mut succeeded = usize::from(attempt(cell.clone(), runs.clone()));
        for other in others {
            succeeded += usize::from(other.join().unwrap());
        }
        assert_eq!((succeeded, runs.load(Ordering::Relaxed)), (2, 2));
    });
}
