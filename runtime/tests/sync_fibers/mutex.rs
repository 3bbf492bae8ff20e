//! Mutex.

use crate::support::{LONG, SHORT, on_each, until_parked};
use roving_runtime::sync::{Event, LockError, LockTimeoutError, Mutex, RwLock, TryLockError};
use roving_runtime::{FiberState, Runtime, WaitReason, current_fiber, shield, spawn, yield_now};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

#[test]
fn one_at_a_time_fibers_and_threads() {
    on_each(|runtime| {
        let mutex = Arc::new(Mutex::new(0));
        let inside = Arc::new(AtomicUsize::new(0));
        let work = |rounds: usize| {
            let (mutex, inside) = (mutex.clone(), inside.clone());
            move || {
                for round in 0..rounds {
                    let mut total = mutex.lock().unwrap();
                    assert_eq!(inside.fetch_add(1, SeqCst), 0);
                    if round % 8 == 0 {
                        yield_now();
                    }
                    *total += 1;
                    inside.fetch_sub(1, SeqCst);
                }
            }
        };
        let fibers: Vec<_> = (0..8).map(|_| runtime.spawn(work(400))).collect();
        let threads: Vec<_> = (0..2).map(|_| std::thread::spawn(work(400))).collect();
        fibers.into_iter().for_each(|fiber| fiber.join().unwrap());
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(*mutex.lock().unwrap(), 4000);
    });
}

#[test]
fn a_waiting_fiber_leaves_its_worker_to_others() {
    let runtime = Runtime::builder().workers(1).build().unwrap();
    let mutex = Arc::new(Mutex::new(()));
    let guard = mutex.lock().unwrap();
    let waiter = runtime.spawn({
        let mutex = mutex.clone();
        move || drop(mutex.lock().unwrap())
    });
    until_parked(&runtime, WaitReason::Mutex, 1);
    assert_eq!(runtime.spawn(|| 5).join().unwrap(), 5);
    drop(guard);
    waiter.join().unwrap();
}

/// On one worker the holder decides when the waiter may try: it fails, and fails, and is handed the lock.
#[test]
fn a_waiter_that_fails_again_and_again_is_handed_the_lock() {
    let runtime = Runtime::builder().workers(1).build().unwrap();
    let mutex = Arc::new(Mutex::new(()));
    let handle = runtime.handle().clone();
    let overtaken = runtime.spawn(move || {
        let mut guard = Some(mutex.lock().unwrap());
        let waiter = spawn({
            let mutex = mutex.clone();
            move || drop(mutex.lock().unwrap())
        });
        let mut overtaken = 0;
        loop {
            // Until it waits, or waits again.
            while !handle
                .dump()
                .iter()
                .any(|fiber| fiber.state == FiberState::Parked(WaitReason::Mutex))
            {
                yield_now();
            }
            drop(guard.take());
            // The waiter has been woken, and cannot run before we yield.
            match mutex.try_lock() {
                Ok(again) => guard = Some(again),
                Err(TryLockError::WouldBlock) => break,
                Err(TryLockError::Poisoned(_)) => unreachable!(),
            }
            overtaken += 1;
        }
        waiter.join().unwrap();
        overtaken
    });
    // Fewer on a machine so slow that a millisecond has passed.
    assert!((1..=8).contains(&overtaken.join().unwrap()));
}

#[test]
fn nobody_starves_beside_one_that_never_rests() {
    on_each(|runtime| {
        let mutex = Arc::new(Mutex::new(0u64));
        let enough = Arc::new(AtomicBool::new(false));
        let hog = std::thread::spawn({
            let (mutex, enough) = (mutex.clone(), enough.clone());
            move || {
                while !enough.load(SeqCst) {
                    let mut guard = mutex.lock().unwrap();
                    for _ in 0..50 {
                        *std::hint::black_box(&mut *guard) += 1;
                    }
                }
            }
        });
        let waiters: Vec<_> = (0..4)
            .map(|_| {
                let mutex = mutex.clone();
                runtime.spawn(move || {
                    for _ in 0..50 {
                        drop(mutex.lock_timeout(LONG).unwrap());
                    }
                })
            })
            .collect();
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
        enough.store(true, SeqCst);
        hog.join().unwrap();
    });
}

#[test]
fn a_cancelled_waiter_has_no_lock_and_keeps_none_from_others() {
    on_each(|runtime| {
        let mutex = Arc::new(Mutex::new(0));
        let guard = mutex.lock().unwrap();
        let cancelled: Vec<_> = (0..3)
            .map(|_| {
                let mutex = mutex.clone();
                runtime.spawn(move || matches!(mutex.lock(), Err(LockError::Cancelled)))
            })
            .collect();
        until_parked(runtime, WaitReason::Mutex, 3);
        let behind = runtime.spawn({
            let mutex = mutex.clone();
            move || *mutex.lock().unwrap() += 1
        });
        until_parked(runtime, WaitReason::Mutex, 4);
        cancelled.iter().for_each(roving_runtime::JoinHandle::cancel);
        cancelled
            .into_iter()
            .for_each(|fiber| assert!(fiber.join().unwrap()));
        drop(guard);
        behind.join().unwrap();
        assert_eq!(*mutex.lock().unwrap(), 1);
    });
}

/// The wake and the cancellation come at the same time: the lock is taken, or goes on to the next.
#[test]
fn cancelled_while_being_woken() {
    on_each(|runtime| {
        for round in 0..200 {
            let mutex = Arc::new(Mutex::new(()));
            let guard = mutex.lock().unwrap();
            let waiters: Vec<_> = (0..2)
                .map(|_| {
                    let mutex = mutex.clone();
                    runtime.spawn(move || mutex.lock().map(drop).is_ok())
                })
                .collect();
            if round % 2 == 0 {
                until_parked(runtime, WaitReason::Mutex, 2);
            }
            let canceller = std::thread::spawn({
                let first = waiters[0].fiber();
                move || first.cancel()
            });
            drop(guard);
            let locked: Vec<_> = waiters
                .into_iter()
                .map(roving_runtime::JoinHandle::join)
                .collect();
            // A fiber that is cancelled before it starts never does.
            assert!(matches!(locked[1], Ok(true)), "{locked:?}");
            canceller.join().unwrap();
            assert!(mutex.try_lock().is_ok());
        }
    });
}

#[test]
fn a_free_lock_does_not_look_at_cancellation_and_a_shield_holds_it_back() {
    let runtime = Runtime::builder().workers(1).build().unwrap();
    let mutex = Arc::new(Mutex::new(()));
    let fiber = runtime.spawn({
        let mutex = mutex.clone();
        move || {
            current_fiber().unwrap().cancel();
            drop(mutex.lock().unwrap());
            let guard = mutex.lock().unwrap();
            assert!(matches!(mutex.lock(), Err(LockError::Cancelled)));
            assert!(matches!(
                mutex.lock_timeout(SHORT),
                Err(LockTimeoutError::Cancelled)
            ));
            let waited = shield(|| mutex.lock_timeout(SHORT).err().map(|error| error.to_string()));
            assert_eq!(waited.as_deref(), Some("the lock did not come free in time"));
            drop(guard);
        }
    });
    fiber.join().unwrap();
}

#[test]
fn a_fiber_that_panics_poisons() {
    on_each(|runtime| {
        let mutex = Arc::new(Mutex::new(1));
        let fiber = runtime.spawn({
            let mutex = mutex.clone();
            move || {
                let mut guard = mutex.lock().unwrap();
                *guard = 2;
                yield_now();
                panic!("half way");
            }
        });
        fiber.join().unwrap_err();
        let Err(LockError::Poisoned(guard)) = mutex.lock() else {
            panic!("it is poisoned")
        };
        assert_eq!(*guard, 2);
    });
}

/// A destructor that parks while it unwinds leaves the thread "panicking" in the eyes of its neighbours.
#[test]
fn a_fiber_does_not_poison_because_its_neighbour_panics() {
    struct ParksWhenDropped(Arc<[Event; 3]>);
    impl Drop for ParksWhenDropped {
        fn drop(&mut self) {
            let [_, unwinding, go_on] = &*self.0;
            unwinding.set();
            go_on.wait().unwrap();
        }
    }
    let runtime = Runtime::builder().workers(1).build().unwrap();
    let events = Arc::new([Event::new(), Event::new(), Event::new()]);
    let (mutex, lock) = (Arc::new(Mutex::new(())), Arc::new(RwLock::new(())));
    let neighbour = runtime.spawn({
        let (mutex, lock, events) = (mutex.clone(), lock.clone(), events.clone());
        move || {
            let [locked, unwinding, _] = &*events;
            let guards = (mutex.lock().unwrap(), lock.write().unwrap());
            locked.set();
            unwinding.wait().unwrap();
            // Taken before the panic, given back in the middle of it.
            drop(guards);
            // And both in the middle of it.
            drop((mutex.lock().unwrap(), lock.write().unwrap()));
        }
    });
    let panicking = runtime.spawn({
        let events = events.clone();
        move || {
            events[0].wait().unwrap();
            let _parks = ParksWhenDropped(events);
            panic!("of its own");
        }
    });
    neighbour.join().unwrap();
    assert!(!mutex.is_poisoned() && !lock.is_poisoned());
    events[2].set();
    panicking.join().unwrap_err();
}

/// One that fails keeps its place before those who came after it.
#[test]
fn a_waiter_that_fails_goes_back_to_the_head() {
    let runtime = Runtime::builder().workers(1).build().unwrap();
    let mutex = Arc::new(Mutex::new(Vec::new()));
    let handle = runtime.handle().clone();
    let waiters = runtime.spawn({
        let mutex = mutex.clone();
        move || {
            let waiting = |count| {
                let parked = FiberState::Parked(WaitReason::Mutex);
                while handle.dump().iter().filter(|fiber| fiber.state == parked).count() < count {
                    yield_now();
                }
            };
            let guard = mutex.lock().unwrap();
            let waiters = [1, 2].map(|number| {
                let waiter = spawn({
                    let mutex = mutex.clone();
                    move || mutex.lock().unwrap().push(number)
                });
                waiting(number);
                waiter
            });
            // The first is woken, and finds the lock taken again.
            drop(guard);
            let guard = mutex.try_lock().unwrap();
            waiting(2);
            drop(guard);
            waiters
        }
    });
    for waiter in waiters.join().unwrap() {
        waiter.join().unwrap();
    }
    assert_eq!(*mutex.lock().unwrap(), [1, 2]);
}

/// In a stackless future, or a hook, blocking would stop every fiber of the worker.
#[test]
fn blocking_where_one_may_not_is_refused_and_does_no_harm() {
    let runtime = Runtime::builder().workers(1).build().unwrap();
    let mutex = Arc::new(Mutex::new(()));
    let guard = mutex.lock().unwrap();
    let future = runtime.handle().spawn_future({
        let mutex = mutex.clone();
        async move { catch_unwind(AssertUnwindSafe(|| drop(mutex.lock()))).is_err() }
    });
    assert!(future.join().unwrap());
    drop(guard);
    // A free one may be taken there.
    let future = runtime.handle().spawn_future({
        let mutex = mutex.clone();
        async move { drop(mutex.lock().unwrap()) }
    });
    future.join().unwrap();
    let waiter = runtime.spawn(move || drop(mutex.lock_timeout(Duration::from_secs(1)).unwrap()));
    waiter.join().unwrap();
}
