//! Semaphore, Event, Barrier and Once between fibers and plain threads; cancellation at every wait there is.

mod sync_support;

use roving_runtime::sync::channel::{
    RecvError, RecvTimeoutError, Select, SelectError, SelectTimeoutError, SendError, SendTimeoutError,
    rendezvous,
};
use roving_runtime::sync::{
    AcquireError, AcquireTimeoutError, Barrier, BarrierError, Condvar, Event, LockError, LockTimeoutError,
    Mutex, Once, OnceCell, OnceError, RawMutex, RwLock, Semaphore,
};
use roving_runtime::{Cancelled, Runtime, WaitReason, current_fiber, shield, sleep, yield_now};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};
use sync_support::{LONG, SHORT, on_each, until, until_parked};

/// One of each, in a state in which every wait waits.
struct Everything {
    mutex: Mutex<()>,
    raw: RawMutex,
    lock: RwLock<()>,
    condition: Condvar,
    semaphore: Semaphore,
    event: Event,
    barrier: Barrier,
    once: Once,
}

impl Everything {
    fn new() -> Arc<Self> {
        let everything = Self {
            mutex: Mutex::new(()),
            raw: RawMutex::new(),
            lock: RwLock::new(()),
            condition: Condvar::new(),
            semaphore: Semaphore::new(0),
            event: Event::new(),
            barrier: Barrier::new(2),
            once: Once::new(),
        };
        assert!(everything.raw.try_lock());
        Arc::new(everything)
    }
}

/// A wait: what it waits for, and whether it ended by the cancellation.
type Wait = (WaitReason, fn(&Everything) -> bool);

const WAITS: &[Wait] = &[
    (WaitReason::Mutex, |all| {
        matches!(all.mutex.lock(), Err(LockError::Cancelled))
    }),
    (WaitReason::Mutex, |all| {
        matches!(all.mutex.lock_timeout(LONG), Err(LockTimeoutError::Cancelled))
    }),
    (WaitReason::Mutex, |all| all.raw.lock() == Err(Cancelled)),
    (WaitReason::Mutex, |all| {
        all.raw.lock_until(Some(Instant::now() + LONG)) == Err(Cancelled)
    }),
    (WaitReason::RwLock, |all| {
        matches!(all.lock.read(), Err(LockError::Cancelled))
    }),
    (WaitReason::RwLock, |all| {
        matches!(all.lock.read_timeout(LONG), Err(LockTimeoutError::Cancelled))
    }),
    (WaitReason::RwLock, |all| {
        matches!(all.lock.write(), Err(LockError::Cancelled))
    }),
    (WaitReason::RwLock, |all| {
        matches!(all.lock.write_timeout(LONG), Err(LockTimeoutError::Cancelled))
    }),
    (WaitReason::Condvar, |all| {
        let private = Mutex::new(());
        all.condition.wait(private.lock().unwrap()).is_err()
    }),
    (WaitReason::Condvar, |all| {
        let private = Mutex::new(());
        all.condition.wait_timeout(private.lock().unwrap(), LONG).is_err()
    }),
    (WaitReason::Semaphore, |all| {
        matches!(all.semaphore.acquire(), Err(AcquireError::Cancelled))
    }),
    (WaitReason::Semaphore, |all| {
        matches!(
            all.semaphore.acquire_many_timeout(3, LONG),
            Err(AcquireTimeoutError::Cancelled)
        )
    }),
    (WaitReason::Event, |all| all.event.wait() == Err(Cancelled)),
    (WaitReason::Event, |all| {
        all.event.wait_timeout(LONG) == Err(Cancelled)
    }),
    (WaitReason::Barrier, |all| {
        all.barrier.wait() == Err(BarrierError::Cancelled)
    }),
    (WaitReason::Barrier, |all| {
        all.barrier.wait_timeout(LONG) == Err(BarrierError::Cancelled)
    }),
    (WaitReason::Once, |all| {
        all.once.call_once(|| unreachable!()) == Err(OnceError::Cancelled)
    }),
    (WaitReason::Send, |_| {
        let (sender, _receiver) = rendezvous();
        sender.send(1) == Err(SendError::Cancelled(1))
    }),
    (WaitReason::Send, |_| {
        let (sender, _receiver) = rendezvous();
        sender.send_timeout(1, LONG) == Err(SendTimeoutError::Cancelled(1))
    }),
    (WaitReason::Recv, |_| {
        let (_sender, receiver) = rendezvous::<()>();
        receiver.recv() == Err(RecvError::Cancelled)
    }),
    (WaitReason::Recv, |_| {
        let (_sender, receiver) = rendezvous::<()>();
        receiver.recv_timeout(LONG) == Err(RecvTimeoutError::Cancelled)
    }),
    (WaitReason::Recv, |_| {
        let (_sender, receiver) = rendezvous::<()>();
        receiver.iter().count() == 0
    }),
    (WaitReason::Select, |_| {
        let (sender, receiver) = rendezvous();
        let mut select = Select::new();
        select.recv(&receiver);
        let send = select.send(&sender, 1);
        let ended = select.wait().unwrap_err() == SelectError::Cancelled;
        ended && select.take_unsent(send, &sender) == Some(1)
    }),
    (WaitReason::Select, |_| {
        let mut select = Select::new();
        select.wait_timeout(LONG).unwrap_err() == SelectTimeoutError::Cancelled
    }),
];

#[test]
fn every_wait_ends_by_a_cancellation() {
    on_each(|runtime| {
        let all = Everything::new();
        let (mutex, lock) = (all.mutex.lock().unwrap(), all.lock.write().unwrap());
        let (initialising, done) = (Arc::new(Event::new()), Arc::new(Event::new()));
        let initialiser = runtime.spawn({
            let (all, initialising, done) = (all.clone(), initialising.clone(), done.clone());
            move || {
                let call = all.once.call_once(|| {
                    initialising.set();
                    done.wait().unwrap();
                });
                call.unwrap();
            }
        });
        initialising.wait().unwrap();
        until_parked(runtime, WaitReason::Event, 1);
        for (number, &(reason, wait)) in WAITS.iter().enumerate() {
            let before = usize::from(reason == WaitReason::Event);
            let fiber = runtime.spawn({
                let all = all.clone();
                move || wait(&all)
            });
            until_parked(runtime, reason, before + 1);
            fiber.cancel();
            assert!(fiber.join().unwrap(), "wait {number}, for {reason:?}");
            // And one that was cancelled before it waits does not begin to.
            let fiber = runtime.spawn({
                let all = all.clone();
                move || {
                    current_fiber().unwrap().cancel();
                    all.barrier.reset();
                    wait(&all)
                }
            });
            assert!(fiber.join().unwrap(), "wait {number}, for {reason:?}, late");
            all.barrier.reset();
        }
        done.set();
        initialiser.join().unwrap();
        drop((mutex, lock));
        // Nothing is left behind: all are as new.
        drop(all.mutex.try_lock().unwrap());
        drop(all.lock.try_write().unwrap());
        assert!(!all.condition.notify_one());
        all.semaphore.add_permits(1);
        drop(all.semaphore.try_acquire().unwrap());
        assert!(all.raw.unlock() && all.raw.try_lock());
        assert_eq!(all.barrier.waiting(), 0);
        assert!(all.once.is_completed());
    });
}

/// Waiters of both kinds give up and are woken at the same time: permits are neither lost nor made.
#[test]
fn permits_are_conserved() {
    on_each(|runtime| {
        const PERMITS: usize = 3;
        let semaphore = Arc::new(Semaphore::new(PERMITS));
        let inside = Arc::new(AtomicUsize::new(0));
        let work = |number: u64| {
            let (semaphore, inside) = (semaphore.clone(), inside.clone());
            move || {
                for round in 0..200 {
                    let wanted = 1 + (number as usize + round) % PERMITS;
                    let timeout = Duration::from_micros((number * 37 + round as u64 * 11) % 100);
                    if let Ok(permit) = semaphore.acquire_many_timeout(wanted, timeout) {
                        assert!(inside.fetch_add(wanted, SeqCst) + wanted <= PERMITS);
                        yield_now();
                        inside.fetch_sub(wanted, SeqCst);
                        drop(permit);
                    }
                }
            }
        };
        let fibers: Vec<_> = (0..6).map(|number| runtime.spawn(work(number))).collect();
        let threads: Vec<_> = (6..8).map(|number| std::thread::spawn(work(number))).collect();
        fibers.into_iter().for_each(|fiber| fiber.join().unwrap());
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(semaphore.available_permits(), PERMITS);
        semaphore.try_acquire_many(PERMITS).unwrap().forget();
    });
}

/// A permit that is handed to one that is being cancelled is not lost.
#[test]
fn cancelled_while_being_granted() {
    on_each(|runtime| {
        for _ in 0..100 {
            let semaphore = Arc::new(Semaphore::new(0));
            let waiter = runtime.spawn({
                let semaphore = semaphore.clone();
                move || {
                    semaphore
                        .acquire()
                        .map(roving_runtime::sync::Permit::forget)
                        .is_ok()
                }
            });
            until_parked(runtime, WaitReason::Semaphore, 1);
            let canceller = std::thread::spawn({
                let waiter = waiter.fiber();
                move || waiter.cancel()
            });
            semaphore.add_permits(1);
            let acquired = waiter.join().unwrap();
            canceller.join().unwrap();
            assert_eq!(semaphore.available_permits(), usize::from(!acquired));
        }
    });
}

#[test]
fn closing_a_semaphore_frees_all_that_wait() {
    on_each(|runtime| {
        let semaphore = Arc::new(Semaphore::new(1));
        let waiters: Vec<_> = (0..100)
            .map(|_| {
                let semaphore = semaphore.clone();
                runtime.spawn(move || semaphore.acquire_many(2).map(drop))
            })
            .collect();
        until_parked(runtime, WaitReason::Semaphore, 100);
        semaphore.close();
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap(), Err(AcquireError::Closed));
        }
    });
}

/// Setting wakes everyone who waits, once each, though they wait again at once.
#[test]
fn an_event_that_is_set_again_and_again() {
    on_each(|runtime| {
        const FIBERS: usize = 50;
        let event = Arc::new(Event::new());
        let woken = Arc::new(AtomicUsize::new(0));
        let fibers: Vec<_> = (0..FIBERS)
            .map(|_| {
                let (event, woken) = (event.clone(), woken.clone());
                runtime.spawn(move || {
                    for _ in 0..3 {
                        event.wait().unwrap();
                        woken.fetch_add(1, SeqCst);
                        // Not again before it is cleared.
                        while event.is_set() {
                            yield_now();
                        }
                    }
                })
            })
            .collect();
        for round in 1..=3 {
            until_parked(runtime, WaitReason::Event, FIBERS);
            event.set();
            until(|| woken.load(SeqCst) == round * FIBERS);
            event.clear();
        }
        fibers.into_iter().for_each(|fiber| fiber.join().unwrap());
        assert_eq!(woken.load(SeqCst), 3 * FIBERS);
    });
}

#[test]
fn a_barrier_of_fibers_and_threads() {
    on_each(|runtime| {
        const PARTIES: usize = 24;
        let barrier = Arc::new(Barrier::new(PARTIES));
        let (arrived, leaders) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let work = || {
            let (barrier, arrived, leaders) = (barrier.clone(), arrived.clone(), leaders.clone());
            move || {
                for round in 1..=20 {
                    arrived.fetch_add(1, SeqCst);
                    let passed = barrier.wait_timeout(LONG).unwrap();
                    assert!(arrived.load(SeqCst) >= round * PARTIES);
                    leaders.fetch_add(usize::from(passed.is_leader()), SeqCst);
                }
            }
        };
        let fibers: Vec<_> = (0..PARTIES - 2).map(|_| runtime.spawn(work())).collect();
        let threads: Vec<_> = (0..2).map(|_| std::thread::spawn(work())).collect();
        fibers.into_iter().for_each(|fiber| fiber.join().unwrap());
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(leaders.load(SeqCst), 20);
    });
}

#[test]
fn a_cancelled_member_breaks_the_barrier() {
    on_each(|runtime| {
        let barrier = Arc::new(Barrier::new(40));
        let members: Vec<_> = (0..38)
            .map(|_| {
                let barrier = barrier.clone();
                runtime.spawn(move || barrier.wait())
            })
            .collect();
        let thread = std::thread::spawn({
            let barrier = barrier.clone();
            move || barrier.wait()
        });
        until(|| barrier.waiting() == 39);
        until_parked(runtime, WaitReason::Barrier, 38);
        members[7].cancel();
        for (number, member) in members.into_iter().enumerate() {
            let expected = if number == 7 {
                BarrierError::Cancelled
            } else {
                BarrierError::Broken
            };
            assert_eq!(member.join().unwrap(), Err(expected));
        }
        assert_eq!(thread.join().unwrap(), Err(BarrierError::Broken));
        assert_eq!(barrier.wait(), Err(BarrierError::Broken));
    });
}

/// The last comes as another gives up: either all pass, or none does.
#[test]
fn a_barrier_passed_and_broken_at_once() {
    on_each(|runtime| {
        for _ in 0..100 {
            let barrier = Arc::new(Barrier::new(20));
            let members: Vec<_> = (0..19)
                .map(|_| {
                    let barrier = barrier.clone();
                    runtime.spawn(move || barrier.wait())
                })
                .collect();
            until(|| barrier.waiting() == 19);
            let canceller = std::thread::spawn({
                // One that is woken in the second batch.
                let last = members[18].fiber();
                move || last.cancel()
            });
            let last = barrier.wait().is_ok();
            let passed: Vec<_> = members
                .into_iter()
                .map(|member| member.join().unwrap().is_ok())
                .collect();
            canceller.join().unwrap();
            assert!(
                passed.iter().all(|passed| *passed == last),
                "{passed:?}, the last: {last}"
            );
        }
    });
}

#[test]
fn others_wait_while_it_is_done_once() {
    on_each(|runtime| {
        let cell = Arc::new(OnceCell::new());
        let runs = Arc::new(AtomicUsize::new(0));
        let work = || {
            let (cell, runs) = (cell.clone(), runs.clone());
            move || {
                let value = cell.get_or_init(|| {
                    runs.fetch_add(1, SeqCst);
                    // Parks in the middle: fibers of the same worker come by and are not taken for it.
                    sleep(SHORT).unwrap();
                    7
                });
                assert_eq!(value, Ok(&7));
            }
        };
        let fibers: Vec<_> = (0..20).map(|_| runtime.spawn(work())).collect();
        let thread = std::thread::spawn(work());
        fibers.into_iter().for_each(|fiber| fiber.join().unwrap());
        thread.join().unwrap();
        assert_eq!(runs.load(SeqCst), 1);
    });
}

#[test]
fn a_panicking_initialisation_is_tried_by_the_next() {
    on_each(|runtime| {
        let once = Arc::new(Once::new());
        let tries = Arc::new(AtomicUsize::new(0));
        let fibers: Vec<_> = (0..10)
            .map(|_| {
                let (once, tries) = (once.clone(), tries.clone());
                runtime.spawn(move || {
                    let call = once.call_once(|| {
                        yield_now();
                        assert_eq!(tries.fetch_add(1, SeqCst), 4, "not yet");
                    });
                    call.unwrap();
                })
            })
            .collect();
        let panicked = fibers.into_iter().filter_map(|fiber| fiber.join().err()).count();
        assert_eq!((panicked, tries.load(SeqCst)), (4, 5));
        assert!(once.is_completed());
    });
}

#[test]
fn a_fiber_that_asks_for_its_own_initialisation_is_told() {
    on_each(|runtime| {
        let cell = Arc::new(OnceCell::new());
        let fiber = runtime.spawn({
            let cell = cell.clone();
            move || {
                let value = cell.get_or_init(|| {
                    yield_now();
                    assert_eq!(cell.get_or_init(|| 1), Err(OnceError::Reentrant));
                    2
                });
                assert_eq!(value, Ok(&2));
            }
        });
        fiber.join().unwrap();
        assert_eq!(cell.get(), Some(&2));
    });
}

#[test]
fn waits_in_a_shield_succeed_and_the_cancellation_shows_after_it() {
    let runtime = Runtime::builder().workers(1).build().unwrap();
    let (inside, go_on) = (Arc::new(Event::new()), Arc::new(Event::new()));
    let fiber = runtime.spawn({
        let (inside, go_on) = (inside.clone(), go_on.clone());
        move || {
            let shielded = shield(|| {
                inside.set();
                go_on.wait()
            });
            let (_sender, receiver) = rendezvous::<()>();
            (shielded, receiver.recv())
        }
    });
    inside.wait().unwrap();
    until_parked(&runtime, WaitReason::Event, 1);
    fiber.cancel();
    // It wakes up, and goes on waiting.
    runtime.spawn(yield_now).join().unwrap();
    until_parked(&runtime, WaitReason::Event, 1);
    go_on.set();
    assert_eq!(fiber.join().unwrap(), (Ok(()), Err(RecvError::Cancelled)));
}
